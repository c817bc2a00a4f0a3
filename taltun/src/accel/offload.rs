//! Asks for settings of interfaces; switches GRO, and back.
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

/// The interface's MTU, bytes.
pub(super) fn mtu(interface: &str) -> io::Result<usize> {
    let mut request = request(interface)?;
    // SAFETY: SIOCGIFMTU reads and writes one ifreq, which `request` is.
    unsafe { ask(libc::SIOCGIFMTU, &mut request)? };
    // SAFETY: the call has filled in this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The interface's link address.
pub(super) fn link_address(interface: &str) -> io::Result<[u8; 6]> {
    let mut request = request(interface)?;
    // SAFETY: SIOCGIFHWADDR reads and writes one ifreq, which `request` is.
    unsafe { ask(libc::SIOCGIFHWADDR, &mut request)? };
    // SAFETY: the call has filled in this member.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    let mut address = [0; 6];
    for (to, from) in address.iter_mut().zip(data) {
        *to = from.to_ne_bytes()[0];
    }
    Ok(address)
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
fn ethtool<T: Command>(interface: &str, mut value: T) -> io::Result<T> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();
    // SAFETY: SIOCETHTOOL reads and writes what the command says behind ifru_data, which
    // points at just that, until after the call.
    unsafe { ask(libc::SIOCETHTOOL, &mut request)? };
    Ok(value)
}

/// A request that names this interface.
fn request(interface: &str) -> io::Result<libc::ifreq> {
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
    Ok(request)
}

/// Hands a request to the kernel.
///
/// # Safety
/// The request must be what `what` reads and writes.
unsafe fn ask(what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // Any socket of this namespace will do.
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut *request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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
    fn loopback_has_an_mtu_and_one_queue() {
        assert_eq!(mtu("lo").unwrap(), 65_536);
        assert_eq!(receive_queues("lo").unwrap(), 1);
        assert_eq!(link_address("lo").unwrap(), [0; 6]);
        assert!(receive_queues("no-such-if").is_err());
    }

    #[test]
    fn loopback_has_gro_on() {
        assert!(Gro::switch_on("lo").unwrap().is_none());
    }
}
