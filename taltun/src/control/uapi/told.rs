//! What `wg` changes, in the log: who reads it learns of a key or a peer that somebody else
//! set. A script may set thousands one by one, so there is a line a second at the most.

use tracing::info;

use crate::control::changed_peers::{ChangedPeers, SomePeers};
use crate::control::words;

/// Peers that the log names of each kind.
const NAMED: usize = 3;

/// What was changed, until it is told.
#[derive(Debug, Default)]
pub(in crate::control) struct WgChanges {
    /// What is different about ourselves.
    own: Vec<String>,
    pub(in crate::control) peers: ChangedPeers,
}

impl WgChanges {
    /// Something of our own is different.
    pub(super) fn own(&mut self, what: &str) {
        // The last one counts, and of these there are few.
        if !self.own.iter().any(|known| known == what) && self.own.len() < 8 {
            self.own.push(what.to_owned());
        }
    }

    /// Adds what was changed next.
    pub(in crate::control) fn merge(&mut self, next: Self) {
        for what in &next.own {
            self.own(what);
        }
        self.peers.merge(next.peers);
    }

    /// Tells what has come together; call it once a second.
    pub(in crate::control) fn tell(&mut self) {
        if let Some(line) = std::mem::take(self).line() {
            info!("changed by wg: {line}");
        }
    }

    /// What was changed, in words, if anything was.
    pub(in crate::control) fn line(&self) -> Option<String> {
        let mut parts = self.own.clone();
        parts.extend(told(&self.peers.added, "added"));
        parts.extend(told(&self.peers.changed, "changed"));
        parts.extend(told(&self.peers.removed, "removed"));
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn told(peers: &SomePeers, what: &str) -> Option<String> {
    let number = peers.number();
    let names = match peers.names(NAMED) {
        _ if number == 0 => return None,
        Some(names) => format!(" ({})", names.join(", ")),
        None => String::new(),
    };
    Some(format!("{} {what}{names}", words::count(number, "peer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_peers_are_named_and_many_are_counted() {
        assert_eq!(WgChanges::default().line(), None);
        let mut changes = WgChanges::default();
        changes.own("fwmark 0x7");
        changes.own("fwmark 0x7");
        changes.peers.added.add(|| "ana".to_owned());
        for number in 0..10 {
            changes.peers.removed.add(|| number.to_string());
        }
        let line = changes.line().unwrap();
        assert_eq!(line, "fwmark 0x7, 1 peer added (ana), 10 peers removed");
    }
}
