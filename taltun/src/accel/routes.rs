//! The peers' prefixes in TC's map, and those for which the map has no room.
//!
//! A change visits only what it changes, never all routes. While the map lacks some, it proves
//! nothing; the first time, the log says so.

use std::collections::BTreeSet;

use ipnet::IpNet;
use taltun_common::maps::MAX_ROUTES;

/// Where routes are put.
pub(super) trait Room {
    /// Puts one there; the error is why there is no room for it.
    fn put(&mut self, net: IpNet) -> Result<(), String>;
    /// Takes it out again.
    fn take(&mut self, net: IpNet);
}

/// What peers own.
#[derive(Debug, Default)]
pub(super) struct Routes {
    placed: BTreeSet<IpNet>,
    /// Those that there was no room for.
    homeless: BTreeSet<IpNet>,
    /// Whether a lack of room was told, until there is room again.
    told: bool,
}

impl Routes {
    pub(super) fn add(&mut self, net: IpNet, room: &mut impl Room) {
        if self.placed.contains(&net) || self.homeless.contains(&net) {
            return;
        }
        // While others wait it isn't even tried: all of them fail alike.
        if !self.homeless.is_empty() {
            self.homeless.insert(net);
            return;
        }
        match room.put(net) {
            Ok(()) => drop(self.placed.insert(net)),
            Err(error) => {
                self.homeless.insert(net);
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        %net, error, room = MAX_ROUTES,
                        "TC can't hold this route; user space checks routes alone until peers \
                         own fewer networks"
                    );
                }
            }
        }
    }

    pub(super) fn remove(&mut self, net: IpNet, room: &mut impl Room) {
        if !self.homeless.remove(&net) && self.placed.remove(&net) {
            room.take(net);
        }
    }

    /// Tries those again that there was no room for, until one fails.
    pub(super) fn house(&mut self, room: &mut impl Room) {
        while let Some(net) = self.homeless.first().copied() {
            if room.put(net).is_err() {
                return;
            }
            self.homeless.remove(&net);
            self.placed.insert(net);
        }
        if std::mem::take(&mut self.told) {
            tracing::info!("TC holds all routes again");
        }
    }

    /// Whether this one is in the map.
    pub(super) fn has(&self, net: &IpNet) -> bool {
        self.placed.contains(net)
    }

    /// Whether all of them have room.
    pub(super) fn is_complete(&self) -> bool {
        self.homeless.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With room for so many, which counts what it is asked.
    struct Small {
        nets: BTreeSet<IpNet>,
        most: usize,
        asked: usize,
    }

    impl Room for Small {
        fn put(&mut self, net: IpNet) -> Result<(), String> {
            self.asked += 1;
            if self.nets.len() == self.most {
                return Err("no space left".into());
            }
            self.nets.insert(net);
            Ok(())
        }

        fn take(&mut self, net: IpNet) {
            self.asked += 1;
            assert!(self.nets.remove(&net));
        }
    }

    fn net(number: u32) -> IpNet {
        IpNet::from(std::net::IpAddr::V4(number.into()))
    }

    #[test]
    fn what_has_no_room_is_told_once_and_placed_when_there_is_some() {
        let mut map = Small {
            nets: BTreeSet::new(),
            most: 4,
            asked: 0,
        };
        let mut routes = Routes::default();
        for number in 0..6 {
            routes.add(net(number), &mut map);
            assert_eq!(routes.is_complete(), number < 4);
        }
        assert_eq!(routes.placed, map.nets);
        // One failure was enough to know, and was told; others aren't told again.
        assert_eq!(map.asked, 5);
        assert!(routes.told);
        // Again, and one that isn't placed leaves: nothing changes for the others.
        routes.add(net(5), &mut map);
        routes.remove(net(5), &mut map);
        routes.house(&mut map);
        assert!(!routes.is_complete() && routes.told);
        routes.remove(net(0), &mut map);
        routes.house(&mut map);
        assert!(routes.is_complete() && !routes.told);
        assert_eq!(map.nets, (1..5).map(net).collect());
        assert_eq!(routes.placed, map.nets);
    }

    #[test]
    fn a_change_of_one_route_among_many_asks_for_that_one() {
        let mut map = Small {
            nets: BTreeSet::new(),
            most: 100_000,
            asked: 0,
        };
        let mut routes = Routes::default();
        for number in 0..20_000 {
            routes.add(net(number), &mut map);
        }
        map.asked = 0;
        routes.add(net(7), &mut map);
        assert_eq!(map.asked, 0, "it is there");
        routes.remove(net(7), &mut map);
        routes.house(&mut map);
        routes.add(net(20_000), &mut map);
        assert_eq!(map.asked, 2);
    }
}
