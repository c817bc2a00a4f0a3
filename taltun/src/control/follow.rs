//! What others change of the host's network while we run, and what follows of it.

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::engine::Engine;
use crate::protocol::peer::Endpoint;
use crate::system::{Foreign, LinkProbe, Ways};

/// How often the host's routes are read at most while they change.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks what has changed.
pub(super) struct Surroundings {
    /// What the host reaches otherwise than through the tunnel, once it is read.
    foreign: Option<Receiver<io::Result<Foreign>>>,
    /// Not before then is it read again.
    read_again: Instant,
    link: LinkProbe,
    /// Whether routes have changed since they were read.
    unread: bool,
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
            foreign: None,
            read_again: Instant::now(),
            unread: true,
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
            surroundings.unread = true;
        }
        self.follow_foreign(surroundings);
    }

    /// Takes over what the host has of its own. Where the kernel has a million routes reading
    /// them takes a second or two, so that is left to a thread, and isn't done all the time.
    fn follow_foreign(&mut self, surroundings: &mut Surroundings) {
        if let Some(reading) = &surroundings.foreign
            && let Ok(outcome) = reading.try_recv()
        {
            surroundings.foreign = None;
            self.take_foreign(outcome);
        }
        let due = surroundings.unread
            && surroundings.foreign.is_none()
            && Instant::now() >= surroundings.read_again;
        let index = || crate::system::interface_index(&self.config.interface.tun_name);
        if due && let Some(tunnel) = index() {
            surroundings.unread = false;
            surroundings.read_again = Instant::now() + AGAIN;
            let (done, reading) = channel();
            // Its outcome goes nowhere if we have ended meanwhile.
            std::thread::spawn(move || done.send(Foreign::read(tunnel)));
            surroundings.foreign = Some(reading);
        }
    }

    /// The same at once, before anything is relayed.
    pub(super) fn read_foreign(&mut self) {
        if let Some(tunnel) = crate::system::interface_index(&self.config.interface.tun_name) {
            self.take_foreign(Foreign::read(tunnel));
        }
    }

    fn take_foreign(&mut self, outcome: io::Result<Foreign>) {
        match outcome {
            Ok(Foreign { own, nets }) => self.device.set_foreign(&own, &nets),
            Err(error) => warn!("can't read the host's routes: {error}"),
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
