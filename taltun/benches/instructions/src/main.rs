//! Does a piece of a packet's work so many times: `taltun-instructions PIECE TIMES`. Prints
//! for how many packets that was; without arguments, the names of all pieces.
//!
//! Whoever wants to know what a packet costs runs it under callgrind twice, with different
//! numbers, and takes the difference (`cargo xtask instructions`). So all that is made ready
//! beforehand is the same, however often the piece is done.

#[path = "../../work/mod.rs"]
mod work;

use std::env;
use std::process::ExitCode;

use work::{Batch, Counters, Cutting, Joining, PACKETS, Prefixes, Relaying, Sealing};

/// How often a piece can be done: so many batches are made ready.
const MOST: usize = 64;

/// A name, and what does it so many times and returns for how many packets.
type Piece = (&'static str, fn(usize) -> usize);

const PIECES: &[Piece] = &[
    ("seal-64", |times| seal(&Sealing::of(64), times)),
    ("seal-1420", |times| seal(&Sealing::of(1420), times)),
    ("open-64", |times| open(&Sealing::of(64), times)),
    ("open-1420", |times| open(&Sealing::of(1420), times)),
    ("relay-64", |times| relay(&Relaying::of(64), times)),
    ("seal-64-hopping", |times| {
        seal(&Sealing::hopping(64), times)
    }),
    ("seal-64-beside-limits", |times| {
        seal(&Sealing::beside_limits(64), times)
    }),
    ("open-64-beside-limits", |times| {
        open(&Sealing::beside_limits(64), times)
    }),
    ("relay-64-beside-limits", |times| {
        relay(&Relaying::beside_limits(64), times)
    }),
    ("look-up", |times| {
        let mut prefixes = Prefixes::new();
        (0..times * PACKETS).for_each(|_| prefixes.look_up());
        times * PACKETS
    }),
    ("replay", |times| {
        let mut counters = Counters::default();
        (0..times * PACKETS).for_each(|_| counters.accept());
        times * PACKETS
    }),
    ("cut", |times| {
        let mut cutting = Cutting::new();
        assert!(cutting.len() > PACKETS * 1380, "a whole batch of packets");
        (0..times).for_each(|_| cutting.cut());
        times * PACKETS
    }),
    ("join", |times| {
        let mut joining = Joining::new();
        (0..times).for_each(|_| joining.join());
        times * PACKETS
    }),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.is_empty() {
        for (name, _) in PIECES {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let asked = match words[..] {
        [piece, times] => {
            let piece = PIECES.iter().find(|(name, _)| *name == piece);
            let times = times.parse().ok().filter(|times| *times <= MOST);
            piece.zip(times)
        }
        _ => None,
    };
    let Some(((_, piece), times)) = asked else {
        eprintln!("usage: taltun-instructions [PIECE TIMES], TIMES up to {MOST}");
        return ExitCode::FAILURE;
    };
    println!("{}", piece(times));
    ExitCode::SUCCESS
}

fn seal(sealing: &Sealing, times: usize) -> usize {
    let mut batches: Vec<Batch> = (0..MOST).map(|_| sealing.plain()).collect();
    for batch in &mut batches[..times] {
        sealing.seal(batch);
    }
    times * PACKETS
}

fn open(sealing: &Sealing, times: usize) -> usize {
    let mut batches: Vec<Batch> = (0..MOST).map(|_| sealing.sealed()).collect();
    for batch in &mut batches[..times] {
        sealing.open(batch);
    }
    times * PACKETS
}

fn relay(relaying: &Relaying, times: usize) -> usize {
    let mut batches: Vec<Batch> = (0..MOST).map(|_| relaying.sealed()).collect();
    for batch in &mut batches[..times] {
        relaying.relay(batch);
    }
    times * PACKETS
}
