//! A ring from one thread to the reader of a watch: what is told of packets in one queue, their
//! bytes in another.

use rtrb::{Consumer, Producer, RingBuffer};

use super::seen::{Observed, Seen};
use crate::protocol::time::Time;

/// Packets that may wait. A reader looks every 20 ms, so this is 800,000 a second of each thread.
const PACKETS: usize = 16_384;

/// The end that a thread writes to.
#[derive(Debug)]
pub(super) struct Writer {
    seen: Producer<Seen>,
    bytes: Producer<u8>,
}

/// The end that is read.
#[derive(Debug)]
pub(super) struct Reader {
    seen: Consumer<Seen>,
    bytes: Consumer<u8>,
}

/// A ring that so many bytes may wait in.
pub(super) fn new(room: usize) -> (Writer, Reader) {
    let (seen, read_seen) = RingBuffer::new(PACKETS);
    let (bytes, read_bytes) = RingBuffer::new(room);
    let writer = Writer { seen, bytes };
    let reader = Reader {
        seen: read_seen,
        bytes: read_bytes,
    };
    (writer, reader)
}

impl Writer {
    /// Takes it in with up to `snap` of its bytes; false where there is no room.
    pub(super) fn push(&mut self, mut seen: Seen, bytes: &[u8], snap: usize) -> bool {
        let bytes = &bytes[..bytes.len().min(snap)];
        if self.seen.is_full() || self.bytes.push_entire_slice(bytes).is_err() {
            return false;
        }
        seen.kept = bytes.len();
        // There was room, and nobody else takes it.
        self.seen.push(seen).is_ok()
    }
}

impl Reader {
    /// When the next one was seen.
    pub(super) fn peek(&self) -> Option<Time> {
        self.seen.peek().ok().map(|seen| seen.at)
    }

    /// Gives the next one to `each`, by `scratch` if it lies in two parts; false without any.
    pub(super) fn next(
        &mut self,
        scratch: &mut Vec<u8>,
        each: &mut dyn FnMut(&Observed<'_>),
    ) -> bool {
        let Ok(seen) = self.seen.pop() else {
            return false;
        };
        // Its bytes were written before it was.
        let Ok(chunk) = self.bytes.read_chunk(seen.kept) else {
            return false;
        };
        let bytes = match chunk.as_slices() {
            (bytes, []) => bytes,
            (first, second) => {
                scratch.clear();
                scratch.extend_from_slice(first);
                scratch.extend_from_slice(second);
                scratch
            }
        };
        each(&Observed { seen, bytes });
        chunk.commit_all();
        true
    }

    /// Whether nothing will come any more.
    pub(super) fn has_ended(&self) -> bool {
        // In this order: what was written last is there once its writer is gone.
        self.seen.is_abandoned() && self.seen.is_empty()
    }
}
