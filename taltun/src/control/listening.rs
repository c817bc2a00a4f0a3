//! Listening by TCP: on which interfaces, and what to do when it can't be.

use std::io;
use std::net::SocketAddr;

use crate::config::Interface;

/// The interfaces that are listened on for `address`; `None` for all. A vip is reached through the
/// tunnel and from this machine, and by no other interface: the kernel answers for it on all of
/// them.
pub(super) fn devices(address: SocketAddr, interface: &Interface) -> Vec<Option<&str>> {
    let ip = address.ip().to_canonical();
    if interface.vip.iter().any(|vip| vip.addr() == ip) {
        vec![Some(&interface.tun_name), Some("lo")]
    } else {
        vec![None]
    }
}

/// The end of the sentence `cannot listen on ADDRESS: REASON`; empty where there is no advice.
pub(super) fn advice(reason: &io::Error, address: SocketAddr) -> String {
    match reason.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "; `ss -ltnp sport = :{}` shows who does; stop that or choose another port",
            address.port()
        ),
        Some(libc::EACCES) => "; a port below 1024 needs root or CAP_NET_BIND_SERVICE, in a unit \
                               by AmbientCapabilities=; choose a higher one"
            .to_owned(),
        Some(libc::EADDRNOTAVAIL) => {
            "; no interface of this host has that address: give one of our vips, or one that is \
             there when the tunnel starts"
                .to_owned()
        }
        _ => String::new(),
    }
}
