//! Rules for iptables and ip6tables, where there is no nft: chains of ours, `taltun-IFACE-…`,
//! that the usual chains jump to.
//!
//! Those that refuse do nothing else: what they don't refuse goes on to the rules of others. So
//! they come first, wherever others put rules that let packets pass.
//!
//! `iptables-restore --noflush` fills all chains of a table in one step. IPv6 is left out
//! where ip6tables has no tables, as on a kernel without IPv6.

use std::fmt::Write;

use tracing::{debug, warn};

use super::known_iptables::{in_front, odd, table};
use super::{Rules, Standing};
use crate::system::ipv6::has_ipv6;
use crate::system::program;

/// The tables that we have chains in.
const TABLES: [&str; 4] = ["raw", "mangle", "nat", "filter"];
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
const REFUSING: [(&str, &str, &str); 3] = [
    ("raw", "PREROUTING", "vip"),
    ("filter", "OUTPUT", "out"),
    ("filter", "FORWARD", "fwd"),
];
/// Those that mark packets.
const MARKING: [&str; 4] = ["get", "in", "ans", "put"];
/// The names of our chains.
const NAMES: [&str; 10] = [
    "vip", "get", "in", "ans", "put", "mss", "out", "fwd", "from", "nat",
];
/// Lists what there is for IPv4.
pub(super) const V4_SAVE: &str = "iptables-save";
/// Lists what there is for IPv6.
const V6_SAVE: &str = "ip6tables-save";
/// Stands before that in [`listed`].
const V6: &str = "# IPv6\n";
/// Stands in [`listed`] before a rule of others that comes first.
const FRONT: &str = "# in front: ";
/// Waits for whoever holds the lock instead of failing.
const WAIT: [&str; 2] = ["-w", "5"];

/// A chain of ours, and the rules in it.
struct Chain {
    table: &'static str,
    /// The usual chain that jumps to it.
    from: &'static str,
    name: &'static str,
    rules: Vec<String>,
}

/// Fills our chains with `rules`, each table in one step, and removes those that are ours
/// but not wanted any more.
pub(super) async fn apply(rules: &Rules) -> Result<(), String> {
    for v6 in [false, true] {
        let outcome = apply_family(rules, v6).await;
        // Without IPv6 in the kernel nothing can leave or come in by it either.
        match outcome {
            Err(reason) if matters(rules, v6) => return Err(reason),
            Err(reason) => debug!("ip6tables: {reason}"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Whether a family has to have its rules.
fn matters(rules: &Rules, v6: bool) -> bool {
    !v6 || has_ipv6() && (!rules.vips_of(true).is_empty() || rules.kill_switch)
}

/// Whether a listing has each chain of `rules`, with as many rules and with what leads there,
/// before all that others let pass.
pub(super) fn holds(rules: &Rules, listed: &str) -> bool {
    let (v4, v6) = listed.split_once(V6).unwrap_or((listed, ""));
    overtaken(listed).is_none()
        && holds_family(rules, false, v4)
        && (!matters(rules, true) || holds_family(rules, true, v6))
}

/// A rule of others in a listing that comes before those of ours that refuse.
pub(super) fn overtaken(listed: &str) -> Option<&str> {
    listed.lines().find_map(|line| line.strip_prefix(FRONT))
}

fn holds_family(rules: &Rules, v6: bool, listed: &str) -> bool {
    chains(rules, v6).iter().all(|chain| {
        let name = full_name(&rules.tun, chain.name);
        let jump = format!("-A {} -j {name}", chain.from);
        let rule = format!("-A {name} ");
        listed.lines().any(|line| line.trim() == jump)
            && listed
                .lines()
                .filter(|line| line.starts_with(&rule))
                .count()
                == chain.rules.len()
    })
}

/// Removes our chains for `interface`.
pub(super) async fn remove(interface: &str) -> Result<(), String> {
    for v6 in [false, true] {
        for table in TABLES {
            let listed = match list(v6, table).await {
                Ok(listed) => listed,
                Err(reason) => {
                    debug!("{}: {reason}", command(v6));
                    continue;
                }
            };
            let text = removal(table, &listed, interface, &[]);
            restore(v6, &text).await?;
        }
    }
    Ok(())
}

/// The lines that have our chains for `interface` in them, of both families, without counters.
/// Saving them makes no table that isn't there, as listing one may.
pub(super) async fn listed(interface: &str) -> Option<String> {
    let (mut text, mut lines) = (String::new(), 0);
    for save in [V4_SAVE, V6_SAVE] {
        if save == V6_SAVE {
            text.push_str(V6);
        }
        let saved = match program::run(save, &[], "").await {
            Ok(saved) => saved,
            Err(reason) => {
                debug!("{reason}");
                continue;
            }
        };
        let names_ours = |line: &&str| {
            let mut words = line.split([' ', ':']);
            words.any(|word| is_ours(interface, word))
        };
        for line in saved.lines().filter(names_ours) {
            text.push_str(line.split(" [").next().unwrap_or(line));
            text.push('\n');
            lines += 1;
        }
        for (of, from, name) in REFUSING {
            let name = full_name(interface, name);
            let rules = table(&saved, of);
            if rules.contains(&format!("-A {from} -j {name}\n"))
                && let Some(rule) = in_front(rules, from, &name)
            {
                let _ = writeln!(text, "{FRONT}{rule}");
            }
        }
    }
    (lines > 0).then_some(text)
}

/// The interfaces that there are kill switches for, and whether those close.
pub(super) async fn kill_switches() -> Result<Vec<(String, Standing)>, String> {
    let v4 = program::run(V4_SAVE, &[], "").await?;
    let v6 = if has_ipv6() {
        Some(program::run(V6_SAVE, &[], "").await?)
    } else {
        None
    };
    Ok(standings(&v4, v6.as_deref()))
}

/// The rules in chains that other interfaces than `interface` have.
pub(super) async fn rules_of_others(interface: &str) -> Result<String, String> {
    let mut saved = program::run(V4_SAVE, &[], "").await?;
    if has_ipv6() {
        saved.push_str(&program::run(V6_SAVE, &[], "").await?);
    }
    let others = |line: &&str| {
        let chain = line
            .strip_prefix("-A ")
            .and_then(|rule| rule.split(' ').next());
        chain.is_some_and(|name| name.starts_with("taltun-") && !is_ours(interface, name))
    };
    let lines: Vec<&str> = saved.lines().filter(others).collect();
    Ok(lines.join("\n"))
}

fn standings(v4: &str, v6: Option<&str>) -> Vec<(String, Standing)> {
    let lines = v4.lines().chain(v6.unwrap_or_default().lines());
    let mut names: Vec<&str> = lines.filter_map(switch_of).collect();
    names.sort_unstable();
    names.dedup();
    let judged = |name: &str| {
        let odd = odd_rule(v4, name, false);
        odd.or_else(|| v6.and_then(|v6| odd_rule(v6, name, true)))
    };
    let standing = |name: &str| match (closes(v4, name), v6.is_none_or(|v6| closes(v6, name))) {
        (true, true) => judged(name).unwrap_or(Standing::Closed),
        (true, false) => Standing::Open("its rules for IPv6 aren't all there"),
        (false, true) => Standing::Open("its rules for IPv4 aren't all there"),
        (false, false) => Standing::Open("not all of its rules are there"),
    };
    let told = |name: &str| (name.to_owned(), standing(name));
    names.into_iter().map(told).collect()
}

/// The interface that a line declares a chain of a kill switch for.
fn switch_of(line: &str) -> Option<&str> {
    let chain = line.strip_prefix(":taltun-")?.split(' ').next()?;
    chain
        .strip_suffix("-out")
        .or_else(|| chain.strip_suffix("-fwd"))
}

/// Whether both chains are jumped to and end by refusing all.
fn closes(saved: &str, interface: &str) -> bool {
    [("OUTPUT", "out"), ("FORWARD", "fwd")]
        .iter()
        .all(|(from, chain)| {
            let name = full_name(interface, chain);
            let jump = format!("-A {from} -j {name}");
            let rule = format!("-A {name} ");
            let mut rules = saved.lines().filter_map(|line| line.strip_prefix(&rule));
            saved.lines().any(|line| line.trim() == jump)
                && rules
                    .next_back()
                    .is_some_and(|last| last.starts_with("-j REJECT"))
        })
}

/// A rule that Taltun doesn't make, in the chains of a kill switch or in front of them.
fn odd_rule(saved: &str, interface: &str, v6: bool) -> Option<Standing> {
    let rules = |name: &str| {
        let prefix = format!("-A {} ", full_name(interface, name));
        let lines = saved.lines();
        lines.filter_map(move |line| line.strip_prefix(&prefix))
    };
    // What nobody has marked has none.
    let mark = rules("out").find_map(|rule| {
        let word = rule.strip_prefix("-m mark --mark 0x")?.split(' ').next()?;
        let mark = u32::from_str_radix(word, 16).ok()?;
        (mark != 0).then_some(mark)
    });
    let made = chains(&Rules::of_switch(interface, mark.unwrap_or(1)), v6);
    let of_chain = |name: &'static str| {
        let of_name = made.iter().filter(|chain| chain.name == name);
        let made: Vec<String> = of_name.flat_map(|chain| chain.rules.clone()).collect();
        odd(rules(name), &made, &full_name(interface, name))
    };
    let mut names = ["out", "fwd"].into_iter().chain(MARKING);
    names.find_map(of_chain).or_else(|| {
        let [_, output, forward] = REFUSING;
        [output, forward].iter().find_map(|(of, from, name)| {
            let rule = in_front(table(saved, of), from, &full_name(interface, name))?;
            Some(Standing::Odd(format!(
                "a rule that Taltun didn't make comes before its own, `{rule}`"
            )))
        })
    })
}

async fn apply_family(rules: &Rules, v6: bool) -> Result<(), String> {
    let chains = chains(rules, v6);
    for table in TABLES {
        let wanted: Vec<&Chain> = chains.iter().filter(|chain| chain.table == table).collect();
        let listed = match list(v6, table).await {
            Ok(listed) => listed,
            // Nothing wanted there, and nothing of ours can be there.
            Err(reason) if wanted.is_empty() => {
                debug!("{}: {reason}", command(v6));
                continue;
            }
            Err(reason) => return Err(reason),
        };
        let text = filling(table, &listed, &rules.tun, &wanted);
        restore(v6, &text).await?;
    }
    Ok(())
}

async fn list(v6: bool, table: &str) -> Result<String, String> {
    let arguments = [WAIT[0], WAIT[1], "-t", table, "-S"];
    program::run(command(v6), &arguments, "").await
}

async fn restore(v6: bool, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let restore = if v6 {
        "ip6tables-restore"
    } else {
        "iptables-restore"
    };
    let arguments = [WAIT[0], WAIT[1], "--noflush"];
    program::run(restore, &arguments, text)
        .await
        .inspect_err(|reason| warn!("{reason}"))?;
    Ok(())
}

fn command(v6: bool) -> &'static str {
    if v6 { "ip6tables" } else { "iptables" }
}

/// Text for `iptables-restore` that fills the `wanted` chains of a table, given what
/// `iptables -S` lists there now.
fn filling(table: &str, listed: &str, tun: &str, wanted: &[&Chain]) -> String {
    let names: Vec<String> = wanted
        .iter()
        .map(|chain| full_name(tun, chain.name))
        .collect();
    let mut text = String::new();
    for (chain, name) in wanted.iter().zip(&names) {
        // Writing to a String can't fail.
        let _ = writeln!(text, ":{name} - [0:0]");
        for rule in &chain.rules {
            let _ = writeln!(text, "-A {name} {rule}");
        }
        let jump = format!("-A {} -j {name}", chain.from);
        let jumps = listed.lines().filter(|line| line.trim() == jump).count();
        let is_overtaken = REFUSING.contains(&(chain.table, chain.from, chain.name))
            && in_front(listed, chain.from, name).is_some();
        if jumps == 0 || is_overtaken {
            for _ in 0..jumps {
                let _ = writeln!(text, "-D {} -j {name}", chain.from);
            }
            let _ = writeln!(text, "-I {} 1 -j {name}", chain.from);
        }
    }
    let stale = removal_lines(listed, tun, &names);
    if text.is_empty() && stale.is_empty() {
        return String::new();
    }
    format!("*{table}\n{text}{stale}COMMIT\n")
}

/// Text for `iptables-restore` that removes all chains of ours for `tun` but `kept`.
fn removal(table: &str, listed: &str, tun: &str, kept: &[String]) -> String {
    let lines = removal_lines(listed, tun, kept);
    if lines.is_empty() {
        return String::new();
    }
    format!("*{table}\n{lines}COMMIT\n")
}

fn removal_lines(listed: &str, tun: &str, kept: &[String]) -> String {
    let is_ours = |name: &str| is_ours(tun, name) && !kept.iter().any(|kept| kept == name);
    let mut text = String::new();
    for line in listed.lines() {
        let mut words = line.split_whitespace().rev();
        if line.starts_with("-A ")
            && words.next().is_some_and(is_ours)
            && words.next() == Some("-j")
        {
            let _ = writeln!(text, "-D {}", &line[3..]);
        }
    }
    let ours = || listed.lines().filter_map(|line| line.strip_prefix("-N "));
    for name in ours().map(str::trim).filter(|name| is_ours(name)) {
        let _ = writeln!(text, "-F {name}\n-X {name}");
    }
    text
}

/// The rule that leads into a kill switch.
pub(super) fn kill_switch(interface: &str) -> String {
    format!("-A OUTPUT -j {}", full_name(interface, "out"))
}

/// Whether a chain of this name is one of ours for `tun`, and not for an interface whose name
/// begins with that and a dash.
fn is_ours(tun: &str, name: &str) -> bool {
    NAMES.iter().any(|ours| full_name(tun, ours) == name)
}

/// At most 28 bytes, as iptables wants: 7 + 15 + 1 + 4.
fn full_name(tun: &str, name: &str) -> String {
    format!("taltun-{tun}-{name}")
}

fn chains(rules: &Rules, v6: bool) -> Vec<Chain> {
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
        let restore = format!(
            "{answers}-m conntrack --ctdir REPLY -m connmark --mark {mark:#x} -j CONNMARK \
             --restore-mark"
        );
        let forwarded = format!("! -i {tun} {restore}");
        chain("mangle", "PREROUTING", "in", vec![keep, forwarded]);
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
    if let Some(nat) = &rules.masquerade {
        // POSTROUTING doesn't know where a packet came from, so it is marked on the way, by a
        // bit that nobody else is known to use; what others have marked it with stays.
        let mark = "0x2000/0x2000";
        let set = format!("-i {tun} -j MARK --set-xmark {mark}");
        chain("mangle", "FORWARD", "from", vec![set]);
        let from_tunnel = |out: &str| format!("{out} -m mark --mark {mark} -j MASQUERADE");
        let mut lines: Vec<String> = match &nat.out {
            None => vec![from_tunnel(&format!("! -o {tun}"))],
            Some(names) => names
                .iter()
                .map(|out| from_tunnel(&format!("-o {out}")))
                .collect(),
        };
        let vips = rules.vips_of(v6);
        // Without a vip of this family there is no address to take.
        if nat.into_tunnel && !vips.is_empty() {
            let own = vips
                .iter()
                .map(|vip| format!("-o {tun} -s {vip} -j RETURN"));
            lines.extend(own);
            lines.push(format!("-o {tun} -m mark ! --mark {mark} -j MASQUERADE"));
        }
        chain("nat", "POSTROUTING", "nat", lines);
    }
    chains
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

    fn of_table(rules: &Rules, table: &str, listed: &str) -> String {
        let chains = chains(rules, false);
        let wanted: Vec<&Chain> = chains.iter().filter(|chain| chain.table == table).collect();
        filling(table, listed, &rules.tun, &wanted)
    }

    #[test]
    fn chains_are_filled_and_jumped_to() {
        assert_eq!(
            of_table(&all_rules(), "nat", "-P POSTROUTING ACCEPT\n"),
            "*nat\n:taltun-t0-nat - [0:0]\n\
             -A taltun-t0-nat -o eth0 -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
             -A taltun-t0-nat -o t0 -s 10.0.0.1 -j RETURN\n\
             -A taltun-t0-nat -o t0 -m mark ! --mark 0x2000/0x2000 -j MASQUERADE\n\
             -I POSTROUTING 1 -j taltun-t0-nat\nCOMMIT\n"
        );
    }

    #[test]
    fn a_jump_that_is_there_is_not_made_twice() {
        let listed = "-P POSTROUTING ACCEPT\n-N taltun-t0-nat\n-A POSTROUTING -j taltun-t0-nat\n";
        let text = of_table(&all_rules(), "nat", listed);
        assert!(!text.contains("-I "), "{text}");
    }

    #[test]
    fn a_jump_that_others_let_packets_pass_before_comes_first_again() {
        let listed = |front: &str| {
            format!(
                "-P OUTPUT ACCEPT\n-N taltun-t0-out\n-N taltun-t0-fwd\n{front}\n\
                 -A OUTPUT -j taltun-t0-out\n-A FORWARD -j taltun-t0-fwd\n"
            )
        };
        let text = of_table(&all_rules(), "filter", &listed("-A OUTPUT -j ACCEPT"));
        let moved = "-D OUTPUT -j taltun-t0-out\n-I OUTPUT 1 -j taltun-t0-out\n";
        assert!(text.contains(moved), "{text}");
        assert!(!text.contains("-I FORWARD"), "{text}");
        let text = of_table(&all_rules(), "filter", &listed("-A OUTPUT -j DROP"));
        assert!(!text.contains("-I "), "{text}");
    }

    #[test]
    fn what_is_left_of_ours_is_removed_and_nothing_else() {
        let listed = "-P OUTPUT ACCEPT\n-N taltun-t0-out\n-N taltun-t01-out\n-N other\n\
                      -N taltun-t0-lan-out\n-A OUTPUT -j taltun-t0-lan-out\n\
                      -A OUTPUT -j taltun-t0-out\n-A OUTPUT -j taltun-t01-out\n-A OUTPUT -j other\n\
                      -A taltun-t0-out -j ACCEPT\n";
        assert_eq!(
            removal("filter", listed, "t0", &[]),
            "*filter\n-D OUTPUT -j taltun-t0-out\n-F taltun-t0-out\n-X taltun-t0-out\nCOMMIT\n"
        );
        assert_eq!(removal("filter", "-P OUTPUT ACCEPT\n", "t0", &[]), "");
        let rules = Rules {
            kill_switch: false,
            ..all_rules()
        };
        assert!(of_table(&rules, "filter", listed).contains("-X taltun-t0-out"));
    }

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
    fn a_kill_switch_stands_while_both_families_refuse_the_rest() {
        let saved = "*filter\n:OUTPUT ACCEPT [1:2]\n:taltun-t0-fwd - [0:0]\n:taltun-t0-out - [0:0]\n\
                     -A FORWARD -j taltun-t0-fwd\n-A OUTPUT -j taltun-t0-out\n\
                     -A taltun-t0-fwd -i t0 -j RETURN\n\
                     -A taltun-t0-fwd -j REJECT --reject-with icmp-admin-prohibited\n\
                     -A taltun-t0-out -o lo -j RETURN\n\
                     -A taltun-t0-out -j REJECT --reject-with icmp-admin-prohibited\nCOMMIT\n";
        let told = |v4: &str, v6: Option<&str>| {
            let found = standings(v4, v6);
            assert!(found.iter().all(|(name, _)| name == "t0"), "{found:?}");
            found.into_iter().next().map(|(_, standing)| standing)
        };
        assert_eq!(told(saved, Some(saved)), Some(Standing::Closed));
        assert_eq!(told(saved, None), Some(Standing::Closed));
        let before = "-A FORWARD -j taltun-t0-fwd\n";
        for (rule, is_open) in [
            ("-A taltun-t0-out -j ACCEPT", true),
            ("-A taltun-t0-out -j RETURN", true),
            ("-A taltun-t0-out -o eth0 -j ACCEPT", false),
            ("-A taltun-t0-out -m mark --mark 0x0 -j RETURN", false),
            ("-A taltun-t0-out -m mark --mark 0x0/0x1 -j RETURN", false),
            ("-A taltun-t0-fwd -g other", false),
            (
                "-A taltun-t0-ans -j MARK --set-xmark 0x103d/0xffffffff",
                false,
            ),
        ] {
            let odd = saved.replace(before, &format!("{rule}\n{before}"));
            for told in [told(&odd, None), told(saved, Some(&odd))] {
                let fits = match &told {
                    Some(Standing::Open(_)) => is_open,
                    Some(Standing::Odd(_)) => !is_open,
                    _ => false,
                };
                assert!(fits, "{rule}: {told:?}");
            }
        }
        let jump = "-A OUTPUT -j taltun-t0-out\n";
        let passed = saved.replace(jump, &format!("-A OUTPUT -o eth0 -j ACCEPT\n{jump}"));
        assert!(matches!(told(&passed, None), Some(Standing::Odd(_))));
        // As other versions have it.
        let earlier = saved.replace("-o lo -j RETURN", "-o lo -j ACCEPT");
        assert_eq!(told(&earlier, None), Some(Standing::Closed));
        let v6_only = Some(Standing::Open("its rules for IPv4 aren't all there"));
        for (from, to) in [
            ("-A OUTPUT -j taltun-t0-out\n", ""),
            (
                "-A taltun-t0-fwd -j REJECT",
                "-A taltun-t0-fwd -d 192.0.2.1/32 -j REJECT",
            ),
        ] {
            assert_eq!(told(&saved.replace(from, to), Some(saved)), v6_only);
        }
        let v4_only = Some(Standing::Open("its rules for IPv6 aren't all there"));
        assert_eq!(told(saved, Some("")), v4_only);
        assert_eq!(told("*filter\n:OUTPUT ACCEPT [1:2]\nCOMMIT\n", None), None);
        assert_eq!(told(":taltun-t0-mss - [0:0]\n", None), None);
    }

    #[test]
    fn names_fit_what_iptables_takes() {
        for chain in chains(&all_rules(), true) {
            assert!(full_name("fifteen-letters", chain.name).len() <= 28);
            assert!(NAMES.contains(&chain.name), "{}", chain.name);
        }
    }
}
