//! What `wg` changes, in the log: who reads it learns of a key or a peer that somebody else
//! set. A script may set thousands one by one, so there is a line a second at the most.

use tracing::info;

use crate::control::words;

/// Peers that are named of each kind.
const NAMED: usize = 3;

/// What was changed since it was told.
#[derive(Debug, Default)]
pub(in crate::control) struct WgChanges {
    /// What is different about ourselves.
    own: Vec<String>,
    pub(super) added: Peers,
    pub(super) changed: Peers,
    pub(super) removed: Peers,
}

/// Peers to which the same happened.
#[derive(Debug, Default)]
pub(super) struct Peers {
    number: usize,
    first: Vec<String>,
}

impl Peers {
    pub(super) fn add(&mut self, label: impl FnOnce() -> String) {
        self.number = self.number.saturating_add(1);
        if self.first.len() < NAMED {
            self.first.push(label());
        }
    }

    fn told(&self, what: &str) -> Option<String> {
        let names = match self.number {
            0 => return None,
            number if number <= NAMED => format!(" ({})", self.first.join(", ")),
            _ => String::new(),
        };
        Some(format!(
            "{} {what}{names}",
            words::count(self.number, "peer")
        ))
    }
}

impl WgChanges {
    /// Something of our own is different.
    pub(super) fn own(&mut self, what: &str) {
        // The last one counts, and of these there are few.
        if !self.own.iter().any(|known| known == what) && self.own.len() < 8 {
            self.own.push(what.to_owned());
        }
    }

    /// Tells what has come together; call it once a second.
    pub(in crate::control) fn tell(&mut self) {
        if let Some(line) = std::mem::take(self).line() {
            info!("{line}");
        }
    }

    fn line(self) -> Option<String> {
        let mut parts = self.own;
        parts.extend(self.added.told("added"));
        parts.extend(self.changed.told("changed"));
        parts.extend(self.removed.told("removed"));
        (!parts.is_empty()).then(|| format!("changed by wg: {}", parts.join(", ")))
    }
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
        changes.added.add(|| "ana".to_owned());
        for number in 0..10 {
            changes.removed.add(|| number.to_string());
        }
        let line = changes.line().unwrap();
        assert_eq!(
            line,
            "changed by wg: fwmark 0x7, 1 peer added (ana), 10 peers removed"
        );
    }
}
