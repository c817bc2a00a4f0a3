//! What others change of the host's network while we run, and what follows of it.

use std::io;
use std::net::IpAddr;

use tracing::{debug, info, warn};

use super::engine::Engine;
use crate::protocol::peer::Endpoint;
use crate::system::{LinkProbe, Ways};

/// Asks what has changed.
pub(super) struct Surroundings {
    link: LinkProbe,
    /// `None` where the kernel doesn't tell.
    ways: Option<Ways>,
}

impl Surroundings {
    /// Looks from the network namespace of the calling thread.
    pub(super) fn watch() -> io::Result<Self> {
        let ways = Ways::watch();
        if let Err(error) = &ways {
            warn!("changes of routes go unnoticed: {error}");
        }
        Ok(Self {
            link: LinkProbe::new()?,
            ways: ways.ok(),
        })
    }
}

impl Engine {
    /// Takes over what has changed; call it once a second.
    pub(super) fn follow(&mut self, surroundings: &mut Surroundings) {
        self.follow_mtu(&mut surroundings.link);
        if let Some(ways) = &mut surroundings.ways
            && ways.changed()
        {
            self.follow_routes(ways);
        }
    }

    /// Takes over the MTU that the interface has by now.
    fn follow_mtu(&mut self, link: &mut LinkProbe) {
        let tun = self.plant.tun();
        // An interface that is on its way out has no name.
        let Ok(name) = tun.name() else { return };
        let Ok(mtu) = link.mtu(&name, tun.namespace().ok()) else {
            return;
        };
        if usize::from(mtu) != self.device.tunnel().mtu() {
            info!("the MTU of {name} is {mtu}");
            self.device.tunnel().set_mtu(mtu);
        }
    }

    /// Peers to whom another interface leads than the one they were heard on are no longer
    /// answered from the address that they used.
    fn follow_routes(&self, ways: &Ways) {
        let mark = self.plant.mark();
        for peer in self.device.peers() {
            if let Some(endpoint) = peer.endpoint()
                && leads_elsewhere(ways, &endpoint, mark)
            {
                debug!("another way leads to {}", endpoint.remote);
                self.device.forget_local_address(peer.public_key());
            }
        }
    }
}

fn leads_elsewhere(ways: &Ways, endpoint: &Endpoint, mark: u32) -> bool {
    let (to, Some(local)) = (endpoint.remote.ip(), endpoint.local) else {
        return false;
    };
    // A link-local peer is where it was heard or nowhere.
    if matches!(to, IpAddr::V6(to) if to.is_unicast_link_local()) {
        return false;
    }
    match ways.interface(local.address, to, mark) {
        Ok(interface) => interface != local.interface,
        // Not ours any more. Without any route the address may as well stay.
        Err(error) => error.raw_os_error() == Some(libc::EINVAL),
    }
}
