//! Checks before a tunnel starts, while nothing on the host has changed yet.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::SystemError;
use crate::config::Config;
use crate::dataplane::tun;
use crate::os::interface;

/// The bit of `CAP_NET_ADMIN` in a set of capabilities (`linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;

/// Checks that we may set up the network, that there are TUN devices, and that the name of
/// ours is free. Changes nothing.
pub fn check(config: &Config) -> Result<(), SystemError> {
    if !may_administer() {
        return Err(SystemError::NotPermitted);
    }
    open_tun(Path::new(tun::DEVICE))?;
    let name = &config.interface.tun_name;
    if interface::index(name).is_some() {
        return Err(SystemError::InterfaceExists(name.clone()));
    }
    Ok(())
}

/// Whether `CAP_NET_ADMIN` is in force. Where the kernel doesn't say, believe that it is:
/// the attempt will tell.
pub(super) fn may_administer() -> bool {
    std::fs::read_to_string("/proc/thread-self/status")
        .ok()
        .and_then(|status| effective_capabilities(&status))
        .is_none_or(|capabilities| capabilities >> CAP_NET_ADMIN & 1 == 1)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn open_tun(path: &Path) -> Result<(), SystemError> {
    // Opening alone creates no interface.
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(error)),
    }
}

fn explain(error: io::Error) -> SystemError {
    // A node without a driver behind it is as good as none.
    let no_driver = matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO));
    if no_driver || error.kind() == io::ErrorKind::NotFound {
        SystemError::NoTun
    } else {
        SystemError::TunRefused(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        let status = "Name:\ttaltun\nCapPrm:\t0000000000000000\nCapEff:\t0000000000001000\n";
        assert_eq!(effective_capabilities(status), Some(1 << CAP_NET_ADMIN));
        assert_eq!(effective_capabilities("Name:\ttaltun\n"), None);
        assert_eq!(effective_capabilities("CapEff:\tnonsense\n"), None);
    }

    #[test]
    fn a_missing_tun_device_says_how_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = open_tun(&dir.path().join("tun")).unwrap_err();
        assert!(matches!(error, SystemError::NoTun));
        assert!(error.to_string().contains("modprobe tun"));
        let error = explain(io::Error::from_raw_os_error(libc::ENODEV));
        assert!(matches!(error, SystemError::NoTun));
        let error = explain(io::Error::from_raw_os_error(libc::EPERM));
        assert!(matches!(error, SystemError::TunRefused(_)));
    }
}
