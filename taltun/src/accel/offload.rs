//! Reads settings of interfaces; switches GRO on, and back.
//!
//! A veth merges nothing by itself, since its peer hands it large packets already. But an XDP
//! program in driver mode makes the peer segment them, and then GRO must be switched on. It is
//! switched back when the program goes; only after an end out of order it stays on, which does no harm.

use std::io;

use crate::os::ethtool::{self, Command, Value};

const ETHTOOL_GET_GRO: u32 = 0x2b;
const ETHTOOL_GET_CHANNELS: u32 = 0x3c;

/// GRO that was off and is on as long as this lives.
#[derive(Debug)]
pub(super) struct Gro {
    interface: u32,
}

impl Gro {
    /// Switches it on at the veth of this name and number; `None` if it was on already.
    pub(super) fn switch_on(name: &str, interface: u32) -> io::Result<Option<Self>> {
        let value = Value {
            command: ETHTOOL_GET_GRO,
            data: 0,
        };
        if ethtool::ask(name, value)?.data != 0 {
            return Ok(None);
        }
        ethtool::switch_gro(interface, true)?;
        Ok(Some(Self { interface }))
    }
}

impl Drop for Gro {
    fn drop(&mut self) {
        if let Err(error) = ethtool::switch_gro(self.interface, false) {
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
    match ethtool::ask(interface, request) {
        Ok(channels) => Ok((channels.receive + channels.combined).max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(error) => Err(error),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(Gro::switch_on("no-such-if", 1).is_err());
        assert!(Gro::switch_on("longer-than-any-name", 1).is_err());
    }

    #[test]
    fn loopback_has_one_queue() {
        assert_eq!(receive_queues("lo").unwrap(), 1);
        assert!(receive_queues("no-such-if").is_err());
    }

    #[test]
    fn loopback_has_gro_on() {
        assert!(Gro::switch_on("lo", 1).unwrap().is_none());
    }
}
