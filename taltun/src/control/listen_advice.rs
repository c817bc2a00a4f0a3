//! What to do when an address can't be listened on by TCP.

use std::io;
use std::net::SocketAddr;

/// The end of the sentence `cannot listen on ADDRESS: REASON`; empty where there is no advice.
pub(super) fn listen_advice(reason: &io::Error, address: SocketAddr) -> String {
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
