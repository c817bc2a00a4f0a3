//! Whether the kill switches close that `iptables-save` lists.

use super::iptables_chains::{MARKING, REFUSING, chains, full_name};
use super::known_iptables::{in_front, odd, table};
use super::{Rules, Standing};

/// The interfaces that there are kill switches for, and whether those close, in what is listed
/// for both families, or for IPv4 alone.
pub(super) fn standings(v4: &str, v6: Option<&str>) -> Vec<(String, Standing)> {
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
        let [_, output, forward, _] = REFUSING;
        [output, forward].iter().find_map(|(of, from, name)| {
            let rule = in_front(table(saved, of), from, &full_name(interface, name))?;
            Some(Standing::Odd(format!(
                "a rule that Taltun didn't make comes before its own, `{rule}`"
            )))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
