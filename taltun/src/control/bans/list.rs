//! Who is denied: the lists of the configuration and the bans of operators, some of which
//! end by themselves.
//!
//! A network may be denied by both. Each of the two is kept by itself, so that neither ends
//! the other: it is denied for as long as one of them lasts.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use crate::config::MAX_BANS;
use crate::layer::Layer;
use crate::protocol::allowed_ips::canonical;

/// The longest that a ban with an end may last; longer is what bans without one are for.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Denied networks, outside and inside of the tunnel.
#[derive(Debug, Default)]
pub struct BanList {
    entries: BTreeMap<(IpNet, Layer), Ban>,
    /// When the first of them ends: this is asked for all the time.
    next_end: Option<Instant>,
}

/// Who denies a network. One of the two at least does.
#[derive(Debug, Default)]
struct Ban {
    configured: bool,
    operator: Option<End>,
}

/// When an operator's ban ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Never,
    At(Instant),
}

/// A network that is denied, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The network.
    pub net: IpNet,
    /// Where it is.
    pub layer: Layer,
    /// Whether the configuration denies it.
    pub configured: bool,
    /// Whether an operator does.
    pub banned: bool,
    /// When the operator's ban ends, if it does by itself.
    pub left: Option<Duration>,
}

/// What became of a ban that was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// Nobody had banned it.
    Nothing,
    /// The operator's ban is gone, and the configuration still denies it.
    StillConfigured,
    /// What the configuration denied is let through until it is read again.
    UntilReload,
    /// It is banned no longer.
    All,
}

/// Why a network wasn't banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// There is no more room.
    #[error(
        "there are {MAX_BANS} bans already, which is the most; take some back with `taltun unban`"
    )]
    Full,
    /// A time that no clock has.
    #[error(
        "a ban lasts at least 1 second and at most 100 years; leave out the time for one that \
         stays"
    )]
    Time,
}

impl BanList {
    /// Replaces what the configuration denies; operators' bans stay.
    pub fn configure(&mut self, outer: &[IpNet], inner: &[IpNet]) {
        for ban in self.entries.values_mut() {
            ban.configured = false;
        }
        for (layer, nets) in [(Layer::Outer, outer), (Layer::Inner, inner)] {
            for net in nets {
                let ban = self.entries.entry((canonical(*net), layer)).or_default();
                ban.configured = true;
            }
        }
        self.forget_unbanned();
    }

    /// Bans a network, for a time or until it is taken back. Banning it again changes the
    /// time.
    pub fn add(
        &mut self,
        net: IpNet,
        layer: Layer,
        lasting: Option<Duration>,
    ) -> Result<(), BanError> {
        let end = match lasting {
            None => End::Never,
            Some(lasting) => {
                let possible = !lasting.is_zero() && lasting <= LONGEST;
                let until = Instant::now().checked_add(lasting);
                End::At(until.filter(|_| possible).ok_or(BanError::Time)?)
            }
        };
        let (key, full) = ((canonical(net), layer), self.entries.len() >= MAX_BANS);
        if full && !self.entries.contains_key(&key) {
            return Err(BanError::Full);
        }
        self.entries.entry(key).or_default().operator = Some(end);
        self.find_next_end();
        Ok(())
    }

    /// The same by somebody elsewhere: a ban of an operator here that has no end stays as it is.
    pub fn add_shared(
        &mut self,
        net: IpNet,
        layer: Layer,
        lasting: Duration,
    ) -> Result<(), BanError> {
        let ban = self.entries.get(&(canonical(net), layer));
        if ban.is_some_and(|ban| ban.operator == Some(End::Never)) {
            return Ok(());
        }
        self.add(net, layer, Some(lasting))
    }

    /// Takes back a ban with an end, as one made elsewhere has.
    pub fn remove_shared(&mut self, net: IpNet, layer: Layer) {
        if let Some(ban) = self.entries.get_mut(&(canonical(net), layer))
            && matches!(ban.operator, Some(End::At(_)))
        {
            ban.operator = None;
            self.forget_unbanned();
            self.find_next_end();
        }
    }

    /// How many more networks can be banned.
    pub fn room(&self) -> usize {
        MAX_BANS.saturating_sub(self.entries.len())
    }

    /// Whether an operator has banned exactly this network.
    pub fn has(&self, net: IpNet, layer: Layer) -> bool {
        self.entries.contains_key(&(canonical(net), layer))
    }

    /// Whether the configuration denies exactly this network.
    pub fn is_configured(&self, net: IpNet, layer: Layer) -> bool {
        let ban = self.entries.get(&(canonical(net), layer));
        ban.is_some_and(|ban| ban.configured)
    }

    /// Takes back the ban of exactly this network: the operator's, or else what the
    /// configuration denies.
    pub fn remove(&mut self, net: IpNet, layer: Layer) -> Removed {
        let Some(ban) = self.entries.get_mut(&(canonical(net), layer)) else {
            return Removed::Nothing;
        };
        let removed = match (ban.operator.take(), ban.configured) {
            (Some(_), true) => {
                self.find_next_end();
                return Removed::StillConfigured;
            }
            (Some(_), false) => Removed::All,
            (None, _) => Removed::UntilReload,
        };
        self.entries.remove(&(canonical(net), layer));
        self.find_next_end();
        removed
    }

    /// The banned networks, other than exactly this one, that it is in.
    pub fn around(&self, net: IpNet, layer: Layer) -> Option<IpNet> {
        let net = canonical(net);
        self.nets(layer)
            .into_iter()
            .find(|banned| *banned != net && banned.contains(&net))
    }

    /// Forgets the bans whose time is over; true when there were any.
    pub fn expire(&mut self) -> bool {
        let now = Instant::now();
        let mut any = false;
        for ban in self.entries.values_mut() {
            if matches!(ban.operator, Some(End::At(until)) if until <= now) {
                ban.operator = None;
                any = true;
            }
        }
        self.forget_unbanned();
        self.find_next_end();
        any
    }

    /// When the next ban ends by itself.
    pub fn next_end(&self) -> Option<Instant> {
        self.next_end
    }

    fn find_next_end(&mut self) {
        let ends = self.entries.values().filter_map(|ban| match ban.operator {
            Some(End::At(until)) => Some(until),
            Some(End::Never) | None => None,
        });
        self.next_end = ends.min();
    }

    /// How many networks are denied now, outside and inside.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The networks denied now, outside or inside.
    pub fn nets(&self, layer: Layer) -> Vec<IpNet> {
        let nets = self.entries.keys();
        nets.filter(|(_, at)| *at == layer)
            .map(|(net, _)| *net)
            .collect()
    }

    /// All that is denied now.
    pub fn denied(&self) -> impl Iterator<Item = Denied> {
        self.entries.iter().map(|(key, ban)| describe(key, ban))
    }

    /// Whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is denied and concerns a network: all of it, or a part. It takes no longer where
    /// more is denied elsewhere.
    pub fn concerning(&self, net: IpNet, layer: Layer) -> Vec<Denied> {
        let net = canonical(net);
        let around = (0..=net.prefix_len()).filter_map(|length| {
            let key = (IpNet::new(net.addr(), length).ok()?.trunc(), layer);
            Some(describe(&key, self.entries.get(&key)?))
        });
        let last = IpNet::from(net.broadcast());
        let within = self
            .entries
            .range((net, Layer::Outer)..=(last, Layer::Inner));
        let within =
            within.filter(|((part, at), _)| *at == layer && *part != net && net.contains(part));
        around
            .chain(within.map(|(key, ban)| describe(key, ban)))
            .collect()
    }

    fn forget_unbanned(&mut self) {
        self.entries
            .retain(|_, ban| ban.configured || ban.operator.is_some());
    }
}

fn describe((net, layer): &(IpNet, Layer), ban: &Ban) -> Denied {
    Denied {
        net: *net,
        layer: *layer,
        configured: ban.configured,
        banned: ban.operator.is_some(),
        left: match ban.operator {
            Some(End::At(until)) => Some(until.saturating_duration_since(Instant::now())),
            Some(End::Never) | None => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_ban_with_a_time_ends_and_others_stay() {
        let mut bans = BanList::default();
        bans.configure(&[net("192.0.2.0/24")], &[]);
        bans.add(
            net("198.51.100.1/32"),
            Layer::Outer,
            Some(Duration::from_secs(3)),
        )
        .unwrap();
        assert!(!bans.expire());
        assert_eq!(bans.nets(Layer::Outer).len(), 2);
        tokio::time::sleep_until(bans.next_end().unwrap()).await;
        assert!(bans.expire());
        assert_eq!(bans.nets(Layer::Outer), [net("192.0.2.0/24")]);
        assert_eq!(bans.next_end(), None);
    }

    #[test]
    fn banning_again_changes_the_time_and_inner_is_another_list() {
        let mut bans = BanList::default();
        let them = net("10.0.0.9/32");
        bans.add(them, Layer::Outer, Some(Duration::from_secs(3)))
            .unwrap();
        bans.add(them, Layer::Outer, None).unwrap();
        bans.add(them, Layer::Inner, None).unwrap();
        assert_eq!(bans.next_end(), None);
        assert_eq!(bans.remove(them, Layer::Outer), Removed::All);
        assert_eq!(bans.remove(them, Layer::Outer), Removed::Nothing);
        assert_eq!(bans.nets(Layer::Inner), [them]);
    }

    #[test]
    fn more_bans_than_the_limit_are_refused() {
        let mut bans = BanList::default();
        for host in 0..MAX_BANS as u32 {
            let net = IpNet::from(IpAddr::V4(host.into()));
            bans.add(net, Layer::Outer, None).unwrap();
        }
        let one_more = bans.add(net("203.0.113.1/32"), Layer::Outer, None);
        assert_eq!(one_more, Err(BanError::Full));
        // A known one may change.
        bans.add(net("0.0.0.1/32"), Layer::Outer, None).unwrap();
    }

    #[test]
    fn a_reload_replaces_only_what_the_configuration_denied() {
        let mut bans = BanList::default();
        bans.configure(&[net("192.0.2.0/24")], &[net("10.0.0.6/32")]);
        bans.add(net("198.51.100.1/32"), Layer::Outer, None)
            .unwrap();
        bans.configure(&[net("203.0.113.0/24")], &[]);
        assert_eq!(
            bans.nets(Layer::Outer),
            [net("198.51.100.1/32"), net("203.0.113.0/24")]
        );
        assert!(bans.nets(Layer::Inner).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_operators_ban_is_not_that_of_what_the_file_denies() {
        let mut bans = BanList::default();
        let them = net("192.0.2.0/24");
        for layer in [Layer::Outer, Layer::Inner] {
            bans.configure(&[them], &[them]);
            bans.add(them, layer, Some(Duration::from_secs(3))).unwrap();
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(bans.expire());
            assert_eq!(bans.nets(layer), [them]);
            assert_eq!(bans.next_end(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_file_no_longer_denies_is_banned_until_the_operators_time_is_over() {
        let mut bans = BanList::default();
        let them = net("192.0.2.0/24");
        // In either order.
        bans.add(them, Layer::Outer, Some(Duration::from_secs(3)))
            .unwrap();
        bans.configure(&[them], &[]);
        bans.configure(&[], &[]);
        assert_eq!(bans.nets(Layer::Outer), [them]);
        bans.configure(&[them], &[]);
        bans.add(them, Layer::Outer, Some(Duration::from_secs(5)))
            .unwrap();
        bans.configure(&[], &[]);
        assert_eq!(bans.nets(Layer::Outer), [them]);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!bans.expire());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(bans.expire());
        assert!(bans.nets(Layer::Outer).is_empty());
    }

    #[test]
    fn taking_a_ban_back_tells_what_still_denies() {
        let mut bans = BanList::default();
        let them = net("192.0.2.0/24");
        bans.configure(&[them], &[]);
        bans.add(them, Layer::Outer, None).unwrap();
        assert_eq!(bans.remove(them, Layer::Outer), Removed::StillConfigured);
        assert_eq!(bans.nets(Layer::Outer), [them]);
        assert_eq!(bans.remove(them, Layer::Outer), Removed::UntilReload);
        assert!(bans.nets(Layer::Outer).is_empty());
        assert_eq!(bans.remove(them, Layer::Outer), Removed::Nothing);
        bans.configure(&[them], &[]);
        assert_eq!(bans.around(net("192.0.2.7/32"), Layer::Outer), Some(them));
        assert_eq!(bans.around(them, Layer::Outer), None);
    }

    #[test]
    fn a_time_that_no_clock_has_is_refused() {
        let mut bans = BanList::default();
        let them = net("192.0.2.0/24");
        for seconds in [0, 1 << 32, 1 << 63, u64::MAX] {
            let lasting = Some(Duration::from_secs(seconds));
            assert_eq!(bans.add(them, Layer::Outer, lasting), Err(BanError::Time));
        }
        assert!(bans.nets(Layer::Outer).is_empty());
        bans.add(them, Layer::Outer, Some(LONGEST)).unwrap();
    }

    #[test]
    fn an_ipv4_address_is_the_same_however_it_is_written() {
        let mut bans = BanList::default();
        bans.add(net("::ffff:198.51.100.7/128"), Layer::Outer, None)
            .unwrap();
        assert_eq!(bans.nets(Layer::Outer), [net("198.51.100.7/32")]);
        bans.configure(&[net("::ffff:192.0.2.0/120")], &[]);
        let removed = bans.remove(net("198.51.100.7/32"), Layer::Outer);
        assert_eq!(removed, Removed::All);
        assert_eq!(bans.nets(Layer::Outer), [net("192.0.2.0/24")]);
        // Wider than all of IPv4, it is something else.
        assert_eq!(canonical(net("::/64")), net("::/64"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_concerns_a_network_is_told_with_its_end() {
        let mut bans = BanList::default();
        bans.configure(&[net("198.51.100.0/24")], &[net("10.0.0.3/32")]);
        bans.add(
            net("10.0.0.0/24"),
            Layer::Inner,
            Some(Duration::from_secs(60)),
        )
        .unwrap();
        bans.add(net("10.0.1.9/32"), Layer::Inner, None).unwrap();
        bans.add(net("2001:db8::/32"), Layer::Outer, None).unwrap();
        let found = |at: &str, layer| -> Vec<(String, Option<u64>)> {
            let found = bans.concerning(net(at), layer).into_iter();
            found
                .map(|ban| (ban.net.to_string(), ban.left.map(|left| left.as_secs())))
                .collect()
        };
        let wide = ("10.0.0.0/24".to_owned(), Some(60));
        let narrow = ("10.0.0.3/32".to_owned(), None);
        assert_eq!(
            found("10.0.0.3/32", Layer::Inner),
            [wide.clone(), narrow.clone()]
        );
        assert_eq!(
            found("10.0.0.4/32", Layer::Inner),
            std::slice::from_ref(&wide)
        );
        let part = ("10.0.1.9/32".to_owned(), None);
        assert_eq!(found("10.0.0.0/16", Layer::Inner), [wide, narrow, part]);
        assert!(found("10.0.0.3/32", Layer::Outer).is_empty());
        assert_eq!(found("2001:db8::7/128", Layer::Outer).len(), 1);
        assert_eq!(found("::ffff:198.51.100.7/128", Layer::Outer).len(), 1);
        assert!(found("203.0.113.1/32", Layer::Outer).is_empty());
        assert_eq!(bans.denied().count(), 5);
    }
}
