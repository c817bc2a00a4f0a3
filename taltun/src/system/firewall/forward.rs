//! The rules for `[[forward]]`: ports of this host that lead to a peer.
//!
//! What comes from outside to such a port gets the peer's address as its destination, and our vip
//! as its source, so that a peer with the VPN's network alone in its `allowed_ips` takes it and
//! answers it to us. The kernel knows such connections by their first packet and translates the
//! rest of them, answers included. What comes out of the tunnel or from this host itself has no
//! need of a port here, and isn't translated.

use std::fmt::Write;
use std::net::IpAddr;

use super::hop;
use crate::config::{Forward, ForwardSource, PortRange};

/// What nft translates before it is routed.
pub(super) fn nft_in(forwards: &[Forward], tun: &str) -> Vec<String> {
    let line = |(forward, address): (&Forward, IpAddr)| {
        let (protocol, here) = (forward.listen.protocol.word(), forward.listen.ports);
        let family = family(address);
        let at = match forward.listen.at {
            Some(at) => format!("{family} daddr {at}"),
            None if address.is_ipv6() => "meta nfproto ipv6".to_owned(),
            None => "meta nfproto ipv4".to_owned(),
        };
        format!(
            "iifname != {{ \"lo\", \"{tun}\" }} {at} {protocol} dport {} fib daddr type local \
             counter dnat {family} to {}",
            text(here, '-'),
            nft_target(forward, address)
        )
    };
    each(forwards).map(line).collect()
}

/// Where nft leads to. Ports of a range that stay as they are needn't be named; others are, one by
/// one, as nft would choose any of a range.
fn nft_target(forward: &Forward, address: IpAddr) -> String {
    let (here, there) = (forward.listen.ports, forward.to.ports);
    if here == there {
        return address.to_string();
    }
    if here.first == here.last {
        return std::net::SocketAddr::new(address, there.first).to_string();
    }
    let pairs = (here.first..=here.last).zip(there.first..=there.last);
    let pairs: Vec<String> = pairs
        .map(|(here, there)| format!("{here} : {there}"))
        .collect();
    let protocol = forward.listen.protocol.word();
    format!(
        "{address} : {protocol} dport map {{ {} }}",
        pairs.join(", ")
    )
}

/// What nft translates after it was routed.
pub(super) fn nft_out(forwards: &[Forward], tun: &str) -> Vec<String> {
    let line = |(forward, address): (&Forward, IpAddr)| {
        let protocol = forward.listen.protocol.word();
        let verdict = match forward.source {
            ForwardSource::Hub => "masquerade",
            ForwardSource::Keep => "accept",
        };
        format!(
            "oifname \"{tun}\" {} daddr {address} {protocol} dport {} ct status dnat ct original \
             proto-dst {} counter {verdict}",
            family(address),
            text(forward.to.ports, '-'),
            text(forward.listen.ports, '-')
        )
    };
    each(forwards).map(line).collect()
}

/// What iptables translates before it is routed, of a family; empty where there is none of it.
pub(super) fn iptables_in(forwards: &[Forward], tun: &str, v6: bool) -> Vec<String> {
    let line = |(forward, address): (&Forward, IpAddr)| {
        let mut line = String::new();
        if let Some(at) = forward.listen.at {
            // Writing to a String can't fail.
            let _ = write!(line, "-d {at}/{} ", bits(at));
        }
        let protocol = forward.listen.protocol.word();
        let (here, there) = (forward.listen.ports, forward.to.ports);
        let _ = write!(
            line,
            "-p {protocol} -m {protocol} --dport {} -m addrtype --dst-type LOCAL -j DNAT \
             --to-destination ",
            text(here, ':')
        );
        let address = match address {
            IpAddr::V6(v6) if here != there => format!("[{v6}]"),
            _ => address.to_string(),
        };
        let _ = write!(line, "{address}");
        if here != there {
            let _ = write!(line, ":{}", text(there, '-'));
        }
        if here != there && here.first != here.last {
            let _ = write!(line, "/{}", here.first);
        }
        line
    };
    let lines: Vec<String> = each(forwards)
        .filter(|(_, address)| address.is_ipv6() == v6)
        .map(line)
        .collect();
    if lines.is_empty() {
        return lines;
    }
    let inside = [format!("-i {tun} -j RETURN"), "-i lo -j RETURN".to_owned()];
    inside.into_iter().chain(lines).collect()
}

/// What iptables translates after it was routed, of a family.
pub(super) fn iptables_out(forwards: &[Forward], tun: &str, v6: bool) -> Vec<String> {
    let line = |(forward, address): (&Forward, IpAddr)| {
        let protocol = forward.listen.protocol.word();
        let target = match forward.source {
            ForwardSource::Hub => "MASQUERADE",
            ForwardSource::Keep => "RETURN",
        };
        format!(
            "-d {address}/{} -o {tun} -p {protocol} -m {protocol} --dport {} -m conntrack --ctstate \
             DNAT --ctorigdstport {} -j {target}",
            bits(address),
            text(forward.to.ports, ':'),
            text(forward.listen.ports, ':')
        )
    };
    let of_family = each(forwards).filter(|(_, address)| address.is_ipv6() == v6);
    of_family.map(line).collect()
}

/// Each forward with each of its addresses.
fn each(forwards: &[Forward]) -> impl Iterator<Item = (&Forward, IpAddr)> {
    forwards
        .iter()
        .flat_map(|forward| forward.addresses.iter().map(move |it| (forward, *it)))
}

fn text(PortRange { first, last }: PortRange, separator: char) -> String {
    hop::text(&(first..=last), separator)
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "ip6" } else { "ip" }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config;

    /// Those of a hub's file, whose peer ana has a vip of each family.
    pub(in crate::system) fn forwards(lines: &[&str]) -> Vec<Forward> {
        let mut text = "[interface]\nmode = \"server\"\nvip = [\"10.0.0.1/24\", \"fd00::1/64\"]\n\
                        private_key = \"2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM=\"\n\
                        [[peers]]\nname = \"ana\"\nvip = [\"10.0.0.2\", \"fd00::2\"]\n\
                        public_key = \"N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=\"\n"
            .to_owned();
        for line in lines {
            let _ = writeln!(text, "[[forward]]\n{}", line.replace("; ", "\n"));
        }
        config::parse(&text, "hub.toml").unwrap().config.forwards
    }

    #[test]
    fn a_port_leads_to_the_peer_in_both_families_and_the_peer_sees_us() {
        let forwards = forwards(&["listen = \"tcp/8443\"; to = \"ana:443\""]);
        assert_eq!(
            nft_in(&forwards, "t0"),
            [
                "iifname != { \"lo\", \"t0\" } meta nfproto ipv4 tcp dport 8443 fib daddr type local \
                 counter dnat ip to 10.0.0.2:443",
                "iifname != { \"lo\", \"t0\" } meta nfproto ipv6 tcp dport 8443 fib daddr type local \
                 counter dnat ip6 to [fd00::2]:443",
            ]
        );
        assert_eq!(
            nft_out(&forwards, "t0")[1],
            "oifname \"t0\" ip6 daddr fd00::2 tcp dport 443 ct status dnat ct original proto-dst \
             8443 counter masquerade"
        );
        assert_eq!(
            iptables_in(&forwards, "t0", true),
            [
                "-i t0 -j RETURN",
                "-i lo -j RETURN",
                "-p tcp -m tcp --dport 8443 -m addrtype --dst-type LOCAL -j DNAT --to-destination \
                 [fd00::2]:443",
            ]
        );
        assert_eq!(
            iptables_out(&forwards, "t0", false),
            [
                "-d 10.0.0.2/32 -o t0 -p tcp -m tcp --dport 443 -m conntrack --ctstate DNAT \
                 --ctorigdstport 8443 -j MASQUERADE"
            ]
        );
    }

    #[test]
    fn each_port_of_a_range_leads_to_its_own() {
        let moved = forwards(&["listen = \"udp/5000-5002\"; to = \"10.0.0.2:6000-6002\""]);
        let line = &nft_in(&moved, "t0")[0];
        assert!(
            line.ends_with(
                "dnat ip to 10.0.0.2 : udp dport map { 5000 : 6000, 5001 : 6001, 5002 : 6002 }"
            ),
            "{line}"
        );
        let line = &iptables_in(&moved, "t0", false)[2];
        assert!(
            line.contains("--dport 5000:5002 ")
                && line.ends_with("--to-destination 10.0.0.2:6000-6002/5000"),
            "{line}"
        );
        assert!(iptables_in(&moved, "t0", true).is_empty());
        // The same numbers at both ends.
        let same = forwards(&["listen = \"udp/192.0.2.1:5000-5002\"; to = \"ana:5000-5002\""]);
        let line = &nft_in(&same, "t0")[0];
        assert!(
            line.contains("} ip daddr 192.0.2.1 udp dport 5000-5002 ")
                && line.ends_with(" to 10.0.0.2"),
            "{line}"
        );
        let line = &iptables_in(&same, "t0", false)[2];
        assert!(
            line.starts_with("-d 192.0.2.1/32 -p udp ")
                && line.ends_with("--to-destination 10.0.0.2"),
            "{line}"
        );
    }

    #[test]
    fn what_keeps_its_source_is_not_translated_on_its_way_out() {
        let forwards = forwards(&["listen = \"tcp/80\"; to = \"10.0.0.2:80\"; source = \"keep\""]);
        assert!(nft_out(&forwards, "t0")[0].ends_with("counter accept"));
        assert!(iptables_out(&forwards, "t0", false)[0].ends_with("-j RETURN"));
    }
}
