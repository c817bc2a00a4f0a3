//! ChaCha20-Poly1305 of many packets at once, whose vector lanes are filled across packets.
//!
//! Work for one packet alone leaves lanes empty: a small packet has fewer blocks than a register
//! has lanes, and the tag of any packet asks for powers of `r` before lanes can share it. Of a
//! batch, each lane takes what there is:
//!
//! | step | a lane holds |
//! |---|---|
//! | `ChaCha20` | a block of any packet, with its own key, nonce and number; sixteen blocks of one packet go in a row |
//! | Poly1305 | a packet, beside those that are about as long |
//!
//! Which lane holds what depends on lengths alone, and nothing is looked up by a secret.
//! What is opened is verified first; only what is authentic is decrypted.

mod chacha256;
mod chacha512;
mod pieces;
mod poly256;
mod poly512;

use crate::{KEY_LEN, TAG_LEN, poly1305, tags_eq};

/// Bytes of a block of `ChaCha20`.
const BLOCK_LEN: usize = 64;
/// The most blocks that are made at once.
const MOST_BLOCKS: usize = 16;
/// Bytes of as many blocks.
const RUN_LEN: usize = MOST_BLOCKS * BLOCK_LEN;
/// The most messages at once.
pub(super) const MOST_MESSAGES: usize = 64;
/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

static NO_KEY: [u8; KEY_LEN] = [0; KEY_LEN];

/// Key, counter, text and tag of a message.
pub(super) type Parts<'m, 'k> = (&'k [u8; KEY_LEN], u64, &'m mut [u8], &'m mut [u8; TAG_LEN]);

/// A message as lanes take it, whose key lives for `'k`.
pub(super) trait Message<'k> {
    /// All of one that is to be done in lanes.
    fn parts(&mut self) -> Option<Parts<'_, 'k>>;

    /// The text and tag of such a one.
    fn text_and_tag(&self) -> Option<(&[u8], &[u8; TAG_LEN])>;

    /// Takes note of whether it is authentic.
    fn set_authentic(&mut self, yes: bool);

    /// Whether it is.
    fn is_authentic(&self) -> bool;
}

/// A CPU that can do this, which a value of the type proves.
pub(super) trait Unit: Copy {
    /// Blocks that it makes at once.
    const BLOCKS: usize;
    /// Tags that it makes at once.
    const TAGS: usize;
    /// With fewer messages than this, tags are made one by one.
    const WORTH_TAGS: usize;

    /// Hides or shows the text of each block.
    fn xor(self, blocks: &mut Blocks<'_>);

    /// The same for what `text` has of whole runs, of which the first block has this number;
    /// gives back the rest, and the number of its first block.
    fn xor_runs<'a>(
        self,
        _key: &[u8; KEY_LEN],
        _counter: u64,
        first: u32,
        text: &'a mut [u8],
    ) -> (u32, &'a mut [u8]) {
        (first, text)
    }

    /// Tags of up to [`Self::TAGS`] texts.
    fn tags(self, one_time_keys: &[&[u8; 32]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]);

    /// The tag of a single text.
    fn tag(self, one_time_key: &[u8; 32], text: &[u8]) -> [u8; TAG_LEN] {
        let mut tag = [[0; TAG_LEN]];
        self.tags(&[one_time_key], &[text], &mut tag);
        tag[0]
    }
}

/// AVX-512 with IFMA.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// `None` on a CPU without it.
    pub(super) fn new() -> Option<Self> {
        let has_it = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma");
        has_it.then_some(Self(()))
    }
}

impl Unit for Avx512 {
    const BLOCKS: usize = 16;
    const TAGS: usize = poly512::LANES;
    const WORTH_TAGS: usize = 5;

    fn xor(self, blocks: &mut Blocks<'_>) {
        // SAFETY: that `self` exists proves that the CPU has what this takes.
        unsafe { chacha512::xor(blocks) }
    }

    fn xor_runs<'a>(
        self,
        key: &[u8; KEY_LEN],
        counter: u64,
        mut first: u32,
        mut text: &'a mut [u8],
    ) -> (u32, &'a mut [u8]) {
        while text.len() >= RUN_LEN {
            let Some((run, rest)) = text.split_first_chunk_mut::<RUN_LEN>() else {
                unreachable!("it is as long")
            };
            // SAFETY: as above.
            unsafe { chacha512::xor_run(key, counter, first, run) };
            first += MOST_BLOCKS as u32;
            text = rest;
        }
        (first, text)
    }

    fn tags(self, keys: &[&[u8; 32]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        // Lanes without a message of their own make the last one's tag once more.
        let last = texts.len() - 1;
        let keys = std::array::from_fn(|lane| keys[lane.min(last)]);
        let texts = std::array::from_fn(|lane| texts[lane.min(last)]);
        // SAFETY: as above.
        let made = unsafe { poly512::tags(keys, texts) };
        tags.copy_from_slice(&made[..=last]);
    }

    fn tag(self, one_time_key: &[u8; 32], text: &[u8]) -> [u8; TAG_LEN] {
        // SAFETY: as above.
        unsafe { poly1305::tag(one_time_key, text) }
    }
}

/// AVX2.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// `None` on a CPU without it.
    pub(super) fn new() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Unit for Avx2 {
    const BLOCKS: usize = chacha256::LANES;
    const TAGS: usize = poly256::LANES;
    const WORTH_TAGS: usize = 1;

    fn xor(self, blocks: &mut Blocks<'_>) {
        // SAFETY: that `self` exists proves that the CPU has what this takes.
        unsafe { chacha256::xor(blocks) }
    }

    fn tags(self, keys: &[&[u8; 32]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        let last = texts.len() - 1;
        let keys = std::array::from_fn(|lane| keys[lane.min(last)]);
        let texts = std::array::from_fn(|lane| texts[lane.min(last)]);
        // SAFETY: as above.
        let made = unsafe { poly256::tags(keys, texts) };
        tags.copy_from_slice(&made[..=last]);
    }
}

/// Blocks of `ChaCha20` that are made at once, one a lane, and the text that each hides.
pub(super) struct Blocks<'a> {
    len: usize,
    keys: [&'a [u8; KEY_LEN]; MOST_BLOCKS],
    /// The words of the nonce that aren't zero.
    low: [u32; MOST_BLOCKS],
    high: [u32; MOST_BLOCKS],
    /// Each block's number in its packet.
    numbers: [u32; MOST_BLOCKS],
    texts: [&'a mut [u8]; MOST_BLOCKS],
}

impl<'a> Blocks<'a> {
    fn new() -> Self {
        Self {
            len: 0,
            keys: [&NO_KEY; MOST_BLOCKS],
            low: [0; MOST_BLOCKS],
            high: [0; MOST_BLOCKS],
            numbers: [0; MOST_BLOCKS],
            texts: std::array::from_fn(|_| &mut [] as &mut [u8]),
        }
    }

    /// Takes one more, and does them all when there are as many as there are lanes.
    #[inline]
    fn push<U: Unit>(
        &mut self,
        unit: U,
        key: &'a [u8; KEY_LEN],
        counter: u64,
        number: u32,
        text: &'a mut [u8],
    ) {
        let at = self.len;
        self.keys[at] = key;
        (self.low[at], self.high[at]) = (low(counter), high(counter));
        self.numbers[at] = number;
        self.texts[at] = text;
        self.len += 1;
        if self.len == U::BLOCKS {
            self.flush(unit);
        }
    }

    /// Takes a packet's text, whose key stream starts at its second block.
    #[inline]
    fn push_text<U: Unit>(
        &mut self,
        unit: U,
        key: &'a [u8; KEY_LEN],
        counter: u64,
        text: &'a mut [u8],
    ) {
        let (first, rest) = unit.xor_runs(key, counter, 1, text);
        for (number, text) in (first..).zip(rest.chunks_mut(BLOCK_LEN)) {
            self.push(unit, key, counter, number, text);
        }
    }

    fn flush<U: Unit>(&mut self, unit: U) {
        if self.len > 0 {
            unit.xor(self);
            self.len = 0;
        }
    }

    /// Whether all lanes have the same key. Lanes that aren't taken don't count.
    #[inline]
    fn one_key(&self) -> bool {
        let first = self.keys[0];
        self.keys[1..self.len]
            .iter()
            .all(|key| std::ptr::eq(*key, first))
    }
}

/// The words of a nonce that aren't zero (paper §5.4.6).
fn low(counter: u64) -> u32 {
    counter as u32
}

fn high(counter: u64) -> u32 {
    (counter >> 32) as u32
}

/// Seals those of these messages that are to be done in lanes.
pub(super) fn seal<'k, U: Unit, M: Message<'k>>(unit: U, messages: &mut [M]) {
    let mut one_time_keys = [[0; 32]; MOST_MESSAGES];
    let mut blocks = Blocks::new();
    for (message, one_time_key) in messages.iter_mut().zip(&mut one_time_keys) {
        let Some((key, counter, text, _)) = message.parts() else {
            continue;
        };
        // The first block of a message's keystream is for its tag (RFC 8439 §2.6).
        blocks.push(unit, key, counter, 0, one_time_key);
        blocks.push_text(unit, key, counter, text);
    }
    blocks.flush(unit);
    for_each_tag(unit, messages, &one_time_keys, |message, made| {
        if let Some((_, _, _, tag)) = message.parts() {
            *tag = *made;
        }
    });
}

/// Opens those of them, and says of each whether it is authentic.
pub(super) fn open<'k, U: Unit, M: Message<'k>>(unit: U, messages: &mut [M]) {
    let mut one_time_keys = [[0; 32]; MOST_MESSAGES];
    let mut blocks = Blocks::new();
    for (message, one_time_key) in messages.iter_mut().zip(&mut one_time_keys) {
        if let Some((key, counter, _, _)) = message.parts() {
            blocks.push(unit, key, counter, 0, one_time_key);
        }
    }
    blocks.flush(unit);
    for_each_tag(unit, messages, &one_time_keys, |message, made| {
        let authentic = message
            .text_and_tag()
            .is_some_and(|(_, tag)| tags_eq(made, tag));
        message.set_authentic(authentic);
    });
    let mut blocks = Blocks::new();
    for message in messages.iter_mut().filter(|message| message.is_authentic()) {
        if let Some((key, counter, text, _)) = message.parts() {
            blocks.push_text(unit, key, counter, text);
        }
    }
    blocks.flush(unit);
}

/// Makes the tag of each message, those of about the same length together.
fn for_each_tag<'k, U: Unit, M: Message<'k>>(
    unit: U,
    messages: &mut [M],
    one_time_keys: &[[u8; 32]; MOST_MESSAGES],
    mut done: impl FnMut(&mut M, &[u8; TAG_LEN]),
) {
    let mut order = [(0_u32, 0_u8); MOST_MESSAGES];
    let mut count = 0;
    for (at, message) in messages.iter().enumerate() {
        if let Some((text, _)) = message.text_and_tag() {
            order[count] = (text.len() as u32, at as u8);
            count += 1;
        }
    }
    let order = &mut order[..count];
    if !order.is_sorted() {
        order.sort_unstable();
    }
    for group in order.chunks(U::TAGS) {
        let mut tags = [[0; TAG_LEN]; MOST_BLOCKS];
        let tags = &mut tags[..group.len()];
        {
            let mut keys = [&NO_KEY; MOST_BLOCKS];
            let mut texts: [&[u8]; MOST_BLOCKS] = [&[]; MOST_BLOCKS];
            for (lane, (_, at)) in group.iter().enumerate() {
                let at = usize::from(*at);
                keys[lane] = &one_time_keys[at];
                if let Some((text, _)) = messages[at].text_and_tag() {
                    texts[lane] = text;
                }
            }
            if group.len() >= U::WORTH_TAGS {
                unit.tags(&keys[..group.len()], &texts[..group.len()], tags);
            } else {
                for (lane, tag) in tags.iter_mut().enumerate() {
                    *tag = unit.tag(keys[lane], texts[lane]);
                }
            }
        }
        for ((_, at), tag) in group.iter().zip(&*tags) {
            done(&mut messages[usize::from(*at)], tag);
        }
    }
}
