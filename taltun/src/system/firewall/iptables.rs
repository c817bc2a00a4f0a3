//! Rules for iptables and ip6tables, where there is no nft: filled, listed and removed. What is
//! in our chains is in `iptables_chains`.
//!
//! `iptables-restore --noflush` fills all chains of a table in one step. IPv6 is left out
//! where ip6tables has no tables, as on a kernel without IPv6.

use std::fmt::Write;

use tracing::{debug, warn};

use super::iptables_chains::{Chain, REFUSING, chains, full_name, is_ours};
use super::iptables_standing::standings;
use super::known_iptables::{in_front, table};
use super::{Rules, Standing};
use crate::system::ipv6::has_ipv6;
use crate::system::program;

/// The tables that we have chains in.
const TABLES: [&str; 4] = ["raw", "mangle", "nat", "filter"];
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
    !v6 || has_ipv6()
        && (!rules.vips_of(true).is_empty() || rules.kill_switch || rules.sources.is_some())
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
            // What others lead elsewhere isn't ours to redirect.
            let jump = if chain.name == "hop" {
                "-A {} -j"
            } else {
                "-I {} 1 -j"
            };
            let _ = writeln!(text, "{} {name}", jump.replace("{}", chain.from));
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
             -A taltun-t0-nat -d 10.0.0.2/32 -o t0 -p tcp -m tcp --dport 443 -m conntrack --ctstate DNAT --ctorigdstport 8443 -j MASQUERADE\n\
             -A taltun-t0-nat -p udp -o eth0 -m mark --mark 0x2000/0x2000 -j MASQUERADE --to-ports 8192-65535\n\
             -A taltun-t0-nat -o eth0 -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
             -A taltun-t0-nat -o t0 -s 10.0.0.1 -j RETURN\n\
             -A taltun-t0-nat -o t0 -m mark ! --mark 0x2000/0x2000 -j MASQUERADE\n\
             -I POSTROUTING 1 -j taltun-t0-nat\n\
             :taltun-t0-dnat - [0:0]\n\
             -A taltun-t0-dnat -i t0 -j RETURN\n\
             -A taltun-t0-dnat -i lo -j RETURN\n\
             -A taltun-t0-dnat -p tcp -m tcp --dport 8443 -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.0.0.2:443\n\
             -I PREROUTING 1 -j taltun-t0-dnat\n\
             :taltun-t0-hop - [0:0]\n\
             -A taltun-t0-hop -i t0 -j RETURN\n\
             -A taltun-t0-hop -i lo -j RETURN\n\
             -A taltun-t0-hop -i eth0 -j RETURN\n\
             -A taltun-t0-hop ! -d 192.0.2.1/32 -j RETURN\n\
             -A taltun-t0-hop -p udp -m udp --dport 5000 -j RETURN\n\
             -A taltun-t0-hop -p udp -m udp --dport 5353 -j RETURN\n\
             -A taltun-t0-hop -p udp -m udp --dport 4096:8191 -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.0.2.1:9000\n\
             -A PREROUTING -j taltun-t0-hop\nCOMMIT\n"
        );
    }

    #[test]
    fn a_jump_that_is_there_is_not_made_twice() {
        let listed = "-P POSTROUTING ACCEPT\n-N taltun-t0-nat\n-A POSTROUTING -j taltun-t0-nat\n\
                      -N taltun-t0-hop\n-A PREROUTING -j taltun-t0-hop\n\
                      -N taltun-t0-dnat\n-A PREROUTING -j taltun-t0-dnat\n";
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
}
