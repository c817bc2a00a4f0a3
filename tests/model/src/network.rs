//! What is on its way, what was seen on the way before, and which ways are shut.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::cast::{self, HUB_PORTS};

/// Most messages on their way; more are lost.
const IN_TRANSIT: usize = 64;
/// Most that an observer remembers.
const RECORDED: usize = 64;

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) author: usize,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    /// It isn't as its author made it.
    pub(crate) is_spoilt: bool,
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    transit: VecDeque<Sent>,
    recorded: VecDeque<Sent>,
    /// The hub's ports and addresses that nothing comes through to.
    pub(crate) shut_ports: u8,
    pub(crate) shut_addresses: u8,
    /// Those who are cut off.
    pub(crate) cut: u8,
}

impl Network {
    pub(crate) fn post(&mut self, sent: Sent) {
        if self.recorded.len() == RECORDED {
            self.recorded.pop_front();
        }
        self.recorded.push_back(sent.clone());
        if self.transit.len() < IN_TRANSIT {
            self.transit.push_back(sent);
        }
    }

    /// Takes one of those on their way.
    pub(crate) fn take(&mut self, at: u8) -> Option<Sent> {
        let at = usize::from(at).checked_rem(self.transit.len())?;
        self.transit.remove(at)
    }

    pub(crate) fn first(&mut self) -> Option<Sent> {
        self.transit.pop_front()
    }

    pub(crate) fn again(&mut self, sent: Sent) {
        self.transit.push_back(sent);
    }

    /// One that was sent before, whatever became of it.
    pub(crate) fn recorded(&self, at: u8) -> Option<Sent> {
        let at = usize::from(at).checked_rem(self.recorded.len())?;
        self.recorded.get(at).cloned()
    }

    /// Takes those of which this says true.
    pub(crate) fn take_all(&mut self, wanted: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let (taken, left) = self.transit.drain(..).partition(wanted);
        self.transit = left;
        taken.into()
    }

    pub(crate) fn clear(&mut self) {
        self.transit.clear();
    }

    /// All ways are open again.
    pub(crate) fn open(&mut self) {
        (self.shut_ports, self.shut_addresses, self.cut) = (0, 0, 0);
    }

    /// Whether a message from one to another gets through.
    pub(crate) fn is_open(&self, author: usize, target: usize, to: SocketAddr) -> bool {
        let is_cut = |who: usize| self.cut >> who & 1 == 1;
        if is_cut(author) || is_cut(target) {
            return false;
        }
        let port = to.port().wrapping_sub(HUB_PORTS.0);
        let shut_port = port < 8 && self.shut_ports >> port & 1 == 1;
        let second = to.ip() == cast::hub_address(1).ip();
        let shut_address = self.shut_addresses >> u8::from(second) & 1 == 1;
        !(cast::is_hub(to) && (shut_port || shut_address))
    }
}
