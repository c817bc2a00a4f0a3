//! The tunnel's interface as it is now: others may change its MTU at any time, and may move
//! it to another network namespace, where we don't live.
//!
//! It is asked rather than listened to: the kernel tells nobody outside of a namespace what
//! happens inside, while a socket made there keeps answering from there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

/// The least MTU of a link with IPv6 (RFC 8200), bytes.
const IPV6_MIN_MTU: libc::c_int = 1280;

/// Asks for an interface's MTU, wherever it is.
#[derive(Debug)]
pub struct LinkProbe {
    /// Any socket will do; it answers for the namespace it was made in.
    socket: UnixDatagram,
    /// Inode of that namespace, once it isn't the one we started in.
    namespace: Option<u64>,
}

impl LinkProbe {
    /// A probe in the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            socket: UnixDatagram::unbound()?,
            namespace: None,
        })
    }

    /// The MTU of the interface `name`, bytes. `namespace` is the network namespace it is
    /// in, where the kernel tells (from 5.6 on).
    pub fn mtu(&mut self, name: &str, namespace: Option<OwnedFd>) -> io::Result<u16> {
        if let Some(namespace) = namespace {
            let namespace = File::from(namespace);
            let inode = namespace.metadata()?.ino();
            if self.namespace != Some(inode) {
                self.socket = socket_in(&namespace)?;
                self.namespace = Some(inode);
            }
        }
        let mut request = request_for(name)?;
        ioctl(&self.socket, libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU has filled in this member of the union.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }
}

/// Sets the MTU, bytes, of the interface `name` in the namespace of the calling thread.
pub fn set_mtu(name: &str, mtu: u16) -> io::Result<()> {
    let mut request = request_for(name)?;
    request.ifr_ifru.ifru_mtu = i32::from(mtu);
    ioctl(&UnixDatagram::unbound()?, libc::SIOCSIFMTU, &mut request)
}

/// Keeps the kernel from sending multicast into the tunnel: reports of the groups that it joins
/// where IPv6 is forwarded, again and again, from `::`, so that none can be answered. The kernel's
/// own WireGuard interfaces are without multicast as well.
///
/// For an interface that was just created. What was joined then is left by an MTU that is too
/// small for IPv6: with it, the kernel forgets all of IPv6 there.
pub fn without_multicast(name: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let mut flags = request_for(name)?;
    ioctl(&socket, libc::SIOCGIFFLAGS, &mut flags)?;
    // SAFETY: SIOCGIFFLAGS has filled in this member of the union.
    let now = unsafe { flags.ifr_ifru.ifru_flags };
    let multicast = libc::IFF_MULTICAST as libc::c_short;
    flags.ifr_ifru.ifru_flags = now & !multicast;
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut flags)?;
    let mut mtu = request_for(name)?;
    ioctl(&socket, libc::SIOCGIFMTU, &mut mtu)?;
    let mut too_small = request_for(name)?;
    too_small.ifr_ifru.ifru_mtu = IPV6_MIN_MTU - 1;
    ioctl(&socket, libc::SIOCSIFMTU, &mut too_small)?;
    ioctl(&socket, libc::SIOCSIFMTU, &mut mtu)
}

/// A socket made in another network namespace, by a thread that enters it for that.
fn socket_in(namespace: &File) -> io::Result<UnixDatagram> {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            // SAFETY: the descriptor is open, and what changes is this short-lived thread.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
                return Err(io::Error::last_os_error());
            }
            UnixDatagram::unbound()
        });
        made.join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

fn request_for(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn ioctl(socket: &UnixDatagram, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the calls made with this read and write one ifreq, which `request` is.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mtu_is_told_here_and_by_way_of_a_namespace() {
        let mut probe = LinkProbe::new().unwrap();
        let here = probe.mtu("lo", None).unwrap();
        let namespace = File::open("/proc/thread-self/ns/net").unwrap();
        // Entering a namespace, even the own one, takes root.
        match probe.mtu("lo", Some(namespace.into())) {
            Ok(there) => assert_eq!(there, here),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert!(here > 0);
        assert!(probe.mtu("nosuchif", None).is_err());
        assert!(probe.mtu("much-too-long-a-name", None).is_err());
    }
}
