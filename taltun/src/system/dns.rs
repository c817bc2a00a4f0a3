//! The resolver while the tunnel is up: told by systemd-resolved's `resolvectl`, or by
//! `resolvconf`, whichever this host has.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{SystemError, keep, program};
use crate::config::Dns;

/// Who tells the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// systemd-resolved: name servers by interface.
    Resolvectl,
    /// openresolv, or Debian's resolvconf: writes `/etc/resolv.conf`.
    Resolvconf,
}

/// There while systemd-resolved runs.
const RESOLVED: &str = "/run/systemd/resolve";
/// There where Debian's resolvconf orders interfaces by what their names begin with.
const INTERFACE_ORDER: &str = "/etc/resolvconf/interface-order";

/// Who tells the resolver here; `None` where `dns` asks for nothing.
pub(super) fn choose(dns: &Dns) -> Result<Option<Kind>, SystemError> {
    if dns.servers.is_empty() {
        return Ok(None);
    }
    if Path::new(RESOLVED).is_dir() && program::find("resolvectl").is_some() {
        Ok(Some(Kind::Resolvectl))
    } else if program::find("resolvconf").is_some() {
        Ok(Some(Kind::Resolvconf))
    } else {
        Err(SystemError::NoResolver)
    }
}

/// Lets the resolver ask `dns`, and nobody else where `everything` goes into the tunnel.
pub(super) async fn set(
    kind: Kind,
    interface: &str,
    dns: &Dns,
    everything: bool,
) -> Result<(), SystemError> {
    let outcome = match kind {
        Kind::Resolvectl => by_resolvectl(interface, dns, everything).await,
        Kind::Resolvconf => by_resolvconf(interface, dns).await,
    };
    outcome.map_err(SystemError::Resolver)
}

/// Whether the resolver asks `dns`, as far as can be seen.
pub(super) async fn is_set(kind: Kind, interface: &str, dns: &Dns) -> bool {
    let servers = dns.servers.iter().map(ToString::to_string);
    match kind {
        Kind::Resolvectl => {
            let told = program::run("resolvectl", &["dns", interface], "").await;
            told.is_ok_and(|told| {
                let mut servers = servers;
                servers.all(|server| told.split_whitespace().any(|word| word == server))
            })
        }
        Kind::Resolvconf => {
            let text = keep::resolv_conf();
            let named = keep::servers_of(&text);
            let mut servers = servers;
            servers.all(|server| named.contains(&server.as_str()))
        }
    }
}

/// Sets it where somebody else has changed what [`set`] did.
pub(super) async fn set_again(
    kind: Kind,
    interface: &str,
    dns: &Dns,
    everything: bool,
) -> Result<(), SystemError> {
    set(kind, interface, dns, everything).await?;
    if kind == Kind::Resolvconf && !is_set(kind, interface, dns).await {
        // openresolv leaves a file alone that isn't its own, unless it is told otherwise.
        let update = program::run("resolvconf", &["-u"], "").await;
        update.map_err(SystemError::Resolver)?;
    }
    if is_set(kind, interface, dns).await {
        Ok(())
    } else {
        Err(SystemError::Resolver(
            "somebody else writes /etc/resolv.conf".into(),
        ))
    }
}

/// Takes it back. What is gone already, with the interface perhaps, is no matter.
pub(super) async fn unset(kind: Kind, interface: &str) {
    let outcome = match kind {
        Kind::Resolvectl if super::interface::index(interface).is_none() => return,
        Kind::Resolvectl => program::run("resolvectl", &["revert", interface], "").await,
        Kind::Resolvconf => {
            let name = resolvconf_name(interface);
            program::run("resolvconf", &["-d", &name, "-f"], "").await
        }
    };
    if let Err(reason) = outcome {
        warn!("the resolver may still ask inside the tunnel: {reason}");
    }
}

async fn by_resolvectl(interface: &str, dns: &Dns, everything: bool) -> Result<(), String> {
    let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    let mut words = vec!["dns", interface];
    words.extend(servers.iter().map(String::as_str));
    program::run("resolvectl", &words, "").await?;
    let mut words = vec!["domain", interface];
    words.extend(dns.search.iter().map(String::as_str));
    // `~.` means: whatever no other interface has a better claim to.
    if everything || dns.search.is_empty() {
        words.push("~.");
    }
    program::run("resolvectl", &words, "").await?;
    Ok(())
}

async fn by_resolvconf(interface: &str, dns: &Dns) -> Result<(), String> {
    let mut text = String::new();
    for server in &dns.servers {
        // Writing to a String can't fail.
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.search.is_empty() {
        let _ = writeln!(text, "search {}", dns.search.join(" "));
    }
    let name = resolvconf_name(interface);
    // Metric 0 and exclusive: others' name servers may be nobody's business.
    program::run("resolvconf", &["-a", &name, "-m", "0", "-x"], &text).await?;
    Ok(())
}

fn resolvconf_name(interface: &str) -> String {
    let ordered = std::fs::read_to_string(INTERFACE_ORDER)
        .is_ok_and(|order| order.lines().any(|line| line.trim() == "tun*"));
    if ordered {
        format!("tun.{interface}")
    } else {
        interface.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_name_servers_nobody_is_told() {
        assert_eq!(choose(&Dns::default()).unwrap(), None);
    }

    #[test]
    fn a_host_with_neither_is_told_what_to_install() {
        let text = SystemError::NoResolver.to_string();
        assert!(
            text.contains("resolvectl") && text.contains("openresolv"),
            "{text}"
        );
    }
}
