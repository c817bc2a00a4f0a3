//! A batch in steps, so that several threads can share its cipher work.
//!
//! [`Batch::seal`] and [`Batch::open`] take one packet from end to end. Their work must follow
//! the order of the packets, except for the cipher, which is most of the work and touches nothing
//! but the packet. A [`CipherPlan`] separates the cipher:
//!
//! | step | order | by |
//! |---|---|---|
//! | find sessions, take counters | that of the packets | [`Batch::plan_seal`], [`Batch::plan_open`] |
//! | seal and open | any | [`CipherPlan::work`], cut by [`CipherWork::halves`], each part done by [`CipherWork::run`] |
//! | replay window, endpoint, source | that of the packets | [`Batch::accept`] |
//! | relay: the first two steps again | as above | [`Batch::plan_relay`], [`CipherPlan::work`] |
//!
//! The result is the same as with the one-step calls, to the byte. Beside that a plan's work takes
//! less time, as the cipher then has several packets at once to fill the lanes of vectors with.
//! There are no threads here: a
//! [`CipherWork`] can be sent to one, and needs neither lock nor memory there.

use std::ops::Range;
use std::sync::Arc;

use taltun_common::drops::DropReason;

use super::batch::{Batch, NotSealed, Opened, Sealed, pad, with_hop_limit};
use super::ip::Inner;
use super::messages::{DATA_HEADER_LEN, DATA_OVERHEAD};
use super::peer::Endpoint;
use super::session::Session;
use taltun_crypto::aead;

/// A message's fixed cost, in bytes that take as long: to set up the cipher and finish its tag.
const PER_MESSAGE: usize = 300;

/// Messages of one arena that are to be sealed or opened, each a piece of its own. Reused from batch to batch; [`Self::clear`] it in between.
#[derive(Debug, Default)]
pub struct CipherPlan {
    /// Those of the pieces, one a run of neighbours.
    sessions: Vec<Arc<Session>>,
    pieces: Vec<Piece>,
    /// Whether they came in another order than that of the arena.
    unsorted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Which of the pieces it is, in the order in which they came.
    number: u32,
    start: usize,
    end: usize,
    counter: u64,
    /// Which of the plan's sessions.
    session: u32,
    task: Task,
}

#[derive(Debug, Clone, Copy)]
enum Task {
    /// The packet is so long, and what follows is padding.
    Seal { len: u32 },
    /// Whether it was authentic is known once it is done.
    Open { origin: u32, authentic: bool },
}

/// A message that was planned to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Where it is in the arena.
    pub place: Range<usize>,
    /// What the caller said about where it came from.
    pub origin: u32,
    /// The index it was addressed to.
    pub receiver: u32,
    counter: u64,
    authentic: bool,
}

/// Cipher work of a plan, whole or a part of it, with the part of the arena that it is in.
#[derive(Debug)]
pub struct CipherWork<'a> {
    arena: &'a mut [u8],
    /// Where this part of the arena starts in the whole.
    base: usize,
    pieces: &'a mut [Piece],
    sessions: &'a [Arc<Session>],
    weight: usize,
}

impl CipherPlan {
    /// Room for `capacity` messages without allocating again.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            sessions: Vec::with_capacity(capacity),
            pieces: Vec::with_capacity(capacity),
            unsorted: false,
        }
    }

    /// Forgets all messages, keeping the memory.
    pub fn clear(&mut self) {
        self.sessions.clear();
        self.pieces.clear();
        self.unsorted = false;
    }

    /// The cipher work on `arena`, in which the messages are.
    ///
    /// # Panics
    /// When two of them overlap: such work could not be cut.
    pub fn work<'a>(&'a mut self, arena: &'a mut [u8]) -> CipherWork<'a> {
        if self.unsorted {
            self.pieces.sort_unstable_by_key(|piece| piece.start);
            let mut ends = 0;
            for piece in &self.pieces {
                assert!(ends <= piece.start, "the pieces of a plan don't overlap");
                ends = piece.end;
            }
        }
        CipherWork {
            arena,
            base: 0,
            weight: self.pieces.iter().map(Piece::weight).sum(),
            pieces: &mut self.pieces,
            sessions: &self.sessions,
        }
    }

    /// The messages that were to be opened, in the order in which they came, for
    /// [`Batch::accept`] once all work is done.
    pub fn opened(&mut self) -> impl Iterator<Item = Planned> {
        if self.unsorted {
            self.pieces.sort_unstable_by_key(|piece| piece.number);
        }
        self.pieces.iter().filter_map(|piece| match piece.task {
            Task::Seal { .. } => None,
            Task::Open { origin, authentic } => Some(Planned {
                place: piece.start..piece.end,
                origin,
                receiver: self.sessions[piece.session as usize].local_index(),
                counter: piece.counter,
                authentic,
            }),
        })
    }

    /// Which of the sessions this is, taken in if it isn't the last one's again.
    fn session(&mut self, session: &Arc<Session>) -> u32 {
        let same = |last: &Arc<Session>| Arc::ptr_eq(last, session);
        if !self.sessions.last().is_some_and(same) {
            self.sessions.push(Arc::clone(session));
        }
        self.sessions.len() as u32 - 1
    }

    fn push(&mut self, place: Range<usize>, counter: u64, session: u32, task: Task) {
        // A piece left out would leave as it is: in the clear.
        assert!(place.start <= place.end, "a piece ends behind its start");
        let end = self.pieces.last().map_or(0, |last| last.end);
        self.unsorted |= place.start < end;
        self.pieces.push(Piece {
            number: self.pieces.len() as u32,
            start: place.start,
            end: place.end,
            counter,
            session,
            task,
        });
    }
}

impl Piece {
    fn weight(&self) -> usize {
        self.end - self.start + PER_MESSAGE
    }
}

impl CipherWork<'_> {
    /// How long it takes, in bytes of a large message.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Cuts it into two parts of about the same weight; gives it back when it is a single
    /// message, or none.
    pub fn halves(self) -> Result<(Self, Self), Self> {
        let Some(last) = self.pieces.len().checked_sub(1).filter(|last| *last > 0) else {
            return Err(self);
        };
        let mut first_weight = 0;
        let mut cut = 0;
        while cut < last && (cut == 0 || first_weight < self.weight / 2) {
            first_weight += self.pieces[cut].weight();
            cut += 1;
        }
        let (first_pieces, second_pieces) = self.pieces.split_at_mut(cut);
        let middle = second_pieces[0].start;
        let (first_arena, second_arena) = self.arena.split_at_mut(middle - self.base);
        let first = Self {
            arena: first_arena,
            base: self.base,
            pieces: first_pieces,
            sessions: self.sessions,
            weight: first_weight,
        };
        let second = Self {
            arena: second_arena,
            base: middle,
            pieces: second_pieces,
            sessions: self.sessions,
            weight: self.weight - first_weight,
        };
        Ok((first, second))
    }

    /// Does it.
    pub fn run(self) {
        let Self {
            mut arena,
            mut base,
            pieces,
            sessions,
            ..
        } = self;
        for pieces in pieces.chunks_mut(aead::BATCH) {
            // The arena up to the end of these, from which each takes its message.
            let end = pieces.last().map_or(base, |last| last.end);
            let (part, rest) = std::mem::take(&mut arena).split_at_mut(end - base);
            run_batch(part, base, pieces, sessions);
            (arena, base) = (rest, end);
        }
    }
}

/// Does as much of it as the cipher takes at once.
fn run_batch(
    mut arena: &mut [u8],
    mut base: usize,
    pieces: &mut [Piece],
    sessions: &[Arc<Session>],
) {
    let mut sealing: [_; aead::BATCH] = std::array::from_fn(|_| aead::Message::none());
    let mut opening: [_; aead::BATCH] = std::array::from_fn(|_| aead::Message::none());
    let (mut to_seal, mut to_open) = (0, 0);
    for piece in &*pieces {
        let (_, from_it) = std::mem::take(&mut arena).split_at_mut(piece.start - base);
        let (message, rest) = from_it.split_at_mut(piece.end - piece.start);
        (arena, base) = (rest, piece.end);
        let session = &sessions[piece.session as usize];
        match piece.task {
            Task::Seal { len } => {
                pad(message, len as usize);
                sealing[to_seal] = session.to_seal(piece.counter, message);
                to_seal += 1;
            }
            Task::Open { .. } => {
                opening[to_open] = session.to_open(piece.counter, message);
                to_open += 1;
            }
        }
    }
    aead::seal_all(&mut sealing[..to_seal]);
    aead::open_all(&mut opening[..to_open]);
    let mut opened = opening.iter();
    for piece in pieces {
        if let Task::Open { authentic, .. } = &mut piece.task {
            *authentic = opened.next().is_some_and(aead::Message::is_authentic);
        }
    }
}

impl Batch<'_> {
    /// The first step of [`Self::seal`], for the buffer at `place` in the arena: all but the
    /// cipher. The datagram must not leave before the plan's work is done.
    pub fn plan_seal(
        &mut self,
        plan: &mut CipherPlan,
        arena: &[u8],
        place: Range<usize>,
        len: usize,
    ) -> Result<Sealed, NotSealed> {
        let start = place.start;
        let buffer = &arena[place];
        let hop_limit = self.enter_for(buffer, len)?;
        with_hop_limit(self.plan_in_run(plan, buffer, start, len), hop_limit)
    }

    /// The same of [`Self::relay`], for a message that [`Self::accept`] said is to be relayed.
    pub fn plan_relay(
        &mut self,
        plan: &mut CipherPlan,
        arena: &mut [u8],
        place: Range<usize>,
        inner: &Inner,
    ) -> Result<Sealed, NotSealed> {
        let start = place.start;
        let buffer = &mut arena[place];
        self.enter_for_relay(buffer, inner)?;
        self.plan_in_run(plan, buffer, start, inner.len)
    }

    /// The first step of [`Self::open`], for the message at `place` in the arena: finds its
    /// session. `origin` is the caller's, to know by where the message came from.
    pub fn plan_open(
        &mut self,
        plan: &mut CipherPlan,
        receiver: u32,
        counter: u64,
        place: Range<usize>,
        origin: u32,
    ) -> Result<(), DropReason> {
        let same = |last: &Arc<Session>| last.local_index() == receiver;
        if !plan.sessions.last().is_some_and(same) {
            plan.sessions
                .push(Arc::clone(self.session_behind(receiver)?));
        }
        let at = plan.sessions.len() - 1;
        if !plan.sessions[at].may_receive(self.now()) {
            return Err(DropReason::Expired);
        }
        let authentic = false;
        plan.push(place, counter, at as u32, Task::Open { origin, authentic });
        Ok(())
    }

    /// The last step of [`Self::open`], once the plan's work is done: everything that needs
    /// an authentic message, which comes in the order of the messages.
    pub fn accept(
        &mut self,
        planned: &Planned,
        arena: &[u8],
        from: Endpoint,
    ) -> Result<Opened, DropReason> {
        if !planned.authentic {
            return Err(DropReason::Authentication);
        }
        self.enter_inbound(planned.receiver)?;
        let message = &arena[planned.place.clone()];
        let packet = &message[DATA_HEADER_LEN..message.len() - (DATA_OVERHEAD - DATA_HEADER_LEN)];
        self.accept_in_run(planned.counter, message.len() as u64, packet, from)
    }

    fn plan_in_run(
        &mut self,
        plan: &mut CipherPlan,
        buffer: &[u8],
        start: usize,
        len: usize,
    ) -> Result<Sealed, NotSealed> {
        let (session, reserved) = self.reserve_in_run(buffer, len)?;
        let session = plan.session(session);
        let task = Task::Seal { len: len as u32 };
        let place = start..start + reserved.message_len;
        plan.push(place, reserved.counter, session, task);
        Ok(reserved.sealed())
    }
}
