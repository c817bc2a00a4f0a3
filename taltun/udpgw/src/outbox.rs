//! What waits to be written to a client: whole frames, at most [`QUEUE`] bytes of them.
//!
//! The client's connections add to it, each when its socket has something; the client's task
//! then writes all there is at once. While the client reads too slowly, what doesn't fit is
//! lost, as UDP is.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Waker};

use crate::codec;
use crate::options::QUEUE;

/// An emptied queue keeps no more memory than that.
const KEPT: usize = 16 << 10;

/// The queue of a client.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<u8>,
    /// So many bytes of them are written.
    written: usize,
    /// Who writes them.
    waker: Option<Waker>,
}

/// Why a datagram isn't in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No frame holds it.
    TooLarge,
    /// The queue is full.
    Full,
}

impl Outbox {
    /// Adds a datagram and wakes who writes it.
    pub(crate) fn push(&self, id: u16, address: SocketAddr, payload: &[u8]) -> Result<(), Refused> {
        let state = &mut *self.state.borrow_mut();
        let length = codec::frame_length(address, payload.len()).ok_or(Refused::TooLarge)?;
        let waiting = state.frames.len() - state.written;
        if waiting + length > QUEUE {
            return Err(Refused::Full);
        }
        if state.frames.len() + length > QUEUE {
            state.frames.drain(..state.written);
            state.written = 0;
        }
        let capacity = state.frames.capacity();
        if capacity - state.frames.len() < length {
            // By doubling, and never beyond the limit.
            let more = length.max(capacity.min(QUEUE - capacity));
            state
                .frames
                .reserve_exact(more.min(QUEUE - state.frames.len()));
        }
        codec::encode(&mut state.frames, id, address, payload);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Who is to be woken when something is added.
    pub(crate) fn register(&self, context: &Context<'_>) {
        let waker = &mut self.state.borrow_mut().waker;
        match waker {
            Some(known) if known.will_wake(context.waker()) => {}
            _ => *waker = Some(context.waker().clone()),
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.borrow().frames.is_empty()
    }

    /// Gives `write` all that waits; it says how much of that it wrote.
    pub(crate) fn write(&self, write: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        state.written += write(&state.frames[state.written..])?;
        if state.written == state.frames.len() {
            state.frames.clear();
            state.written = 0;
            if state.frames.capacity() > KEPT {
                state.frames = Vec::new();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "192.0.2.1:9";

    #[test]
    fn what_does_not_fit_is_refused_and_the_rest_stays_whole() {
        let outbox = Outbox::default();
        let from = FROM.parse().unwrap();
        let mut expected = Vec::new();
        let mut number = 0_u32;
        let mut refused = 0;
        let mut written = Vec::new();
        for turn in 0..2000_u32 {
            let payload = number.to_le_bytes().repeat(250);
            match outbox.push(7, from, &payload) {
                Ok(()) => {
                    codec::encode(&mut expected, 7, from, &payload);
                    number += 1;
                }
                Err(error) => {
                    assert_eq!(error, Refused::Full);
                    refused += 1;
                }
            }
            assert!(outbox.state.borrow().frames.capacity() <= QUEUE);
            if turn % 3 == 0 {
                outbox
                    .write(|bytes| {
                        let some = bytes.len().min(1777);
                        written.extend_from_slice(&bytes[..some]);
                        Ok(some)
                    })
                    .unwrap();
            }
        }
        assert!(refused > 100, "{refused}");
        while !outbox.is_empty() {
            outbox
                .write(|bytes| {
                    written.extend_from_slice(bytes);
                    Ok(bytes.len())
                })
                .unwrap();
        }
        assert!(written == expected);
        assert_eq!(outbox.state.borrow().frames.capacity(), 0);
    }

    #[test]
    fn what_no_frame_holds_is_refused() {
        let outbox = Outbox::default();
        let from = FROM.parse().unwrap();
        assert_eq!(
            outbox.push(1, from, &vec![0; 65_527]),
            Err(Refused::TooLarge)
        );
        assert_eq!(outbox.push(1, from, &vec![0; 65_526]), Ok(()));
    }
}
