//! Messages cut into pieces for Poly1305, aligned at their ends.

/// Bytes of a block of Poly1305.
pub(super) const BLOCK: usize = 16;
/// Bytes of a piece: four blocks.
pub(super) const PIECE: usize = 4 * BLOCK;

type Row = [u8; PIECE];

static NOTHING: Row = [0; PIECE];

/// Texts of `N` messages, of which shorter ones have nothing where longer ones begin.
pub(super) struct Pieces<'a, const N: usize> {
    texts: [&'a [u8]; N],
    /// Of each text, at which piece it starts.
    starts: [usize; N],
    /// Blocks that its first piece lacks.
    lacking: [usize; N],
    /// Its first piece, behind what it lacks, and its last where that lacks bytes.
    first: [Row; N],
    last: [Row; N],
    /// Pieces of the longest.
    count: usize,
    /// The piece from which on all are there and whole.
    all_there: usize,
}

impl<'a, const N: usize> Pieces<'a, N> {
    #[inline]
    pub(super) fn new(texts: [&'a [u8]; N]) -> Self {
        const { assert!(N <= 8, "a lane has a bit of a byte") };
        let counts = texts.map(|text| text.len().div_ceil(PIECE));
        let count = counts.into_iter().max().unwrap_or(0);
        let mut pieces = Self {
            texts,
            starts: counts.map(|own| count - own),
            lacking: [0; N],
            first: [NOTHING; N],
            last: [NOTHING; N],
            count,
            all_there: 0,
        };
        for (lane, text) in texts.iter().enumerate() {
            let start = pieces.starts[lane];
            let blocks = text.len().div_ceil(BLOCK);
            let lacking = blocks.next_multiple_of(4) - blocks;
            pieces.lacking[lane] = lacking;
            let front = (PIECE - lacking * BLOCK).min(text.len());
            let all_there = if lacking == 0 { start } else { start + 1 };
            pieces.all_there = pieces.all_there.max(all_there);
            copy(&mut pieces.first[lane][lacking * BLOCK..], &text[..front]);
            if text.len() % BLOCK > 0 && start + 1 < count {
                let from = blocks * BLOCK - PIECE;
                copy(&mut pieces.last[lane], &text[from..]);
            }
        }
        pieces
    }

    /// Pieces of the longest message.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The piece at this place, one a message.
    #[inline]
    pub(super) fn rows(&self, at: usize) -> [&Row; N] {
        std::array::from_fn(|lane| self.row(lane, at))
    }

    #[inline]
    fn row(&self, lane: usize, at: usize) -> &Row {
        let start = self.starts[lane];
        if at < start {
            return &NOTHING;
        }
        if at == start {
            return &self.first[lane];
        }
        let from = (at - start) * PIECE - self.lacking[lane] * BLOCK;
        self.texts[lane][from..]
            .first_chunk()
            .unwrap_or(&self.last[lane])
    }

    /// Which messages have the first, second, third and fourth block of this piece: a bit each.
    #[inline]
    pub(super) fn present(&self, at: usize) -> [u8; 4] {
        if at >= self.all_there {
            return [0xff; 4];
        }
        std::array::from_fn(|block| {
            (0..N).fold(0, |bits, lane| {
                let start = self.starts[lane];
                let there = at > start || (at == start && block >= self.lacking[lane]);
                bits | (u8::from(there) << lane)
            })
        })
    }
}

/// Copies what is usually a whole piece.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<PIECE>(), from.first_chunk::<PIECE>()) {
        *to = *from;
    } else {
        to[..from.len()].copy_from_slice(from);
    }
}
