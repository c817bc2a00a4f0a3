//! The resolver's settings while the tunnel is up, by systemd-resolved's `resolvectl` or by
//! `resolvconf`, whichever this host has.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::resolver::{self, Resolution};
use super::{SystemError, program};
use crate::config::Dns;

/// Who tells the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ResolverTool {
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
pub(super) fn choose(dns: &Dns) -> Result<Option<ResolverTool>, SystemError> {
    if dns.servers.is_empty() {
        return Ok(None);
    }
    let tools = Tools {
        resolved: Path::new(RESOLVED).is_dir() && program::find("resolvectl").is_some(),
        resolvconf: program::find("resolvconf").is_some_and(|path| !is_resolvectl(&path)),
    };
    let host = Resolution::of_host();
    let Some(kind) = suitable(tools, &host) else {
        return Err(if host.mounted {
            SystemError::ResolverMounted(options(dns))
        } else {
            SystemError::NoResolver
        });
    };
    if kind == ResolverTool::Resolvectl && !host.is_resolved() {
        let servers = host.servers.join(", ");
        let remedy = if host.mounted {
            format!(
                "it is mounted from outside: give the container {} instead",
                options(dns)
            )
        } else {
            "let it be systemd-resolved's: \
             `ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf`"
                .to_owned()
        };
        warn!(
            "interface.dns may have no effect: systemd-resolved runs, but programs ask whom \
             /etc/resolv.conf names ({servers}); {remedy}"
        );
    }
    Ok(Some(kind))
}

/// What there is to tell the resolver by.
#[derive(Debug, Clone, Copy)]
struct Tools {
    /// systemd-resolved runs, and there is `resolvectl`.
    resolved: bool,
    /// There is `resolvconf`, and it isn't `resolvectl` by another name.
    resolvconf: bool,
}

/// Who is asked on this host decides whom to tell.
fn suitable(tools: Tools, host: &Resolution) -> Option<ResolverTool> {
    match (tools.resolved, tools.resolvconf) {
        (true, true) if host.is_resolved() || host.list => Some(ResolverTool::Resolvectl),
        (_, true) => Some(ResolverTool::Resolvconf),
        (true, false) => Some(ResolverTool::Resolvectl),
        (false, false) => None,
    }
}

/// systemd has a `resolvconf` that is `resolvectl`.
fn is_resolvectl(path: &Path) -> bool {
    path.canonicalize()
        .is_ok_and(|path| path.file_name().is_some_and(|name| name == "resolvectl"))
}

/// The options of a container that set these name servers.
fn options(dns: &Dns) -> String {
    let options: Vec<String> = dns
        .servers
        .iter()
        .map(|server| format!("`--dns {server}`"))
        .collect();
    options.join(" ")
}

/// Lets the resolver ask `dns`, and nobody else where `everything` goes into the tunnel.
pub(super) async fn set(
    kind: ResolverTool,
    interface: &str,
    dns: &Dns,
    everything: bool,
) -> Result<(), SystemError> {
    let outcome = match kind {
        ResolverTool::Resolvectl => by_resolvectl(interface, dns, everything).await,
        ResolverTool::Resolvconf => by_resolvconf(interface, dns).await,
    };
    outcome.map_err(|reason| {
        if kind == ResolverTool::Resolvconf && Resolution::of_host().mounted {
            let options = options(dns);
            SystemError::Resolver(format!(
                "{reason}; /etc/resolv.conf is mounted from outside: give the container {options} \
                 instead, and leave out interface.dns"
            ))
        } else {
            SystemError::Resolver(reason)
        }
    })?;
    if kind == ResolverTool::Resolvconf {
        let asked = Resolution::of_host().servers;
        let ours = |server: &String| {
            dns.servers.iter().any(|ours| ours.to_string() == *server)
                // A resolver of this machine's, which resolvconf tells as well.
                || server.starts_with("127.")
                || server == "::1"
        };
        if !asked.iter().any(ours) {
            warn!(
                "interface.dns may have no effect: resolvconf took it, but /etc/resolv.conf still \
                 names {}; is that file written by something else?",
                asked.join(", ")
            );
        }
    }
    Ok(())
}

/// What can be seen of the resolver's name servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Shown {
    /// Not whether it asks ours, as where a resolver of this machine's stands between.
    #[default]
    Nothing,
    /// Ours come first, and others that it kept behind them.
    OursFirst,
    /// Ours and no others.
    OursAlone,
}

/// What is seen right after [`set`]: as much has to stay so.
pub(super) async fn shown(
    kind: ResolverTool,
    interface: &str,
    dns: &Dns,
    everything: bool,
) -> Shown {
    for shown in [Shown::OursAlone, Shown::OursFirst] {
        if is_set(kind, interface, dns, everything, shown).await {
            return shown;
        }
    }
    match kind {
        // It can always tell, so somebody was quicker.
        ResolverTool::Resolvectl => Shown::OursFirst,
        ResolverTool::Resolvconf => Shown::Nothing,
    }
}

/// Whether the resolver asks `dns`, as far as can be seen: no name server comes before ours, and
/// none after them where there was none.
pub(super) async fn is_set(
    kind: ResolverTool,
    interface: &str,
    dns: &Dns,
    everything: bool,
    shown: Shown,
) -> bool {
    let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    match kind {
        ResolverTool::Resolvectl => {
            let told = told_by_resolvectl("dns", interface).await;
            let of = told_by_resolvectl("domain", interface).await;
            let domains = domains(dns, everything);
            match shown {
                Shown::OursAlone => told == servers && of == domains,
                _ => {
                    servers.iter().all(|server| told.contains(server))
                        && domains.iter().all(|domain| of.contains(domain))
                }
            }
        }
        ResolverTool::Resolvconf => {
            let text = resolver::resolv_conf();
            let named = resolver::servers_of(&text);
            match shown {
                Shown::Nothing => true,
                Shown::OursFirst => {
                    named.len() >= servers.len() && named[..servers.len()] == servers
                }
                Shown::OursAlone => named == servers,
            }
        }
    }
}

/// What systemd-resolved has of an interface: `Link 7 (taltun0): 10.8.0.1`.
async fn told_by_resolvectl(what: &str, interface: &str) -> Vec<String> {
    let told = program::run("resolvectl", &[what, interface], "").await;
    let told = told.unwrap_or_default();
    let listed = told.split_once("):").map_or("", |(_, listed)| listed);
    listed.split_whitespace().map(str::to_owned).collect()
}

/// What is asked of our name servers: `~.` is whatever no other interface has a better claim to.
fn domains(dns: &Dns, everything: bool) -> Vec<String> {
    let mut domains = dns.search.clone();
    if everything || domains.is_empty() {
        domains.push("~.".to_owned());
    }
    domains
}

/// Sets it where somebody else has changed what [`set`] did.
pub(super) async fn set_again(
    kind: ResolverTool,
    interface: &str,
    dns: &Dns,
    everything: bool,
    shown: Shown,
) -> Result<(), SystemError> {
    set(kind, interface, dns, everything).await?;
    let is_set = || is_set(kind, interface, dns, everything, shown);
    if kind == ResolverTool::Resolvconf && !is_set().await {
        // openresolv leaves a file alone that isn't its own, unless it is told otherwise.
        let update = program::run("resolvconf", &["-u"], "").await;
        update.map_err(SystemError::Resolver)?;
    }
    if is_set().await {
        Ok(())
    } else {
        Err(SystemError::Resolver(
            "somebody else changes the resolver's name servers".into(),
        ))
    }
}

/// Takes it back. What is gone already, with the interface perhaps, is no matter.
pub(super) async fn unset(kind: ResolverTool, interface: &str) {
    let outcome = match kind {
        ResolverTool::Resolvectl if crate::os::interface::index(interface).is_none() => return,
        ResolverTool::Resolvectl => program::run("resolvectl", &["revert", interface], "").await,
        ResolverTool::Resolvconf => {
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
    let domains = domains(dns, everything);
    words.extend(domains.iter().map(String::as_str));
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
    fn whoever_answers_on_this_host_is_told() {
        let tools = |resolved, resolvconf| Tools {
            resolved,
            resolvconf,
        };
        let foreign = Resolution {
            servers: vec!["192.0.2.53".into()],
            ..Resolution::default()
        };
        let stub = Resolution {
            stub: true,
            ..Resolution::default()
        };
        assert_eq!(
            suitable(tools(true, true), &stub),
            Some(ResolverTool::Resolvectl)
        );
        assert_eq!(
            suitable(tools(true, true), &foreign),
            Some(ResolverTool::Resolvconf)
        );
        assert_eq!(
            suitable(tools(true, false), &foreign),
            Some(ResolverTool::Resolvectl)
        );
        assert_eq!(
            suitable(tools(false, true), &stub),
            Some(ResolverTool::Resolvconf)
        );
        assert_eq!(suitable(tools(false, false), &stub), None);
    }

    #[test]
    fn a_container_is_told_its_option() {
        let dns = Dns {
            servers: vec!["10.8.0.1".parse().unwrap()],
            ..Dns::default()
        };
        let text = SystemError::ResolverMounted(options(&dns)).to_string();
        assert!(text.contains("`--dns 10.8.0.1`"), "{text}");
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
