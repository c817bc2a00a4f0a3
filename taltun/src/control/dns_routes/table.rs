//! Addresses that are routed because a name has them, each with its end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use super::kept::Names;
use crate::config::DnsRoutes;
use crate::crypto::PublicKey;
use crate::name_service::LONGEST;

/// Addresses that are routed at the most. Names with more are looked up by a machine that
/// wants to know, not by people.
pub(super) const MOST: usize = 4096;

/// What is routed, and what the file says of that.
#[derive(Debug)]
pub(super) struct Table {
    routes: Arc<DnsRoutes>,
    led: HashMap<IpAddr, Names<Instant>>,
    /// Those that others own by now, or whose names aren't of the list any more, and that the
    /// host still leads into the tunnel.
    lost: Vec<IpAddr>,
}

impl Table {
    /// Nothing yet.
    pub(super) fn new(routes: Arc<DnsRoutes>) -> Self {
        Self {
            routes,
            led: HashMap::new(),
            lost: Vec::new(),
        }
    }

    /// What the file says by now.
    pub(super) fn routes(&self) -> &Arc<DnsRoutes> {
        &self.routes
    }

    /// The addresses that are routed.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.led.keys().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.led.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.led.len() >= MOST
    }

    /// Whether the peer has the network only because a name is there.
    pub(super) fn leads(&self, peer: &PublicKey, net: &IpNet) -> bool {
        *peer == self.routes.via
            && net.prefix_len() == net.max_prefix_len()
            && self.led.contains_key(&net.addr())
    }

    /// How long an address is led that may be remembered for `ttl`.
    pub(super) fn lasting(&self, ttl: Duration) -> Duration {
        ttl.min(LONGEST).saturating_add(self.routes.keep)
    }

    /// Remembers an address that is led for longer; false if it isn't.
    pub(super) fn renew(&mut self, address: IpAddr, names: &[String], until: Instant) -> bool {
        let Some(known) = self.led.get_mut(&address) else {
            return false;
        };
        for name in names {
            known.note(name, until);
        }
        true
    }

    /// Remembers an address; there must be room for it.
    pub(super) fn insert(&mut self, address: IpAddr, names: &[String], until: Instant) {
        let known = self.led.entry(address).or_default();
        for name in names {
            known.note(name, until);
        }
        self.lost.retain(|lost| *lost != address);
    }

    /// Remembers an address with the end that each of its names has.
    pub(super) fn insert_names(&mut self, address: IpAddr, names: Names<Instant>) {
        self.led.insert(address, names);
    }

    /// Takes over what the file says by now. Returns the addresses whose names aren't of the
    /// list any more; [`Self::take_expired`] has them, too.
    pub(super) fn replace(&mut self, routes: Arc<DnsRoutes>) -> Vec<IpAddr> {
        let lost = self.forget(|address, names| {
            !names.retain(|name| routes.includes(name)) || routes.upstream.contains(&address)
        });
        self.lost.extend(&lost);
        self.routes = routes;
        lost
    }

    /// Forgets addresses that are `lost` to others, and returns them; [`Self::take_expired`] has
    /// them, too.
    pub(super) fn lose(&mut self, is_lost: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        let lost = self.forget(|address, _| is_lost(address));
        self.lost.extend(&lost);
        lost
    }

    /// Forgets addresses whose time is over, and returns them with those that were lost.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<IpAddr> {
        let mut over = self.forget(|_, names| names.until().is_none_or(|until| until <= now));
        over.append(&mut self.lost);
        over
    }

    fn forget(&mut self, is_over: impl Fn(IpAddr, &mut Names<Instant>) -> bool) -> Vec<IpAddr> {
        let over = self
            .led
            .extract_if(|address, names| is_over(*address, names));
        over.map(|(address, _)| address).collect()
    }
}

/// A point in time, or one that is far away.
pub(super) fn after(now: Instant, lasting: Duration) -> Instant {
    now.checked_add(lasting).unwrap_or(now + LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Domain;

    fn routes(domain: &str, keep: Duration) -> Arc<DnsRoutes> {
        Arc::new(DnsRoutes {
            domains: vec![Domain::Below(domain.into())],
            via: PublicKey([1; 32]),
            upstream: Vec::new(),
            keep,
        })
    }

    fn table(keep: Duration) -> Table {
        Table::new(routes("example.net", keep))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn www() -> Vec<String> {
        vec!["www.example.net".into()]
    }

    #[test]
    fn an_address_stays_for_its_time_and_what_is_added_to_it() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut table = table(10 * second);
        let until = |table: &Table, ttl| now + table.lasting(ttl);
        let (short, long) = (until(&table, second), until(&table, 5 * second));
        table.insert(address(1), &www(), long);
        table.insert(address(2), &www(), short);
        assert!(table.take_expired(now + 10 * second).is_empty());
        assert_eq!(table.take_expired(now + 11 * second), [address(2)]);
        // Seen again, it stays longer, and is not new.
        let later = long + 11 * second;
        assert!(table.renew(address(1), &www(), later));
        assert!(!table.renew(address(2), &www(), later));
        assert!(table.take_expired(now + 25 * second).is_empty());
        assert_eq!(table.take_expired(now + 26 * second), [address(1)]);
    }

    #[test]
    fn there_is_an_end_to_addresses_and_to_their_time() {
        let now = Instant::now();
        let mut table = table(Duration::MAX);
        let end = after(now, table.lasting(Duration::MAX));
        for number in 0..MOST as u32 {
            assert!(!table.is_full());
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            table.insert(address, &www(), end);
        }
        assert!(table.is_full());
        assert_eq!(table.take_expired(now + LONGEST).len(), MOST);
        assert_eq!(
            self::table(Duration::ZERO).lasting(Duration::MAX),
            LONGEST,
            "whatever the server says"
        );
    }

    #[test]
    fn what_is_led_by_a_name_is_no_setting_of_the_peer() {
        let mut table = table(Duration::ZERO);
        table.insert(address(1), &www(), Instant::now() + LONGEST);
        let leads = |peer, net: &str| table.leads(&PublicKey([peer; 32]), &net.parse().unwrap());
        assert!(leads(1, "192.0.2.1/32"));
        assert!(!leads(2, "192.0.2.1/32"));
        assert!(!leads(1, "192.0.2.2/32"));
        assert!(!leads(1, "192.0.2.1/31"));
    }

    #[test]
    fn what_is_lost_is_let_go_at_the_next_look_unless_it_is_led_again() {
        let (now, keep) = (Instant::now(), Duration::ZERO);
        let mut table = table(keep);
        for last in 1..=3 {
            table.insert(address(last), &www(), now + LONGEST);
        }
        assert_eq!(table.lose(|at| at == address(1)), [address(1)]);
        let mut gone = table.replace(routes("example.org", keep));
        gone.sort();
        assert_eq!(gone, [address(2), address(3)]);
        assert_eq!(table.len(), 0);
        table.insert(address(2), &www(), now + LONGEST);
        let mut over = table.take_expired(now);
        over.sort();
        assert_eq!(over, [address(1), address(3)]);
        assert!(table.take_expired(now).is_empty());
    }
}
