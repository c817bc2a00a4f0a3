//! Where a tunnel comes from: from which file and which words, and who sets up the rest.

use std::path::PathBuf;

use crate::config::{Config, Overrides};

/// What a configuration was made of, to make it again on `reload`.
#[derive(Clone, Default)]
pub struct Origin {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// What the command line said, which has the last word.
    pub overrides: Overrides,
    /// Whether a kill switch stays closed at SIGTERM, which may be for a restart.
    pub keep_kill_switch: bool,
    /// Switches the longer log on and off.
    pub debug_switch: Option<fn(bool)>,
    /// Waits until the log is written, before the process ends out of order.
    pub flush_log: Option<fn()>,
}

impl Origin {
    /// The words after `taltun run` that start the same tunnel again, but for our key.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(path) = &self.path {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            words.extend(["--config".to_owned(), path.display().to_string()]);
        }
        words.extend(self.overrides.words());
        if self.keep_kill_switch {
            words.push("--keep-kill-switch".to_owned());
        }
        words
    }
}

/// Who sets the tunnel up, which decides what is ours to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelKind {
    /// We do, from a configuration: addresses and routes are ours, and a server relays.
    Configured,
    /// Who runs us by an interface's name alone, as `wireguard-go` is run: the kernel's routes
    /// decide about every packet, and the tunnel ends with its interface or with its UAPI
    /// socket.
    Plain,
}

impl TunnelKind {
    /// Whether packets between peers go straight from one to the other.
    pub(super) fn relays(self, config: &Config) -> bool {
        self == Self::Configured && config.relays()
    }
}
