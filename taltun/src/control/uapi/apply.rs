//! What a request does to a running tunnel.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tracing::{debug, warn};

use super::request::{PeerRequest, SetRequest};
use super::{Errno, Snapshot, SnapshotPeer, WgChanges};
use crate::accel::Shield;
use crate::control::dialer::Dialer;
use crate::control::ownership;
use crate::control::peers::Peers;
use crate::crypto::PresharedKey;
use crate::dataplane::clock;
use crate::dataplane::data_plane::DataPlane;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::{Device, PeerSettings, RouteEdit};
use crate::protocol::peer::{Endpoint, Peer};
use crate::protocol::time::Time;

/// What a request may change of a running tunnel.
pub(in crate::control) struct Target<'a> {
    pub device: &'a mut Device,
    pub shield: &'a mut Shield,
    pub peers: &'a mut Peers,
    pub data_plane: &'a mut DataPlane,
    pub dialer: &'a Dialer,
    pub changes: &'a mut WgChanges,
    /// The mark that rules of routing and of the firewall depend on, where there are such rules.
    pub fixed_mark: Option<u32>,
    /// The listen address of the configuration.
    pub local_addr: &'a mut SocketAddr,
}

/// The answer to `get=1`.
pub(in crate::control) fn snapshot(device: &Device, data_plane: &DataPlane) -> Snapshot {
    let wall_clock_at_zero = clock::wall_clock_at_zero();
    let peers = device.peers().map(|peer| {
        let key = peer.public_key();
        SnapshotPeer {
            preshared_key: device.preshared_key(key).cloned().unwrap_or_default(),
            last_handshake: peer
                .last_handshake()
                .map(|at| wall_clock_at_zero.saturating_add(Duration::from_nanos(at.as_nanos()))),
            persistent_keepalive: device
                .persistent_keepalive(key)
                .map_or(0, |interval| interval.as_secs()),
            allowed_ips: device.allowed_ips_of(peer.id()).collect(),
            peer: Arc::clone(peer),
        }
    });
    Snapshot {
        private_key: device.private_key().cloned(),
        listen_port: data_plane.listen_address().port(),
        fwmark: data_plane.mark(),
        peers: peers.collect(),
    }
}

impl Target<'_> {
    /// What the kernel may refuse comes first, so that a refusal leaves all as it was.
    ///
    /// What peers have lost by it, and who is a peer no more, is the caller's to tell others.
    pub(in crate::control) fn set(&mut self, request: SetRequest, now: Time) -> Result<(), Errno> {
        if let Some(mark) = request.fwmark {
            self.set_mark(mark)?;
        }
        if let Some(port) = request.listen_port {
            self.set_listen_port(port)?;
        }
        if let Some(key) = request.private_key {
            if self.device.private_key() != key.as_ref() {
                self.changes.own(match &key {
                    Some(_) => "our own key is another: all sessions start anew",
                    None => "our own key is gone: no handshake is possible",
                });
            }
            // A peer with our own key is none.
            self.shield.open_all();
            self.device.set_private_key(key, now);
        }
        let mut edits = Vec::new();
        if request.replace_peers {
            self.peers.touch_all();
            let keys: Vec<_> = self.device.peers().map(|peer| *peer.public_key()).collect();
            for key in &keys {
                let label = self.peers.label(key);
                self.changes.peers.removed.add(|| label);
                edits.extend(self.device.forget_peer(key).map(RouteEdit::Clear));
            }
        }
        for peer in request.peers {
            self.set_peer(peer, &mut edits, now);
        }
        ownership::edit(self.device, self.shield, &edits);
        self.peers.touch(self.device.take_displaced());
        Ok(())
    }

    /// With another mark than its rules know, a kill switch would let nothing of ours pass, and routes would lead our
    /// datagrams into the tunnel again. Of them, 0 is nothing that somebody asked for: `wg syncconf` and `setconf` send it
    /// for a file without a mark.
    fn set_mark(&mut self, mark: u32) -> Result<(), Errno> {
        let before = self.data_plane.mark();
        if mark == 0 && self.fixed_mark.is_some() {
            return Ok(());
        }
        if let Some(fixed) = self.fixed_mark.filter(|fixed| *fixed != mark) {
            warn!(
                "wg may not set the fwmark {mark:#x}: the configuration has rules of the firewall or of routing for \
                 {fixed:#x}; change interface.fwmark and restart"
            );
            return Err(Errno::IN_USE);
        }
        self.data_plane.set_mark(mark).map_err(|error| {
            warn!("can't set the fwmark {mark:#x}: {error}");
            Errno::from(error)
        })?;
        if mark != before {
            self.changes.own(&format!("fwmark {mark:#x}"));
        }
        self.dialer.set_mark(mark);
        Ok(())
    }

    /// A port of the kernel's choice is as good as another, so 0 changes nothing where the
    /// kernel has chosen already.
    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
        let mut wanted = *self.local_addr;
        wanted.set_port(port);
        let before = self.data_plane.listen_address();
        let outcome = self.data_plane.listen(wanted, self.local_addr, self.shield);
        outcome.map_err(|error| {
            warn!("can't listen on port {port}: {error}");
            Errno::from(error)
        })?;
        let now = self.data_plane.listen_address();
        if now != before {
            self.changes.own(&format!("listening on {now}"));
        }
        Ok(())
    }

    fn set_peer(&mut self, request: PeerRequest, edits: &mut Vec<RouteEdit>, now: Time) {
        let key = request.public_key;
        self.peers.touch([key]);
        if request.remove {
            if self.device.peer(&key).is_some() {
                let label = self.peers.label(&key);
                self.changes.peers.removed.add(|| label);
            }
            edits.extend(self.device.forget_peer(&key).map(RouteEdit::Clear));
            return;
        }
        let known = self.device.peer(&key).cloned();
        let label = self.peers.label(&key);
        let peer = match known {
            Some(peer) => {
                if self.differs(&peer, &request) {
                    self.changes.peers.changed.add(|| label);
                }
                if request.replace_allowed_ips {
                    edits.push(RouteEdit::Clear(peer.id()));
                }
                peer
            }
            None if request.update_only => return,
            None => {
                let settings = PeerSettings {
                    public_key: key,
                    preshared_key: PresharedKey::default(),
                    endpoint: None,
                    allowed_ips: Vec::new(),
                    persistent_keepalive: None,
                };
                match self.device.add_peer(settings, now) {
                    Ok(peer) => {
                        self.changes.peers.added.add(|| label);
                        peer
                    }
                    // As the kernel does: it isn't added, and nothing else is made of it.
                    Err(error) => return warn!("{key}: {error}"),
                }
            }
        };
        if let Some(preshared_key) = request.preshared_key {
            self.device.set_preshared_key(&key, preshared_key);
        }
        if let Some(address) = request.endpoint {
            debug!("{key} is said to be at {address}");
            self.device
                .set_endpoint(&key, Some(Endpoint::from(address)));
            self.peers.set_endpoint(key, address);
        }
        if let Some(seconds) = request.persistent_keepalive {
            let interval = (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
            if interval != self.device.persistent_keepalive(&key) {
                self.device.set_persistent_keepalive(&key, interval, now);
            }
        }
        edits.extend(request.allowed_ips.into_iter().map(|(net, add)| {
            if add {
                RouteEdit::Add(Arc::clone(&peer), net)
            } else {
                RouteEdit::Remove(peer.id(), net)
            }
        }));
    }

    /// Whether a request makes another thing of a peer.
    fn differs(&self, peer: &Peer, request: &PeerRequest) -> bool {
        let key = peer.public_key();
        let owned: BTreeSet<IpNet> = self.device.allowed_ips_of(peer.id()).collect();
        let mut wanted = if request.replace_allowed_ips {
            BTreeSet::new()
        } else {
            owned.clone()
        };
        for (net, add) in &request.allowed_ips {
            let net = canonical(*net);
            if *add {
                wanted.insert(net);
            } else {
                wanted.remove(&net);
            }
        }
        let psk = self.device.preshared_key(key).cloned().unwrap_or_default();
        let interval = self.device.persistent_keepalive(key);
        let seconds = interval.map_or(0, |interval| interval.as_secs());
        let remote = peer.endpoint().map(|endpoint| endpoint.remote);
        owned != wanted
            || request
                .preshared_key
                .as_ref()
                .is_some_and(|new| *new != psk)
            || request.endpoint.is_some_and(|new| Some(new) != remote)
            || request
                .persistent_keepalive
                .is_some_and(|new| u64::from(new) != seconds)
    }
}
