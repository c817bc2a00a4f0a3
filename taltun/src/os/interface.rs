//! Interfaces by name and by number, and their settings by `ioctl`, which every kernel has.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::check;

/// The number of the interface called `name` in the network namespace of the calling thread,
/// if there is one.
pub(crate) fn index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string that lives until after the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The name of the interface with this number in the network namespace of the calling thread,
/// if there is one.
pub(crate) fn name(index: u32) -> Option<String> {
    let mut buffer = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may write.
    let found = unsafe { libc::if_indextoname(index, buffer.as_mut_ptr().cast()) };
    let text = (!found.is_null())
        .then(|| CStr::from_bytes_until_nul(&buffer).ok())
        .flatten()?;
    Some(text.to_string_lossy().into_owned())
}

/// The same in words, or the number where it has gone meanwhile.
pub(crate) fn told(index: u32) -> String {
    name(index).unwrap_or_else(|| format!("interface number {index}"))
}

/// Whether no interface is called `name`, or none is any more within a second: that of a process
/// that was killed goes a moment later. Blocks meanwhile.
pub(crate) fn goes(name: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(1);
    while index(name).is_some() {
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

/// A socket to ask with; it answers for the network namespace of the thread that makes it.
///
/// # Errors
/// Where no more files can be open.
pub(crate) fn socket() -> io::Result<UnixDatagram> {
    UnixDatagram::unbound()
}

/// The interface's MTU, bytes.
///
/// # Errors
/// `ENODEV` where there is no such interface.
pub(crate) fn mtu(socket: impl AsFd, name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    // SAFETY: SIOCGIFMTU reads and writes one ifreq, which `request` is.
    unsafe { ask(socket, libc::SIOCGIFMTU as _, &mut request)? };
    // SAFETY: the call has filled in this member of the union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Sets the interface's MTU, bytes.
///
/// # Errors
/// `ENODEV` where there is no such interface, `EINVAL` where it can't have this MTU, `EPERM`
/// without `CAP_NET_ADMIN`.
pub(crate) fn set_mtu(socket: impl AsFd, name: &str, mtu: u32) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = libc::c_int::try_from(mtu).unwrap_or(libc::c_int::MAX);
    // SAFETY: SIOCSIFMTU reads one ifreq, which `request` is.
    unsafe { ask(socket, libc::SIOCSIFMTU as _, &mut request) }
}

/// Takes these flags (`IFF_…`) from the interface.
///
/// # Errors
/// As [`set_mtu`].
pub(crate) fn clear_flags(socket: impl AsFd, name: &str, flags: libc::c_int) -> io::Result<()> {
    let socket = socket.as_fd();
    let mut request = request(name)?;
    // SAFETY: SIOCGIFFLAGS reads and writes one ifreq, which `request` is.
    unsafe { ask(socket, libc::SIOCGIFFLAGS as _, &mut request)? };
    // SAFETY: the call has filled in this member of the union.
    let now = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = now & !(flags as libc::c_short);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which `request` is.
    unsafe { ask(socket, libc::SIOCSIFFLAGS as _, &mut request) }
}

/// A request that names this interface.
///
/// # Errors
/// `ENAMETOOLONG` for what can't be one's name.
pub(crate) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeroes are a valid ifreq: it holds integers, bytes and null pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero and ends the name.
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

/// Hands a request to the kernel. The numbers of such requests aren't of the same type in every C
/// library.
///
/// # Safety
/// The request must be what `what` reads and writes.
///
/// # Errors
/// What the kernel answers.
pub(crate) unsafe fn ask(
    fd: impl AsFd,
    what: libc::Ioctl,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: the caller's promise.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), what, &raw mut *request) }).map(drop)
}

/// The name that the kernel has written into a request.
pub(crate) fn named_in(request: &libc::ifreq) -> String {
    let name = request.ifr_name.map(|byte| byte.to_ne_bytes()[0]);
    let end = name.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_name_and_number_with_its_settings() {
        let number = index("lo").unwrap();
        assert_eq!(name(number).unwrap(), "lo");
        let socket = socket().unwrap();
        assert_eq!(mtu(&socket, "lo").unwrap(), 65_536);
        assert_eq!(named_in(&request("lo").unwrap()), "lo");
    }

    #[test]
    fn what_is_no_interface_is_an_error() {
        let socket = socket().unwrap();
        for name in ["no-such-if", "longer-than-any-name", "", "nul\0here"] {
            assert_eq!(index(name), None, "{name:?}");
            assert!(mtu(&socket, name).is_err(), "{name:?}");
            assert!(set_mtu(&socket, name, 1400).is_err(), "{name:?}");
        }
        assert_eq!(name(u32::MAX), None);
    }
}
