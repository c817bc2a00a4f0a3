//! One of those who take part: its device, its clocks, and what its configuration says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_common::wire::PROBE_LEN;
use taltun_crypto::{KEY_LEN, PublicKey};
use taltun_protocol::device::{Device, HopSettings, PeerSettings, Place, Settings};
use taltun_protocol::endpoint::Endpoint;
use taltun_protocol::randomness::Randomness;
use taltun_protocol::time::Time;

use crate::cast::{self, HUB, STRANGER};
use crate::ledger::Nonces;

/// What all wall clocks would show when the world begins, if they were right.
const WALL: Duration = Duration::from_secs(1_700_000_000);

/// What a configuration says about a peer.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) generation: u8,
    pub(crate) psk: u8,
    pub(crate) nets: Vec<IpNet>,
}

/// What is on its disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// Which of its key pairs it has.
    pub(crate) generation: u8,
    pub(crate) peers: BTreeMap<usize, Known>,
    /// How a spoke reaches the hub.
    pub(crate) reach: u8,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) who: usize,
    pub(crate) device: Device,
    pub(crate) disk: Disk,
    /// Who owns which inner address, as simple as can be.
    pub(crate) routes: Vec<(IpNet, PublicKey)>,
    pub(crate) address: SocketAddr,
    /// Peers that are banned.
    pub(crate) refused: BTreeSet<usize>,
    pub(crate) relay: bool,
    /// Our receiver indices, by the device's events.
    pub(crate) indices: BTreeSet<u32>,
    pub(crate) born: BTreeSet<u32>,
    pub(crate) nonces: Nonces,
    /// The ephemeral keys of initiations that it answered, for as long as it can know of them.
    pub(crate) answered: HashSet<[u8; 32]>,
    pub(crate) under_load: bool,
    /// It neither wakes nor hears.
    pub(crate) is_asleep: bool,
    pub(crate) wakes: u64,
    /// When it began, and by how much its clock was ahead of the others' since, nanoseconds.
    boot: u64,
    skipped: u64,
    /// By how many seconds its wall clock is wrong.
    pub(crate) wrong_by: i64,
    /// The latest that its wall clock ever showed, and peers were told.
    pub(crate) latest_shown: Duration,
    seed: [u8; 4],
    restarts: u16,
    /// From which of its places a hub answers whom: from that which was used last.
    probed_at: HashMap<(SocketAddr, IpAddr), SocketAddr>,
    used_at: HashMap<(SocketAddr, IpAddr), SocketAddr>,
}

fn first_disk(who: usize) -> Disk {
    let known = |nets| Known {
        generation: 0,
        psk: 0,
        nets,
    };
    let peers = if who == HUB {
        cast::SPOKES
            .map(|spoke| (spoke, known(cast::own_nets(spoke))))
            .collect()
    } else {
        BTreeMap::from([(HUB, known(cast::behind_hub()))])
    };
    Disk {
        generation: 0,
        peers,
        reach: who as u8,
    }
}

/// What is random in a world is so by its seed, but for ephemeral keys. Those are the same in all worlds, and
/// none comes twice in one, so that their multiplications are remembered.
fn randomness(who: usize, seed: [u8; 4], restarts: u16) -> Randomness {
    let mut own = [who as u8; KEY_LEN];
    own[4..6].copy_from_slice(&restarts.to_le_bytes());
    let mut keys = ChaCha8Rng::from_seed(own);
    own[..4].copy_from_slice(&seed);
    let mut others = ChaCha8Rng::from_seed(own);
    Randomness::new(move |bytes| {
        let is_key = bytes.len() == KEY_LEN;
        let source = if is_key { &mut keys } else { &mut others };
        source.fill_bytes(bytes);
        Ok(())
    })
}

fn device(who: usize, disk: &Disk, seed: [u8; 4], restarts: u16) -> Device {
    Device::new(Settings {
        private_key: cast::private(who, disk.generation),
        randomness: randomness(who, seed, restarts),
        wall_clock_at_zero: WALL,
        mtu: 1420,
        local_addresses: vec![cast::inner(who, false), cast::inner(who, true)],
        relay: who == HUB,
    })
}

impl Node {
    pub(crate) fn new(who: usize, seed: [u8; 4]) -> Self {
        let disk = first_disk(who);
        let mut node = Self {
            who,
            device: device(who, &disk, seed, 0),
            disk: Disk {
                peers: BTreeMap::new(),
                ..disk.clone()
            },
            routes: Vec::new(),
            address: match who {
                HUB => cast::hub_address(0),
                STRANGER => SocketAddr::from(([203, 0, 113, 9], 1000)),
                _ => cast::spoke_address(who, 0),
            },
            refused: BTreeSet::new(),
            relay: who == HUB,
            indices: BTreeSet::new(),
            born: BTreeSet::new(),
            nonces: Nonces::default(),
            answered: HashSet::new(),
            under_load: false,
            is_asleep: false,
            wakes: 0,
            boot: 0,
            skipped: 0,
            wrong_by: 0,
            latest_shown: Duration::ZERO,
            seed,
            restarts: 0,
            probed_at: HashMap::new(),
            used_at: HashMap::new(),
        };
        node.read(&disk, 0);
        node
    }

    /// It starts anew with that on its disk. Nothing else is left of it.
    pub(crate) fn restart(&mut self, disk: &Disk, now: u64) {
        self.restarts += 1;
        self.device = device(self.who, disk, self.seed, self.restarts);
        self.disk = Disk {
            peers: BTreeMap::new(),
            ..disk.clone()
        };
        self.routes.clear();
        self.refused.clear();
        self.relay = self.who == HUB;
        self.indices.clear();
        self.under_load = false;
        (self.boot, self.skipped) = (now, 0);
        self.probed_at.clear();
        self.used_at.clear();
        self.read(disk, now);
    }

    fn read(&mut self, disk: &Disk, now: u64) {
        self.tell_time(now);
        if self.who == HUB {
            let hop = HopSettings {
                always_marked: true,
                ..HopSettings::default()
            };
            self.device.set_hop(hop, self.clock(now));
        }
        for (peer, known) in &disk.peers {
            self.add(*peer, known.clone(), now);
        }
    }

    // ---- clocks ------------------------------------------------------------------------

    /// What its own clock shows.
    pub(crate) fn clock(&self, now: u64) -> Time {
        Time::from_nanos(now - self.boot + self.skipped + 1)
    }

    /// When it wants to be woken.
    pub(crate) fn due(&self) -> Option<u64> {
        let due = self.device.poll_timeout()?.as_nanos() - 1;
        Some(due.saturating_sub(self.skipped) + self.boot)
    }

    /// Its clock jumps ahead, as after a pause of which nobody told it.
    pub(crate) fn skip(&mut self, by: Duration) {
        self.skipped += by.as_nanos() as u64;
    }

    /// Its shell tells the device what the wall clock shows, as it does before each call.
    pub(crate) fn tell_time(&mut self, now: u64) {
        let right = WALL + Duration::from_nanos(now);
        let wrong = Duration::from_secs(self.wrong_by.unsigned_abs());
        let shown = if self.wrong_by < 0 {
            right.saturating_sub(wrong)
        } else {
            right + wrong
        };
        self.latest_shown = self.latest_shown.max(shown);
        self.device.set_wall_clock(shown, self.clock(now));
    }

    /// Its wall clock is put right, and not behind what it showed before: a peer takes no timestamp
    /// that is.
    pub(crate) fn correct_wall_clock(&mut self, now: u64) {
        let right = WALL + Duration::from_nanos(now);
        let ahead = self.latest_shown.saturating_sub(right);
        self.wrong_by = ahead.as_secs().cast_signed() + 1;
    }

    // ---- its configuration -------------------------------------------------------------

    /// Knows a peer from now on.
    pub(crate) fn add(&mut self, peer: usize, known: Known, now: u64) {
        let key = *cast::public(peer, known.generation);
        let settings = PeerSettings {
            public_key: key,
            preshared_key: cast::preshared(known.psk),
            endpoint: None,
            allowed_ips: known.nets.clone(),
            persistent_keepalive: None,
        };
        self.device
            .add_peer(settings, self.clock(now))
            .expect("it isn't known");
        // The device knows nothing of this peer's earlier timestamps.
        self.answered.clear();
        self.own(&known.nets, key);
        self.disk.peers.insert(peer, known);
        self.find(peer, now);
    }

    /// Says where a peer is, as far as the configuration knows that.
    pub(crate) fn find(&mut self, peer: usize, now: u64) {
        let Some(key) = self.key_of(peer) else { return };
        let at = self.clock(now);
        let hub = cast::hub_address;
        let places = match (peer, self.disk.reach) {
            (HUB, 2) => vec![cast::hub_place(0)],
            (HUB, 3) => vec![cast::hub_place(0), cast::hub_place(1)],
            (HUB, 5) => vec![Place::from(hub(1)), hub(0).into()],
            (HUB, 6) => vec![hub(1).into()],
            (HUB, _) => vec![hub(0).into()],
            // Spokes are where they are heard from.
            _ => return,
        };
        self.device.set_places(&key, &places, at);
    }

    pub(crate) fn remove(&mut self, peer: usize) -> Option<Known> {
        let key = self.key_of(peer)?;
        assert!(self.device.remove_peer(&key));
        self.routes.retain(|(_, owner)| *owner != key);
        self.refused.remove(&peer);
        self.disk.peers.remove(&peer)
    }

    pub(crate) fn set_nets(&mut self, peer: usize, nets: Vec<IpNet>) {
        let Some(key) = self.key_of(peer) else { return };
        self.device.set_allowed_ips(&key, &nets);
        self.routes.retain(|(_, owner)| *owner != key);
        self.own(&nets, key);
        if let Some(known) = self.disk.peers.get_mut(&peer) {
            known.nets = nets;
        }
    }

    pub(crate) fn set_psk(&mut self, peer: usize, psk: u8) {
        let Some(key) = self.key_of(peer) else { return };
        self.device.set_preshared_key(&key, cast::preshared(psk));
        if let Some(known) = self.disk.peers.get_mut(&peer) {
            known.psk = psk;
        }
    }

    pub(crate) fn set_refused(&mut self, peer: usize, refused: bool, now: u64) {
        let Some(key) = self.key_of(peer) else { return };
        self.device.set_refused(&key, refused, self.clock(now));
        if refused {
            self.refused.insert(peer);
        } else {
            self.refused.remove(&peer);
        }
    }

    pub(crate) fn set_generation(&mut self, generation: u8, now: u64) {
        let key = cast::private(self.who, generation);
        self.device.set_private_key(Some(key), self.clock(now));
        self.disk.generation = generation;
    }

    /// The public key by which it knows a peer.
    pub(crate) fn key_of(&self, peer: usize) -> Option<PublicKey> {
        let known = self.disk.peers.get(&peer)?;
        Some(*cast::public(peer, known.generation))
    }

    fn own(&mut self, nets: &[IpNet], key: PublicKey) {
        for net in nets {
            self.routes.retain(|(other, _)| other != net);
            self.routes.push((*net, key));
        }
        // Of those that lost one, the configuration doesn't name it any more.
        for (peer, known) in &mut self.disk.peers {
            if *cast::public(*peer, known.generation) != key {
                known.nets.retain(|net| !nets.contains(net));
            }
        }
    }

    /// The device says of each peer's networks what the configuration says.
    pub(crate) fn check_nets(&self) {
        for peer in self.disk.peers.keys() {
            let key = self.key_of(*peer).expect("it is listed");
            let known = self.device.peer(&key).expect("the device knows it");
            let own = self.routes.iter().filter(|(_, owner)| *owner == key);
            let own: BTreeSet<IpNet> = own.map(|(net, _)| *net).collect();
            let theirs: BTreeSet<IpNet> = self.device.allowed_ips_of(known.id()).collect();
            assert_eq!(theirs, own, "the networks of {peer} at {}", self.who);
        }
        assert_eq!(self.device.len(), self.disk.peers.len());
    }

    /// Whether an address is its own.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        [false, true]
            .iter()
            .any(|v6| cast::inner(self.who, *v6) == address)
    }

    // ---- its places --------------------------------------------------------------------

    /// Something came to one of its places.
    pub(crate) fn note_used(&mut self, to: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        if self.who == HUB {
            let book = if is_probe(bytes) {
                &mut self.probed_at
            } else {
                &mut self.used_at
            };
            book.insert((from, to.ip()), to);
        }
    }

    /// Where a datagram of its leaves from.
    pub(crate) fn source(&mut self, to: Endpoint, bytes: &[u8]) -> SocketAddr {
        if self.who != HUB {
            return self.address;
        }
        let ours = to.local.map_or(self.address.ip(), |local| local.address);
        // Each probe is answered once.
        let probed = is_probe(bytes).then(|| self.probed_at.remove(&(to.remote, ours)));
        let used = probed.flatten();
        let used = used.or_else(|| self.used_at.get(&(to.remote, ours)).copied());
        used.unwrap_or(SocketAddr::new(ours, self.address.port()))
    }
}

/// By its length, as who can't open it has it.
fn is_probe(bytes: &[u8]) -> bool {
    bytes.first() == Some(&4) && bytes.len() == PROBE_LEN
}
