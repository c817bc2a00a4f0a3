//! The tunnel's interface as it is now: others may change its MTU at any time, and may move
//! it to another network namespace.
//!
//! It is polled, because the kernel sends no events to other namespaces; but a socket made in a
//! namespace keeps answering from there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use crate::os::interface;

/// The least MTU of a link with IPv6 (RFC 8200), bytes.
const IPV6_MIN_MTU: u32 = 1280;

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
            socket: interface::socket()?,
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
        let mtu = interface::mtu(&self.socket, name)?;
        Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
    }
}

/// Sets the MTU, bytes, of the interface `name` in the namespace of the calling thread.
pub fn set_mtu(name: &str, mtu: u16) -> io::Result<()> {
    interface::set_mtu(interface::socket()?, name, mtu.into())
}

/// Keeps the kernel from sending multicast into the tunnel: reports of the groups that it joins
/// where IPv6 is forwarded, again and again, from `::`, so that none can be answered. The kernel's
/// own WireGuard interfaces are without multicast as well.
///
/// For an interface that was just created. What was joined then is left by an MTU that is too
/// small for IPv6: with it, the kernel forgets all of IPv6 there.
pub fn without_multicast(name: &str) -> io::Result<()> {
    let socket = interface::socket()?;
    interface::clear_flags(&socket, name, libc::IFF_MULTICAST)?;
    let mtu = interface::mtu(&socket, name)?;
    interface::set_mtu(&socket, name, IPV6_MIN_MTU - 1)?;
    interface::set_mtu(&socket, name, mtu)
}

/// A socket made in another network namespace, by a thread that enters it for that.
fn socket_in(namespace: &File) -> io::Result<UnixDatagram> {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            // SAFETY: the descriptor is open, and what changes is this short-lived thread.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
                return Err(io::Error::last_os_error());
            }
            interface::socket()
        });
        made.join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
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
