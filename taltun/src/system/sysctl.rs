//! Kernel settings under `/proc/sys/net`: which ones a tunnel wants, and what they were.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, io};

use ipnet::IpNet;

use super::SystemError;
use super::journal::FOUND_SO;
use crate::config::Config;

/// Settings by name, as `sysctl` writes them with slashes: `net/ipv4/ip_forward`.
pub(super) type Settings = BTreeMap<String, String>;

/// What `config` wants, be it so already or not. `marked` is whether routing asks for the mark on our
/// datagrams.
pub(super) fn wanted(config: &Config, marked: bool) -> Settings {
    let mut wanted = Settings::new();
    let has = |v6| {
        let vip: &[IpNet] = &config.interface.vip;
        vip.iter().any(|vip| vip.addr().is_ipv6() == v6)
    };
    if config.host.ip_forward && has(false) {
        wanted.insert("net/ipv4/ip_forward".into(), "1".into());
    }
    if config.host.ip_forward && has(true) && read("net/ipv6/conf/all/forwarding").is_ok() {
        // A router believes no other router, unless it is told to: without this a host that
        // has its default route from an advertisement would lose it.
        for link in links("net/ipv6/conf") {
            let name = format!("net/ipv6/conf/{link}/accept_ra");
            if read(&name).is_ok_and(|value| value == "1") {
                wanted.insert(name, "2".into());
            }
        }
        wanted.insert("net/ipv6/conf/all/forwarding".into(), "1".into());
    }
    if marked {
        // Where reverse paths are checked strictly, answers to our datagrams come from where
        // only marked packets go.
        wanted.insert("net/ipv4/conf/all/src_valid_mark".into(), "1".into());
    }
    wanted
}

/// What to put back after `wanted` was set: what the settings are now, [`FOUND_SO`] for those
/// that are so already. One that this kernel lacks is left out.
pub(super) fn before(wanted: &Settings) -> Settings {
    wanted
        .iter()
        .filter_map(|(name, value)| {
            let now = read(name).ok()?;
            let before = if now == *value { FOUND_SO.into() } else { now };
            Some((name.clone(), before))
        })
        .collect()
}

/// Sets those of `wanted` that `before` says aren't so.
pub(super) fn set(wanted: &Settings, before: &Settings) -> Result<(), SystemError> {
    for (name, value) in wanted {
        if before.get(name).is_none_or(|before| before == FOUND_SO) {
            continue;
        }
        fs::write(path(name), value).map_err(|source| SystemError::Refused {
            action: format!("set {} to {value}", name.replace('/', ".")),
            source,
        })?;
    }
    Ok(())
}

/// Puts them back; a setting that has gone, with its interface perhaps, is no matter.
pub(super) fn restore(settings: &Settings) {
    // The other way round, so that those of single interfaces have the last word.
    for (name, value) in settings.iter().rev() {
        if value == FOUND_SO {
            continue;
        }
        match fs::write(path(name), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(
                    "cannot set {} back to {value}: {error}",
                    name.replace('/', ".")
                );
            }
            _ => {}
        }
    }
}

fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim().to_owned())
}

/// The interfaces that have settings in `directory`, and `default`, which later ones get.
fn links(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(path(directory))
        .into_iter()
        .flatten()
        .flatten();
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
