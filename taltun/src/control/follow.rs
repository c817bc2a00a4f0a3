//! What others change of the host's network while we run, and what follows of it.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::engine::Engine;
use crate::protocol::peer::{Endpoint, PeerId};
use crate::system::{Changes, Foreign, LinkProbe, RouteWatcher};

/// How often the host's routes are read at most while they change.
const AGAIN: Duration = Duration::from_secs(1);
/// Questions to the kernel in a second about the ways to peers. Where a routing protocol moves
/// a large table, or many peers roam, the rest waits for its turn.
const QUESTIONS: usize = 256;
/// For so many peers the list is gone through once a second while routes change; for more of
/// them, less often.
const PEERS_A_SECOND: usize = 10_000;

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
    ways: Option<RouteWatcher>,
    changes: Changes,
    /// When to look next which peers the changes concern.
    next: Instant,
    /// Peers whose way is to be asked for, the first one first.
    queue: VecDeque<PeerId>,
    queued: HashSet<PeerId>,
}

impl Surroundings {
    /// Looks from the network namespace of the calling thread.
    pub(super) fn watch() -> io::Result<Self> {
        let ways = RouteWatcher::watch();
        if let Err(error) = &ways {
            warn!("changes of routes go unnoticed: {error}");
        }
        Ok(Self {
            foreign: None,
            read_again: Instant::now(),
            unread: true,
            link: LinkProbe::new()?,
            ways: ways.ok(),
            changes: Changes::default(),
            next: Instant::now(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
        })
    }

    fn enqueue(&mut self, peer: PeerId) {
        if self.queued.insert(peer) {
            self.queue.push_back(peer);
        }
    }

    fn dequeue(&mut self) -> Option<PeerId> {
        let peer = self.queue.pop_front()?;
        self.queued.remove(&peer);
        Some(peer)
    }
}

impl Engine {
    /// Takes over what has changed; call it once a second.
    pub(super) fn follow(&mut self, surroundings: &mut Surroundings) {
        self.follow_mtu(&mut surroundings.link);
        let changed = self.follow_routes(surroundings);
        surroundings.unread |= changed;
        self.follow_underlay(changed);
        self.follow_foreign(surroundings);
        if let Some(table) = &mut self.names_routed
            && (changed || surroundings.ways.is_none())
        {
            table.watch.look_again();
        }
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
            Ok(Foreign { own, nets }) => {
                self.device.set_foreign(&own, &nets);
                self.own_addresses = own;
            }
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
    ///
    /// They are looked at when routes change, and when they have used another address: what
    /// was under way while a route changed brings the old one back.
    ///
    /// Whether any route has changed.
    fn follow_routes(&self, surroundings: &mut Surroundings) -> bool {
        let Some(mut ways) = surroundings.ways.take() else {
            return false;
        };
        let mut new = Changes::default();
        ways.changed(&mut new);
        let changed = !new.is_empty();
        surroundings.changes.merge(new);
        for peer in self.device.take_moved() {
            surroundings.enqueue(peer);
        }
        if !surroundings.changes.is_empty() && Instant::now() >= surroundings.next {
            let changes = std::mem::take(&mut surroundings.changes);
            let mut peers = 0;
            for peer in self.device.peers() {
                peers += 1;
                if peer
                    .endpoint()
                    .is_some_and(|endpoint| changes.concern(endpoint.remote.ip()))
                {
                    surroundings.enqueue(peer.id());
                }
            }
            let pause = Duration::from_secs((peers / PEERS_A_SECOND) as u64);
            surroundings.next = Instant::now() + pause;
        }
        let mark = self.plant.mark();
        for _ in 0..QUESTIONS {
            let Some(peer) = surroundings.dequeue() else {
                break;
            };
            if let Some(peer) = self.device.peer_by_id(peer)
                && let Some(endpoint) = peer.endpoint()
                && leads_elsewhere(&ways, &endpoint, mark)
            {
                debug!("another way leads to {}", endpoint.remote);
                self.device.forget_local_address(peer.public_key());
            }
        }
        surroundings.ways = Some(ways);
        changed
    }
}

fn leads_elsewhere(ways: &RouteWatcher, endpoint: &Endpoint, mark: u32) -> bool {
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
