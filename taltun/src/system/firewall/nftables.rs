//! Rules for nftables: one table `inet taltun-IFACE`, which holds all of ours.

use std::fmt::Write;

use super::Rules;
use crate::system::program;

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

/// Whether there is a table of ours for `interface`.
pub(super) async fn is_there(interface: &str) -> bool {
    listed(interface).await.is_some()
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
        // published port come in by their bridge.
        let keep = format!(
            "iifname != {{ \"lo\", \"{tun}\" }} ct state new fib daddr type local ct mark set {mark:#x}"
        );
        let forwarded = format!(
            "iifname != \"{tun}\" ct direction reply ct mark {mark:#x} meta mark set ct mark"
        );
        chain(
            "keep_inbound",
            "filter hook prerouting priority mangle",
            &[keep, forwarded],
        );
        let answer = format!("ct direction reply ct mark {mark:#x} meta mark set ct mark");
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
        let reject = "counter reject with icmpx type admin-prohibited";
        let output = [
            format!("oifname {{ \"lo\", \"{tun}\" }} accept"),
            format!("meta mark {mark:#x} accept"),
            "ct direction reply accept".into(),
            "udp sport 68 udp dport 67 accept".into(),
            "udp sport 546 udp dport 547 accept".into(),
            // A router that hands out addresses: none of these goes beyond the next host, and
            // none counts as the answer to what was asked by broadcast.
            "udp sport 67 udp dport 68 accept".into(),
            "udp sport 547 udp dport 546 accept".into(),
            "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, \
             nd-neighbor-advert } accept"
                .into(),
            reject.into(),
        ];
        chain(
            "kill_switch_output",
            "filter hook output priority filter",
            &output,
        );
        let forward = [
            format!("iifname \"{tun}\" accept"),
            format!("oifname \"{tun}\" accept"),
            "ct direction reply accept".into(),
            reject.into(),
        ];
        chain(
            "kill_switch_forward",
            "filter hook forward priority filter",
            &forward,
        );
    }
    if let Some(nat) = &rules.masquerade {
        let mut lines = Vec::new();
        match &nat.out {
            None => lines.push(format!(
                "iifname \"{tun}\" oifname != \"{tun}\" counter masquerade"
            )),
            Some(names) => lines.extend(
                names
                    .iter()
                    .map(|out| format!("iifname \"{tun}\" oifname \"{out}\" counter masquerade")),
            ),
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
        chain("translate", "nat hook postrouting priority srcnat", &lines);
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
            "oifname \"t0\" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1360",
            "meta mark 0x7a123456 accept",
            "type route hook output priority mangle; policy accept;\n    ct direction reply ct mark 0x7a123456 meta mark set ct mark",
            "iifname != { \"lo\", \"t0\" } ct state new fib daddr type local ct mark set 0x7a123456",
            "udp sport 67 udp dport 68 accept",
            "udp sport 547 udp dport 546 accept",
            "nd-router-solicit, nd-router-advert, nd-neighbor-solicit",
            "iifname \"t0\" oifname \"eth0\" counter masquerade",
            "iifname != \"t0\" oifname \"t0\" ip saddr != { 10.0.0.1 } counter masquerade",
            "iifname != \"t0\" oifname \"t0\" ip6 saddr != { fd00::1 } counter masquerade",
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
            ..all_rules()
        };
        let text = ruleset(&rules);
        assert_eq!(text.matches("chain ").count(), 1, "{text}");
        assert!(text.contains("oifname != \"t0\" counter masquerade"));
    }
}
