//! What is odd in the kill switch that iptables lists: rules that Taltun doesn't make, in its
//! chains or in front of them, and that may let packets pass.

use super::Standing;

/// Targets that let nothing pass, and after which nobody is let pass that wasn't before.
const HARMLESS: [&str; 14] = [
    "AUDIT", "CLASSIFY", "CT", "DROP", "DSCP", "LOG", "NFLOG", "NOTRACK", "REJECT", "TCPMSS",
    "TEE", "TOS", "TRACE", "TTL",
];
/// So many chains are followed from one to the next.
const DEEP: u32 = 8;

/// The first rule of the usual chain `from` that may let packets pass before they come to ours
/// called `name`, in the listing of one table.
pub(super) fn in_front<'a>(table: &'a str, from: &str, name: &str) -> Option<&'a str> {
    let own = format!("-A {from} -j {name}");
    let prefix = format!("-A {from} ");
    let rules = table.lines().map(str::trim);
    rules
        .filter(|line| line.starts_with(&prefix))
        .take_while(|line| *line != own)
        .find(|line| lets_pass(table, line, true, DEEP))
}

/// The part of what `iptables-save` lists that is about one table.
pub(super) fn table<'a>(saved: &'a str, name: &str) -> &'a str {
    let start = format!("*{name}\n");
    let from = saved.find(&start).unwrap_or(saved.len());
    let rest = &saved[from..];
    rest.find("\nCOMMIT").map_or(rest, |end| &rest[..end])
}

/// A rule among those `found` in a chain that isn't one of `made`, and may let packets pass.
pub(super) fn odd<'a>(
    found: impl Iterator<Item = &'a str>,
    made: &[String],
    chain: &str,
) -> Option<Standing> {
    let made: Vec<String> = made.iter().map(|rule| plain(rule)).collect();
    let is_odd = |rule: &&str| {
        target(rule).is_some_and(|target| !HARMLESS.contains(&target.name))
            && !made.contains(&plain(rule))
    };
    let rule = found.map(str::trim).find(is_odd)?;
    Some(if ["-j ACCEPT", "-j RETURN"].contains(&rule) {
        Standing::Open("a rule that Taltun didn't make lets everything pass")
    } else {
        Standing::Odd(format!(
            "its chain {chain} has a rule that Taltun didn't make, `{rule}`"
        ))
    })
}

fn lets_pass(table: &str, rule: &str, is_usual: bool, deep: u32) -> bool {
    let Some(target) = target(rule) else {
        return false;
    };
    let name = target.name;
    let prefix = format!("-A {name} ");
    let is_chain = table.lines().any(|line| {
        line.strip_prefix("-N ")
            .or_else(|| line.strip_prefix(':')?.split(' ').next())
            .is_some_and(|chain| chain.trim() == name)
    });
    if HARMLESS.contains(&name) {
        false
    } else if name == "RETURN" {
        // Where the policy decides.
        is_usual
    } else if name.starts_with("taltun-") {
        // Another tunnel's refuses, or hands back.
        false
    } else if is_chain && !target.is_goto && deep > 0 {
        let mut rules = table.lines().filter(|line| line.starts_with(&prefix));
        rules.any(|rule| lets_pass(table, rule, false, deep - 1))
    } else {
        true
    }
}

/// Where a rule leads.
struct Target<'a> {
    name: &'a str,
    /// And not back.
    is_goto: bool,
}

fn target(rule: &str) -> Option<Target<'_>> {
    let mut words = rule.split(' ');
    let mut is_quoted = false;
    while let Some(word) = words.next() {
        let is_option = !is_quoted && matches!(word, "-j" | "-g");
        if is_option {
            let name = words.next()?;
            return Some(Target {
                name,
                is_goto: word == "-g",
            });
        }
        let quotes = word.replace("\\\"", "").matches('"').count();
        is_quoted ^= quotes % 2 == 1;
    }
    None
}

/// A rule in one way of writing it.
fn plain(rule: &str) -> String {
    let rule = rule
        .replace(" --nfmask 0xffffffff --ctmask 0xffffffff", "")
        .replace(" 0:", " :")
        // What earlier versions of Taltun had.
        .replace("-j ACCEPT", "-j RETURN");
    match rule.split_once("--set-mark ") {
        Some((before, mark)) => format!("{before}--set-xmark {mark}/0xffffffff"),
        None => rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTER: &str = "-P OUTPUT ACCEPT\n-N taltun-t0-out\n-N taltun-t1-out\n-N calm\n\
                          -N lets\n-N deep\n-A calm -d 192.0.2.1/32 -j RETURN\n-A calm -j DROP\n\
                          -A lets -d 192.0.2.1/32 -j ACCEPT\n-A deep -j lets\nFRONT\
                          -A OUTPUT -j taltun-t0-out\n-A OUTPUT -j ACCEPT\n";

    #[test]
    fn what_stands_in_front_and_may_let_packets_pass_is_found() {
        let front = |rule: &str| {
            let listed = FILTER.replace("FRONT", &format!("{rule}\n"));
            in_front(&listed, "OUTPUT", "taltun-t0-out").map(str::to_owned)
        };
        for rule in [
            "-A OUTPUT -j ACCEPT",
            "-A OUTPUT -d 192.0.2.1/32 -j ACCEPT",
            "-A OUTPUT -j RETURN",
            "-A OUTPUT -j lets",
            "-A OUTPUT -j deep",
            "-A OUTPUT -g calm",
            "-A OUTPUT -j MARK --set-xmark 0x103d/0xffffffff",
            "-A OUTPUT -j NFQUEUE --queue-num 0 --queue-bypass",
            "-A OUTPUT -m comment --comment \"as -j DROP\" -j ACCEPT",
        ] {
            assert_eq!(front(rule).as_deref(), Some(rule));
        }
        for rule in [
            "-A OUTPUT -j DROP",
            "-A OUTPUT -j LOG --log-prefix \"-j ACCEPT\"",
            "-A OUTPUT -d 192.0.2.1/32",
            "-A OUTPUT -j calm",
            "-A OUTPUT -j taltun-t1-out",
            "-A FORWARD -j ACCEPT",
        ] {
            assert_eq!(front(rule), None, "{rule}");
        }
    }

    #[test]
    fn a_table_is_cut_out_of_what_is_saved() {
        let saved = "# x\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n*filter\n-A OUTPUT -j x\nCOMMIT\n";
        assert_eq!(table(saved, "filter"), "*filter\n-A OUTPUT -j x");
        assert_eq!(table(saved, "raw"), "");
    }
}
