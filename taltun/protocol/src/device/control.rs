//! Control messages: hellos to initiators that understand them, and answers to what peers ask.
//!
//! A responder whose initiator marked its timestamp says hello as soon as the session may send, and
//! says it again while no answer comes. Nobody else is ever sent a control message first: an
//! initiator sends its own only after a hello.

use std::sync::Arc;
use std::time::Duration;

use super::path_choice::HopSettings;
use super::{Control, Device};
use crate::control_message::{ControlMessage, Heard};
use crate::peer::PeerId;
use crate::time::Time;

/// From one hello to the next while none is answered.
const REPEAT: Duration = Duration::from_secs(1);
/// How often it is said at the most.
const MOST: u8 = 4;

/// The hello to a peer, and whether the peer understands it.
#[derive(Debug, Default)]
pub(super) struct Hello {
    /// The one without an answer.
    pending: Option<Pending>,
    /// The peer sent a control message, or the mark, since the last handshake.
    understood: bool,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    next: Time,
    left: u8,
}

impl Hello {
    /// A new session begins: another program may have the peer's key by now.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// When it is to be said again.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.pending.as_ref().map(|pending| pending.next)
    }
}

impl Control {
    /// Whether our initiations say that we understand control messages: where there is something to
    /// choose by them, to a peer that uses them, and from a hub with a range of ports. Nobody else learns what program we are.
    pub(super) fn wants_control(&self, hop: &HopSettings) -> bool {
        hop.always_marked || self.places.are_several() || self.hello.understood
    }
}

impl Device {
    /// A session that the peer initiated is confirmed.
    pub(super) fn begin_hello(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let session = control.peer.sending_session(now);
        let marked = session.is_some_and(|session| session.takes_control());
        control.hello.pending = None;
        let random = self.randomness.bytes();
        if marked && let Ok(random) = random {
            control.hello.understood = true;
            control.hello.pending = Some(Pending {
                id: u64::from_ne_bytes(random),
                next: now,
                left: MOST,
            });
            self.repeat_hello(id, now);
        }
        self.follow_paths(id, now);
    }

    /// Says hello if it is time.
    pub(super) fn repeat_hello(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let peer = Arc::clone(&control.peer);
        let Some(pending) = control.hello.pending.as_mut().filter(|it| it.next <= now) else {
            return;
        };
        let Some((endpoint, left)) = peer.endpoint().zip(pending.left.checked_sub(1)) else {
            control.hello.pending = None;
            return;
        };
        (pending.left, pending.next) = (left, now + REPEAT);
        let hello = ControlMessage::Hello(pending.id);
        self.send_control(&peer, hello, endpoint, now);
    }

    /// Does what a control message asks.
    pub(super) fn handle_control(&mut self, heard: &Heard, now: Time) {
        let Some(control) = self.peers.get_mut(&heard.peer) else {
            return;
        };
        control.hello.understood = true;
        let peer = Arc::clone(&control.peer);
        match heard.message {
            ControlMessage::Hello(id) | ControlMessage::Probe(id) => {
                // To where it came from, which may be another place than the peer's own, and from
                // the address that it came to.
                let reply = ControlMessage::Reply(id);
                self.send_control(&peer, reply, heard.from, now);
            }
            ControlMessage::Reply(id) => {
                let pending = &mut control.hello.pending;
                if pending.take_if(|pending| pending.id == id).is_none() {
                    self.take_answer(heard, id, now);
                }
            }
        }
        self.follow_paths(heard.peer, now);
        self.schedule(heard.peer, now);
    }
}
