//! Who sent which packet, whom it was sealed for, and who got it: by this a delivery is judged.

use std::collections::{HashMap, HashSet};

use crate::packet::{self, Said};

/// Writes down all packets.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    packets: Vec<Entry>,
    /// Each that somebody opened, and who.
    opened: HashSet<(u32, usize)>,
}

#[derive(Debug)]
struct Entry {
    said: Said,
    bytes: Vec<u8>,
    /// Each who sealed it, or has it waiting for a session, and for whom.
    sealed: Vec<(usize, usize)>,
    delivered: bool,
    /// The rules let it pass at the hub.
    passed: bool,
}

impl Ledger {
    /// The number of the next packet.
    pub(crate) fn next(&self) -> u32 {
        self.packets.len() as u32
    }

    /// Somebody sends a packet with the next number.
    pub(crate) fn write(&mut self, said: Said, bytes: Vec<u8>) {
        assert_eq!(said.number, self.next());
        self.packets.push(Entry {
            said,
            bytes,
            sealed: Vec::new(),
            delivered: false,
            passed: false,
        });
    }

    pub(crate) fn sealed(&mut self, number: u32, by: usize, whom: usize) {
        self.packets[number as usize].sealed.push((by, whom));
    }

    /// A packet came out of a session at `by`, of the peer `sender`: it was sent so, sealed by that
    /// peer for this one, and never came out here before. Gives its number.
    pub(crate) fn opened(&mut self, bytes: &[u8], by: usize, sender: usize) -> u32 {
        let number = packet::number(bytes).expect("a packet that nobody sent is opened");
        let entry = self.packets.get(number as usize);
        let entry = entry.expect("a packet that nobody sent is opened");
        assert_eq!(
            packet::with_all_hops(bytes),
            entry.bytes,
            "it isn't what was sent"
        );
        assert!(
            entry.sealed.contains(&(sender, by)),
            "packet {number} is opened at {by} and was never sealed for it by {sender}: {entry:?}"
        );
        assert!(
            self.opened.insert((number, by)),
            "packet {number} comes twice to {by}"
        );
        number
    }

    /// A packet reached the interface of its receiver.
    pub(crate) fn deliver(&mut self, number: u32) {
        let entry = &mut self.packets[number as usize];
        assert!(!entry.delivered, "packet {number} is delivered twice");
        entry.delivered = true;
    }

    pub(crate) fn is_delivered(&self, number: u32) -> bool {
        self.packets[number as usize].delivered
    }

    pub(crate) fn said(&self, number: u32) -> Said {
        self.packets[number as usize].said
    }

    /// Rules let it pass.
    pub(crate) fn pass(&mut self, number: u32) {
        self.packets[number as usize].passed = true;
    }

    /// The packets of which this could be an answer, that passed.
    pub(crate) fn asked(&self, answer: &Said) -> impl Iterator<Item = &Said> {
        let is_asked = move |entry: &&Entry| {
            let said = &entry.said;
            entry.passed
                && (said.source, said.destination) == (answer.destination, answer.source)
                && said.ports == [answer.ports[1], answer.ports[0]]
        };
        self.packets
            .iter()
            .filter(is_asked)
            .map(|entry| &entry.said)
    }

    /// The last packets that came to somebody's interface.
    pub(crate) fn last_delivered(&self, back: usize) -> Option<u32> {
        let delivered = self.packets.iter().enumerate().rev();
        let mut delivered = delivered.filter(|(_, entry)| entry.delivered);
        delivered.nth(back).map(|(number, _)| number as u32)
    }
}

/// Counters that were used on each session that somebody sends on, by the receiver's index.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    used: HashMap<u32, HashSet<u64>>,
    /// Each session that ever began, by both its indices.
    begun: HashSet<(u32, u32)>,
}

impl Nonces {
    /// A session begins, on which the receiver has the index `remote`. An earlier one with the same index is
    /// over, with its key; and none begins twice, which would use its key from the first counter again.
    pub(crate) fn begin(&mut self, local: u32, remote: u32) {
        assert!(
            self.begun.insert((local, remote)),
            "session {local:#x} to {remote:#x} begins twice"
        );
        self.used.insert(remote, HashSet::new());
    }

    pub(crate) fn spend(&mut self, receiver: u32, counter: u64) {
        let used = self.used.get_mut(&receiver);
        let used = used.expect("data is sent on a session that never began");
        assert!(
            used.insert(counter),
            "counter {counter} twice on session {receiver:#x}"
        );
    }
}
