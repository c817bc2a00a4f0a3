//! Whether what `[dns_routes]` leads really goes into the tunnel.
//!
//! A route of ours isn't enough: others' policy rules and more specific routes may lead around
//! it, and they may come later. So the kernel is asked where a packet goes, before an answer is
//! passed on and again whenever routes or rules change. What goes around the tunnel by then is
//! told, and is in `status`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use tokio::time::Instant;
use tracing::info;

use super::table::MOST;
use crate::report::NameAround;
use crate::system;

/// Questions to the kernel in a second.
const QUESTIONS: usize = 256;

/// What is looked at.
#[derive(Debug, Default)]
pub(super) struct LedWatch {
    /// Addresses that were answered and that networks of ours lead, each with its end.
    within: HashMap<IpAddr, Instant>,
    /// Whether routes or rules have changed since the queue was filled.
    stale: bool,
    queue: VecDeque<IpAddr>,
    /// Those that go around the tunnel.
    around: BTreeMap<IpAddr, Around>,
}

/// How an address goes around the tunnel.
#[derive(Debug)]
struct Around {
    reason: String,
    /// Not at the first look: what somebody took away is put back in between.
    told: bool,
}

impl LedWatch {
    /// Routes or rules have changed.
    pub(super) fn look_again(&mut self) {
        self.stale = true;
    }

    /// An answer has this address, and a network of ours leads it.
    pub(super) fn note(&mut self, address: IpAddr, until: Instant) {
        if let Some(known) = self.within.get_mut(&address) {
            *known = until.max(*known);
        } else if self.within.len() < MOST {
            self.within.insert(address, until);
        }
    }

    /// What goes around the tunnel and was told.
    pub(super) fn around(&self) -> Vec<NameAround> {
        let told = self.around.iter().filter(|(_, around)| around.told);
        told.map(|(address, around)| NameAround {
            address: *address,
            reason: around.reason.clone(),
        })
        .collect()
    }

    /// Those to be looked at now, of these that are led by routes of their own.
    pub(super) fn due(&mut self, led: impl Iterator<Item = IpAddr>, now: Instant) -> Vec<IpAddr> {
        self.within.retain(|_, until| *until > now);
        let known: HashSet<IpAddr> = led.chain(self.within.keys().copied()).collect();
        self.around.retain(|address, _| known.contains(address));
        if self.stale && self.queue.is_empty() {
            self.stale = false;
            self.queue.extend(&known);
        }
        let mut due: Vec<IpAddr> = self.around.keys().copied().take(QUESTIONS).collect();
        let number = self.queue.len().min(QUESTIONS);
        let next = self.queue.drain(..number);
        due.extend(next.filter(|address| known.contains(address)));
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Takes over where an address goes. Returns the reason if it is to be told.
    pub(super) fn take(&mut self, address: IpAddr, around: Option<String>) -> Option<String> {
        let Some(reason) = around else {
            if self.around.remove(&address).is_some_and(|was| was.told) {
                info!("dns_routes: {address} goes into the tunnel again");
            }
            return None;
        };
        let Some(known) = self.around.get_mut(&address) else {
            let told = false;
            self.around.insert(address, Around { reason, told });
            return None;
        };
        known.reason = reason;
        (!std::mem::replace(&mut known.told, true)).then(|| known.reason.clone())
    }
}

/// Why a packet to this address doesn't go into the interface with this number, if it doesn't.
pub(super) fn around(address: IpAddr, tunnel: u32) -> Option<String> {
    system::way_around(address, tunnel)
        .unwrap_or_else(|error| Some(format!("the kernel doesn't say where it goes: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn what_goes_around_is_told_at_the_second_look_and_once() {
        let now = Instant::now();
        let mut watch = LedWatch::default();
        let led = || [address(1), address(2)].into_iter();
        assert!(watch.due(led(), now).is_empty());
        watch.look_again();
        assert_eq!(watch.due(led(), now), [address(1), address(2)]);
        let by = || Some("through eth0".to_owned());
        assert_eq!(watch.take(address(1), by()), None);
        assert_eq!(watch.take(address(2), None), None);
        assert!(watch.around().is_empty());
        // It is looked at again by itself.
        assert_eq!(watch.due(led(), now), [address(1)]);
        assert_eq!(watch.take(address(1), by()), by());
        assert_eq!(watch.take(address(1), by()), None);
        assert_eq!(watch.around().len(), 1);
        assert_eq!(watch.take(address(1), None), None);
        assert!(watch.around().is_empty() && watch.due(led(), now).is_empty());
    }

    #[test]
    fn what_isnt_led_any_more_is_forgotten() {
        let now = Instant::now();
        let mut watch = LedWatch::default();
        watch.note(address(3), now + Duration::from_secs(5));
        watch.look_again();
        assert_eq!(watch.due(std::iter::empty(), now), [address(3)]);
        watch.take(address(3), Some("through eth0".to_owned()));
        watch.take(address(3), Some("through eth0".to_owned()));
        assert_eq!(watch.around().len(), 1);
        assert!(
            watch
                .due(std::iter::empty(), now + Duration::from_secs(6))
                .is_empty()
        );
        assert!(watch.around().is_empty());
    }

    #[test]
    fn so_many_are_looked_at_in_a_second() {
        let led = || (0..1000_u32).map(|number| IpAddr::from(number.to_be_bytes()));
        let mut watch = LedWatch::default();
        watch.look_again();
        let now = Instant::now();
        let looks: Vec<usize> = (0..5).map(|_| watch.due(led(), now).len()).collect();
        assert_eq!(looks, [256, 256, 256, 232, 0]);
    }
}
