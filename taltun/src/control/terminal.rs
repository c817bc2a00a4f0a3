//! The terminal that a tunnel runs on, if it does: SIGHUP means "read the file again", unless
//! it comes because that terminal was closed. Then nobody is left who could end the tunnel
//! with Ctrl-C, so it ends by itself.

use std::fs::File;

/// The bit of SIGHUP in a set of signals.
const SIGHUP: u64 = 1;

/// The terminal that we were started on.
#[derive(Debug)]
pub(super) struct Terminal {
    matters: bool,
}

impl Terminal {
    /// To be called before SIGHUP is handled: whoever started us with it ignored, as `nohup`
    /// does, wants us to outlive the terminal.
    pub(super) fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            matters: is_there() && !ignores_hangup(&status),
        }
    }

    /// Whether it was closed.
    pub(super) fn is_gone(&self) -> bool {
        self.matters && !is_there()
    }
}

/// Opening it fails for whoever has none, or has lost it.
fn is_there() -> bool {
    File::open("/dev/tty").is_ok()
}

fn ignores_hangup(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & SIGHUP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ignores_hangups_is_seen() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000000001\n"));
        assert!(ignores_hangup("SigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}
