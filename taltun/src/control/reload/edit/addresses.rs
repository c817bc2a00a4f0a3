//! The next free address of a subnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::report::{Refused, Why};

/// What nobody may have of the subnets that our vips are in.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<IpNet>);

impl Taken {
    pub(super) fn add(&mut self, nets: impl IntoIterator<Item = IpNet>) {
        self.0.extend(nets);
    }

    /// Whether exactly this address is somebody's.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.0.contains(&IpNet::from(address))
    }

    /// The lowest addresses that are free: one of IPv4 and one of IPv6, as far as there are vips of
    /// them, and with the same last part where that is free, too.
    pub(super) fn next_free(&self, vips: &[IpNet]) -> Result<Vec<IpAddr>, Refused> {
        let mut found: Vec<IpAddr> = Vec::new();
        let mut wanted = 1;
        for is_v4 in [true, false] {
            let mut nets = vips
                .iter()
                .filter(|vip| vip.addr().is_ipv4() == is_v4)
                .peekable();
            if nets.peek().is_none() {
                continue;
            }
            let full: Vec<String> = nets.clone().map(|net| net.trunc().to_string()).collect();
            let free = nets.find_map(|vip| {
                let first = number(vip.network());
                let from = first.saturating_add(wanted);
                let free = self
                    .free_in(vip, from)
                    .or_else(|| self.free_in(vip, first))?;
                wanted = free.saturating_sub(first);
                Some(address(free, is_v4))
            });
            found.push(free.ok_or_else(|| {
                let full = full.join(", ");
                let text = format!(
                    "no address is free in {full}; remove a peer, or give interface.vip a larger \
                     subnet"
                );
                Refused::because(Why::Full(full), text)
            })?);
        }
        Ok(found)
    }

    /// The lowest free number in the subnet of a vip, from this one on.
    fn free_in(&self, vip: &IpNet, from: u128) -> Option<u128> {
        let (mut first, mut last) = (number(vip.network()), number(vip.broadcast()));
        // The first one is that of the network, or of any router (RFC 4291, section 2.6.1), the
        // last one of IPv4 is everybody's.
        let hosts = vip.max_prefix_len().saturating_sub(vip.prefix_len());
        if hosts > 1 {
            first = first.saturating_add(1);
            if vip.addr().is_ipv4() {
                last = last.saturating_sub(1);
            }
        }
        // What holds the whole subnet, such as a default route, takes nobody's address.
        let inside = self.0.iter().filter(|net| {
            vip.contains(*net) && (net.prefix_len() > vip.prefix_len() || hosts == 0)
        });
        let ends = |net: &IpNet| (number(net.network()), number(net.broadcast()));
        let ours = number(vip.addr());
        let mut taken: Vec<_> = inside.map(ends).chain([(ours, ours)]).collect();
        taken.sort_unstable();
        let mut next = first.max(from);
        for (start, end) in taken {
            if start > next {
                break;
            }
            next = next.max(end.checked_add(1)?);
        }
        (next <= last).then_some(next)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 {
        Ipv4Addr::from(number as u32).into()
    } else {
        Ipv6Addr::from(number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(vips: &[&str], taken: &[&str]) -> Result<Vec<String>, Refused> {
        let nets = |all: &[&str]| -> Vec<IpNet> {
            let net = |text: &&str| match text.parse::<IpNet>() {
                Ok(net) => net,
                Err(_) => IpNet::from(text.parse::<IpAddr>().unwrap()),
            };
            all.iter().map(net).collect()
        };
        let mut all = Taken::default();
        all.add(nets(taken));
        let free = all.next_free(&nets(vips))?;
        Ok(free.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_lowest_free_address_is_taken_and_never_one_that_is_somebodys() {
        for (vips, taken, expected) in [
            (&["10.0.0.1/24"][..], &[][..], &["10.0.0.2"][..]),
            (&["10.0.0.2/24"], &[], &["10.0.0.1"]),
            (&["10.0.0.1/24"], &["10.0.0.2", "10.0.0.4"], &["10.0.0.3"]),
            // A site within the subnet, and networks that hold all of it.
            (
                &["10.0.0.1/24"],
                &["10.0.0.0/28", "0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/8"],
                &["10.0.0.16"],
            ),
            (&["10.0.0.1/30"], &[], &["10.0.0.2"]),
            (&["10.0.0.0/31"], &[], &["10.0.0.1"]),
            (&["10.0.0.1/31"], &[], &["10.0.0.0"]),
            (&["fd00::1/64"], &["fd00::2"], &["fd00::3"]),
            // The same last part, if that can be.
            (
                &["10.0.0.1/24", "fd00::1/64"],
                &["10.0.0.2"],
                &["10.0.0.3", "fd00::3"],
            ),
            (
                &["10.0.0.1/24", "fd00::1/64"],
                &["10.0.0.2", "fd00::3"],
                &["10.0.0.3", "fd00::4"],
            ),
            // The next subnet of the family where the first one is full.
            (&["10.0.0.1/32", "10.1.0.1/24"], &[], &["10.1.0.2"]),
            (
                &["255.255.255.250/29"],
                &["255.255.255.249", "255.255.255.251/32"],
                &["255.255.255.252"],
            ),
        ] {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(next(vips, taken), Ok(expected), "{vips:?} {taken:?}");
        }
    }

    #[test]
    fn a_full_subnet_is_told() {
        for (vips, taken) in [
            (&["10.0.0.1/32"][..], &[][..]),
            (&["10.0.0.1/30"], &["10.0.0.2"]),
            (&["10.0.0.1/24"], &["10.0.0.0/25", "10.0.0.128/25"]),
            (&["10.0.0.1/24", "fd00::1/128"], &[]),
            (
                &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"],
                &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
            ),
        ] {
            let reason = next(vips, taken).unwrap_err().text;
            assert!(reason.starts_with("no address is free in"), "{reason}");
        }
    }

    #[test]
    fn one_after_the_other_until_the_subnet_is_full() {
        let vips = ["10.0.0.7/26".parse().unwrap()];
        let mut taken = Taken::default();
        let mut given = Vec::new();
        while let Ok(free) = taken.next_free(&vips) {
            assert!(
                free.iter()
                    .all(|address| vips[0].contains(address) && !taken.has(*address))
            );
            taken.add(free.iter().copied().map(IpNet::from));
            given.extend(free);
        }
        // 64 less the network's, the last one and the vip.
        assert_eq!(given.len(), 61);
    }
}
