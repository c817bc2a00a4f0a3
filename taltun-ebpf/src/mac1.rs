//! mac1: whether the sender of a handshake message knows our public key.

use aya_ebpf::programs::XdpContext;

use taltun_common::blake2s::{BLOCK_LEN, Block, More, State, compress};
use taltun_common::wire::{INITIATION_LEN, INITIATION_MAC1, RESPONSE_LEN, RESPONSE_MAC1};

use crate::maps;
use crate::parse::{Datagram, Word};

const INITIATION_WORDS: usize = INITIATION_LEN / size_of::<Word>();
const INITIATION_MAC1_WORD: usize = INITIATION_MAC1 / size_of::<Word>();
const BLOCK_WORDS: usize = BLOCK_LEN / size_of::<Word>();
const RESPONSE_WORDS: usize = RESPONSE_LEN / size_of::<Word>();
const RESPONSE_MAC1_WORD: usize = RESPONSE_MAC1 / size_of::<Word>();

/// Bytes that are hashed before the message: the key's block.
const KEY_LEN: usize = BLOCK_LEN;

/// Whether the initiation `offset` bytes into the UDP payload has the right mac1; `None` if
/// it isn't in reach. `keyed` is the state after the key.
#[inline(always)]
pub fn initiation(
    frame: &XdpContext,
    datagram: &Datagram,
    offset: usize,
    keyed: &State,
) -> Option<bool> {
    let message: &[Word; INITIATION_WORDS] = datagram.payload_at(frame, offset)?;
    let Work { state, block } = maps::mac1_work()?;
    *state = *keyed;
    fill(block, message, 0, INITIATION_MAC1_WORD);
    let hashed = (KEY_LEN + BLOCK_LEN) as u32;
    compress(state, block, hashed, More::Follows);
    fill(block, message, BLOCK_WORDS, INITIATION_MAC1_WORD);
    let hashed = (KEY_LEN + INITIATION_MAC1) as u32;
    let first = compress(state, block, hashed, More::Ends);
    Some(matches(first, state, message, INITIATION_MAC1_WORD))
}

/// The same for a response at the start of the UDP payload.
#[inline(always)]
pub fn response(frame: &XdpContext, datagram: &Datagram, keyed: &State) -> Option<bool> {
    let message: &[Word; RESPONSE_WORDS] = datagram.payload_at(frame, 0)?;
    let Work { state, block } = maps::mac1_work()?;
    *state = *keyed;
    fill(block, message, 0, RESPONSE_MAC1_WORD);
    let hashed = (KEY_LEN + RESPONSE_MAC1) as u32;
    let first = compress(state, block, hashed, More::Ends);
    Some(matches(first, state, message, RESPONSE_MAC1_WORD))
}

/// What a hash is worked out in: it has a place in a map, because the stack has none left.
pub struct Work {
    state: State,
    block: Block,
}

/// Fills a block with the message from word `from` on, and with zeros from word `to` on.
/// Written out, because the verifier of older kernels only follows constant offsets into a
/// frame, and because words that go one by one to where they belong need no stack.
#[inline(always)]
fn fill<const N: usize>(block: &mut Block, message: &[Word; N], from: usize, to: usize) {
    let word = |at: usize| match message.get(from + at) {
        Some(bytes) if from + at < to => u32::from_le_bytes(*bytes),
        _ => 0,
    };
    block[0] = word(0);
    block[1] = word(1);
    block[2] = word(2);
    block[3] = word(3);
    block[4] = word(4);
    block[5] = word(5);
    block[6] = word(6);
    block[7] = word(7);
    block[8] = word(8);
    block[9] = word(9);
    block[10] = word(10);
    block[11] = word(11);
    block[12] = word(12);
    block[13] = word(13);
    block[14] = word(14);
    block[15] = word(15);
}

/// Whether the MAC in the message, from this word on, is the state's. It need not take the
/// same time for all: nothing here is secret, mac1's key least of all.
#[inline(always)]
fn matches<const N: usize>(first: u32, state: &State, message: &[Word; N], at: usize) -> bool {
    first == u32::from_le_bytes(message[at])
        && state[1] == u32::from_le_bytes(message[at + 1])
        && state[2] == u32::from_le_bytes(message[at + 2])
        && state[3] == u32::from_le_bytes(message[at + 3])
}
