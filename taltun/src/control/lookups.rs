//! Whose an address is, for processes that have none of the tunnel's tables: a thread for each answers
//! from the tables as they are just then. The controller isn't asked, so it keeps nobody waiting.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use ipnet::IpNet;
use tracing::warn;

use crate::os::capabilities;
use crate::os::seccomp::Filter;
use crate::protocol::tunnel::Tunnel;
use crate::server_process::{Found, answer_lookups, lookup_sockets};

/// Answers who has the socket that this returns, until that is closed. What is the tunnel's are the
/// networks of `vip`, and all that leads to a peer just then, but for routes to everywhere.
pub(super) fn answer(tunnel: &Arc<Tunnel>, vip: &[IpNet]) -> io::Result<OwnedFd> {
    let (ours, theirs) = lookup_sockets()?;
    let (tunnel, vip) = (Arc::clone(tunnel), vip.to_vec());
    thread::Builder::new()
        .name("lookups".into())
        .spawn(move || {
            give_up_rights();
            // It ends with who asks.
            let _ = answer_lookups(ours, |ip| find(ip, &tunnel, &vip));
        })?;
    Ok(theirs)
}

/// It reads what a process says that reads what anybody says.
fn give_up_rights() {
    let gave_up = capabilities::give_up();
    let restricted =
        Filter::new(&[libc::SYS_recvfrom, libc::SYS_sendto], &[]).and_then(|it| it.restrict());
    if let Err(error) = gave_up.and(restricted) {
        warn!("a thread that answers its own processes keeps rights: {error}");
    }
}

/// What is told of an address.
pub(super) fn find(ip: IpAddr, tunnel: &Tunnel, vip: &[IpNet]) -> Found {
    let own = vip.iter().filter(|net| net.contains(&ip));
    let own = own.map(IpNet::prefix_len);
    let peers = tunnel.owners(ip).into_iter().map(|(length, _)| length);
    let all = own.chain(peers);
    Found {
        owner: tunnel.owner(ip).map(|(_, peer)| peer.number()),
        guarded: all
            .filter(|length| !taltun_udpgw::is_everywhere(ip, *length))
            .min(),
    }
}
