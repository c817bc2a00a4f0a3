//! `peer set`: other values for a peer that there is, and the command that brings back the old ones.

use std::fmt::Write;

use ipnet::IpNet;

use super::changes::{Changed, Known, day};
use crate::config::{Edit, NewValue, Peer};
use crate::control::request::SetPeer;
use crate::control::words;
use crate::report::{PeerEdited, Refused};
use crate::system::for_the_shell;

/// What `peer set` takes away a value by.
const NONE: &str = "none";

impl Known<'_> {
    /// The text with other values for a peer.
    pub(super) fn set(&self, edit: &Edit<'_>, asked: &SetPeer) -> Result<Changed, Refused> {
        let peer = self.running(&asked.peer)?;
        let key = peer.public_key;
        let mut values: Vec<(&str, Option<NewValue>)> = Vec::new();
        let mut warnings = Vec::new();
        let whom = peer.name.clone().unwrap_or_else(|| key.to_string());
        let mut undo = format!("taltun peer set {}", for_the_shell(&whom));
        if let Some(nets) = &asked.allowed_ips {
            self.check_networks(nets)?;
            let vips = peer.vip.iter().copied().map(IpNet::from);
            let owned: Vec<IpNet> = vips.chain(nets.iter().copied()).collect();
            self.check_by_wg(key, &owned)?;
            let new = (!nets.is_empty()).then(|| NewValue::Networks(nets.clone()));
            if new.is_none() && edit.has_comments(&key, "allowed_ips") {
                warnings.push("undoing doesn't restore the comments in allowed_ips".to_owned());
            }
            values.push(("allowed_ips", new));
            give_back(&mut undo, "allowed", Some(comma_separated(peer)));
        }
        if let Some(text) = &asked.expires {
            let new = match text.as_str() {
                "" => None,
                text => Some(NewValue::Day(day(text)?)),
            };
            values.push(("expires", new));
            let old = peer.limits.expires.map(|day| day.to_string());
            give_back(&mut undo, "expires", old);
        }
        for (name, option, text) in [
            ("quota", "quota", &asked.quota),
            ("rate_up", "rate-up", &asked.rate_up),
            ("rate_down", "rate-down", &asked.rate_down),
        ] {
            let Some(text) = text else { continue };
            values.push((
                name,
                (!text.is_empty()).then(|| NewValue::Text(text.clone())),
            ));
            give_back(&mut undo, option, edit.text_of(&key, name));
        }
        if values.is_empty() {
            return Err("nothing to change was given".into());
        }
        let text = edit.with_values(&key, &values)?;
        let told: Vec<String> = values
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name} = {value}"),
                None => format!("no {name}"),
            })
            .collect();
        let answer = PeerEdited {
            done: format!("{} has from now on {}", peer.label(), words::list(&told)),
            undo,
            warnings,
            ..self.answer(peer.name.as_deref(), key)
        };
        Ok((text, answer))
    }
}

/// The networks behind a peer, as a command has them; empty for none.
fn comma_separated(peer: &Peer) -> String {
    let vips: Vec<IpNet> = peer.vip.iter().copied().map(IpNet::from).collect();
    let behind = peer.allowed_ips.iter().filter(|net| !vips.contains(net));
    let behind: Vec<String> = behind.map(ToString::to_string).collect();
    behind.join(",")
}

/// Adds the option for an old value, if there was one.
fn give_back(undo: &mut String, option: &str, old: Option<String>) {
    let old = old.filter(|old| !old.is_empty());
    let old = old.as_deref().map_or_else(|| NONE.into(), for_the_shell);
    // Writing to a String can't fail.
    let _ = write!(undo, " --{option} {old}");
}
