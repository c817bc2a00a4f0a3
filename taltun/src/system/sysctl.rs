//! Kernel settings under `/proc/sys/net`: which ones a tunnel wants, and what they were.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, io};

use super::reserved_ports::{self, LIST, Reservation};
use super::{SystemError, hop_ports};
use crate::config::{Config, Forward};

/// In a journal: a setting that was wanted and already so. It is not touched, but whoever
/// made it so leaves it to us.
pub(super) const FOUND_SO: &str = "";

/// Settings by name, as `sysctl` writes them with slashes: `net/ipv4/ip_forward`.
pub(super) type Settings = BTreeMap<String, String>;

/// Whether the host passes IPv4 packets on.
const FORWARD_V4: &str = "net/ipv4/ip_forward";
/// The same for IPv6.
const FORWARD_V6: &str = "net/ipv6/conf/all/forwarding";
/// Whether the mark counts where reverse paths are checked.
const VALID_MARK: &str = "net/ipv4/conf/all/src_valid_mark";
/// Whether the host tells senders of a shorter way, on any of its interfaces: an interface has to say
/// no itself, besides.
const REDIRECTS: &str = "net/ipv4/conf/all/send_redirects";
/// Where interfaces have their IPv6 settings.
const LINKS_V6: &str = "net/ipv6/conf";

/// What `config` wants, be it so already or not. `marked` is whether routing asks for the mark on our
/// datagrams.
pub(super) fn wanted(config: &Config, marked: bool) -> Settings {
    let mut wanted = forwarding(config);
    if marked {
        // Where reverse paths are checked strictly, answers to our datagrams come from where
        // only marked packets go.
        wanted.insert(VALID_MARK.into(), "1".into());
    }
    if let Some(ports) = reserved(config)
        && !ports.list.is_empty()
    {
        // No program of this host is to be given a port whose datagrams come to us.
        wanted.insert(LIST.into(), ports.list);
    }
    // Nobody needs this as much as a start: a container may have forwarding, and let nothing be set.
    if wanted.contains_key(FORWARD_V4) && (is(REDIRECTS, "0") || may_set(REDIRECTS)) {
        wanted.insert(REDIRECTS.into(), "0".into());
    }
    wanted
}

/// Lets the kernel tell no peer that there is a shorter way to another one: what it forwards from the
/// tunnel into the tunnel has none, as no peer reaches another but by us. Takes [`wanted`]'s part of it, too.
pub(super) fn send_no_redirects(tun_name: &str) {
    let name = format!("net/ipv4/conf/{tun_name}/send_redirects");
    if let Err(error) = fs::write(path(&name), "0") {
        tracing::debug!("cannot set {} to 0: {error}", dotted(&name));
    }
}

/// Whether this host passes packets on, by `config` or by others.
pub fn passes_on(config: &Config) -> bool {
    config.host.ip_forward
        || !config.forwards.is_empty()
        || [FORWARD_V4, FORWARD_V6].iter().any(|name| is(name, "1"))
}

/// A family of which this host passes nothing on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unforwarded {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// The setting that is 0, as `sysctl` names it.
    pub setting: String,
}

/// The families of the tunnel of which this host passes nothing on that comes out of it, and of which
/// `config` doesn't want it to.
pub fn unforwarded(config: &Config) -> Vec<Unforwarded> {
    let interface = &config.interface;
    // An interface of IPv4 has a setting of its own, which counts; before it is there, that of all.
    let own = format!("net/ipv4/conf/{}/forwarding", interface.tun_name);
    let v4 = if read(&own).is_ok() {
        own.as_str()
    } else {
        FORWARD_V4
    };
    let families = [("IPv4", false, v4), ("IPv6", true, FORWARD_V6)];
    let is_off = |(family, v6, name): &(&'static str, bool, &str)| {
        let mut vip = interface.vip.iter();
        let has_vip = vip.any(|vip| vip.addr().is_ipv6() == *v6);
        let wanted = config.host.ip_forward && has_vip;
        let is_off = has_vip && !wanted && read(name).is_ok_and(|value| value == "0");
        is_off.then(|| Unforwarded {
            family,
            setting: dotted(name),
        })
    };
    families.iter().filter_map(is_off).collect()
}

/// Those that have this host pass packets on, as `config` wants it: for all of its networks, or for
/// ports that lead to peers.
pub(super) fn forwarding(config: &Config) -> Settings {
    let mut wanted = Settings::new();
    let passes_on = |v6| {
        let mut vip = config.interface.vip.iter();
        let has_vip = vip.any(|vip| vip.addr().is_ipv6() == v6);
        let leads = |forward: &Forward| forward.address(v6).is_some();
        config.host.ip_forward && has_vip || config.forwards.iter().any(leads)
    };
    if passes_on(false) {
        wanted.insert(FORWARD_V4.into(), "1".into());
    }
    if passes_on(true)
        && let Ok(now) = read(FORWARD_V6)
    {
        // A router believes no other router, unless it is told to: without this a host that
        // has its default route from an advertisement would lose it. One that is a router
        // already has its own reasons.
        let links = if now == "1" { Vec::new() } else { links() };
        for link in links {
            let name = format!("net/ipv6/conf/{link}/accept_ra");
            if link != config.interface.tun_name && read(&name).is_ok_and(|value| value == "1") {
                wanted.insert(name, "2".into());
            }
        }
        wanted.insert(FORWARD_V6.into(), "1".into());
    }
    wanted
}

/// What is to become of the ports of the range that `config` wants; `None` where the kernel gives none of
/// them to programs.
pub fn reserved(config: &Config) -> Option<Reservation> {
    hop_ports(config).and_then(|ports| reserved_ports::wanted(&ports, read))
}

/// What to put back after `wanted` was set: what the settings are now, [`FOUND_SO`] for those
/// that are so already; of a list, what it lacks, to be taken out again. One that this kernel lacks is left out.
pub(super) fn before(wanted: &Settings) -> Settings {
    wanted
        .iter()
        .filter_map(|(name, value)| {
            let now = read(name).ok()?;
            let before = if name == LIST {
                reserved_ports::missing(value, &now)
            } else if now == *value {
                FOUND_SO.into()
            } else {
                now
            };
            Some((name.clone(), before))
        })
        .collect()
}

/// Those of `wanted` that aren't so now. One that has gone, with its interface perhaps, isn't
/// among them.
pub(super) fn differing(wanted: &Settings) -> Settings {
    let differs = |(name, value): &(&String, &String)| {
        read(name).is_ok_and(|now| {
            if *name == LIST {
                !reserved_ports::missing(value, &now).is_empty()
            } else {
                now != **value
            }
        })
    };
    let differing = wanted.iter().filter(differs);
    differing
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Sets those of `wanted` that `before` says aren't so. The error names all that can't be set.
pub(super) fn set(wanted: &Settings, before: &Settings) -> Result<(), SystemError> {
    let differs = |name: &String| before.get(name).is_some_and(|before| before != FOUND_SO);
    let mut refused: Option<(Vec<String>, io::Error)> = None;
    for (name, value) in in_order(wanted).filter(|(name, _)| differs(name)) {
        let mut value = value.clone();
        if name == LIST {
            value = reserved_ports::both(&value, &read(name).unwrap_or_default());
        }
        if let Err(reason) = fs::write(path(name), &value) {
            let text = format!("{}={value}", dotted(name));
            refused
                .get_or_insert_with(|| (Vec::new(), reason))
                .0
                .push(text);
        }
    }
    let Some((settings, reason)) = refused else {
        return Ok(());
    };
    let options: Vec<String> = settings
        .iter()
        .map(|setting| format!("`--sysctl {setting}`"))
        .collect();
    Err(SystemError::Settings {
        settings: settings.join(" "),
        reason,
        options: options.join(" "),
    })
}

/// What a tunnel with policy rules sets, as far as it is so now, as `sysctl` writes it.
pub(super) fn told_by_rules() -> Vec<String> {
    let is_set = is(VALID_MARK, "1");
    let text = || format!("{} = 1", dotted(VALID_MARK));
    is_set.then(text).into_iter().collect()
}

/// Puts them back; a setting that has gone, with its interface perhaps, is no matter.
///
/// Forwarding stays on, and with it what lets a router believe other routers: since then
/// containers, virtual machines or another VPN may have come to rely on it, and nobody can tell.
pub(super) fn restore(settings: &Settings) {
    let changed = settings.iter().filter(|setting| is_changed(*setting, read));
    let (stay, go): (Vec<_>, Vec<_>) = changed.partition(|(name, _)| stays(name));
    // The other way round, so that those of single interfaces have the last word.
    for (name, value) in go.into_iter().rev() {
        let mut value = value.clone();
        if name == LIST {
            let Ok(now) = read(name) else { continue };
            value = reserved_ports::missing(&now, &value);
        }
        // The kernel takes a list that is empty only with its end of line.
        match fs::write(path(name), format!("{value}\n")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot set {} back to {value}: {error}", dotted(name));
            }
            _ => {}
        }
    }
    for (name, value) in stay {
        if is_forwarding(name) && read(name).is_ok_and(|now| now == "1") {
            let name = dotted(name);
            tracing::info!(
                "{name} stays 1, as others may rely on it by now; `sysctl -w {name}={value}` \
                 switches it off"
            );
        }
    }
}

/// Whether [`restore`] changes any of these.
pub(super) fn puts_back(settings: &Settings) -> bool {
    let mut changed = settings.iter().filter(|setting| is_changed(*setting, read));
    changed.any(|(name, _)| !stays(name))
}

/// Whether a setting isn't what it was before. A start that failed before it came to the settings
/// has changed none of those that its journal names.
fn is_changed(
    (name, before): (&String, &String),
    now: impl Fn(&str) -> io::Result<String>,
) -> bool {
    if name == LIST {
        return now(name).is_ok_and(|now| reserved_ports::meet(&now, before));
    }
    before != FOUND_SO && !now(name).is_ok_and(|now| now == *before)
}

/// Forwarding comes last: it is what makes a host forget the routes it was told by other
/// routers, where it hasn't been told before to go on believing them.
fn in_order(settings: &Settings) -> impl Iterator<Item = (&String, &String)> {
    let all = || settings.iter();
    all()
        .filter(|(name, _)| !is_forwarding(name))
        .chain(all().filter(|(name, _)| is_forwarding(name)))
}

fn stays(name: &str) -> bool {
    is_forwarding(name) || name.ends_with("/accept_ra")
}

/// Whether a setting lets the host pass packets on.
pub(super) fn is_forwarding(name: &str) -> bool {
    name == FORWARD_V4 || name == FORWARD_V6
}

/// A name as `sysctl` takes it: dots between its parts, and a slash where an interface's name
/// has a dot.
fn dotted(name: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// Switches IPv6 on for our own interface where it is switched off for new ones only: what
/// other interfaces have would go around the tunnel.
pub(super) fn allow_ipv6(tun_name: &str) {
    let setting = |link: &str| format!("{LINKS_V6}/{link}/disable_ipv6");
    let has = |link: &str, value| is(&setting(link), value);
    let elsewhere = links()
        .iter()
        .any(|link| !matches!(&**link, "lo" | "default") && link != tun_name && has(link, "0"));
    if !has(tun_name, "1") || !elsewhere {
        return;
    }
    match fs::write(path(&setting(tun_name)), "0") {
        Ok(()) => tracing::warn!(
            "IPv6 is switched off for new interfaces, and other interfaces have it: it is \
             switched on for {tun_name}"
        ),
        Err(error) => tracing::warn!("cannot switch IPv6 on for {tun_name}: {error}"),
    }
}

fn is(name: &str, value: &str) -> bool {
    read(name).is_ok_and(|now| now == value)
}

/// Whether a setting could be set, which opening it doesn't do.
fn may_set(name: &str) -> bool {
    let mut file = fs::OpenOptions::new();
    file.write(true).open(path(name)).is_ok()
}

fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim().to_owned())
}

/// The interfaces that have IPv6 settings, and `default`, which later ones get.
fn links() -> Vec<String> {
    let entries = fs::read_dir(path(LINKS_V6)).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != "all")
        .collect()
}

/// Names that a journal holds can't lead out of the kernel's settings.
fn path(name: &str) -> PathBuf {
    let safe = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."));
    std::iter::once("/proc/sys").chain(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_told_to_believe_routers_before_the_host_becomes_one() {
        let settings = [
            "net/ipv6/conf/all/forwarding",
            "net/ipv6/conf/eth0/accept_ra",
        ];
        let settings: Settings = settings.map(|name| (name.into(), "2".into())).into();
        let order: Vec<&String> = in_order(&settings).map(|(name, _)| name).collect();
        assert_eq!(
            order,
            [
                "net/ipv6/conf/eth0/accept_ra",
                "net/ipv6/conf/all/forwarding"
            ]
        );
    }

    #[test]
    fn what_was_never_set_is_not_to_be_put_back() {
        let name = FORWARD_V4.to_owned();
        let now = |value: &'static str| move |_: &str| Ok(value.to_owned());
        assert!(is_changed((&name, &"0".into()), now("1")));
        assert!(!is_changed((&name, &"0".into()), now("0")));
        assert!(!is_changed((&name, &FOUND_SO.into()), now("1")));
        // What can't be read is tried.
        let denied = |_: &str| Err(io::ErrorKind::PermissionDenied.into());
        assert!(is_changed((&name, &"0".into()), denied));
    }

    #[test]
    fn names_are_said_as_sysctl_takes_them() {
        assert_eq!(dotted(FORWARD_V4), "net.ipv4.ip_forward");
        assert_eq!(
            dotted("net/ipv6/conf/eth0.7/accept_ra"),
            "net.ipv6.conf.eth0/7.accept_ra"
        );
    }

    #[test]
    fn a_name_stays_below_the_settings() {
        assert_eq!(
            path("net/ipv4/ip_forward"),
            PathBuf::from("/proc/sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            path("../../etc/passwd"),
            PathBuf::from("/proc/sys/etc/passwd")
        );
    }
}
