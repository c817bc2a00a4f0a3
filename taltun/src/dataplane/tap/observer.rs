//! A thread's side: what is wanted of a batch is staged, and copied to the rings at its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ring::{self, Writer};
use super::seen::{Fate, Place, Seen, Subject};
use super::taps::{Shared, Taps, lock};
use crate::crypto::PublicKey;
use crate::dataplane::runs::DatagramRuns;
use crate::protocol::peer::{Endpoint, Peer};
use crate::protocol::time::Time;

/// What may be staged of one batch: of each datagram that it may have, that it arrived, its packet,
/// and that it leaves.
const STAGED: usize = 8_192;

/// What a thread observes, and for whom.
#[derive(Debug, Default)]
pub struct Observer {
    generation: u64,
    /// Whether anybody watches.
    on: bool,
    /// Whether anybody wants all datagrams.
    outer: bool,
    /// When the batch began.
    now: Option<Time>,
    /// Most bytes that anybody wants of one.
    snap: usize,
    /// Bytes that may be staged.
    room: usize,
    writers: Vec<ToWatch>,
    staged: Vec<Seen>,
    /// Their bytes, one behind the other.
    bytes: Vec<u8>,
    /// Datagrams that arrived and whose fate isn't known yet, by where they start in the arena.
    arrived: Vec<(usize, usize)>,
    /// How many of them have one.
    settled: usize,
    /// Whom the datagrams of the batch are for, in their order.
    leaving: Vec<(usize, Option<PublicKey>)>,
    left_out: u64,
    /// Whether there was room for what was told last.
    is_last_staged: bool,
}

#[derive(Debug)]
struct ToWatch {
    watch: Arc<Shared>,
    writer: Writer,
}

impl Observer {
    /// A batch begins.
    #[inline]
    pub(in crate::dataplane) fn begin(&mut self, taps: &Taps, now: Time) {
        if taps.generation.load(Ordering::Relaxed) != self.generation {
            self.follow(taps);
        }
        self.now = Some(now);
    }

    /// Whether anybody watches. Batches take all packets one step further at a time then, so that
    /// they lie in the clear when their fate is known.
    #[inline]
    pub(in crate::dataplane) fn is_on(&self) -> bool {
        self.on
    }

    /// Whether anybody wants all datagrams.
    #[inline]
    pub(in crate::dataplane) fn wants_outer(&self) -> bool {
        self.outer
    }

    /// Makes a ring for each watch that there is by now.
    #[cold]
    fn follow(&mut self, taps: &Taps) {
        let watches = lock(&taps.watches);
        self.generation = taps.generation.load(Ordering::Relaxed);
        self.writers
            .retain(|to| watches.iter().any(|watch| Arc::ptr_eq(watch, &to.watch)));
        for watch in watches.iter() {
            if self.writers.iter().any(|to| Arc::ptr_eq(watch, &to.watch)) {
                continue;
            }
            let (writer, reader) = ring::new(watch.wants.room);
            lock(&watch.readers).push(reader);
            self.writers.push(ToWatch {
                watch: Arc::clone(watch),
                writer,
            });
        }
        drop(watches);
        let wants = || self.writers.iter().map(|to| &to.watch.wants);
        self.on = !self.writers.is_empty();
        self.outer = wants().any(|wants| wants.outer);
        self.snap = wants().map(|wants| wants.snap).max().unwrap_or_default();
        self.room = wants().map(|wants| wants.room).max().unwrap_or_default();
        // The memory for it goes with the last of them.
        let staged = if self.on { STAGED } else { 0 };
        self.staged = Vec::with_capacity(staged);
        self.bytes = Vec::with_capacity(if self.on { self.room } else { 0 });
        self.arrived = Vec::with_capacity(if self.outer { STAGED } else { 0 });
        self.leaving = Vec::with_capacity(if self.outer { STAGED } else { 0 });
    }

    /// What became of something, or of so many of which nothing else is known.
    pub(in crate::dataplane) fn told(&mut self, fate: Fate, subject: Subject<'_>, packets: u64) {
        match subject {
            Subject::Told => return,
            Subject::ToldBefore { to } => return self.amend(fate, to),
            _ => {}
        }
        let (mut seen, bytes) = subject.seen(self.now(), fate);
        seen.packets = packets;
        self.stage(seen, bytes);
    }

    /// What became of the packet that was told last, and whom it goes to.
    fn amend(&mut self, fate: Fate, to: Option<&Peer>) {
        if let Some(last) = self.staged.last_mut().filter(|_| self.is_last_staged) {
            last.fate = fate;
            if let Some(to) = to {
                last.to = Some(*to.public_key());
            }
        }
    }

    /// The packet that was told last waits on.
    pub(in crate::dataplane) fn take_back(&mut self) {
        if self.is_last_staged
            && let Some(last) = self.staged.pop()
        {
            self.is_last_staged = false;
            self.bytes.truncate(self.bytes.len() - last.kept);
        }
    }

    /// A datagram arrived that is about to be opened where it lies in the arena.
    pub(in crate::dataplane) fn arrived(&mut self, start: usize, datagram: &[u8], from: Endpoint) {
        let mut seen = Seen::new(self.now(), Place::Arrived, Fate::Waits);
        seen.has_endpoint(from);
        seen.len = datagram.len();
        let at = self.staged.len();
        if self.stage(seen, datagram) {
            self.arrived.push((start, at));
        }
    }

    /// What became of a datagram that arrived; whether the packet in it is told as well. False
    /// where it isn't staged. They are settled in the order in which they arrived.
    pub(in crate::dataplane) fn settle(
        &mut self,
        start: usize,
        fate: Fate,
        from: Option<&Peer>,
        held_packet: bool,
    ) -> bool {
        let open = self.arrived.get(self.settled..).unwrap_or_default();
        let Some(ahead) = open.iter().position(|(place, _)| *place == start) else {
            return false;
        };
        let at = self.settled + ahead;
        self.settled = at + 1;
        let seen = &mut self.staged[self.arrived[at].1];
        seen.fate = fate;
        seen.from = from.map(|peer| *peer.public_key());
        seen.held_packet = held_packet;
        true
    }

    /// What became of the packet in the datagram that was settled last.
    pub(in crate::dataplane) fn amend_settled(&mut self, fate: Fate) {
        let last = self.settled.checked_sub(1);
        if let Some((_, at)) = last.and_then(|last| self.arrived.get(last)) {
            self.staged[*at].fate = fate;
        }
    }

    /// Whom the datagram is for that starts there in the arena, and isn't sealed yet.
    pub(in crate::dataplane) fn is_for(&mut self, start: usize, to: Option<&Peer>) {
        if self.leaving.len() < STAGED {
            self.leaving.push((start, to.map(|to| *to.public_key())));
        }
    }

    /// Datagrams are about to leave.
    pub(in crate::dataplane) fn leave(&mut self, arena: &[u8], runs: &DatagramRuns) {
        let leaving = std::mem::take(&mut self.leaving);
        let mut known = leaving.iter().peekable();
        for run in runs.as_slice().iter().flat_map(|run| run.split()) {
            let mut seen = Seen::new(self.now(), Place::Leaves, Fate::Passed);
            seen.has_endpoint(run.endpoint);
            seen.held_packet = true;
            seen.len = run.len;
            seen.to = known
                .find(|(start, _)| *start == run.start)
                .and_then(|(_, to)| *to);
            self.stage(seen, &arena[run.start..run.start + run.len]);
        }
        self.leaving = leaving;
        self.leaving.clear();
    }

    fn now(&self) -> Time {
        self.now.unwrap_or(Time::START)
    }

    /// The batch ends: copies to each watch what it wants.
    #[inline]
    pub(in crate::dataplane) fn end(&mut self) {
        if self.on {
            self.hand_over();
        }
    }

    #[cold]
    fn hand_over(&mut self) {
        let left_out = std::mem::take(&mut self.left_out);
        for to in &mut self.writers {
            if left_out > 0 {
                to.watch.leave_out(left_out);
            }
            let mut start = 0;
            for seen in &self.staged {
                let bytes = &self.bytes[start..start + seen.kept];
                start += seen.kept;
                if to.watch.wants(seen) && !to.writer.push(*seen, bytes, to.watch.wants.snap) {
                    to.watch.leave_out(seen.packets);
                }
            }
        }
        self.staged.clear();
        self.bytes.clear();
        self.arrived.clear();
        self.settled = 0;
        self.leaving.clear();
        self.is_last_staged = false;
    }

    /// False where there is no room.
    fn stage(&mut self, mut seen: Seen, bytes: &[u8]) -> bool {
        let bytes = &bytes[..bytes.len().min(self.snap)];
        if self.staged.len() >= STAGED || self.bytes.len() + bytes.len() > self.room {
            self.left_out += seen.packets;
            self.is_last_staged = false;
            return false;
        }
        self.is_last_staged = true;
        seen.kept = bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.staged.push(seen);
        true
    }
}
