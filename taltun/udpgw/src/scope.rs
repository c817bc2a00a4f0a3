//! What a listener is for: an address and a port, and whether `[::]` is for IPv4 as well.

use std::net::{IpAddr, SocketAddr};

use crate::options::Listen;

/// A place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) listen: Listen,
    /// Whether IPv4 comes in by this address of IPv6. `[::]` is so, as with BadVPN, unless
    /// IPv4 has an address of its own with that port.
    pub(crate) with_ipv4: bool,
}

impl Scope {
    /// The only place of somebody who listens there.
    pub(crate) fn alone(listen: Listen) -> Self {
        let address = listen.address;
        Self {
            listen,
            with_ipv4: address.is_ipv6() && address.ip().is_unspecified(),
        }
    }

    /// The places of a gateway that listens at all of these.
    pub(crate) fn of(all: &[Listen]) -> impl Iterator<Item = Self> {
        all.iter().map(|listen| {
            let address = listen.address;
            let is_any_v6 = address.is_ipv6() && address.ip().is_unspecified();
            let mut others = all.iter().map(|other| other.address);
            let v4_is_apart = others.any(|it| it.is_ipv4() && it.port() == address.port());
            Self {
                listen: listen.clone(),
                with_ipv4: is_any_v6 && !v4_is_apart,
            }
        })
    }

    /// Whether both are for the same clients, which the kernel permits to none but friends.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.listen.address, other.listen.address);
        let apart = |one: &Option<String>, two: &Option<String>| {
            one.is_some() && two.is_some() && one != two
        };
        ours.port() == theirs.port()
            && ours.port() != 0
            && !apart(&self.listen.interface, &other.listen.interface)
            && match (ours.ip(), theirs.ip()) {
                (IpAddr::V4(_), IpAddr::V6(_)) => other.with_ipv4,
                (IpAddr::V6(_), IpAddr::V4(_)) => self.with_ipv4,
                (ours, theirs) => {
                    ours == theirs || ours.is_unspecified() || theirs.is_unspecified()
                }
            }
    }
}

/// Whether somebody can't listen at both addresses, as they are one or one is within the other.
pub fn listens_twice(one: SocketAddr, other: SocketAddr) -> bool {
    let both = [one.into(), other.into()];
    let scopes: Vec<Scope> = Scope::of(&both).collect();
    scopes[0].overlaps(&scopes[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_other_overlaps() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("[::]:1", "[::1]:1", true),
            ("[::1]:1", "[::2]:1", false),
            // Then it is for IPv6 alone.
            ("[::]:1", "127.0.0.1:1", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(listens_twice(one, other), expected, "{one} {other}");
            assert_eq!(listens_twice(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn one_for_both_kinds_overlaps_with_what_takes_ipv4_from_it() {
        let scopes = |texts: &[&str]| -> Vec<Scope> {
            let all = texts.iter().map(|it| it.parse::<SocketAddr>().unwrap());
            Scope::of(&all.map(Listen::from).collect::<Vec<_>>()).collect()
        };
        let wide = scopes(&["[::]:1"]);
        let narrow = scopes(&["[::]:1", "127.0.0.1:1"]);
        assert_ne!(wide[0], narrow[0]);
        assert!(narrow.iter().all(|it| it.overlaps(&wide[0])));
        let on = |name: &str| {
            let mut scope = scopes(&["10.0.0.1:1"]).remove(0);
            scope.listen.interface = Some(name.to_owned());
            scope
        };
        assert!(!on("lo").overlaps(&on("tun0")));
        assert!(on("lo").overlaps(&scopes(&["10.0.0.1:1"])[0]));
    }
}
