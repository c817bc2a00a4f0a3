//! What is odd in the kill switch that nft lists: rules that Taltun doesn't make, and that may
//! let packets pass.
//!
//! How nft writes a rule differs from one version to the next, so both are brought into one
//! form first. A rule that isn't recognized is told as odd: nobody can say what it does.

use std::collections::HashSet;

use super::Standing;

/// How a kill switch stands that lists as `listed`, if not as it was made: `switch` are its
/// chains, and `made` is what makes one whose datagrams have that mark.
pub(super) fn odd(
    listed: &str,
    switch: [&str; 2],
    made: impl Fn(u32) -> String,
) -> Option<Standing> {
    let of_switch = |chain: &str| switch.contains(&chain);
    let rules: Vec<(&str, &str, String)> = rules_of(listed)
        .map(|(chain, rule)| (chain, rule, plain(rule)))
        .collect();
    let mut marks = rules.iter().filter_map(|(chain, _, plain)| {
        let mark = plain.strip_prefix("mark 0x")?.strip_suffix(" accept")?;
        let mark = u32::from_str_radix(mark, 16).ok()?;
        // What nobody has marked has none.
        (of_switch(chain) && mark != 0).then_some(mark)
    });
    let text = made(marks.next().unwrap_or(1));
    let made: HashSet<(&str, String)> = rules_of(&text)
        .map(|(chain, rule)| (chain, plain(rule)))
        .collect();
    let (chain, rule, plain) = rules.into_iter().find(|(chain, _, plain)| {
        let matters = of_switch(chain) && !is_harmless(plain) || plain.contains("mark set");
        matters && !made.contains(&(*chain, plain.clone()))
    })?;
    Some(if plain == "accept" {
        Standing::Open("a rule that Taltun didn't make lets everything pass")
    } else {
        Standing::Odd(format!(
            "its chain {chain} has a rule that Taltun didn't make, `{rule}`"
        ))
    })
}

/// Each rule with the chain that it is in.
fn rules_of(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut inside = None;
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(chain) = line.strip_prefix("chain ") {
            inside = chain.strip_suffix(" {");
        } else if line == "}" {
            inside = None;
        } else if !line.is_empty() && !line.starts_with("type ") {
            return inside.map(|chain| (chain, line));
        }
        None
    })
}

/// Whether a rule can't but refuse, or does nothing.
fn is_harmless(plain: &str) -> bool {
    plain.is_empty() || plain == "drop" || plain.ends_with(" drop") || plain.starts_with("reject")
}

/// A rule without its counters, in one way of writing it.
fn plain(rule: &str) -> String {
    let mut words = rule.split_whitespace().peekable();
    let mut found: Vec<String> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "counter" => {
                if words.next_if_eq(&"packets").is_some() {
                    // So many packets, and so many bytes.
                    let _ = (words.next(), words.next(), words.next());
                }
            }
            "meta" if words.peek() == Some(&"mark") => {}
            "type" if found.last().is_some_and(|last| last == "icmpx") => {}
            "{" => {
                let mut elements: Vec<String> = words
                    .by_ref()
                    .take_while(|word| *word != "}")
                    .map(|word| word.trim_end_matches(',').to_owned())
                    .collect();
                elements.sort_unstable();
                found.push(format!("{{ {} }}", elements.join(", ")));
            }
            _ => found.push(number(word).unwrap_or_else(|| word.to_owned())),
        }
    }
    flags(&found.join(" "))
}

/// A number without the zeros that it begins with.
fn number(word: &str) -> Option<String> {
    let value = u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()?;
    Some(format!("{value:#x}"))
}

/// `tcp flags & (syn | ack) != syn` as newer ones write it: `tcp flags != syn / syn,ack`.
fn flags(rule: &str) -> String {
    let newer = || {
        let (before, rest) = rule.split_once("tcp flags & (")?;
        let (mask, rest) = rest.split_once(") ")?;
        let (sign, rest) = rest.split_once(' ')?;
        let (value, rest) = rest.split_once(' ')?;
        let sign = if sign == "==" { "" } else { "!= " };
        let mask = mask.replace(' ', "").replace('|', ",");
        Some(format!("{before}tcp flags {sign}{value} / {mask} {rest}"))
    };
    newer().unwrap_or_else(|| rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By nft 1.0.6.
    const LISTED: &str = r#"table inet taltun-t0 {
	chain recall_mark {
		type filter hook prerouting priority mangle; policy accept;
		meta l4proto udp ct mark 0x0000103d meta mark set ct mark
	}

	chain remember_mark {
		type filter hook postrouting priority mangle; policy accept;
		meta l4proto udp meta mark 0x0000103d ct mark set meta mark
	}

	chain kill_switch_output {
		type filter hook output priority filter; policy accept;
		oifname { "t0", "lo" } accept
		meta mark 0x0000103d accept
		tcp flags != syn / syn,ack ct direction reply accept
		meta l4proto { icmp, ipv6-icmp } ct direction reply accept
		udp sport < 1024 ip daddr { 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16 } ct direction reply accept
		icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
		counter packets 17 bytes 42 reject with icmpx admin-prohibited
	}

	chain kill_switch_forward {
		type filter hook forward priority filter; policy accept;
		iifname "t0" accept
		oifname "t0" accept
		counter reject with icmpx admin-prohibited
	}
}
"#;

    fn odd(listed: &str) -> Option<Standing> {
        let switch = ["kill_switch_output", "kill_switch_forward"];
        super::odd(listed, switch, |mark| {
            LISTED.replace("0x0000103d", &format!("{mark:#x}"))
        })
    }

    #[test]
    fn rules_are_known_however_nft_writes_them() {
        assert_eq!(odd(LISTED), None);
        for (from, to) in [
            (
                "tcp flags != syn / syn,ack",
                "tcp flags & (syn | ack) != syn",
            ),
            ("icmpx admin", "icmpx type admin"),
            ("counter reject", "counter packets 1 bytes 2 reject"),
            (
                "\t\toifname \"t0\"",
                "\t\tip daddr 192.0.2.1 drop\n\t\toifname \"t0\"",
            ),
        ] {
            assert!(LISTED.contains(from), "{from}");
            assert_eq!(odd(&LISTED.replace(from, to)), None, "{to}");
        }
    }

    #[test]
    fn what_may_let_packets_pass_is_odd() {
        let first = "\t\toifname { \"t0\", \"lo\" } accept\n";
        for rule in ["accept", "counter packets 0 bytes 0 accept"] {
            let text = LISTED.replace(first, &format!("\t\t{rule}\n{first}"));
            let standing = odd(&text);
            assert!(matches!(standing, Some(Standing::Open(_))), "{standing:?}");
        }
        for rule in [
            "ip daddr 192.0.2.1 accept",
            "meta mark 0x00000000 accept",
            "meta mark & 0x00000001 == 0x00000000 accept",
            "meta mark 0x00000005 accept",
            "oifname \"eth0\" accept",
            "return",
            "jump other",
            "meta mark set 0x0000103d",
            "udp dport vmap { 1 : drop, 2 : accept }",
            "oifname \"t1\" accept",
        ] {
            let text = LISTED.replace(first, &format!("\t\t{rule}\n{first}"));
            let standing = odd(&text);
            assert!(matches!(standing, Some(Standing::Odd(_))), "{rule}");
        }
        let remember = "meta l4proto udp meta mark";
        let marks = format!("meta mark set 0x0000103d\n\t\t{remember}");
        let text = LISTED.replace(remember, &marks);
        assert!(matches!(odd(&text), Some(Standing::Odd(_))));
    }
}
