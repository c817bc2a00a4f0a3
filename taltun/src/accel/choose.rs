//! Which interfaces to attach to.
//!
//! The configured ones, if there are any. Otherwise the one with the listen address; for a
//! wildcard, each that may receive datagrams for us from outside: up, with an address, not
//! loopback and not a tunnel. A tunnel's packets passed a real interface before, and most tunnels
//! have no Ethernet header to start from.
//!
//! Attaching to the driver resets some network cards: the link is gone for seconds. So in mode
//! `auto`, if some of these interfaces have the default route, the others are left alone.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::netlink::Link;
use super::{Wanted, off};
use crate::config::XdpMode;
use crate::report::XdpStatus;

/// The links to attach to, or what to say about an interface that isn't.
pub(super) fn choose(wanted: &Wanted, links: Vec<Link>) -> Vec<Result<Link, XdpStatus>> {
    if wanted.interfaces.is_empty() {
        found(wanted, links)
    } else {
        wanted
            .interfaces
            .iter()
            .map(|name| named(name, wanted, &links))
            .collect()
    }
}

/// The addresses that datagrams to our socket can have as their destination.
pub(super) fn own_addresses(listen: SocketAddr, links: &[Link]) -> Vec<IpAddr> {
    let all = links.iter().flat_map(|link| &link.addresses).copied();
    match listen.ip().to_canonical() {
        // A dual-stack socket: IPv4 too.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => all.collect(),
        IpAddr::V4(address) if address.is_unspecified() => all.filter(IpAddr::is_ipv4).collect(),
        address => vec![address],
    }
}

fn named(name: &str, wanted: &Wanted, links: &[Link]) -> Result<Link, XdpStatus> {
    if name == wanted.tun_name {
        return Err(off(name, "is the tunnel itself"));
    }
    let link = links
        .iter()
        .find(|link| link.name == name)
        .ok_or_else(|| off(name, "there is no such interface"))?;
    if link.ethernet {
        Ok(link.clone())
    } else {
        Err(off(name, "isn't an Ethernet interface"))
    }
}

fn found(wanted: &Wanted, links: Vec<Link>) -> Vec<Result<Link, XdpStatus>> {
    let listen = wanted.listen.ip().to_canonical();
    let usable = |link: &Link| link.is_underlay() && link.name != wanted.tun_name;
    if listen.is_unspecified() {
        let all: Vec<Link> = links
            .into_iter()
            .filter(|link| usable(link) && link.up && !link.addresses.is_empty())
            .collect();
        let some = wanted.mode == XdpMode::Auto && all.iter().any(|link| link.outward);
        if all.is_empty() {
            return vec![Err(off(
                "",
                "no interface is up and has an address, but loopback and tunnels",
            ))];
        }
        return all
            .into_iter()
            .map(|link| {
                if some && !link.outward {
                    Err(off(
                        &link.name,
                        "no default route leads through it, and attaching resets some network \
                         cards; accel.interfaces can name it",
                    ))
                } else {
                    Ok(link)
                }
            })
            .collect();
    }
    let holder = links
        .into_iter()
        .find(|link| link.addresses.contains(&listen));
    vec![match holder {
        Some(link) if usable(&link) => Ok(link),
        Some(link) => Err(off(
            &link.name,
            format!("holds {listen}, but is loopback or a tunnel"),
        )),
        None => Err(off("", format!("no interface holds {listen}"))),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str, addresses: &[&str]) -> Link {
        Link {
            index,
            name: name.into(),
            up: true,
            ethernet: true,
            loopback: false,
            kind: kind.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            outward: false,
            program: None,
        }
    }

    fn machine() -> Vec<Link> {
        let lo = Link {
            loopback: true,
            ..link(1, "lo", "", &["127.0.0.1", "::1"])
        };
        let wg = Link {
            ethernet: false,
            ..link(5, "wg0", "wireguard", &["10.9.0.1"])
        };
        let down = Link {
            up: false,
            ..link(6, "eth1", "", &["203.0.113.7"])
        };
        vec![
            lo,
            link(2, "eth0", "", &["192.0.2.1", "2001:db8::1"]),
            link(3, "veth0", "veth", &["198.51.100.1"]),
            link(4, "tap0", "tun", &["10.8.0.1"]),
            wg,
            down,
            link(7, "eth2", "", &[]),
            link(8, "taltun0", "dummy", &["10.0.0.1"]),
        ]
    }

    fn names(interfaces: &[&str], listen: &str) -> Vec<Result<String, String>> {
        choices(interfaces, listen, XdpMode::Auto, machine())
    }

    fn choices(
        interfaces: &[&str],
        listen: &str,
        mode: XdpMode,
        machine: Vec<Link>,
    ) -> Vec<Result<String, String>> {
        let wanted = Wanted {
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
            listen: listen.parse().unwrap(),
            mark: 0,
            mode,
            prefer_driver: false,
            tun_name: "taltun0".into(),
            port_range: None,
        };
        choose(&wanted, machine)
            .into_iter()
            .map(|choice| match choice {
                Ok(link) => Ok(link.name),
                Err(status) => Err(format!("{}: {}", status.interface, status.reason)),
            })
            .collect()
    }

    #[test]
    fn a_wildcard_means_every_way_in_from_outside() {
        for wildcard in ["0.0.0.0:9000", "[::]:9000"] {
            let expected: [Result<String, String>; 2] = [Ok("eth0".into()), Ok("veth0".into())];
            assert_eq!(names(&[], wildcard), expected);
        }
    }

    #[test]
    fn where_nobody_said_how_only_the_way_out_is_attached_to() {
        let machine = || {
            let mut links = machine();
            links[2].outward = true;
            links
        };
        let auto = choices(&[], "[::]:9000", XdpMode::Auto, machine());
        assert!(
            auto[0]
                .as_ref()
                .is_err_and(|text| text.starts_with("eth0: no default route"))
        );
        assert_eq!(auto[1], Ok("veth0".into()));
        let driver = choices(&[], "[::]:9000", XdpMode::Driver, machine());
        assert_eq!(driver, [Ok("eth0".into()), Ok("veth0".into())]);
        let named = choices(&["eth0"], "[::]:9000", XdpMode::Auto, machine());
        assert_eq!(named, [Ok("eth0".into())]);
        let listening = choices(&[], "192.0.2.1:9000", XdpMode::Auto, machine());
        assert_eq!(listening, [Ok("eth0".into())]);
    }

    #[test]
    fn an_address_means_the_interface_that_holds_it() {
        assert_eq!(names(&[], "198.51.100.1:9000"), [Ok("veth0".into())]);
        assert_eq!(names(&[], "[2001:db8::1]:9000"), [Ok("eth0".into())]);
        assert_eq!(names(&[], "[::ffff:192.0.2.1]:9000"), [Ok("eth0".into())]);
        assert_eq!(
            names(&[], "127.0.0.1:9000"),
            [Err(
                "lo: holds 127.0.0.1, but is loopback or a tunnel".into()
            )]
        );
        assert_eq!(
            names(&[], "192.0.2.99:9000"),
            [Err(": no interface holds 192.0.2.99".into())]
        );
    }

    #[test]
    fn names_are_taken_at_their_word() {
        assert_eq!(
            names(&["eth2", "lo", "nope", "wg0", "taltun0"], "192.0.2.1:9000"),
            [
                Ok("eth2".into()),
                Ok("lo".into()),
                Err("nope: there is no such interface".into()),
                Err("wg0: isn't an Ethernet interface".into()),
                Err("taltun0: is the tunnel itself".into()),
            ]
        );
    }

    #[test]
    fn our_addresses_are_those_the_socket_hears() {
        let at = |listen: &str| own_addresses(listen.parse().unwrap(), &machine());
        assert_eq!(at("192.0.2.1:9000"), [IpAddr::from([192, 0, 2, 1])]);
        assert!(at("0.0.0.0:9000").iter().all(IpAddr::is_ipv4));
        assert!(at("[::]:9000").contains(&"2001:db8::1".parse().unwrap()));
        assert!(at("[::]:9000").contains(&"192.0.2.1".parse().unwrap()));
    }
}
