//! What a request does to a running tunnel.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tracing::{debug, info, warn};

use super::request::{PeerRequest, SetRequest};
use super::{Errno, Snapshot, SnapshotPeer, UapiCall};
use crate::control::engine::Engine;
use crate::crypto::PresharedKey;
use crate::dataplane::clock;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::{PeerSettings, RouteEdit};
use crate::protocol::peer::{Endpoint, Peer};
use crate::protocol::time::Time;

impl Engine {
    /// Does what a client asks.
    pub(in crate::control) fn handle_uapi(&mut self, call: UapiCall) {
        // A client that left meanwhile misses its answer.
        match call {
            UapiCall::Get(answer) => drop(answer.send(self.snapshot())),
            UapiCall::Set(request, answer) => {
                let outcome = self.set(*request);
                self.lead_names_again();
                self.tell_shield();
                let _ = answer.send(outcome);
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let wall_clock_at_zero = clock::wall_clock_at_zero();
        let peers = self.device.peers().map(|peer| {
            let key = peer.public_key();
            SnapshotPeer {
                preshared_key: self.device.preshared_key(key).cloned().unwrap_or_default(),
                last_handshake: peer.last_handshake().map(|at| {
                    wall_clock_at_zero.saturating_add(Duration::from_nanos(at.as_nanos()))
                }),
                persistent_keepalive: self
                    .device
                    .persistent_keepalive(key)
                    .map_or(0, |interval| interval.as_secs()),
                allowed_ips: self.device.allowed_ips_of(peer.id()).collect(),
                peer: Arc::clone(peer),
            }
        });
        Snapshot {
            private_key: self.device.private_key().cloned(),
            listen_port: self.plant.listen_address().port(),
            fwmark: self.plant.mark(),
            peers: peers.collect(),
        }
    }

    /// What the kernel may refuse comes first, so that a refusal leaves all as it was.
    fn set(&mut self, request: SetRequest) -> Result<(), Errno> {
        let now = self.now();
        if let Some(mark) = request.fwmark {
            let before = self.plant.mark();
            self.set_mark(mark)?;
            if mark != before {
                self.by_wg.own(&format!("fwmark {mark:#x}"));
            }
            self.resolver.set_mark(mark);
        }
        if let Some(port) = request.listen_port {
            self.set_listen_port(port)?;
        }
        if let Some(key) = request.private_key {
            if self.device.private_key() != key.as_ref() {
                self.by_wg.own(match &key {
                    Some(_) => "our own key is another: all sessions start anew",
                    None => "our own key is gone: no handshake is possible",
                });
            }
            self.device.set_private_key(key, now);
        }
        let mut edits = Vec::new();
        if request.replace_peers {
            self.peers.touch_all();
            let keys: Vec<_> = self.device.peers().map(|peer| *peer.public_key()).collect();
            for key in &keys {
                let label = self.label(key);
                self.by_wg.removed.add(|| label);
                edits.extend(self.device.forget_peer(key).map(RouteEdit::Clear));
            }
        }
        for peer in request.peers {
            self.set_peer(peer, &mut edits, now);
        }
        // What somebody gains is let through before; the caller takes away what nobody has
        // any more, after.
        self.shield.add_routes(&gained(&edits));
        self.device.edit_routes(&edits);
        self.peers.touch(self.device.take_displaced());
        self.forget_strangers();
        Ok(())
    }

    /// A port of the kernel's choice is as good as another, so 0 changes nothing where the
    /// kernel has chosen already.
    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
        let mut wanted = self.config.interface.local_addr;
        wanted.set_port(port);
        let before = self.plant.listen_address();
        self.listen(wanted).map_err(|error| {
            warn!("can't listen on port {port}: {error}");
            Errno::from(error)
        })?;
        let now = self.plant.listen_address();
        if now != before {
            info!("listening on {now}");
        }
        Ok(())
    }

    fn set_peer(&mut self, request: PeerRequest, edits: &mut Vec<RouteEdit>, now: Time) {
        let key = request.public_key;
        self.peers.touch([key]);
        if request.remove {
            if self.device.peer(&key).is_some() {
                let label = self.label(&key);
                self.by_wg.removed.add(|| label);
            }
            edits.extend(self.device.forget_peer(&key).map(RouteEdit::Clear));
            return;
        }
        let known = self.device.peer(&key).cloned();
        let label = self.label(&key);
        let peer = match known {
            Some(peer) => {
                if self.differs(&peer, &request) {
                    self.by_wg.changed.add(|| label);
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
                        self.by_wg.added.add(|| label);
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

/// The prefixes that peers are given.
fn gained(edits: &[RouteEdit]) -> Vec<IpNet> {
    let gained = |edit: &RouteEdit| match edit {
        RouteEdit::Add(_, net) => Some(canonical(*net)),
        RouteEdit::Clear(_) | RouteEdit::Remove(..) => None,
    };
    edits.iter().filter_map(gained).collect()
}
