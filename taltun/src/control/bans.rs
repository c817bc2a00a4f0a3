//! Who is denied: the lists of the configuration and the bans of operators, some of which
//! end by themselves.

use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use crate::config::MAX_BANS;

/// Denied networks, outside and inside of the tunnel.
#[derive(Debug, Default)]
pub struct Bans {
    entries: Vec<Ban>,
}

#[derive(Debug)]
struct Ban {
    net: IpNet,
    inner: bool,
    configured: bool,
    until: Option<Instant>,
}

impl Bans {
    /// Replaces what the configuration denies; operators' bans stay.
    pub fn configure(&mut self, outer: &[IpNet], inner: &[IpNet]) {
        self.entries.retain(|ban| !ban.configured);
        for (nets, inner) in [(outer, false), (inner, true)] {
            for net in nets {
                self.insert(*net, inner, true, None);
            }
        }
    }

    /// Bans a network, for a time or until it is taken back. Banning it again changes the
    /// time. False when there are [`MAX_BANS`] already.
    pub fn add(&mut self, net: IpNet, inner: bool, lasting: Option<Duration>) -> bool {
        let known = self.position(net.trunc(), inner).is_some();
        if !known && self.entries.len() >= MAX_BANS {
            return false;
        }
        let until = lasting.map(|lasting| Instant::now() + lasting);
        self.insert(net, inner, false, until);
        true
    }

    /// Takes back the ban of exactly this network; false when there is none.
    pub fn remove(&mut self, net: IpNet, inner: bool) -> bool {
        self.position(net.trunc(), inner)
            .map(|at| self.entries.remove(at))
            .is_some()
    }

    /// Forgets the bans whose time is over; true when there were any.
    pub fn expire(&mut self) -> bool {
        let now = Instant::now();
        let before = self.entries.len();
        self.entries
            .retain(|ban| ban.until.is_none_or(|until| until > now));
        self.entries.len() < before
    }

    /// When the next ban ends by itself.
    pub fn next_end(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|ban| ban.until).min()
    }

    /// The networks denied now, outside or inside.
    pub fn nets(&self, inner: bool) -> Vec<IpNet> {
        self.entries
            .iter()
            .filter(|ban| ban.inner == inner)
            .map(|ban| ban.net)
            .collect()
    }

    fn insert(&mut self, net: IpNet, inner: bool, configured: bool, until: Option<Instant>) {
        let ban = Ban {
            net: net.trunc(),
            inner,
            configured,
            until,
        };
        match self.position(ban.net, inner) {
            Some(at) => self.entries[at] = ban,
            None => self.entries.push(ban),
        }
    }

    fn position(&self, net: IpNet, inner: bool) -> Option<usize> {
        self.entries
            .iter()
            .position(|ban| ban.net == net && ban.inner == inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_ban_with_a_time_ends_and_others_stay() {
        let mut bans = Bans::default();
        bans.configure(&[net("192.0.2.0/24")], &[]);
        assert!(bans.add(net("198.51.100.1/32"), false, Some(Duration::from_secs(3))));
        assert!(!bans.expire());
        assert_eq!(bans.nets(false).len(), 2);
        tokio::time::sleep_until(bans.next_end().unwrap()).await;
        assert!(bans.expire());
        assert_eq!(bans.nets(false), [net("192.0.2.0/24")]);
        assert_eq!(bans.next_end(), None);
    }

    #[test]
    fn banning_again_changes_the_time_and_inner_is_another_list() {
        let mut bans = Bans::default();
        let them = net("10.0.0.9/32");
        assert!(bans.add(them, false, Some(Duration::from_secs(3))));
        assert!(bans.add(them, false, None));
        assert!(bans.add(them, true, None));
        assert_eq!(bans.next_end(), None);
        assert!(bans.remove(them, false));
        assert!(!bans.remove(them, false));
        assert_eq!(bans.nets(true), [them]);
    }

    #[test]
    fn more_bans_than_the_limit_are_refused() {
        let mut bans = Bans::default();
        for host in 0..MAX_BANS as u32 {
            let net = IpNet::from(std::net::IpAddr::V4(host.into()));
            assert!(bans.add(net, false, None));
        }
        assert!(!bans.add(net("203.0.113.1/32"), false, None));
        assert!(
            bans.add(net("0.0.0.1/32"), false, None),
            "a known one may change"
        );
    }

    #[test]
    fn a_reload_replaces_only_what_the_configuration_denied() {
        let mut bans = Bans::default();
        bans.configure(&[net("192.0.2.0/24")], &[net("10.0.0.6/32")]);
        bans.add(net("198.51.100.1/32"), false, None);
        bans.configure(&[net("203.0.113.0/24")], &[]);
        assert_eq!(
            bans.nets(false),
            [net("198.51.100.1/32"), net("203.0.113.0/24")]
        );
        assert!(bans.nets(true).is_empty());
    }
}
