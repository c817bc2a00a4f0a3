//! `[names]`: the domain in which peers are found by their names.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Mode;
use super::draft::{Draft, NamesDraft, Written};
use super::error::ConfigError;

/// What this machine is called in the domain of a hub.
pub const HUB: &str = "hub";
/// The longest part of a name between two dots, and the longest name (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;

/// `[names]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What all names end in: in small letters, without a dot at either end.
    pub domain: String,
    /// Who is asked for all other names, the first one first; none: they are refused.
    pub upstream: Vec<IpAddr>,
}

/// Whether it can stand between two dots of a host's name (RFC 1123, section 2.1).
pub fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A domain, in small letters.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let domain = text.trim_matches('.').to_ascii_lowercase();
    // Room for a name in it.
    let fits = domain.len() < NAME_MAX.saturating_sub(LABEL_MAX);
    if fits && domain.split('.').all(is_label) && domain.parse::<IpAddr>().is_err() {
        Ok(domain)
    } else {
        Err(format!(
            "expected a domain such as \"vpn\" or \"vpn.example.org\", found {text:?}"
        ))
    }
}

/// `[names]`, checked against the rest: each peer with a name can be found by it.
pub(super) fn finish(
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) -> Result<Option<Names>, ConfigError> {
    let Some(NamesDraft { domain, upstream }) = draft.names.take() else {
        return Ok(None);
    };
    if domain.value.rsplit('.').next() == Some("local") {
        warnings.push(domain.spot.say(
            "many systems ask for names in local by multicast on their own network alone (RFC \
             6762); take another domain, such as \"vpn\"",
        ));
    }
    check_upstream(&upstream, draft)?;
    let mut found: HashMap<String, String> = HashMap::new();
    for peer in &draft.peers {
        let Some(name) = &peer.name else { continue };
        let spot = &peer.name_spot;
        if !is_label(name) {
            let domain = &domain.value;
            let other = as_label(name);
            let hint = match &other {
                Some(other) => format!("such as {other:?}"),
                None => "such as \"ana\"".to_owned(),
            };
            return Err(spot.error(format!(
                "{name:?} can't stand in {name:?}.{domain}: [names] takes letters, digits and \
                 hyphens between them, at most {LABEL_MAX}; give the peer another name, {hint}"
            )));
        }
        let small = name.to_ascii_lowercase();
        if small == HUB && draft.mode == Mode::Server {
            return Err(spot.error(format!(
                "{HUB}.{} is this machine ([names]); give the peer another name",
                domain.value
            )));
        }
        if let Some(first) = found.insert(small, spot.origin()) {
            return Err(spot.error(format!(
                "{name:?} is another peer's name, too ({first}); [names] needs one for each, \
                 whatever the case"
            )));
        }
    }
    Ok(Some(Names {
        domain: domain.value,
        upstream: upstream.into_iter().map(|server| server.value).collect(),
    }))
}

fn check_upstream(upstream: &[Written<IpAddr>], draft: &Draft) -> Result<(), ConfigError> {
    let Some(first) = upstream.first() else {
        return Ok(());
    };
    if draft.dns_routes.is_some() {
        return Err(first.spot.error(
            "[dns_routes] has the name servers for all other names; leave out that of [names]",
        ));
    }
    for Written { value, spot } in upstream {
        if draft
            .vip
            .iter()
            .any(|vip: &Written<IpNet>| vip.value.addr() == *value)
        {
            return Err(spot.error(format!(
                "{value} is our own address, where this resolver itself listens; name another \
                 server"
            )));
        }
    }
    Ok(())
}

/// A name like it that can stand between two dots.
fn as_label(name: &str) -> Option<String> {
    let mut label = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            label.push(c.to_ascii_lowercase());
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.truncate(LABEL_MAX);
    let label = label.trim_end_matches('-');
    is_label(label).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_stand_between_dots_is_told() {
        for (name, expected) in [
            ("ana", true),
            ("Ana-2", true),
            ("4", true),
            ("", false),
            ("-ana", false),
            ("ana-", false),
            ("ana.b", false),
            ("ana b", false),
            ("aña", false),
            ("a_b", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(is_label(name), expected, "{name}");
        }
        let like = ["Ana's phone", "aña.", "-x-", "…"].map(as_label);
        let like: Vec<_> = like.iter().map(Option::as_deref).collect();
        assert_eq!(like, [Some("ana-s-phone"), Some("a-a"), Some("x"), None]);
    }

    #[test]
    fn a_domain_has_labels_and_leaves_room_for_a_name() {
        assert_eq!(domain(".VPN.").as_deref(), Ok("vpn"));
        assert_eq!(domain("vpn.Example.org").as_deref(), Ok("vpn.example.org"));
        for text in ["", ".", "a..b", "10.0.0.1", "a b", "*.vpn", "fd00::1"] {
            assert!(domain(text).is_err(), "{text}");
        }
        assert!(domain(&["a"; 200].join(".")).is_err());
    }
}
