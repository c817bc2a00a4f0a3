//! The fleet's other hubs: what happens by itself is passed on to them.

use super::Engine;
use crate::control::fleet::FleetHub;
use crate::control::mesh::{Mesh, Target};
use crate::dataplane::clock;
use crate::protocol::peer::PeerId;
use crate::protocol::time::Time;
use crate::report::FleetStatus;

impl Engine {
    /// When to call [`Self::tell_hubs`].
    pub(in crate::control) fn next_for_hubs(&self) -> Option<Time> {
        self.mesh.as_ref()?.next_at()
    }

    /// Says to the other hubs what is due.
    pub(in crate::control) fn tell_hubs(&mut self) {
        self.with_mesh(Mesh::tick);
    }

    /// The fleet has these other hubs by now.
    pub(in crate::control) fn follow_hubs(&mut self, hubs: &[FleetHub]) {
        self.with_mesh(|mesh, target| mesh.follow_hubs(hubs, target));
    }

    /// etcd said where peers are.
    pub(in crate::control) fn follow_homes(&mut self) {
        self.with_mesh(Mesh::follow_homes);
    }

    /// Whether peers that were here before this start may be spoken to. They may be at another hub of the
    /// group by now, which says so.
    pub(super) fn may_speak_first(&self) -> bool {
        let mesh = self.mesh.as_ref();
        mesh.is_none_or(|mesh| mesh.is_settled(clock::now()))
    }

    /// Takes what other hubs said.
    pub(super) fn hear_hubs(&mut self) {
        let messages = self.device.tunnel().take_of_hubs();
        if !messages.is_empty() {
            self.with_mesh(|mesh, target| mesh.hear(messages, target));
        }
        let sending_here = self.device.tunnel().take_sending_here();
        if !sending_here.is_empty() {
            self.with_mesh(|mesh, target| mesh.nudge(&sending_here, target));
        }
    }

    /// A file was taken over, with the peers of the fleet beside its own.
    pub(super) fn follow_fleet_peers(&mut self) {
        let peers = self.origin.overrides.fleet.get();
        let keys = peers.iter().map(|peer| peer.public_key);
        self.with_mesh(|mesh, target| mesh.follow_peers(keys, target));
    }

    /// A handshake with a peer is complete.
    pub(super) fn peer_came(&mut self, id: PeerId) {
        let Some(key) = self.device.key_of(id).copied() else {
            return;
        };
        self.with_mesh(|mesh, target| mesh.finished(&key, target));
    }

    /// A peer is at another address or port outside.
    pub(super) fn peer_roamed(&mut self, id: PeerId) {
        let Some(key) = self.device.key_of(id).copied() else {
            return;
        };
        self.with_mesh(|mesh, target| mesh.roamed(&key, target));
    }

    /// Gives up this hub's peers, or has peers again. Returns how many it has.
    pub(super) fn drain(&mut self, leaving: bool) -> Result<u64, String> {
        let mut outcome =
            Err("this tunnel is in no fleet: its configuration has no [fleet]".into());
        self.with_mesh(|mesh, target| outcome = mesh.drain(leaving, target));
        outcome
    }

    /// The file has another key for this hub: among hubs it is somebody else by now.
    pub(super) fn own_key_changed(&mut self) {
        let key = self.config.interface.private_key.clone();
        if let Some(fleet) = &self.fleet {
            fleet.own_key(key.clone());
        }
        self.with_mesh(|mesh, target| mesh.set_own(key, target));
    }

    /// Sees to it that the other hubs are peers.
    pub(super) fn keep_hubs(&mut self) {
        self.with_mesh(Mesh::keep);
    }

    /// Says what is known of the ways to the other hubs.
    pub(super) fn fill_fleet_status(&mut self, status: &mut FleetStatus) {
        let now = self.now();
        if let Some(mesh) = &self.mesh {
            mesh.fill(status, now);
        }
    }

    fn with_mesh(&mut self, act: impl FnOnce(&mut Mesh, &mut Target<'_>)) {
        let now = self.now();
        if let Some(mesh) = &mut self.mesh {
            let mut target = Target {
                device: &mut self.device,
                shield: &mut self.shield,
                peers: &mut self.peers,
                dialer: &mut self.dialer,
                now,
            };
            act(mesh, &mut target);
        }
    }
}
