//! Who may be the source of what the kernel forwards into the tunnel from elsewhere.
//!
//! Rules tell the hub and peers by their addresses, and a session proves a peer's. Nothing proves
//! the source of what this host forwards for machines beside the tunnel, so none of theirs may be
//! a peer's or the host's own. The kernel's own check, `rp_filter`, there is for IPv4 only.
//!
//! The addresses are those that the file gives peers, and not what is routed into the tunnel: on a
//! hub whose default route leads there that is everybody. It stands where packets are forwarded:
//! datagrams of the tunnel itself, which end here, pay nothing for it, nothing has connections
//! tracked, and where a `[[forward]]` leads is known by then.

use std::cmp::Reverse;

use ipnet::IpNet;

/// Networks whose addresses nobody beside the tunnel may send from into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Each with whether it is refused, the longest prefixes first: the first one decides.
    nets: Vec<(IpNet, bool)>,
}

impl Sources {
    /// Those of peers, but for what is `foreign` within: what this host reaches by other
    /// interfaces, such as a network of its own in a larger one of a peer.
    pub fn new(peers: &[IpNet], foreign: &[IpNet]) -> Self {
        let refused = peers.iter().map(|net| (net.trunc(), true));
        let allowed = foreign.iter().map(|net| (net.trunc(), false));
        let mut nets: Vec<(IpNet, bool)> = refused.chain(allowed).collect();
        // Each comes after all that it is in; of two alike what is foreign counts.
        nets.sort_unstable_by_key(|(net, refused)| (net.network(), net.prefix_len(), *refused));
        nets.dedup_by_key(|(net, _)| *net);
        let mut around: Vec<(IpNet, bool)> = Vec::new();
        nets.retain(|(net, refused)| {
            while around.pop_if(|(outer, _)| !outer.contains(net)).is_some() {}
            // Nobody else is refused anything.
            let before = around.last().is_some_and(|(_, refused)| *refused);
            around.push((*net, *refused));
            before != *refused
        });
        nets.sort_by_key(|(net, _)| Reverse(net.prefix_len()));
        Self { nets }
    }
}

/// The rules for nftables, in a chain at its `forward` hook.
pub(super) fn nft(sources: &Sources, tun: &str) -> Vec<String> {
    let mut lines = vec![
        format!("iifname {{ \"lo\", \"{tun}\" }} return"),
        format!("oifname != \"{tun}\" return"),
        "fib saddr type local counter drop".to_owned(),
    ];
    // One look-up for all of a length, which don't overlap.
    let kind = |(net, refused): &(IpNet, bool)| (net.prefix_len(), net.addr().is_ipv6(), *refused);
    let mut nets: Vec<&(IpNet, bool)> = sources.nets.iter().collect();
    nets.sort_by_key(|entry| (Reverse(entry.0.prefix_len()), kind(entry)));
    for alike in nets.chunk_by(|one, other| kind(one) == kind(other)) {
        let (_, v6, refused) = kind(alike[0]);
        let family = if v6 { "ip6" } else { "ip" };
        let verdict = if refused { "counter drop" } else { "return" };
        let list: Vec<String> = alike.iter().map(|(net, _)| net.to_string()).collect();
        lines.push(format!(
            "{family} saddr {{ {} }} {verdict}",
            list.join(", ")
        ));
    }
    lines
}

/// The rules of one family for iptables, in a chain that `FORWARD` jumps to.
pub(super) fn iptables(sources: &Sources, tun: &str, v6: bool) -> Vec<String> {
    let mut lines = vec![
        format!("-i {tun} -j RETURN"),
        format!("! -o {tun} -j RETURN"),
        "-m addrtype --src-type LOCAL -j DROP".to_owned(),
    ];
    let of_family = sources.nets.iter();
    let of_family = of_family.filter(|(net, _)| net.addr().is_ipv6() == v6);
    lines.extend(of_family.map(|(net, refused)| {
        let verdict = if *refused { "DROP" } else { "RETURN" };
        format!("-s {net} -j {verdict}")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn of(peers: &[&str], foreign: &[&str]) -> Sources {
        Sources::new(&nets(peers), &nets(foreign))
    }

    #[test]
    fn the_longest_prefix_decides_and_what_changes_nothing_is_left_out() {
        let peers = [
            "10.0.0.0/8",
            "10.200.0.2/32",
            "10.1.2.0/24",
            "10.1.2.3/24",
            "192.168.0.0/24",
            "fd00::/64",
        ];
        let foreign = [
            "10.1.0.0/16",
            "10.1.9.0/24",
            "192.168.0.0/24",
            "203.0.113.0/24",
            "fd00::5:0/112",
        ];
        let sources = of(&peers, &foreign);
        let expected = [
            ("fd00::5:0/112", false),
            ("fd00::/64", true),
            ("10.1.2.0/24", true),
            ("10.1.0.0/16", false),
            ("10.0.0.0/8", true),
        ];
        let expected = expected.map(|(net, refused)| (net.parse().unwrap(), refused));
        assert_eq!(sources.nets, expected);
        assert_eq!(
            iptables(&sources, "t0", false),
            [
                "-i t0 -j RETURN",
                "! -o t0 -j RETURN",
                "-m addrtype --src-type LOCAL -j DROP",
                "-s 10.1.2.0/24 -j DROP",
                "-s 10.1.0.0/16 -j RETURN",
                "-s 10.0.0.0/8 -j DROP"
            ]
        );
    }

    #[test]
    fn nftables_looks_up_all_of_a_length_at_once() {
        let peers = ["10.2.0.0/24", "fd01::/24", "10.1.0.0/24", "10.0.0.0/16"];
        let lines = nft(&of(&peers, &["10.0.5.0/24"]), "t0");
        assert_eq!(
            lines,
            [
                "iifname { \"lo\", \"t0\" } return",
                "oifname != \"t0\" return",
                "fib saddr type local counter drop",
                "ip saddr { 10.0.5.0/24 } return",
                "ip saddr { 10.1.0.0/24, 10.2.0.0/24 } counter drop",
                "ip6 saddr { fd01::/24 } counter drop",
                "ip saddr { 10.0.0.0/16 } counter drop"
            ]
        );
    }
}
