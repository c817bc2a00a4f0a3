//! What the MACs of a handshake message prove: mac1 that its sender knows our public key,
//! mac2 that it also receives at the address it sends from.

use aya_ebpf::programs::XdpContext;

use taltun_common::blake2s::{BLOCK_LEN, Block, MAC_LEN, More, State, before_key, compress};
use taltun_common::wire::{
    INITIATION_LEN, INITIATION_MAC1, INITIATION_MAC2, RESPONSE_LEN, RESPONSE_MAC1,
};

use crate::maps::{self, MacScratch};
use crate::parse::{Datagram, Word};

const BLOCK_WORDS: usize = BLOCK_LEN / size_of::<Word>();
const INITIATION_WORDS: usize = INITIATION_LEN / size_of::<Word>();
const INITIATION_MAC1_WORD: usize = INITIATION_MAC1 / size_of::<Word>();
const INITIATION_MAC2_WORD: usize = INITIATION_MAC2 / size_of::<Word>();
const RESPONSE_WORDS: usize = RESPONSE_LEN / size_of::<Word>();
const RESPONSE_MAC1_WORD: usize = RESPONSE_MAC1 / size_of::<Word>();

/// Bytes that are hashed before the message: the key's block.
const KEY_LEN: usize = BLOCK_LEN;

/// What a cookie covers: an address and a port.
const COOKIE_INPUT: usize = 16 + 2;

/// Whether mac1 is right in the initiation `offset` bytes into the UDP payload; `None` if
/// it isn't in reach. `keyed` is the state after the key.
#[inline(always)]
pub fn is_initiation_right(
    frame: &XdpContext,
    datagram: &Datagram<'_>,
    offset: usize,
    keyed: &State,
) -> Option<bool> {
    let message: &[Word; INITIATION_WORDS] = datagram.payload_at(frame, offset)?;
    let MacScratch { state, block } = maps::mac_scratch()?;
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
pub fn is_response_right(
    frame: &XdpContext,
    datagram: &Datagram<'_>,
    keyed: &State,
) -> Option<bool> {
    let message: &[Word; RESPONSE_WORDS] = datagram.payload_at(frame, 0)?;
    let MacScratch { state, block } = maps::mac_scratch()?;
    *state = *keyed;
    fill(block, message, 0, RESPONSE_MAC1_WORD);
    let hashed = (KEY_LEN + RESPONSE_MAC1) as u32;
    let first = compress(state, block, hashed, More::Ends);
    Some(matches(first, state, message, RESPONSE_MAC1_WORD))
}

/// Whether the initiation at the start of the UDP payload claims to have a cookie.
#[inline(always)]
pub fn has_mac2(frame: &XdpContext, datagram: &Datagram<'_>) -> Option<bool> {
    let message: &[Word; INITIATION_WORDS] = datagram.payload_at(frame, 0)?;
    let word = |at: usize| u32::from_le_bytes(message[INITIATION_MAC2_WORD + at]);
    Some(word(0) | word(1) | word(2) | word(3) != 0)
}

/// Whether its cookie is the one that its source was given. `secret` is the state after the
/// key that cookies are made with.
#[inline(always)]
pub fn is_cookie_right(
    frame: &XdpContext,
    datagram: &Datagram<'_>,
    secret: &State,
) -> Option<bool> {
    let message: &[Word; INITIATION_WORDS] = datagram.payload_at(frame, 0)?;
    let MacScratch { state, block } = maps::mac_scratch()?;

    // The cookie: a MAC of the address, in its IPv6 form, and of the port.
    let port = datagram.headers.source_port.to_be_bytes();
    // SAFETY: sixteen bytes are four times four, and neither form has an alignment.
    let source: &[Word; 4] = unsafe { &*(&raw const datagram.headers.source).cast() };
    *state = *secret;
    clear(block);
    // Volatile: else the compiler keeps each byte of it on the stack from when it was parsed.
    let word = |at: usize| {
        // SAFETY: a reference is valid to read from.
        u32::from_le_bytes(unsafe { core::ptr::read_volatile(&raw const source[at]) })
    };
    block[0] = word(0);
    block[1] = word(1);
    block[2] = word(2);
    block[3] = word(3);
    block[4] = u32::from_le_bytes([port[0], port[1], 0, 0]);
    let hashed = (KEY_LEN + COOKIE_INPUT) as u32;
    let cookie = compress(state, block, hashed, More::Ends);

    // mac2: a MAC of all before it, whose key is the cookie.
    clear(block);
    block[0] = cookie;
    block[1] = state[1];
    block[2] = state[2];
    block[3] = state[3];
    *state = const { before_key(MAC_LEN) };
    compress(state, block, KEY_LEN as u32, More::Follows);
    fill(block, message, 0, INITIATION_MAC2_WORD);
    let hashed = (KEY_LEN + BLOCK_LEN) as u32;
    compress(state, block, hashed, More::Follows);
    fill(block, message, BLOCK_WORDS, INITIATION_MAC2_WORD);
    let hashed = (KEY_LEN + 2 * BLOCK_LEN) as u32;
    compress(state, block, hashed, More::Follows);
    fill(block, message, 2 * BLOCK_WORDS, INITIATION_MAC2_WORD);
    let hashed = (KEY_LEN + INITIATION_MAC2) as u32;
    let first = compress(state, block, hashed, More::Ends);
    Some(matches(first, state, message, INITIATION_MAC2_WORD))
}

/// Fills a block with zeros.
#[inline(always)]
fn clear(block: &mut Block) {
    fill::<0>(block, &[], 0, 0);
}

/// Fills a block with the message from word `from` on, and with zeros from word `to` on.
/// Written out, because the verifier of older kernels only follows constant offsets into a
/// frame. And volatile: words that the compiler kept from one MAC to the next would go to the
/// stack, which has no room, and for many zeros it would call a function that no verifier
/// takes.
#[inline(always)]
fn fill<const N: usize>(block: &mut Block, message: &[Word; N], from: usize, to: usize) {
    let mut put = |at: usize| {
        let word = match message.get(from + at) {
            Some(bytes) if from + at < to => {
                let bytes: &Word = bytes;
                // SAFETY: a reference is valid to read from.
                u32::from_le_bytes(unsafe { core::ptr::read_volatile(bytes) })
            }
            _ => 0,
        };
        let place: &mut u32 = &mut block[at];
        // SAFETY: a reference is valid to write to.
        unsafe { core::ptr::write_volatile(place, word) }
    };
    put(0);
    put(1);
    put(2);
    put(3);
    put(4);
    put(5);
    put(6);
    put(7);
    put(8);
    put(9);
    put(10);
    put(11);
    put(12);
    put(13);
    put(14);
    put(15);
}

/// Whether the MAC in the message, from this word on, is the state's. It need not take constant
/// time: an attacker who measures it learns one MAC for one message, a word of it in 2^32 tries.
#[inline(always)]
fn matches<const N: usize>(first: u32, state: &State, message: &[Word; N], at: usize) -> bool {
    first == u32::from_le_bytes(message[at])
        && state[1] == u32::from_le_bytes(message[at + 1])
        && state[2] == u32::from_le_bytes(message[at + 2])
        && state[3] == u32::from_le_bytes(message[at + 3])
}
