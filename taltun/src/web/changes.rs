//! What the forms of the pages ask for.

use ipnet::IpNet;

use super::asked::{Reply, SetPeer, Verb};
use super::request::Fields;
use super::units;
use super::words::{Language, Words, filled};
use crate::config;
use crate::protocol::allowed_ips::canonical;

/// What became of a change, for the next page to tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Notice {
    /// Whether it is done.
    pub(super) is_done: bool,
    /// That, in a sentence.
    pub(super) text: String,
    /// What is odd about it, a sentence each.
    pub(super) warnings: Vec<String>,
    /// The command that undoes it, if it takes one.
    pub(super) undo: Option<String>,
    /// What was typed, if it isn't done: nobody wants to type it again.
    pub(super) typed: Fields,
}

/// What a form asks for, or why that can't be; `None` if there is no such form.
pub(super) fn verb_of(path: &str, form: &Fields, words: &Words) -> Option<Result<Verb, String>> {
    let given = |name: &str| form.get(name).unwrap_or_default().to_owned();
    let inner = form.get("layer") == Some("inside");
    let seen = form.get("seen").is_some();
    Some(match path {
        "/ban" => network(form, words).and_then(|net| {
            let seconds = duration(form, words)?;
            Ok(Verb::Ban {
                net,
                inner,
                seen,
                seconds,
            })
        }),
        "/unban" => network(form, words).map(|net| Verb::Unban { net, inner }),
        "/ban-peer" => duration(form, words).map(|seconds| Verb::BanPeer {
            peer: given("key"),
            seconds,
        }),
        "/rename" => Ok(Verb::RenamePeer {
            peer: given("key"),
            name: given("name"),
        }),
        "/set" => set(form, words),
        "/remove" => Ok(Verb::RemovePeer(given("key"))),
        "/unban-peer" => Ok(Verb::UnbanPeer(given("key"))),
        _ => return None,
    })
}

/// What is told once this is done, but for what the tunnel adds to it.
pub(super) fn told(verb: &Verb, language: Language) -> String {
    let words = language.words();
    let banned = |what: &str, seconds: &Option<u64>| match seconds {
        Some(seconds) => filled(words.done_ban, &[what, &units::span(*seconds)]),
        None => filled(words.done_ban_for_good, &[what]),
    };
    match verb {
        Verb::Ban { net, seconds, .. } => banned(&net.to_string(), seconds),
        Verb::BanPeer { seconds, .. } => banned(words.the_peer, seconds),
        Verb::Unban { net, .. } => filled(words.done_unban, &[&net.to_string()]),
        Verb::UnbanPeer(_) => filled(words.done_unban, &[words.the_peer]),
        Verb::RenamePeer { name, .. } => filled(words.done_rename, &[name]),
        Verb::SetPeer(_) => words.done_set.to_owned(),
        Verb::RemovePeer(_) => words.done_remove.to_owned(),
        _ => words.done.to_owned(),
    }
}

/// The notice of what is done.
pub(super) fn done(text: String, reply: Reply) -> Notice {
    let mut notice = Notice {
        is_done: true,
        text,
        ..Notice::default()
    };
    if let Reply::Edited(edited) = reply {
        notice.warnings = edited.warnings;
        notice.undo = Some(edited.undo).filter(|undo| !undo.is_empty());
    }
    notice
}

/// The name of what a field held when its form was made.
pub(super) fn before(name: &str) -> String {
    format!("{name}-before")
}

/// What somebody changed in the form of what a peer has and may: all else may be changed elsewhere meanwhile.
fn set(form: &Fields, words: &Words) -> Result<Verb, String> {
    let changed = |name: &str| {
        let new = form.get(name)?;
        (form.get(&before(name)) != Some(new)).then(|| new.to_owned())
    };
    let set = SetPeer {
        peer: form.get("key").unwrap_or_default().to_owned(),
        allowed_ips: changed("allowed")
            .map(|nets| networks(&nets, words))
            .transpose()?,
        expires: changed("expires"),
        quota: changed("quota"),
        rate_up: changed("rate_up"),
        rate_down: changed("rate_down"),
    };
    if set.is_nothing() {
        return Err(words.nothing_changed.to_owned());
    }
    Ok(Verb::SetPeer(set))
}

/// Networks with commas or blanks between them.
fn networks(text: &str, words: &Words) -> Result<Vec<IpNet>, String> {
    let all = text.split(|c: char| c == ',' || c.is_whitespace());
    let given = all.filter(|net| !net.is_empty());
    let network = |net: &str| {
        let network = config::network_as_written(net);
        network.map_err(|_| format!("{} {net:?}", words.not_understood))
    };
    given.map(network).collect()
}

fn network(form: &Fields, words: &Words) -> Result<IpNet, String> {
    let given = form.get("net").unwrap_or_default();
    // As the tunnel has it, and so as it is told.
    let network = config::network(given).map(|(net, _)| canonical(net));
    network.map_err(|_| format!("{} {given:?}", words.not_understood))
}

/// Seconds; `None` for one without an end.
fn duration(form: &Fields, words: &Words) -> Result<Option<u64>, String> {
    match form.get("for") {
        Some("") => Ok(None),
        Some(seconds) => {
            let seconds = seconds.parse().map(Some);
            seconds.map_err(|_| words.duration_wrong.to_owned())
        }
        None => Err(words.duration_wrong.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::words::Language;

    fn asked(path: &str, form: &str) -> Option<Result<String, String>> {
        let words = Language::English.words();
        let verb = verb_of(path, &Fields::of(form.as_bytes()), words)?;
        Some(verb.map(|verb| serde_json::to_string(&verb).unwrap()))
    }

    #[test]
    fn forms_become_what_is_asked_and_nothing_else_does() {
        let done = |text: &str| Some(Ok(text.to_owned()));
        assert_eq!(
            asked("/ban", "net=198.51.100.7&layer=outside&for=3600"),
            done(r#"{"ban":{"net":"198.51.100.7/32","inner":false,"seen":false,"seconds":3600}}"#)
        );
        assert_eq!(
            asked("/ban", "net=10.0.0.0/8&layer=inside&seen=1&for="),
            done(r#"{"ban":{"net":"10.0.0.0/8","inner":true,"seen":true,"seconds":null}}"#)
        );
        assert_eq!(
            asked("/unban", "net=fd00::/64&layer=inside"),
            done(r#"{"unban":{"net":"fd00::/64","inner":true}}"#)
        );
        assert_eq!(
            asked("/ban-peer", "key=K&for=60"),
            done(r#"{"ban_peer":{"peer":"K","seconds":60}}"#)
        );
        assert_eq!(
            asked("/unban", "net=::ffff:198.51.100.7&layer=outside"),
            done(r#"{"unban":{"net":"198.51.100.7/32","inner":false}}"#)
        );
        for wrong in [
            "net=nonsense&for=60",
            "net=10.0.0.1&for=-1",
            "net=10.0.0.1&for=soon",
            "net=10.0.0.1",
            "",
        ] {
            assert!(asked("/ban", wrong).unwrap().is_err(), "{wrong}");
        }
        assert_eq!(
            asked("/rename", "key=K&name=+eva+"),
            done(r#"{"rename_peer":{"peer":"K","name":"eva"}}"#)
        );
        assert_eq!(asked("/reload", ""), None);
    }

    #[test]
    fn what_somebody_left_alone_is_no_change() {
        let before = "key=K&allowed-before=10.1.0.0%2F16&allowed=10.1.0.0%2F16&expires-before=&expires=\
                      &quota-before=1+GB%2Fday&rate_up-before=&rate_up=";
        let none = r#""expires":null,"quota":null,"rate_up":null,"rate_down":null}}"#;
        for (form, verb) in [
            (
                format!("{before}&quota="),
                Ok(r#"{"set_peer":{"peer":"K","allowed_ips":null,"expires":null,"quota":"","rate_up":null,"rate_down":null}}"#.to_owned()),
            ),
            (
                "key=K&allowed-before=&allowed=10.1.0.0%2F16,+10.2.0.9".to_owned(),
                Ok(format!(
                    r#"{{"set_peer":{{"peer":"K","allowed_ips":["10.1.0.0/16","10.2.0.9/32"],{none}"#
                )),
            ),
            (
                "key=K&allowed-before=10.1.0.0%2F16&allowed=".to_owned(),
                Ok(format!(
                    r#"{{"set_peer":{{"peer":"K","allowed_ips":[],{none}"#
                )),
            ),
        ] {
            assert_eq!(asked("/set", &form), Some(verb), "{form}");
        }
        for wrong in [
            format!("{before}&quota=1+GB%2Fday"),
            before.replace("allowed=10.1", "allowed=office"),
            String::new(),
        ] {
            assert!(asked("/set", &wrong).unwrap().is_err(), "{wrong}");
        }
    }
}
