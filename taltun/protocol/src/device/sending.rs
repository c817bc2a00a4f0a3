//! What the controller itself sends: handshake messages, keepalives, and packets that waited
//! for a session.

use std::sync::Arc;

use super::{Device, Transmit};
use crate::batch::seal;
use crate::control_message::{CONTROL_LEN, ControlMessage};
use crate::ecn;
use crate::hub_message;
use crate::messages::{DATA_HEADER_LEN, DATA_OVERHEAD, PADDING};
use crate::peer::{Amount, Endpoint, Peer, PeerId};
use crate::session::Session;
use crate::time::Time;
use taltun_common::wire::PROBE_LEN;
use taltun_crypto::PublicKey;

// Programs that can't open a control message tell it by this length.
const _: () = assert!(PROBE_LEN == CONTROL_LEN + DATA_OVERHEAD);

impl Device {
    /// Sends a handshake message to where the peer is.
    pub(super) fn send(&mut self, peer: &Peer, payload: Vec<u8>, now: Time) {
        if let Some(endpoint) = peer.endpoint() {
            peer.activity
                .sent(now, Amount::one(payload.len() as u64), false);
            self.transmits.push_back(Transmit {
                endpoint,
                payload,
                class: 0,
            });
        }
    }

    /// Seals and sends what waited for a session; how many packets that were.
    pub(super) fn flush_staged(&mut self, id: PeerId, now: Time) -> usize {
        let Some(control) = self.peers.get(&id) else {
            return 0;
        };
        let peer = Arc::clone(&control.peer);
        let Some(session) = peer.sending_session(now) else {
            return 0;
        };
        let packets = peer.take_staged();
        let mut sent = 0;
        for packet in &packets {
            sent += usize::from(self.send_data(&peer, &session, packet, now));
        }
        sent
    }

    /// Sends an empty packet; false when there is no session to send it on.
    pub(super) fn send_keepalive(&mut self, id: PeerId, now: Time) -> bool {
        let Some(control) = self.peers.get(&id) else {
            return false;
        };
        let peer = Arc::clone(&control.peer);
        let Some(session) = peer.sending_session(now) else {
            return false;
        };
        self.send_data(&peer, &session, &[], now)
    }

    /// Sends a control message, to wherever it is for; false when there is no session to send it on.
    pub(super) fn send_control(
        &mut self,
        peer: &Peer,
        message: ControlMessage,
        to: Endpoint,
        now: Time,
    ) -> bool {
        let session = peer.sending_session(now);
        let Some((session, counter)) =
            session.and_then(|session| session.reserve(1).map(|counter| (session, counter)))
        else {
            return false;
        };
        let mut payload = vec![0; PROBE_LEN];
        payload[DATA_HEADER_LEN..][..CONTROL_LEN].copy_from_slice(&message.to_bytes());
        session.seal(counter, &mut payload);
        peer.activity.sent_control(payload.len() as u64);
        if let Some(control) = self.peers.get_mut(&peer.id()) {
            control.paths.note_sent(to.remote.ip(), now);
        }
        self.transmits.push_back(Transmit {
            endpoint: to,
            payload,
            class: 0,
        });
        true
    }

    /// Sends a message to another hub, and renews the session with it when that is due. False when
    /// there is no session yet: a handshake is asked for.
    pub fn send_to_hub(&mut self, key: &PublicKey, content: &[u8], now: Time) -> bool {
        let Some(&id) = self.by_key.get(key) else {
            return false;
        };
        // Nothing else sends between hubs that have no packets for each other.
        if self.needs_session(id, now) {
            self.want_handshake(id, now);
        }
        let Some(peer) = self.peers.get(&id).map(|control| Arc::clone(&control.peer)) else {
            return false;
        };
        let len = hub_message::MAGIC.len() + content.len();
        let (Some(endpoint), Some(session)) = (peer.endpoint(), peer.sending_session(now)) else {
            return false;
        };
        let Some(counter) = session
            .reserve(1)
            .filter(|_| peer.is_hub() && len <= hub_message::MOST)
        else {
            return false;
        };
        let mut payload = vec![0; len.next_multiple_of(PADDING) + DATA_OVERHEAD];
        let (magic, rest) = payload[DATA_HEADER_LEN..].split_at_mut(hub_message::MAGIC.len());
        magic.copy_from_slice(&hub_message::MAGIC);
        rest[..content.len()].copy_from_slice(content);
        session.seal(counter, &mut payload);
        peer.activity.sent_control(payload.len() as u64);
        self.transmits.push_back(Transmit {
            endpoint,
            payload,
            class: 0,
        });
        true
    }

    fn send_data(&mut self, peer: &Peer, session: &Session, packet: &[u8], now: Time) -> bool {
        let (Some(endpoint), Some(counter)) = (peer.endpoint(), session.reserve(1)) else {
            return false;
        };
        let mut payload = vec![0; packet.len() + PADDING + DATA_OVERHEAD];
        payload[16..16 + packet.len()].copy_from_slice(packet);
        let mtu = self.tunnel.mtu();
        let Some(len) = seal(session, counter, &mut payload, packet.len(), mtu) else {
            return false;
        };
        payload.truncate(len);
        let amount = Amount::one(len as u64);
        peer.activity.sent(now, amount, !packet.is_empty());
        self.transmits.push_back(Transmit {
            endpoint,
            payload,
            class: ecn::class(packet, peer.handling().copy_dscp),
        });
        if session.renew_on_send(now) {
            self.want_handshake(peer.id(), now);
        }
        true
    }
}
