//! What processes use, as `/proc` has it: CPU time and resident memory.

use std::fs;

use anyhow::{Context, Result};

/// The unit of the times in `/proc/PID/stat`, a hundredth of a second whatever the kernel's
/// own clock does.
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds, user's and system's, that these processes have used with all their threads.
pub fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} is gone"))?;
        ticks += ticks_of(&stat).with_context(|| format!("can't read the times of {pid}"))?;
    }
    Ok(ticks as f64 / TICKS_A_SECOND)
}

/// The resident memory of the largest of these processes, in MB; none if none of them has any.
pub fn largest_resident_mb(pids: &[u32]) -> Option<f64> {
    pids.iter()
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            resident_kib(&status)
        })
        .max()
        .map(|kib| kib as f64 * 1024.0 / 1e6)
}

/// `utime` and `stime` of `/proc/PID/stat`.
fn ticks_of(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, with whatever is in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// `VmRSS` of `/proc/PID/status`.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "4242 (a ) (b) S 1 4242 4242 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 9 0 1 2 3";
        assert_eq!(ticks_of(stat), Some(175));
        assert_eq!(ticks_of("4242 (short) S 1"), None);
    }

    #[test]
    fn the_resident_memory_is_found() {
        let status = "Name:\tx\nVmHWM:\t    9000 kB\nVmRSS:\t    4660 kB\nThreads:\t1\n";
        assert_eq!(resident_kib(status), Some(4660));
        assert_eq!(resident_kib("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let own = [std::process::id()];
        assert!(cpu_seconds(&own).unwrap() >= 0.0);
        assert!(largest_resident_mb(&own).unwrap() > 0.1);
        assert!(cpu_seconds(&[u32::MAX]).is_err());
    }
}
