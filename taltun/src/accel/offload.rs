//! Switches GRO, and back.
//!
//! A veth merges nothing by itself, since its peer hands it large packets already; but an
//! XDP program in driver mode makes the peer cut them up, and then merging has to be asked
//! for. It is switched back when the program goes; only after SIGKILL it stays on, where
//! it does no harm. Through the ethtool ioctl, the only way that every kernel has.

use std::ffi::c_char;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

const ETHTOOL_GET_GRO: u32 = 0x2b;
const ETHTOOL_SET_GRO: u32 = 0x2c;

/// GRO that was off and is on as long as this lives.
#[derive(Debug)]
pub(super) struct Gro {
    interface: String,
}

impl Gro {
    /// Switches it on; `None` if it was on already.
    pub(super) fn switch_on(interface: &str) -> io::Result<Option<Self>> {
        if ethtool(interface, ETHTOOL_GET_GRO, 0)? != 0 {
            return Ok(None);
        }
        ethtool(interface, ETHTOOL_SET_GRO, 1)?;
        Ok(Some(Self {
            interface: interface.into(),
        }))
    }
}

impl Drop for Gro {
    fn drop(&mut self) {
        if let Err(error) = ethtool(&self.interface, ETHTOOL_SET_GRO, 0) {
            // Most likely the interface is gone, and its GRO with it.
            tracing::debug!(interface = self.interface, %error, "GRO stays on");
        }
    }
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Runs an ethtool command that takes or gives one number; what it gives.
fn ethtool(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    // SAFETY: all zeroes is a valid ifreq: it holds integers, bytes and null pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero and ends the name.
    let room = request.ifr_name.len() - 1;
    if interface.len() > room {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();

    // Any socket of this namespace will do.
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: for these two commands, SIOCETHTOOL reads and writes one ethtool_value behind
    // ifru_data, which points at one that lives until after the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.data)
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
    fn loopback_has_gro_on() {
        assert!(Gro::switch_on("lo").unwrap().is_none());
    }
}
