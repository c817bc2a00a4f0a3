//! "Did you mean": the known word nearest to one that isn't known.

use super::keys::{self, Key, Section};

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
pub(super) fn hint_in(section: &str, word: &str) -> String {
    let Some(declared) = keys::section(section) else {
        return hint_of_section(word);
    };
    if let Some(hint) = of_udpgw(section, word) {
        return hint.to_owned();
    }
    let known = declared.names();
    let meant = named_elsewhere(declared, word).map(|key| key.name);
    match meant.or_else(|| nearest(word, &known)) {
        Some(near) => format!("did you mean {near}?"),
        None => owner(section, word).unwrap_or_else(|| hint(word, &known)),
    }
}

/// What the command `taltun udpgw` calls so, and what there is in the file.
fn of_udpgw(section: &str, word: &str) -> Option<&'static str> {
    const ALONE: &str = "only the command `taltun udpgw` has this";
    if section != "udpgw" {
        return None;
    }
    Some(match fold(word).as_str() {
        "notcpnodelay" => "write tcp_nodelay = false",
        "nokeepalive" => "write keepalive = false",
        "loglevel" | "debug" => "write debug = true below [interface]; the log is the tunnel's",
        "statsinterval" => "`taltun stats` shows the counters at any time",
        "enabled" | "enable" => "the section [udpgw] alone switches it on; leave it out for off",
        "clientsocketsndbuf" => "tcp_buffer is for both directions",
        "localudpaddrs" | "localudpip6addrs" | "logger" | "uniquelocalports" => ALONE,
        _ => return None,
    })
}

fn hint_of_section(word: &str) -> String {
    if word == keys::FLEET.name && keys::section(word).is_none() {
        return "this Taltun is built without fleets (the Cargo feature `fleet`)".to_owned();
    }
    let known: Vec<&str> = keys::SECTIONS.iter().map(|section| section.name).collect();
    let header = nearest(word, &known).and_then(keys::section);
    match header.map(|section| section.header) {
        Some(header) if matches!(word, "Interface" | "Peer") => format!(
            "did you mean {header}? A file of wg-quick is translated by `taltun import FILE`"
        ),
        Some(header) => format!("did you mean {header}?"),
        None => owner("", word).unwrap_or_else(|| hint(word, &known)),
    }
}

/// The key that other programs call so.
fn named_elsewhere(section: &'static Section, word: &str) -> Option<&'static Key> {
    let word = fold(word);
    let mut keys = section.keys.iter().copied();
    keys.find(|key| key.also.contains(&word.as_str()))
}

/// Where a key belongs that is right in itself, or by a name of others.
fn owner(section: &str, word: &str) -> Option<String> {
    let others = keys::SECTIONS.iter().copied();
    others
        .filter(|other| other.name != section)
        .find_map(|other| {
            let mut keys = other.keys.iter().copied();
            let exact = keys.find(|key| fold(key.name) == fold(word));
            let key = exact.or_else(|| named_elsewhere(other, word))?;
            Some(format!("{} belongs below {}", key.name, other.header))
        })
}

/// The known word nearest to `word`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = fold(word);
    known
        .iter()
        .map(|candidate| (strsim::levenshtein(&word, &fold(candidate)), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 4).saturating_add(1))
        .map(|(_, candidate)| candidate)
}

/// Drops what separates words, so that wg-quick's `AllowedIPs` finds `allowed_ips`.
fn fold(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        // Far longer than any known word: as good as infinitely far away.
        .take(64)
        .collect()
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
            assert_eq!(hint_in(section, word), expected, "{section}.{word}");
        }
        for (word, expected) in [
            ("no_tcp_nodelay", "write tcp_nodelay = false"),
            ("no-keepalive", "write keepalive = false"),
            ("loglevel", "write debug = true below [interface]"),
            ("stats_interval", "`taltun stats`"),
            ("max-clients", "did you mean max_clients?"),
        ] {
            let told = hint_in("udpgw", word);
            assert!(told.starts_with(expected), "{word}: {told}");
        }
        assert_eq!(hint_in("", "peer"), "did you mean [[peers]]?");
        assert_eq!(hint_in("", "vip"), "vip belongs below [interface]");
        assert!(hint_in("", "Peer").contains("taltun import"));
    }

    #[test]
    fn a_word_of_any_length_is_no_trouble() {
        assert!(hint(&"x".repeat(1 << 20), KEYS).starts_with("known here"));
        assert!(hint("", KEYS).starts_with("known here"));
    }
}
