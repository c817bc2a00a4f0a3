//! Packets between peers that are left to the kernel, which passes none on.
//!
//! `interface.relay = false` hands them over. Whether the kernel forwards is the host's business, and may change at
//! any time: so a running tunnel looks at it, and `check` at the machine that it runs on.

use tracing::{info, warn};

use crate::config::{Config, Mode};
use crate::system::{Unforwarded, unforwarded};

/// What was told of it last.
#[derive(Debug, Default)]
pub(super) struct KernelRelay {
    told: Vec<Unforwarded>,
}

impl KernelRelay {
    /// Looks, and says what has changed. Call it once a second and after a reload.
    pub(super) fn follow(&mut self, config: &Config) {
        let now = lacking(config);
        if now == self.told {
            return;
        }
        for lack in &now {
            if !self.told.contains(lack) {
                warn!("{}", words(lack));
            }
        }
        if now.is_empty() {
            info!(
                "what peers send each other is relayed, as relay or the kernel's settings have changed"
            );
        }
        self.told = now;
    }
}

/// The families of which nothing passes between peers.
pub(super) fn lacking(config: &Config) -> Vec<Unforwarded> {
    // A client relays nothing by itself, and nobody expects it to.
    if config.relays() || config.interface.mode == Mode::Client {
        return Vec::new();
    }
    unforwarded(config)
}

/// What `check` says of a file whose peers don't reach each other on this machine.
pub(crate) fn lacks(config: &Config) -> Vec<String> {
    let lacking = if config.peers.len() < 2 {
        Vec::new()
    } else {
        lacking(config)
    };
    let text = |lack| format!("interface.relay: {}", words(lack));
    lacking.iter().map(text).collect()
}

fn words(lack: &Unforwarded) -> String {
    format!(
        "no {} passes between peers: relay = false leaves it to the kernel, and {} is 0; set ip_forward = true, \
         or relay = true",
        lack.family, lack.setting
    )
}
