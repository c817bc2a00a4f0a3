//! The chains of ours that iptables gets, `taltun-IFACE-…`, which the usual chains jump to, and
//! the rules in them.
//!
//! Those that refuse do nothing else: what they don't refuse goes on to the rules of others. So
//! they come first, wherever others put rules that let packets pass.

use std::net::SocketAddr;

use super::{Hop, Redirect, Rules, forward, hop, sources};
use crate::config::Masquerade;

/// Segments of TCP that may be an answer.
const ANSWERS: &str = "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN ";
/// Networks that nobody on the internet has.
const PRIVATE_V4: [&str; 5] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
];
/// Those of IPv6.
const PRIVATE_V6: [&str; 2] = ["fc00::/7", "fe80::/10"];
/// Those of our chains that refuse, and so have to come before what lets packets pass: each with
/// its table and the usual chain that leads there.
pub(super) const REFUSING: [(&str, &str, &str); 4] = [
    ("raw", "PREROUTING", "vip"),
    ("filter", "OUTPUT", "out"),
    ("filter", "FORWARD", "fwd"),
    ("mangle", "FORWARD", "src"),
];
/// Those that mark packets.
pub(super) const MARKING: [&str; 4] = ["get", "in", "ans", "put"];
/// The mark of what came out of the tunnel.
const FROM_TUNNEL: &str = "0x2000/0x2000";
/// The names of our chains.
const NAMES: [&str; 13] = [
    "vip", "src", "get", "in", "ans", "put", "mss", "out", "fwd", "from", "nat", "hop", "dnat",
];
/// A chain of ours, and the rules in it.
pub(super) struct Chain {
    pub(super) table: &'static str,
    /// The usual chain that jumps to it.
    pub(super) from: &'static str,
    pub(super) name: &'static str,
    pub(super) rules: Vec<String>,
}

/// Whether a chain of this name is one of ours for `tun`, and not for an interface whose name
/// begins with that and a dash.
pub(super) fn is_ours(tun: &str, name: &str) -> bool {
    NAMES.iter().any(|ours| full_name(tun, ours) == name)
}

/// At most 28 bytes, as iptables wants: 7 + 15 + 1 + 4.
pub(super) fn full_name(tun: &str, name: &str) -> String {
    format!("taltun-{tun}-{name}")
}

/// The chains that one family gets.
pub(super) fn chains(rules: &Rules, v6: bool) -> Vec<Chain> {
    let tun = &rules.tun;
    let mut chains = Vec::new();
    let mut chain = |table, from, name, rules| {
        chains.push(Chain {
            table,
            from,
            name,
            rules,
        });
    };
    if rules.protect_vip {
        let vips = rules.vips_of(v6);
        let drop = |vip| format!("-d {vip} ! -i {tun} -m addrtype ! --src-type LOCAL -j DROP");
        chain("raw", "PREROUTING", "vip", vips.iter().map(drop).collect());
    }
    if let Some(refused) = &rules.sources {
        let lines = sources::iptables(refused, tun, v6);
        chain("mangle", "FORWARD", "src", lines);
    }
    if let Some(mark) = rules.mark.filter(|_| rules.recall_mark) {
        let recall = format!("-p udp -m connmark --mark {mark:#x} -j CONNMARK --restore-mark");
        chain("mangle", "PREROUTING", "get", vec![recall]);
        // What others open to this machine from outside of the tunnel is answered by the way
        // that it came.
        // Under a kill switch only TCP connections, and no segment of ours that opens one.
        let (opens, answers) = if rules.kill_switch {
            ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN ", ANSWERS)
        } else {
            ("", "")
        };
        let keep = format!(
            "! -i {tun} {opens}-m conntrack --ctstate NEW -m addrtype --dst-type LOCAL -j CONNMARK \
             --set-mark {mark:#x}"
        );
        let reply = format!(
            "-m conntrack --ctdir REPLY -m connmark --mark {mark:#x} -j CONNMARK --restore-mark"
        );
        let restore = format!("{answers}{reply}");
        let forwarded = format!("! -i {tun} {restore}");
        // Those of peers behind a forwarded port come in by the tunnel.
        let of_peers = format!("-i {tun} {answers}-m conntrack --ctstate DNAT {reply}");
        chain(
            "mangle",
            "PREROUTING",
            "in",
            vec![keep, forwarded, of_peers],
        );
        chain("mangle", "OUTPUT", "ans", vec![restore]);
        let remember = format!("-p udp -m mark --mark {mark:#x} -j CONNMARK --save-mark");
        chain("mangle", "POSTROUTING", "put", vec![remember]);
    }
    if rules.mss_clamp {
        let clamp = |direction| {
            format!(
                "{direction} {tun} -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss {}",
                rules.segment(v6)
            )
        };
        chain("mangle", "FORWARD", "mss", vec![clamp("-i"), clamp("-o")]);
    }
    if rules.kill_switch {
        let [output, forward] = kill_switch_rules(rules, v6);
        chain("filter", "OUTPUT", "out", output);
        chain("filter", "FORWARD", "fwd", forward);
    }
    let mut lines = forward::iptables_out(&rules.forwards, tun, v6);
    if let Some(nat) = &rules.masquerade {
        // POSTROUTING doesn't know where a packet came from, so it is marked on the way, by a
        // bit that nobody else is known to use; what others have marked it with stays.
        let set = format!("-i {tun} -j MARK --set-xmark {FROM_TUNNEL}");
        chain("mangle", "FORWARD", "from", vec![set]);
        lines.extend(translating(rules, nat, v6));
    }
    if rules.masquerade.is_some() || !lines.is_empty() {
        chain("nat", "POSTROUTING", "nat", lines);
    }
    let lines = forward::iptables_in(&rules.forwards, tun, v6);
    if !lines.is_empty() {
        chain("nat", "PREROUTING", "dnat", lines);
    }
    if let Some((hop, redirect)) = rules.redirect()
        && redirect.at.is_none_or(|address| address.is_ipv6() == v6)
    {
        chain("nat", "PREROUTING", "hop", redirecting(tun, hop, redirect));
    }
    chains
}

/// What translates packets that came out of the tunnel, and those that go into it.
fn translating(rules: &Rules, nat: &Masquerade, v6: bool) -> Vec<String> {
    let tun = &rules.tun;
    let mut lines = Vec::new();
    let ports = rules.translated_ports();
    let from_tunnel = |out: &str| {
        let packets = format!("{out} -m mark --mark {FROM_TUNNEL}");
        // The range's ports are UDP's.
        let udp = ports.iter().map(|ports| {
            let ports = hop::text(ports, '-');
            format!("-p udp {packets} -j MASQUERADE --to-ports {ports}")
        });
        let all = std::iter::once(format!("{packets} -j MASQUERADE"));
        udp.chain(all).collect::<Vec<String>>()
    };
    match &nat.out {
        None => lines.extend(from_tunnel(&format!("! -o {tun}"))),
        Some(names) => {
            let each = names.iter().map(|out| format!("-o {out}"));
            lines.extend(each.flat_map(|out| from_tunnel(&out)));
        }
    }
    let vips = rules.vips_of(v6);
    // Without a vip of this family there is no address to take.
    if nat.into_tunnel && !vips.is_empty() {
        let own = vips
            .iter()
            .map(|vip| format!("-o {tun} -s {vip} -j RETURN"));
        lines.extend(own);
        lines.push(format!(
            "-o {tun} -m mark ! --mark {FROM_TUNNEL} -j MASQUERADE"
        ));
    }
    lines
}

/// What redirects a range of ports, but where XDP turns it and where others have a port.
fn redirecting(tun: &str, hop: &Hop, redirect: &Redirect) -> Vec<String> {
    let mut lines = vec![format!("-i {tun} -j RETURN"), "-i lo -j RETURN".to_owned()];
    let turned = redirect.not_on.iter();
    lines.extend(turned.map(|interface| format!("-i {interface} -j RETURN")));
    lines.extend(redirect.at.map(|address| {
        let bits = if address.is_ipv6() { 128 } else { 32 };
        format!("! -d {address}/{bits} -j RETURN")
    }));
    let taken = redirect.except.iter();
    lines.extend(taken.map(|port| format!("-p udp -m udp --dport {port} -j RETURN")));
    // A plain redirection takes the first address of the interface, where nobody listens who listens
    // at another one.
    let leading = match redirect.at {
        None => format!("REDIRECT --to-ports {}", redirect.to),
        Some(address) => {
            let to = SocketAddr::new(address, redirect.to);
            format!("DNAT --to-destination {to}")
        }
    };
    lines.push(format!(
        "-p udp -m udp --dport {} -m addrtype --dst-type LOCAL -j {leading}",
        hop::text(&hop.ports, ':'),
    ));
    lines
}

/// What a kill switch lets out of this machine, and what it lets pass through it.
fn kill_switch_rules(rules: &Rules, v6: bool) -> [Vec<String>; 2] {
    let tun = &rules.tun;
    let mark = rules.mark.unwrap_or_default();
    let reject = if v6 {
        "icmp6-adm-prohibited"
    } else {
        "icmp-admin-prohibited"
    };
    let reject = format!("-j REJECT --reject-with {reject}");
    let icmp = if v6 { "ipv6-icmp" } else { "icmp" };
    let replies = [
        format!("{ANSWERS}-m conntrack --ctdir REPLY -j RETURN"),
        format!("-p {icmp} -m conntrack --ctdir REPLY -j RETURN"),
    ];
    let mut output = vec![
        "-o lo -j RETURN".to_owned(),
        format!("-o {tun} -j RETURN"),
        format!("-m mark --mark {mark:#x} -j RETURN"),
    ];
    output.extend(replies.clone());
    // A router's name server for its local network.
    let private: &[&str] = if v6 { &PRIVATE_V6 } else { &PRIVATE_V4 };
    output.extend(private.iter().map(|net| {
        format!("-d {net} -p udp -m udp --sport 0:1023 -m conntrack --ctdir REPLY -j RETURN")
    }));
    // To ask for an address, and to hand them out, as a router does: to private networks and to
    // all hosts of a link, never to the internet.
    let (client, server, all) = if v6 {
        (546, 547, "ff02::/16")
    } else {
        (68, 67, "255.255.255.255/32")
    };
    for net in private.iter().copied().chain([all]) {
        for (from, to) in [(client, server), (server, client)] {
            output.push(format!(
                "-d {net} -p udp -m udp --sport {from} --dport {to} -j RETURN"
            ));
        }
    }
    if v6 {
        for kind in 133..=136 {
            output.push(format!(
                "-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"
            ));
        }
    }
    output.push(reject.clone());
    let mut forward = vec![format!("-i {tun} -j RETURN"), format!("-o {tun} -j RETURN")];
    forward.extend(replies);
    forward.push(reject);
    [output, forward]
}

#[cfg(test)]
mod tests {
    use super::super::tests::all_rules;
    use super::*;

    #[test]
    fn a_router_hands_out_addresses_under_a_kill_switch() {
        for (v6, expected) in [
            (
                false,
                "-d 192.168.0.0/16 -p udp -m udp --sport 67 --dport 68 -j RETURN",
            ),
            (
                true,
                "-d fe80::/10 -p udp -m udp --sport 547 --dport 546 -j RETURN",
            ),
            (true, "-p ipv6-icmp -m icmp6 --icmpv6-type 134 -j RETURN"),
        ] {
            let chains = chains(&all_rules(), v6);
            let out = chains.iter().find(|chain| chain.name == "out").unwrap();
            assert!(
                out.rules.iter().any(|rule| rule == expected),
                "{:?}",
                out.rules
            );
        }
    }

    #[test]
    fn names_fit_what_iptables_takes() {
        for chain in chains(&all_rules(), true) {
            assert!(full_name("fifteen-letters", chain.name).len() <= 28);
            assert!(NAMES.contains(&chain.name), "{}", chain.name);
        }
    }
}
