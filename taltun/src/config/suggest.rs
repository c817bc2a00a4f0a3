//! "Did you mean": the known word nearest to one that isn't known.

use super::reference;

/// A hint to append to an error: the known word nearest to `word`, or all of them when
/// none is near.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The same for a key of `section`, or with an empty one a section; words of wg-quick and of
/// the Go version, and keys of another section, are known, too.
pub(super) fn hint_in(section: &str, word: &str, known: &[&str]) -> String {
    if section.is_empty() {
        let header = |near: &str| {
            let sections = reference::SECTIONS.iter();
            let mut sections = sections.filter(|section| section.name == near);
            sections.next().map_or("", |section| section.header)
        };
        return match nearest(word, known) {
            Some(near) if matches!(word, "Interface" | "Peer") => format!(
                "did you mean {}? A file of wg-quick is translated by `taltun import FILE`",
                header(near)
            ),
            Some(near) => format!("did you mean {}?", header(near)),
            None => owner("", word).unwrap_or_else(|| hint(word, known)),
        };
    }
    let folded: String = fold(word).into_iter().collect();
    let elsewhere = ELSEWHERE
        .iter()
        .find(|(words, key)| words.contains(&folded.as_str()) && known.contains(key));
    match (elsewhere, nearest(word, known)) {
        (Some((_, key)), _) => format!("did you mean {key}?"),
        (None, Some(near)) => format!("did you mean {near}?"),
        (None, None) => owner(section, word).unwrap_or_else(|| hint(word, known)),
    }
}

/// What other programs call our keys, as [`fold`] leaves it.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &[
            "listenport",
            "listen",
            "port",
            "bind",
            "local",
            "localaddress",
            "listenaddr",
        ],
        "local_addr",
    ),
    (&["address", "addr", "ip", "ips", "ipaddress"], "vip"),
    (
        &[
            "interface",
            "interfacename",
            "ifname",
            "dev",
            "device",
            "tun",
            "tunname",
        ],
        "tun_name",
    ),
    (&["key", "privkey", "secretkey"], "private_key"),
    (&["key", "pubkey"], "public_key"),
    (&["psk", "secret", "sharedkey"], "preshared_key"),
    (&["remote", "host", "server", "address"], "endpoint"),
    (&["keepalive", "keepaliveinterval"], "persistent_keepalive"),
    (&["networks", "subnets", "allowed", "nets"], "allowed_ips"),
    (&["table", "route"], "routes"),
    (&["postup", "preup", "up"], "on_up"),
    (&["predown", "postdown", "down"], "on_down"),
    (&["mark", "table", "sockmark"], "fwmark"),
    (&["nameserver", "nameservers", "resolver"], "dns"),
    (&["forward", "forwarding", "ipforwarding"], "ip_forward"),
    (&["mssfix", "mss", "clampmss"], "mss_clamp"),
    (&["verbose", "loglevel", "log"], "debug"),
    (&["nat", "snat", "masq"], "masquerade"),
];

/// Where a key belongs that is right in itself, or by a name of others.
fn owner(section: &str, word: &str) -> Option<String> {
    let folded: String = fold(word).into_iter().collect();
    reference::SECTIONS
        .iter()
        .filter(|other| other.name != section)
        .find_map(|other| {
            let keys = reference::names(other.name);
            let exact = keys.iter().find(|key| fold(key) == fold(word));
            let by_another_name = || {
                let mut known = ELSEWHERE.iter();
                let (_, key) = known
                    .find(|(words, key)| words.contains(&folded.as_str()) && keys.contains(key))?;
                Some(key)
            };
            let key = exact.or_else(by_another_name)?;
            Some(format!("{key} belongs below {}", other.header))
        })
}

/// The known word nearest to `word`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = fold(word);
    known
        .iter()
        .map(|candidate| (distance(&word, &fold(candidate)), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .map(|(_, candidate)| candidate)
}

/// Drops what separates words, so that wg-quick's `AllowedIPs` finds `allowed_ips`.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        // Far longer than any known word: as good as infinitely far away.
        .take(64)
        .collect()
}

/// Levenshtein distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["allowed_ips", "endpoint", "name", "public_key", "vip"];

    #[test]
    fn a_typing_error_finds_the_key() {
        assert_eq!(hint("pubic_key", KEYS), "did you mean public_key?");
        assert_eq!(
            hint("vpi", KEYS),
            "known here: allowed_ips, endpoint, name, public_key, vip"
        );
        assert_eq!(hint("vips", KEYS), "did you mean vip?");
    }

    #[test]
    fn the_spelling_of_wg_quick_finds_the_key() {
        assert_eq!(hint("AllowedIPs", KEYS), "did you mean allowed_ips?");
        assert_eq!(hint("public-key", KEYS), "did you mean public_key?");
    }

    #[test]
    fn words_of_others_and_keys_of_other_sections_are_known() {
        let hint = |section: &str, word: &str| hint_in(section, word, &reference::names(section));
        for (section, word, expected) in [
            ("interface", "ListenPort", "did you mean local_addr?"),
            ("interface", "listen", "did you mean local_addr?"),
            ("interface", "PrivateKey", "did you mean private_key?"),
            ("interface", "Address", "did you mean vip?"),
            ("interface", "DNS", "did you mean dns?"),
            ("interface", "MTU", "did you mean mtu?"),
            ("interface", "FwMark", "did you mean fwmark?"),
            ("interface", "Table", "did you mean routes?"),
            ("interface", "PostUp", "did you mean on_up?"),
            ("interface", "PreDown", "did you mean on_down?"),
            ("peers", "AllowedIPs", "did you mean allowed_ips?"),
            ("peers", "PublicKey", "did you mean public_key?"),
            ("peers", "PresharedKey", "did you mean preshared_key?"),
            (
                "peers",
                "PersistentKeepalive",
                "did you mean persistent_keepalive?",
            ),
            ("peers", "key", "did you mean public_key?"),
            ("interface", "endpoint", "endpoint belongs below [[peers]]"),
            ("peers", "mtu", "mtu belongs below [interface]"),
            (
                "peers",
                "ListenPort",
                "local_addr belongs below [interface]",
            ),
        ] {
            assert_eq!(hint(section, word), expected, "{section}.{word}");
        }
        let sections = [
            "interface",
            "peers",
            "accel",
            "dataplane",
            "nat",
            "dns_routes",
        ];
        assert_eq!(hint_in("", "peer", &sections), "did you mean [[peers]]?");
        assert_eq!(
            hint_in("", "vip", &sections),
            "vip belongs below [interface]"
        );
        assert!(hint_in("", "Peer", &sections).contains("taltun import"));
    }

    #[test]
    fn a_word_of_any_length_is_no_trouble() {
        assert!(hint(&"x".repeat(1 << 20), KEYS).starts_with("known here"));
        assert!(hint("", KEYS).starts_with("known here"));
    }
}
