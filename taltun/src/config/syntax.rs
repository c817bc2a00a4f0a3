//! What to do about a line that isn't TOML: the mistakes of people who know other files.

use taltun_usage::Day;

use super::keys::{self, Kind};

/// The remedy for `line` of `text`, if it is a mistake that people make. No value is repeated
/// that may be a secret.
pub(super) fn remedy(line: &str, text: &str) -> Option<String> {
    if is_of_wg_quick(text) {
        return Some("a file of wg-quick? `taltun import FILE` translates it".to_owned());
    }
    let line = line.trim();
    if let Some(name) = line
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let is_list = matches!(name.trim(), "peers" | "peer" | "Peer");
        return is_list.then(|| "write [[peers]] with double brackets before each peer".to_owned());
    }
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split('#').next()?.trim());
    let is_key = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !is_key || value.is_empty() {
        return None;
    }
    let mut known = keys::all().filter(|known| known.name == key);
    if known.any(|known| matches!(known.kind, Kind::Range(..)))
        && let Some(two) = two_numbers(value)
    {
        return Some(format!("write both numbers in a list: {key} = {two}"));
    }
    if key == keys::peers::EXPIRES.name && !value.contains(['"', '\'']) {
        return value.parse::<Day>().err();
    }
    let is_toml = value.contains(['"', '\'']) || value.parse::<i64>().is_ok();
    if is_toml || matches!(value, "true" | "false") {
        return None;
    }
    let quoted = quoted(value)?;
    Some(if key.contains("key") || key.contains("Key") {
        "put the value in quotes".to_owned()
    } else if let [quoted] = quoted.as_slice()
        && !value.starts_with('[')
    {
        format!("put the value in quotes: {key} = {quoted}")
    } else {
        format!(
            "put each value in quotes, in a list: {key} = [{}]",
            quoted.join(", ")
        )
    })
}

/// The words of a value without quotes, each in quotes; `None` if they are no such words.
fn quoted(value: &str) -> Option<Vec<String>> {
    let value = value.strip_prefix('[').unwrap_or(value);
    let value = value.strip_suffix(']').unwrap_or(value);
    let words: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    let is_plain = |word: &&str| {
        !word.contains(['{', '}', '[', ' ', '\\']) || word.starts_with('[') || is_amount(word)
    };
    let are_plain = !words.is_empty() && words.iter().all(is_plain);
    are_plain.then(|| words.iter().map(|word| format!("\"{word}\"")).collect())
}

/// The two numbers of a value, whatever is between them, as a list.
fn two_numbers(value: &str) -> Option<String> {
    let value = value.trim_start_matches('[').trim_end_matches(']');
    let between = value.find(|it: char| !it.is_ascii_digit())?;
    let (first, rest) = value.split_at(between);
    let last = rest.trim_start_matches([' ', ',', '-', ':', '.', '\u{2013}']);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    (is_number(first) && is_number(last)).then(|| format!("[{first}, {last}]"))
}

/// Whether a text is like `100 GB/month` or `20 Mbit/s`.
fn is_amount(text: &str) -> bool {
    let Some((number, unit)) = text.split_once(' ') else {
        return false;
    };
    let is_number = number.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    is_number
        && unit
            .bytes()
            .all(|it| it.is_ascii_alphabetic() || it == b'/')
}

/// Whether somebody gave us wg-quick's file.
pub(super) fn is_of_wg_quick(text: &str) -> bool {
    let has = |word: &str| text.lines().any(|line| line.trim().starts_with(word));
    has("[Interface]") && (has("PrivateKey") || has("[Peer]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_quotes_is_shown_with_them() {
        for (line, expected) in [
            (
                "vip = 10.6.0.1",
                "put the value in quotes: vip = \"10.6.0.1\"",
            ),
            (
                "vip = 10.6.0.1/24 # ours",
                "put the value in quotes: vip = \"10.6.0.1/24\"",
            ),
            (
                "endpoint = hub.example.net:9000",
                "put the value in quotes: endpoint = \"hub.example.net:9000\"",
            ),
            (
                "allowed_ips = 10.0.0.0/8, fd00::/8",
                "put each value in quotes, in a list: allowed_ips = [\"10.0.0.0/8\", \"fd00::/8\"]",
            ),
            (
                "routes = [10.0.0.0/8]",
                "put each value in quotes, in a list: routes = [\"10.0.0.0/8\"]",
            ),
            ("private_key = abcdef=", "put the value in quotes"),
            (
                "port_range = 4096, 8191",
                "write both numbers in a list: port_range = [4096, 8191]",
            ),
            (
                "port_range = 4096-8191 # open",
                "write both numbers in a list: port_range = [4096, 8191]",
            ),
            (
                "port_range = [4096 - 8191]",
                "write both numbers in a list: port_range = [4096, 8191]",
            ),
            (
                "quota = 100 GB/month",
                "put the value in quotes: quota = \"100 GB/month\"",
            ),
            (
                "expires = 2026-02-30",
                "there is no 2026-02-30: the last day of that month is 2026-02-28",
            ),
            (
                "expires = 31.12.2026 # the last one",
                "write 2026-12-31, the year first; found \"31.12.2026\"",
            ),
            (
                "expires = never",
                "expected a date such as 2026-12-31, found \"never\"",
            ),
            (
                "[peers]",
                "write [[peers]] with double brackets before each peer",
            ),
        ] {
            assert_eq!(remedy(line, line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn where_nothing_is_known_nothing_is_said() {
        for line in [
            "",
            "vip",
            "vip =",
            "= 1",
            "vip = \"10.0.0.1",
            "[interface",
            "mtu = 1420",
        ] {
            assert_eq!(remedy(line, line), None, "{line}");
        }
    }

    #[test]
    fn a_file_of_wg_quick_is_known() {
        let text = "[Interface]\nPrivateKey = abc=\n";
        let hint = remedy("PrivateKey = abc=", text).unwrap();
        assert!(hint.contains("taltun import"), "{hint}");
        assert!(!hint.contains("abc"), "{hint}");
    }
}
