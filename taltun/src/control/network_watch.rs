//! What others change of the host's network while we run, and what follows of it.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{debug, info, warn};

use crate::dataplane::data_plane::DataPlane;
use crate::protocol::device::Device;
use crate::protocol::peer::{Endpoint, PeerId};
use crate::system::{Changes, Foreign, LinkProbe, RouteWatcher};

/// How often the host's routes are read at most while they change.
const AGAIN: Duration = Duration::from_secs(1);
/// Questions to the kernel in a second about the ways to peers. Where a routing protocol moves
/// a large table, or many peers roam, the rest waits for its turn.
const QUESTIONS: usize = 256;
/// How long after a change of routes there may still be something under way by the old ones.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// For so many peers the list is gone through once a second while routes change; for more of
/// them, less often.
const PEERS_A_SECOND: usize = 10_000;

/// Asks what has changed.
pub(super) struct NetworkWatch {
    /// Addresses of this host.
    own_addresses: Vec<IpAddr>,
    /// Networks of peers, and what the host reaches otherwise than through the tunnel within
    /// them; whether that is news.
    guarded: Vec<IpNet>,
    within: Vec<IpNet>,
    is_within_new: bool,
    /// What the host reaches otherwise than through the tunnel, once it is read.
    foreign: Option<Receiver<io::Result<Foreign>>>,
    /// Not before then is it read again.
    read_again: Instant,
    link: LinkProbe,
    /// Whether routes have changed since they were read.
    unread: bool,
    /// `None` where the kernel doesn't tell.
    routes: Option<RouteWatcher>,
    changes: Changes,
    /// From then on what peers send comes by the routes as they are.
    settled: Instant,
    /// When to look next which peers the changes concern.
    next: Instant,
    /// Peers whose way is to be asked for, the first one first.
    queue: VecDeque<PeerId>,
    queued: HashSet<PeerId>,
}

impl NetworkWatch {
    /// Looks from the network namespace of the calling thread.
    pub(super) fn watch() -> io::Result<Self> {
        let routes = RouteWatcher::watch();
        if let Err(error) = &routes {
            warn!("changes of routes go unnoticed: {error}");
        }
        Ok(Self {
            own_addresses: Vec::new(),
            guarded: Vec::new(),
            within: Vec::new(),
            is_within_new: false,
            foreign: None,
            read_again: Instant::now(),
            unread: true,
            link: LinkProbe::new()?,
            routes: routes.ok(),
            changes: Changes::default(),
            settled: Instant::now(),
            next: Instant::now(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
        })
    }

    /// Addresses of this host.
    pub(super) fn own_addresses(&self) -> &[IpAddr] {
        &self.own_addresses
    }

    /// Looks from the next reading on which networks the host reaches otherwise within these.
    pub(super) fn guard(&mut self, mut nets: Vec<IpNet>) {
        nets = IpNet::aggregate(&nets);
        nets.sort_unstable();
        if nets != self.guarded {
            self.guarded = nets;
            self.unread = true;
        }
    }

    /// Networks within the guarded ones that the host reaches otherwise than through the tunnel.
    pub(super) fn within(&self) -> &[IpNet] {
        &self.within
    }

    /// Whether those have changed since the last call.
    pub(super) fn has_new_within(&mut self) -> bool {
        std::mem::take(&mut self.is_within_new)
    }

    /// Takes over what has changed, for the tunnel `name`; call it once a second. Returns
    /// whether any route has changed; where the kernel doesn't tell that, see
    /// [`Self::is_blind`].
    pub(super) fn follow(
        &mut self,
        name: &str,
        device: &mut Device,
        data_plane: &DataPlane,
    ) -> bool {
        self.follow_mtu(device, data_plane);
        let changed = self.follow_routes(device, data_plane.mark());
        self.unread |= changed;
        self.follow_foreign(name, device);
        changed
    }

    /// Whether changes of routes go unnoticed.
    pub(super) fn is_blind(&self) -> bool {
        self.routes.is_none()
    }

    /// Takes over what the host has of its own. Where the kernel has a million routes reading
    /// them takes a second or two, so that is left to a thread, and isn't done all the time.
    fn follow_foreign(&mut self, name: &str, device: &mut Device) {
        if let Some(reading) = &self.foreign
            && let Ok(outcome) = reading.try_recv()
        {
            self.foreign = None;
            self.take_foreign(outcome, device);
        }
        let due = self.unread && self.foreign.is_none() && Instant::now() >= self.read_again;
        if due && let Some(tunnel) = crate::os::interface::index(name) {
            self.unread = false;
            self.read_again = Instant::now() + AGAIN;
            let (done, reading) = channel();
            // Its outcome goes nowhere if we have ended meanwhile.
            std::thread::spawn(move || done.send(Foreign::read(tunnel)));
            self.foreign = Some(reading);
        }
    }

    /// The same at once, before anything is relayed.
    pub(super) fn read_foreign(&mut self, name: &str, device: &mut Device) {
        if let Some(tunnel) = crate::os::interface::index(name) {
            self.take_foreign(Foreign::read(tunnel), device);
        }
    }

    fn take_foreign(&mut self, outcome: io::Result<Foreign>, device: &mut Device) {
        match outcome {
            Ok(Foreign { own, nets }) => {
                device.set_foreign(&own, &nets);
                // No two of the guarded overlap, and a full table of the internet may be foreign.
                let is_within = |net: &&IpNet| {
                    let next = self
                        .guarded
                        .partition_point(|guarded| guarded.addr() <= net.addr());
                    next > 0 && self.guarded[next - 1].contains(*net)
                };
                let is_own = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
                let within = nets.iter().filter(is_within);
                let within: Vec<IpNet> = within
                    .filter(|net| !is_own(net) || own.binary_search(&net.addr()).is_err())
                    .copied()
                    .collect();
                self.is_within_new |= within != self.within;
                self.within = within;
                self.own_addresses = own;
            }
            Err(error) => warn!("can't read the host's routes: {error}"),
        }
    }

    /// Takes over the MTU that the interface has by now.
    fn follow_mtu(&mut self, device: &Device, data_plane: &DataPlane) {
        let tun = data_plane.tun();
        // An interface that is on its way out has no name.
        let Ok(name) = tun.name() else { return };
        let Ok(mtu) = self.link.mtu(&name, tun.namespace().ok()) else {
            return;
        };
        if usize::from(mtu) != device.tunnel().mtu() {
            info!("the MTU of {name} is {mtu}");
            device.tunnel().set_mtu(mtu);
        }
    }

    /// Peers to whom another interface leads than the one they were heard on are no longer
    /// answered from the address that they used.
    ///
    /// They are looked at when routes change, and when they have used another address soon after:
    /// what was under way while a route changed brings the old one back. At other times a peer may
    /// well be heard by one interface and answered by another: then it is answered from the address
    /// that it used, or a NAT on its side would let no answer in.
    ///
    /// Whether any route has changed.
    fn follow_routes(&mut self, device: &Device, mark: u32) -> bool {
        let Some(mut routes) = self.routes.take() else {
            return false;
        };
        let mut new = Changes::default();
        routes.changed(&mut new);
        let changed = !new.is_empty();
        self.changes.merge(new);
        if changed {
            self.settled = Instant::now() + UNDER_WAY;
        }
        let moved = device.take_moved();
        if Instant::now() < self.settled {
            for peer in moved {
                self.enqueue(peer);
            }
        }
        if !self.changes.is_empty() && Instant::now() >= self.next {
            let changes = std::mem::take(&mut self.changes);
            let mut peers = 0;
            for peer in device.peers() {
                peers += 1;
                if peer
                    .endpoint()
                    .is_some_and(|endpoint| changes.concern(endpoint.remote.ip()))
                {
                    self.enqueue(peer.id());
                }
            }
            let pause = Duration::from_secs((peers / PEERS_A_SECOND) as u64);
            self.next = Instant::now() + pause;
        }
        for _ in 0..QUESTIONS {
            let Some(peer) = self.dequeue() else {
                break;
            };
            if let Some(peer) = device.peer_by_id(peer)
                && let Some(endpoint) = peer.endpoint()
                && leads_elsewhere(&mut routes, &endpoint, mark)
            {
                debug!("another way leads to {}", endpoint.remote);
                device.forget_local_address(peer.public_key());
            }
        }
        self.routes = Some(routes);
        changed
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

fn leads_elsewhere(routes: &mut RouteWatcher, endpoint: &Endpoint, mark: u32) -> bool {
    let (to, Some(local)) = (endpoint.remote.ip(), endpoint.local) else {
        return false;
    };
    // A link-local peer is where it was heard or nowhere.
    if matches!(to, IpAddr::V6(to) if to.is_unicast_link_local()) {
        return false;
    }
    match routes.interface(local.address, to, mark) {
        Ok(interface) => interface != local.interface,
        // Not ours any more. Without any route the address may as well stay.
        Err(error) => error.raw_os_error() == Some(libc::EINVAL),
    }
}
