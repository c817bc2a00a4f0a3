//! Which peer owns which inner addresses: edits of the workers' table, and a list of prefixes per
//! peer, so that a change of one peer visits that peer's prefixes only.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Device, RouteEdit};
use crate::allowed_ips::{AllowedIps, canonical};
use crate::peer::{Peer, PeerId};
use taltun_crypto::PublicKey;

/// Most prefixes changed in place, for which workers wait, some 0.2 µs each. For more, a copy is
/// changed and replaces the table.
const MOST_IN_PLACE: usize = 256;

type Routes = AllowedIps<Arc<Peer>>;

/// What is known of owners besides the table that workers have.
#[derive(Debug, Default)]
pub(super) struct Owned {
    by_peer: HashMap<PeerId, Prefixes>,
    /// Prefixes that somebody lost, since this was last asked.
    lost: Vec<IpNet>,
    /// Who lost one to somebody else, since this was last asked.
    displaced: Vec<PublicKey>,
    /// Prefixes looked at or copied by edits: what their work is.
    #[cfg(test)]
    pub(super) visited: usize,
}

/// What one peer owns. Nearly every peer has one prefix, which takes no memory of its own.
#[derive(Debug)]
enum Prefixes {
    One(IpNet),
    Many(BTreeSet<IpNet>),
}

impl Prefixes {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(nets) => nets.len(),
        }
    }

    /// Sorted.
    fn iter(&self) -> impl Iterator<Item = &IpNet> {
        let (one, many) = match self {
            Self::One(net) => (Some(net), None),
            Self::Many(nets) => (None, Some(nets)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn insert(&mut self, net: IpNet) {
        match self {
            Self::One(one) if *one == net => {}
            Self::One(one) => *self = Self::Many(BTreeSet::from([*one, net])),
            Self::Many(nets) => {
                nets.insert(net);
            }
        }
    }

    fn remove(&mut self, net: &IpNet) {
        match self {
            Self::One(one) if one == net => *self = Self::Many(BTreeSet::new()),
            Self::One(_) => {}
            Self::Many(nets) => {
                nets.remove(net);
            }
        }
    }
}

impl Owned {
    /// How many prefixes an edit changes.
    fn work(&self, edit: &RouteEdit) -> usize {
        match edit {
            RouteEdit::Clear(id) => self.by_peer.get(id).map_or(0, Prefixes::len),
            RouteEdit::Add(..) | RouteEdit::Remove(..) => 1,
        }
    }

    fn apply(&mut self, routes: &mut Routes, edit: &RouteEdit) {
        #[cfg(test)]
        {
            self.visited += self.work(edit);
        }
        match edit {
            RouteEdit::Clear(id) => {
                for net in self.by_peer.remove(id).iter().flat_map(Prefixes::iter) {
                    routes.remove_if(*net, |owner| owner.id() == *id);
                    self.lost.push(*net);
                }
            }
            RouteEdit::Add(peer, net) => {
                let net = canonical(*net);
                let before = routes.insert(net, Arc::clone(peer));
                if let Some(before) = before
                    && before.id() != peer.id()
                {
                    self.take(before.id(), net);
                    self.displaced.push(*before.public_key());
                }
                match self.by_peer.entry(peer.id()) {
                    Entry::Occupied(mut nets) => nets.get_mut().insert(net),
                    Entry::Vacant(place) => {
                        place.insert(Prefixes::One(net));
                    }
                }
            }
            RouteEdit::Remove(id, net) => {
                let net = canonical(*net);
                if routes.remove_if(net, |owner| owner.id() == *id) {
                    self.take(*id, net);
                    self.lost.push(net);
                }
            }
        }
    }

    fn take(&mut self, id: PeerId, net: IpNet) {
        if let Some(nets) = self.by_peer.get_mut(&id) {
            nets.remove(&net);
            if nets.len() == 0 {
                self.by_peer.remove(&id);
            }
        }
    }
}

impl Device {
    /// What a peer may send from and gets, sorted.
    pub fn allowed_ips_of(&self, id: PeerId) -> impl Iterator<Item = IpNet> + '_ {
        let nets = self.owned.by_peer.get(&id);
        nets.into_iter().flat_map(Prefixes::iter).copied()
    }

    /// Who owns all of a network, by the narrowest such prefix, or else the first who owns a
    /// part of it; of prefixes that `counts` is true for.
    pub fn owner_of(
        &self,
        net: IpNet,
        counts: impl Fn(IpNet) -> bool,
    ) -> Option<(IpNet, PublicKey)> {
        let net = canonical(net);
        let tables = self.tunnel.tables();
        let around = tables.routes.covering(net.addr());
        let around = around
            .take_while(|(length, _)| *length <= net.prefix_len())
            .filter_map(|(length, peer)| Some((IpNet::new(net.addr(), length).ok()?.trunc(), peer)))
            .filter(|(owned, _)| counts(*owned))
            .last();
        let found = around.or_else(|| {
            let mut within = tables.routes.within(net);
            within.find(|(owned, _)| counts(*owned))
        });
        found.map(|(owned, peer)| (owned, *peer.public_key()))
    }

    /// Everybody who owns a network inside this one, or this one.
    pub fn owners_within(&self, net: IpNet) -> BTreeSet<PublicKey> {
        let tables = self.tunnel.tables();
        let within = tables.routes.within(net);
        within.map(|(_, peer)| *peer.public_key()).collect()
    }

    /// All that peers own.
    pub fn routes(&self) -> Vec<IpNet> {
        self.owned
            .by_peer
            .values()
            .flat_map(Prefixes::iter)
            .copied()
            .collect()
    }

    /// The same, with who owns each.
    pub fn owners(&self) -> AllowedIps<PublicKey> {
        let mut owners = AllowedIps::default();
        for (net, peer) in self.tunnel.tables().routes.iter() {
            owners.insert(net, *peer.public_key());
        }
        owners
    }

    /// The prefixes that lost their owner since the last call.
    pub fn take_lost_routes(&mut self) -> Vec<IpNet> {
        let mut lost = std::mem::take(&mut self.owned.lost);
        if !lost.is_empty() {
            let tables = self.tunnel.tables();
            lost.retain(|net| tables.routes.get(*net).is_none());
        }
        lost
    }

    /// The peers that lost a prefix to another one since this was last asked.
    pub fn take_displaced(&mut self) -> Vec<PublicKey> {
        std::mem::take(&mut self.owned.displaced)
    }

    /// Makes many changes of allowed IPs, in order. Workers see all of them at once or none
    /// yet, and hardly wait for it.
    pub fn edit_routes(&mut self, edits: &[RouteEdit]) {
        if edits.is_empty() {
            return;
        }
        let work: usize = edits.iter().map(|edit| self.owned.work(edit)).sum();
        if work <= MOST_IN_PLACE {
            let mut tables = self.tunnel.tables_mut();
            for edit in edits {
                self.owned.apply(&mut tables.routes, edit);
            }
            return;
        }
        let mut routes = self.tunnel.tables().routes.clone();
        #[cfg(test)]
        {
            self.owned.visited += routes.len();
        }
        for edit in edits {
            self.owned.apply(&mut routes, edit);
        }
        let old = std::mem::replace(&mut self.tunnel.tables_mut().routes, routes);
        // Freed here, after the lock is.
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::super::many::{hub, key, net, settings};
    use super::*;
    use crate::time::Time;
    use crate::trie::visited;

    /// What is known of owners is what workers have in their table.
    fn check(device: &Device) {
        let table = device.allowed_ips();
        assert_eq!(table.len(), device.owned.by_peer.len());
        for (id, nets) in table {
            assert!(device.allowed_ips_of(id).eq(nets), "{id:?}");
        }
    }

    #[test]
    fn the_work_of_a_change_is_that_of_the_peer_that_changes() {
        for peers in [1_000, 4_000] {
            let mut device = hub(peers);
            let mut work = |change: &dyn Fn(&mut Device)| {
                change(&mut device);
                check(&device);
                std::mem::take(&mut device.owned.visited)
            };
            let more = peers + 1;
            assert_eq!(
                work(&|device| drop(device.add_peer(settings(more), Time::START).unwrap())),
                1
            );
            let three = [net(more), net(more + 1), net(more + 2)];
            assert_eq!(
                work(&|device| device.set_allowed_ips(&key(more), &three)),
                4
            );
            assert_eq!(work(&|device| assert!(device.remove_peer(&key(more)))), 3);
            // From another peer.
            assert_eq!(
                work(&|device| device.set_allowed_ips(&key(3), &[net(4)])),
                2
            );
            let none = device.peer(&key(4)).unwrap().id();
            assert_eq!(device.allowed_ips_of(none).count(), 0);
        }
    }

    #[test]
    fn a_question_about_a_network_looks_at_what_is_there_and_at_nothing_else() {
        let mut device = hub(4_000);
        device.set_allowed_ips(&key(0), &["0.0.0.0/0".parse().unwrap()]);
        device.set_allowed_ips(&key(1), &["10.0.8.0/22".parse().unwrap()]);
        let all = |_: IpNet| true;
        let not_all = |net: IpNet| net.prefix_len() > 0;
        let owner = |text: &str, counts: &dyn Fn(IpNet) -> bool| {
            visited::take();
            let found = device.owner_of(text.parse().unwrap(), counts);
            let looked = visited::take();
            assert!(looked < 40, "{text}: {looked} nodes");
            found.map(|(net, key)| (net.to_string(), key))
        };
        let some = |net: &str, number| Some((net.to_owned(), key(number)));
        // The narrowest that has all of it, whoever else has all or a part of it.
        assert_eq!(owner("10.0.0.7/32", &all), some("10.0.0.7/32", 7));
        assert_eq!(owner("10.0.9.0/24", &all), some("10.0.8.0/22", 1));
        assert_eq!(owner("10.0.1.0/24", &all), some("0.0.0.0/0", 0));
        // The first that has a part of it.
        assert_eq!(owner("10.0.1.0/24", &not_all), some("10.0.1.0/32", 256));
        assert_eq!(owner("10.1.0.0/16", &not_all), None);
        assert_eq!(owner("2001:db8::/32", &all), None);

        visited::take();
        let within = device.owners_within("10.0.1.0/30".parse().unwrap());
        assert_eq!(within, (256..260).map(key).collect());
        let looked = visited::take();
        assert!(looked < 40, "{looked} nodes");
        assert_eq!(device.owners_within(net(5000)), BTreeSet::new());
    }

    #[test]
    fn what_is_lost_and_to_whom_is_told_once() {
        let mut device = hub(10);
        device.set_allowed_ips(&key(3), &[net(4), net(30)]);
        assert_eq!(device.take_displaced(), [key(4)]);
        assert_eq!(device.take_lost_routes(), [net(3)]);
        assert!(device.remove_peer(&key(3)));
        assert_eq!(device.take_lost_routes(), [net(4), net(30)]);
        assert_eq!(device.take_forgotten(), [key(3)]);
        // Given to somebody else at once, it isn't lost.
        let (five, six) = (device.peer(&key(5)).unwrap(), device.peer(&key(6)).unwrap());
        let edits = [
            RouteEdit::Clear(five.id()),
            RouteEdit::Add(Arc::clone(six), net(5)),
        ];
        device.edit_routes(&edits);
        assert!(device.take_lost_routes().is_empty());
        assert!(device.take_displaced().is_empty() && device.take_forgotten().is_empty());
        check(&device);
    }

    #[test]
    fn prefixes_come_and_go_one_by_one() {
        let mut device = hub(3);
        let peer = Arc::clone(device.peer(&key(1)).unwrap());
        let add = |number| RouteEdit::Add(Arc::clone(&peer), net(number));
        let remove = |number| RouteEdit::Remove(peer.id(), net(number));
        for (edit, left) in [
            (add(1), vec![1]),
            (remove(7), vec![1]),
            (add(9), vec![1, 9]),
            (add(8), vec![1, 8, 9]),
            (remove(1), vec![8, 9]),
            (remove(9), vec![8]),
            (remove(8), vec![]),
            (add(5), vec![5]),
            (remove(5), vec![]),
        ] {
            device.edit_routes(&[edit]);
            let expected = left.into_iter().map(net);
            assert!(device.allowed_ips_of(peer.id()).eq(expected));
            check(&device);
        }
    }

    #[test]
    fn many_changes_at_once_are_made_in_a_copy_and_come_to_the_same() {
        let mut device = hub(1_000);
        let peers: Vec<_> = device.peers().cloned().collect();
        let clear = |peer: &Arc<Peer>| RouteEdit::Clear(peer.id());
        let mut edits: Vec<RouteEdit> = peers.iter().take(600).map(clear).collect();
        edits.push(RouteEdit::Add(Arc::clone(&peers[1]), net(999)));
        device.edit_routes(&edits);
        assert_eq!(device.owned.visited, 1_000 + 600 + 1);
        check(&device);
        assert_eq!(device.take_lost_routes().len(), 600);
        assert_eq!(device.take_displaced(), [key(999)]);
    }
}
