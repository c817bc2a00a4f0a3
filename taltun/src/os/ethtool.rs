//! Settings of interfaces by the ethtool ioctl, which every kernel has.

use std::{io, ptr};

use super::interface;
use crate::verbs::{self, Verb};

const ETHTOOL_GET_DRIVER: u32 = 0x03;
const ETHTOOL_SET_GRO: u32 = 0x2c;
/// The driver of both ends of a veth.
const VETH: &[u8] = b"veth\0";

/// Marks what ethtool commands read and write.
///
/// # Safety
/// It starts with the number of a command, and is what that command reads and writes.
pub(crate) unsafe trait Command {}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
pub(crate) struct Value {
    pub(crate) command: u32,
    pub(crate) data: u32,
}

// SAFETY: made with commands that take or give one number only.
unsafe impl Command for Value {}

/// `struct ethtool_drvinfo` of linux/ethtool.h.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    others: [u8; 4 * 32 + 12],
    counts: [u32; 5],
}

// SAFETY: made with the command that asks for the driver only.
unsafe impl Command for Driver {}

/// Runs an ethtool command; what it gives.
///
/// # Errors
/// `ENODEV` where there is no such interface, `EOPNOTSUPP` where its driver doesn't do that.
pub(crate) fn ask<T: Command>(name: &str, mut value: T) -> io::Result<T> {
    let mut request = interface::request(name)?;
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();
    // SAFETY: SIOCETHTOOL reads and writes what the command says behind ifru_data, which
    // points at just that, until after the call.
    unsafe { interface::ask(interface::socket()?, libc::SIOCETHTOOL as _, &mut request)? };
    Ok(value)
}

/// Switches GRO of a veth on or off.
///
/// # Errors
/// As [`ask`]'s; `EPERM` for any other kind of interface, and without `CAP_NET_ADMIN`.
pub(crate) fn switch_gro(interface: u32, on: bool) -> io::Result<()> {
    let by_ourselves = || switch_gro_of_veth(interface, on).map(|()| Vec::new());
    verbs::open(Verb::Gro { interface, on }, &[], by_ourselves).map(drop)
}

fn switch_gro_of_veth(interface: u32, on: bool) -> io::Result<()> {
    let name = interface::name(interface);
    let name = name.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let driver = Driver {
        command: ETHTOOL_GET_DRIVER,
        name: [0; 32],
        others: [0; 4 * 32 + 12],
        counts: [0; 5],
    };
    if !ask(&name, driver)?.name.starts_with(VETH) {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let value = Value {
        command: ETHTOOL_SET_GRO,
        data: on.into(),
    };
    ask(&name, value).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_veth_has_its_gro_switched() {
        let loopback = interface::index("lo").unwrap();
        let refused = switch_gro(loopback, true).unwrap_err();
        // Kernels before 6.6 don't tell of a driver that doesn't itself.
        let errno = refused.raw_os_error().unwrap();
        assert!(
            [libc::EPERM, libc::EOPNOTSUPP].contains(&errno),
            "{refused}"
        );
        let refused = switch_gro(u32::MAX, true).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENODEV));
    }
}
