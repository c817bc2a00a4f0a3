//! The commands of a wg-quick file: what can be known of them without running them.

use super::text::is_space;

/// The file that a command `wg set INTERFACE private-key FILE` reads our key from, and
/// whether that is all that the command does. `Err` where the key comes from elsewhere.
pub(super) fn key_file(command: &str, interface: &str) -> Option<Result<(String, bool), ()>> {
    let whole = segments(command).count() == 1;
    segments(command).find_map(|segment| {
        let mut words = segment.split(is_space).filter(|word| !word.is_empty());
        if !words.next()?.ends_with("wg") || words.next()? != "set" || words.next()? != interface {
            return None;
        }
        let rest: Vec<&str> = words.collect();
        let at = rest.iter().position(|word| *word == "private-key")?;
        let file = rest.get(at.checked_add(1)?)?.trim_matches(['"', '\'']);
        let plain = file.starts_with('/')
            && file
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/._-+=@".contains(&b));
        if plain {
            Some(Ok((file.to_owned(), whole && rest.len() == 2)))
        } else {
            Some(Err(()))
        }
    })
}

/// Whether a command keeps packets of the tunnel from going on to somewhere: to another peer,
/// perhaps.
pub(super) fn keeps_apart(command: &str) -> bool {
    let refuses = |text: &str| {
        let text = text.to_ascii_lowercase();
        let verdict = ["drop", "reject", "deny", "prohibit"];
        let passes_on = text.contains("forward") || text.contains("ufw route");
        let both = (text.contains("iifname") || text.contains("iif "))
            && (text.contains("oifname") || text.contains("oif "));
        (passes_on || both)
            && text
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| verdict.contains(&word))
            // Taking a rule away keeps nobody apart.
            && !text.contains(" -d forward")
            && !text.contains("--delete forward")
    };
    // A text for nft has its own semicolons.
    if command.contains("nft") {
        refuses(command)
    } else {
        segments(command).any(refuses)
    }
}

/// The commands of one line, roughly.
fn segments(command: &str) -> impl Iterator<Item = &str> {
    command
        .split([';', '&', '|', '\n'])
        .filter(|segment| !segment.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_with_the_key_is_found() {
        let found = |command| key_file(command, "wg0");
        let file = |all| Some(Ok(("/etc/wireguard/wg0.key".to_owned(), all)));
        for (command, expected) in [
            ("wg set wg0 private-key /etc/wireguard/wg0.key", file(true)),
            (
                "/usr/bin/wg set wg0 private-key \"/etc/wireguard/wg0.key\"",
                file(true),
            ),
            (
                "wg set wg0 listen-port 7 private-key /etc/wireguard/wg0.key",
                file(false),
            ),
            (
                "wg set wg0 private-key /etc/wireguard/wg0.key; ip link",
                file(false),
            ),
            ("wg set wg0 private-key <(pass show wg0)", Some(Err(()))),
            ("wg set wg0 private-key $KEY", Some(Err(()))),
            ("wg set wg1 private-key /etc/wireguard/wg0.key", None),
            ("wg set wg0 fwmark 7", None),
            ("ip route add 192.0.2.0/24 dev wg0", None),
        ] {
            assert_eq!(found(command), expected, "{command}");
        }
    }

    #[test]
    fn a_firewall_between_peers_is_seen() {
        for (command, expected) in [
            (
                "iptables -A FORWARD -i wg0 -o wg0 -j REJECT; iptables -A FORWARD -i wg0 -j ACCEPT",
                true,
            ),
            ("iptables -I FORWARD -i wg0 ! -o eth0 -j DROP", true),
            ("iptables -P FORWARD DROP", true),
            (
                "iptables -I FORWARD -s 10.0.0.0/24 -d 10.0.0.0/24 -j DROP",
                true,
            ),
            ("ufw route reject in on wg0 out on wg0", true),
            (
                "nft 'add rule inet f forward iifname \"wg0\" oifname \"wg0\" drop'",
                true,
            ),
            (
                "nft 'add table inet t; add chain inet t f { type filter hook forward priority 0; policy accept; }; add rule inet t f iifname \"wg0\" oifname \"wg0\" drop'",
                true,
            ),
            (
                "iptables -A FORWARD -i wg0 -j ACCEPT; iptables -A INPUT -j DROP",
                false,
            ),
            ("iptables -D FORWARD -i wg0 -o wg0 -j REJECT", false),
            (
                "iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
                false,
            ),
            ("sysctl -w net.ipv4.ip_forward=1", false),
        ] {
            assert_eq!(keeps_apart(command), expected, "{command}");
        }
    }
}
