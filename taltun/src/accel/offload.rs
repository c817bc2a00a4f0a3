//! Reads settings of interfaces; switches GRO on, and back.
//!
//! A veth merges nothing by itself, since its peer hands it large packets already. But an XDP
//! program in driver mode makes the peer segment them, and then GRO must be switched on. It is
//! switched back when the program goes; only after SIGKILL it stays on, which does no harm. By the
//! ethtool ioctl, which every kernel has.

use std::{io, ptr};

use crate::os::interface;

const ETHTOOL_GET_GRO: u32 = 0x2b;
const ETHTOOL_SET_GRO: u32 = 0x2c;
const ETHTOOL_GET_CHANNELS: u32 = 0x3c;

/// GRO that was off and is on as long as this lives.
#[derive(Debug)]
pub(super) struct Gro {
    interface: String,
}

impl Gro {
    /// Switches it on; `None` if it was on already.
    pub(super) fn switch_on(interface: &str) -> io::Result<Option<Self>> {
        let value = |command, data| Value { command, data };
        if ethtool(interface, value(ETHTOOL_GET_GRO, 0))?.data != 0 {
            return Ok(None);
        }
        ethtool(interface, value(ETHTOOL_SET_GRO, 1))?;
        Ok(Some(Self {
            interface: interface.into(),
        }))
    }
}

impl Drop for Gro {
    fn drop(&mut self) {
        let off = Value {
            command: ETHTOOL_SET_GRO,
            data: 0,
        };
        if let Err(error) = ethtool(&self.interface, off) {
            // Most likely the interface is gone, and its GRO with it.
            tracing::debug!(interface = self.interface, %error, "GRO stays on");
        }
    }
}

/// How many queues the interface receives on now. One whose driver doesn't say has one.
pub(super) fn receive_queues(interface: &str) -> io::Result<u32> {
    let request = Channels {
        command: ETHTOOL_GET_CHANNELS,
        ..Channels::default()
    };
    match ethtool(interface, request) {
        Ok(channels) => Ok((channels.receive + channels.combined).max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(error) => Err(error),
    }
}

/// Marks what ethtool commands read and write.
///
/// # Safety
/// It starts with the number of a command, and is what that command reads and writes.
unsafe trait Command {}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

// SAFETY: made with commands that take or give one number only.
unsafe impl Command for Value {}

/// `struct ethtool_channels` of linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    send: u32,
    other: u32,
    combined: u32,
}

// SAFETY: made with the command that asks for channels only.
unsafe impl Command for Channels {}

/// Runs an ethtool command; what it gives.
fn ethtool<T: Command>(name: &str, mut value: T) -> io::Result<T> {
    let mut request = interface::request(name)?;
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();
    // SAFETY: SIOCETHTOOL reads and writes what the command says behind ifru_data, which
    // points at just that, until after the call.
    unsafe { interface::ask(interface::socket()?, libc::SIOCETHTOOL as _, &mut request)? };
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(Gro::switch_on("no-such-if").is_err());
        assert!(Gro::switch_on("longer-than-any-name").is_err());
    }

    #[test]
    fn loopback_has_one_queue() {
        assert_eq!(receive_queues("lo").unwrap(), 1);
        assert!(receive_queues("no-such-if").is_err());
    }

    #[test]
    fn loopback_has_gro_on() {
        assert!(Gro::switch_on("lo").unwrap().is_none());
    }
}
