//! Rules for nftables: one table `inet taltun-IFACE`, which holds all of ours.

use std::fmt::Write;

use super::{Rules, Standing, forward, hop, known_nft, sources};
use crate::system::program;

/// Segments of TCP that may be an answer. One that opens a connection never is, even where it
/// seems to belong to one that others opened.
const ANSWERS: &str = "tcp flags & (syn | ack) != syn ";

/// Networks that nobody on the internet has.
const PRIVATE_V4: &str = "10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16";
/// Those of IPv6.
const PRIVATE_V6: &str = "fc00::/7, fe80::/10";
/// Where DHCP goes: private networks, and all hosts of a link.
const NEAR_V4: &str = "10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, \
                       255.255.255.255";
/// The same for IPv6.
const NEAR_V6: &str = "fc00::/7, fe80::/10, ff02::/16";

/// The chain that a kill switch has.
pub(super) const KILL_SWITCH: &str = "kill_switch_output";
/// The one for what this machine forwards.
const KILL_SWITCH_FORWARD: &str = "kill_switch_forward";
/// What each table of ours is called, up to the interface's name.
const TABLES: &str = "table inet taltun-";

/// Replaces our table by one with `rules`: one transaction, so that there is no moment
/// without them.
pub(super) async fn apply(rules: &Rules) -> Result<(), String> {
    program::run("nft", &["-f", "-"], &ruleset(rules)).await?;
    Ok(())
}

/// Removes our table.
pub(super) async fn remove(interface: &str) -> Result<(), String> {
    let table = table(interface);
    let delete = format!("add table {table}\ndelete table {table}\n");
    program::run("nft", &["-f", "-"], &delete).await?;
    Ok(())
}

/// Our table for `interface`, without its counters, which change all the time.
pub(super) async fn listed(interface: &str) -> Option<String> {
    let table = table(interface);
    let words: Vec<&str> = ["-s", "list", "table"]
        .into_iter()
        .chain(table.split(' '))
        .collect();
    program::run("nft", &words, "").await.ok()
}

/// The interfaces that there are kill switches for, and whether those close.
pub(super) async fn kill_switches() -> Result<Vec<(String, Standing)>, String> {
    let mut found = Vec::new();
    for interface in interfaces().await? {
        // One that has gone meanwhile is none.
        let listed = listed(&interface).await.unwrap_or_default();
        let standing = standing(&listed, &interface);
        found.extend(standing.map(|standing| (interface, standing)));
    }
    Ok(found)
}

/// The tables that other interfaces than `interface` have.
pub(super) async fn rules_of_others(interface: &str) -> Result<String, String> {
    let mut rules = String::new();
    for other in interfaces().await? {
        if other != interface {
            rules.push_str(&listed(&other).await.unwrap_or_default());
        }
    }
    Ok(rules)
}

/// The interfaces that there are tables of ours for.
async fn interfaces() -> Result<Vec<String>, String> {
    let tables = program::run("nft", &["list", "tables", "inet"], "").await?;
    let names = tables.lines().filter_map(|line| line.strip_prefix(TABLES));
    Ok(names.map(str::to_owned).collect())
}

/// Whether the kill switch in a listing closes; `None` where there is none in it.
fn standing(listed: &str, interface: &str) -> Option<Standing> {
    let chains = outline(listed);
    let is_switch =
        |(name, ..): &(&str, Vec<&str>, usize)| [KILL_SWITCH, KILL_SWITCH_FORWARD].contains(name);
    if !chains.iter().any(is_switch) {
        return None;
    }
    if is_dormant(listed) {
        return Some(Standing::Open("its table is dormant"));
    }
    let closes = |(name, hook): &(&str, &str)| {
        let base = ["type", "filter", "hook", hook];
        let at_hook = chains
            .iter()
            .any(|(chain, at, _)| chain == name && *at == base);
        at_hook && last_rule(listed, name).is_some_and(refuses_all)
    };
    let both = [(KILL_SWITCH, "output"), (KILL_SWITCH_FORWARD, "forward")];
    Some(if both.iter().all(closes) {
        let made = |mark| ruleset(&Rules::of_switch(interface, mark));
        let chains = [KILL_SWITCH, KILL_SWITCH_FORWARD];
        known_nft::odd(listed, chains, made).unwrap_or(Standing::Closed)
    } else {
        Standing::Open("not all of its rules are there")
    })
}

/// The last rule of a chain.
fn last_rule<'a>(listed: &'a str, chain: &str) -> Option<&'a str> {
    let start = format!("chain {chain} {{");
    let lines = listed.lines().map(str::trim);
    let inside = lines.skip_while(|line| *line != start).skip(1);
    inside.take_while(|line| *line != "}").last()
}

/// Whether a rule refuses whatever reaches it.
fn refuses_all(rule: &str) -> bool {
    let rule = rule.strip_prefix("counter ").unwrap_or(rule);
    rule.starts_with("reject with ")
}

fn is_dormant(listed: &str) -> bool {
    listed.lines().any(|line| line.trim() == "flags dormant")
}

/// Whether a listing has each chain of `rules`, at its hook and with as many rules.
pub(super) fn holds(rules: &Rules, listed: &str) -> bool {
    !is_dormant(listed) && outline(listed) == outline(&ruleset(rules))
}

/// The name of each chain, the start of what says at which hook it is, and how many rules it has.
fn outline(text: &str) -> Vec<(&str, Vec<&str>, usize)> {
    let mut chains: Vec<(&str, Vec<&str>, usize)> = Vec::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix("chain ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            chains.push((name, Vec::new(), 0));
            is_inside = true;
        } else if line == "}" {
            is_inside = false;
        } else if let Some((_, hook, rules)) = chains.last_mut().filter(|_| is_inside) {
            if line.starts_with("type ") {
                // How a priority is written differs from one version to the next.
                *hook = line.split(' ').take(4).collect();
            } else if !line.is_empty() {
                *rules += 1;
            }
        }
    }
    chains.sort_unstable();
    chains
}

/// Family and name of our table.
fn table(interface: &str) -> String {
    format!("inet taltun-{interface}")
}

#[allow(
    clippy::too_many_lines,
    reason = "one chain after the other, in the order in which they are listed"
)]
fn ruleset(rules: &Rules) -> String {
    let table = table(&rules.tun);
    let tun = &rules.tun;
    // Adding first lets the deletion succeed where there is none yet.
    let mut text = format!("add table {table}\ndelete table {table}\ntable {table} {{\n");
    let mut chain = |name: &str, base: &str, lines: &[String]| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  chain {name} {{\n    type {base}; policy accept;");
        for line in lines {
            let _ = writeln!(text, "    {line}");
        }
        text.push_str("  }\n");
    };
    if rules.protect_vip {
        let mut lines = Vec::new();
        for (family, vips) in [("ip", rules.vips_of(false)), ("ip6", rules.vips_of(true))] {
            if !vips.is_empty() {
                let vips = vips.join(", ");
                lines.push(format!(
                    "iifname != \"{tun}\" {family} daddr {{ {vips} }} fib saddr type != local counter drop"
                ));
            }
        }
        chain("protect_vip", "filter hook prerouting priority raw", &lines);
    }
    if let Some(sources) = &rules.sources {
        let base = "filter hook forward priority mangle";
        chain("true_sources", base, &sources::nft(sources, tun));
    }
    if let Some(mark) = rules.mark.filter(|_| rules.recall_mark) {
        let recall = format!("meta l4proto udp ct mark {mark:#x} meta mark set ct mark");
        chain(
            "recall_mark",
            "filter hook prerouting priority mangle",
            &[recall],
        );
        let remember = format!("meta l4proto udp meta mark {mark:#x} ct mark set mark");
        chain(
            "remember_mark",
            "filter hook postrouting priority mangle",
            &[remember],
        );
        // What others open to this machine from outside of the tunnel is answered by the way
        // that it came: ssh to a server's public address. The answers of containers behind a
        // published port come in by their bridge. Under a kill switch it takes a TCP connection
        // that others open: nobody can tell whether a datagram is a question to a server, and
        // one that isn't would open a way out to whoever it says it is from.
        let (opens, answers) = if rules.kill_switch {
            ("tcp flags & (fin | syn | rst | ack) == syn ", ANSWERS)
        } else {
            ("", "")
        };
        let keep = format!(
            "iifname != {{ \"lo\", \"{tun}\" }} ct state new {opens}fib daddr type local ct mark set {mark:#x}"
        );
        let answer = format!("{answers}ct direction reply ct mark {mark:#x} meta mark set ct mark");
        let forwarded = format!("iifname != \"{tun}\" {answer}");
        // Those of peers behind a forwarded port come in by the tunnel.
        let of_peers = format!("iifname \"{tun}\" ct status dnat {answer}");
        chain(
            "keep_inbound",
            "filter hook prerouting priority mangle",
            &[keep, forwarded, of_peers],
        );
        chain(
            "answer_inbound",
            "route hook output priority mangle",
            &[answer],
        );
    }
    if rules.mss_clamp {
        let mut lines = Vec::new();
        for direction in ["iifname", "oifname"] {
            for (family, v6) in [("ipv4", false), ("ipv6", true)] {
                // The kernel only ever lowers it.
                lines.push(format!(
                    "{direction} \"{tun}\" meta nfproto {family} tcp flags & (syn | rst) == syn \
                     tcp option maxseg size set {}",
                    rules.segment(v6)
                ));
            }
        }
        chain("mss_clamp", "filter hook forward priority mangle", &lines);
    }
    if rules.kill_switch {
        let mark = rules.mark.unwrap_or_default();
        let replies = [
            format!("{ANSWERS}ct direction reply accept"),
            "meta l4proto { icmp, ipv6-icmp } ct direction reply accept".to_owned(),
        ];
        let reject = "counter reject with icmpx type admin-prohibited";
        let output = [
            format!("oifname {{ \"lo\", \"{tun}\" }} accept"),
            format!("meta mark {mark:#x} accept"),
            replies[0].clone(),
            replies[1].clone(),
            // A router's name server for its local network.
            format!("udp sport < 1024 ip daddr {{ {PRIVATE_V4} }} ct direction reply accept"),
            format!("udp sport < 1024 ip6 daddr {{ {PRIVATE_V6} }} ct direction reply accept"),
            // To get an address, and to hand them out, as a router does; what is asked by
            // broadcast isn't tracked, so its answer doesn't count as one. None of these reaches
            // anybody on the internet.
            format!("udp sport 68 udp dport 67 ip daddr {{ {NEAR_V4} }} accept"),
            format!("udp sport 546 udp dport 547 ip6 daddr {{ {NEAR_V6} }} accept"),
            format!("udp sport 67 udp dport 68 ip daddr {{ {NEAR_V4} }} accept"),
            format!("udp sport 547 udp dport 546 ip6 daddr {{ {NEAR_V6} }} accept"),
            "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, \
             nd-neighbor-advert } accept"
                .into(),
            reject.into(),
        ];
        chain(KILL_SWITCH, "filter hook output priority filter", &output);
        let forward = [
            format!("iifname \"{tun}\" accept"),
            format!("oifname \"{tun}\" accept"),
            replies[0].clone(),
            replies[1].clone(),
            reject.into(),
        ];
        chain(
            KILL_SWITCH_FORWARD,
            "filter hook forward priority filter",
            &forward,
        );
    }
    let mut lines = forward::nft_out(&rules.forwards, tun);
    if let Some(nat) = &rules.masquerade {
        let ports = rules.translated_ports();
        let mut translate = |packets: String| {
            // The range's ports are UDP's.
            lines.extend(ports.iter().map(|ports| {
                let ports = hop::text(ports, '-');
                format!("{packets} meta l4proto udp counter masquerade to :{ports}")
            }));
            lines.push(format!("{packets} counter masquerade"));
        };
        match &nat.out {
            None => translate(format!("iifname \"{tun}\" oifname != \"{tun}\"")),
            Some(names) => names
                .iter()
                .for_each(|out| translate(format!("iifname \"{tun}\" oifname \"{out}\""))),
        }
        if nat.into_tunnel {
            // Without a vip of its family there is no address to take.
            for (family, vips) in [("ip", rules.vips_of(false)), ("ip6", rules.vips_of(true))] {
                if !vips.is_empty() {
                    let vips = vips.join(", ");
                    lines.push(format!(
                        "iifname != \"{tun}\" oifname \"{tun}\" {family} saddr != {{ {vips} }} \
                         counter masquerade"
                    ));
                }
            }
        }
    }
    if rules.masquerade.is_some() || !lines.is_empty() {
        chain("translate", "nat hook postrouting priority srcnat", &lines);
    }
    let lines = forward::nft_in(&rules.forwards, tun);
    if !lines.is_empty() {
        chain(
            "forward_ports",
            "nat hook prerouting priority dstnat",
            &lines,
        );
    }
    if let Some((hop, redirect)) = rules.redirect() {
        let line = hop::nft(hop, redirect, tun);
        // Behind others' rules: what they lead elsewhere isn't ours.
        chain("hop", "nat hook prerouting priority dstnat + 5", &[line]);
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::all_rules;
    use super::*;
    use crate::config::Masquerade;

    #[test]
    fn the_table_is_replaced_in_one_transaction() {
        let text = ruleset(&all_rules());
        assert!(text.starts_with(
            "add table inet taltun-t0\ndelete table inet taltun-t0\ntable inet taltun-t0 {\n"
        ));
        for expected in [
            "iifname != \"t0\" ip daddr { 10.0.0.1 } fib saddr type != local",
            "iifname != \"t0\" ip6 daddr { fd00::1 } fib saddr type != local",
            "ct mark 0x7a123456 meta mark set ct mark",
            "iifname \"t0\" ct status dnat tcp flags & (syn | ack) != syn ct direction reply ct mark 0x7a123456 meta mark set ct mark",
            "oifname \"t0\" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1360",
            "meta mark 0x7a123456 accept",
            "type route hook output priority mangle; policy accept;\n    tcp flags & (syn | ack) != syn ct direction reply ct mark 0x7a123456 meta mark set ct mark",
            "iifname != { \"lo\", \"t0\" } ct state new tcp flags & (fin | syn | rst | ack) == syn fib daddr type local ct mark set 0x7a123456",
            "udp sport 68 udp dport 67 ip daddr { 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 255.255.255.255 } accept",
            "udp sport 67 udp dport 68 ip daddr { 10.0.0.0/8,",
            "udp sport 547 udp dport 546 ip6 daddr { fc00::/7, fe80::/10, ff02::/16 } accept",
            "nd-router-solicit, nd-router-advert, nd-neighbor-solicit",
            "iifname \"t0\" oifname \"eth0\" counter masquerade",
            "iifname \"t0\" oifname \"eth0\" meta l4proto udp counter masquerade to :8192-65535",
            "iifname != { \"lo\", \"t0\", \"eth0\" } ip daddr 192.0.2.1 udp dport 4096-8191 udp dport != { 5000, 5353 } fib daddr type local counter dnat ip to 192.0.2.1:9000",
            "iifname != \"t0\" oifname \"t0\" ip saddr != { 10.0.0.1 } counter masquerade",
            "iifname != \"t0\" oifname \"t0\" ip6 saddr != { fd00::1 } counter masquerade",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn a_listing_holds_the_rules_only_with_all_chains_and_all_rules() {
        let rules = all_rules();
        let whole = ruleset(&rules).replace("priority mangle", "priority -150");
        assert!(holds(&rules, &whole));
        let reject = "    counter reject with icmpx type admin-prohibited\n";
        assert!(whole.contains(reject));
        assert!(!holds(&rules, &whole.replacen(reject, "", 1)));
        assert!(!holds(
            &rules,
            &whole.replace("chain mss_clamp", "chain other")
        ));
        assert!(!holds(&rules, &whole.replace("hook output", "hook input")));
        assert!(!holds(
            &rules,
            &whole.replace("  chain mss", "  flags dormant\n  chain mss")
        ));
        assert!(!holds(&rules, ""));
    }

    #[test]
    fn a_kill_switch_stands_while_both_its_chains_refuse_the_rest() {
        let standing = |listed: &str| standing(listed, "t0");
        let whole = ruleset(&all_rules());
        assert_eq!(standing(&whole), Some(Standing::Closed));
        let reject = "    counter reject with icmpx type admin-prohibited\n";
        let part = Some(Standing::Open("not all of its rules are there"));
        assert_eq!(standing(&whole.replacen(reject, "", 1)), part);
        let narrower = "    ip daddr 192.0.2.1 counter reject with icmpx type admin-prohibited\n";
        assert_eq!(standing(&whole.replacen(reject, narrower, 1)), part);
        assert_eq!(standing(&whole.replace("hook output", "hook input")), part);
        assert_eq!(standing(&whole.replace(KILL_SWITCH_FORWARD, "other")), part);
        assert_eq!(
            standing(&whole.replace("  chain mss", "  flags dormant\n  chain mss")),
            Some(Standing::Open("its table is dormant"))
        );
        let accepts = whole.replacen(reject, &format!("    accept\n{reject}"), 1);
        assert_ne!(standing(&accepts), Some(Standing::Closed));
        let rules = Rules {
            kill_switch: false,
            ..all_rules()
        };
        assert_eq!(standing(&ruleset(&rules)), None);
        assert_eq!(standing(""), None);
    }

    #[test]
    fn without_a_kill_switch_datagrams_are_answered_by_the_way_they_came_too() {
        let rules = Rules {
            kill_switch: false,
            ..all_rules()
        };
        let text = ruleset(&rules);
        for expected in [
            "iifname != { \"lo\", \"t0\" } ct state new fib daddr type local ct mark set 0x7a123456",
            "policy accept;\n    ct direction reply ct mark 0x7a123456 meta mark set ct mark",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn only_what_is_wanted_has_a_chain() {
        let rules = Rules {
            mss_clamp: false,
            kill_switch: false,
            recall_mark: false,
            protect_vip: false,
            masquerade: Some(Masquerade::to(Vec::new())),
            hop: None,
            forwards: Vec::new(),
            sources: None,
            ..all_rules()
        };
        let text = ruleset(&rules);
        assert_eq!(text.matches("chain ").count(), 1, "{text}");
        assert!(text.contains("oifname != \"t0\" counter masquerade"));
    }
}
