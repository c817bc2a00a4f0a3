//! What it takes to seal and open batches, by each back end that the CPU has, beside the
//! general one one by one: `cargo bench -p taltun-crypto`. A word after `--` picks rows.
//!
//! All columns of a row are measured in turn, in many short rounds, and what is printed is the
//! median of each: neighbours of the machine cost all of them alike.

use std::hint::black_box;
use std::time::Instant;

use taltun_crypto::aead::{Message, open_all, seal_all};
use taltun_crypto::{AeadKey, BackEnd, PrivateKey, TAG_LEN, diffie_hellman_all};

const ROUNDS: usize = 301;
/// Bytes of a round, about.
const ROUND: usize = 64 << 10;

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    println!("nanoseconds a packet; in brackets, how many times as fast as one by one by ring");
    let equal = |count: usize, len: usize| (format!("{count} × {len}"), vec![len; count]);
    let mut rows: Vec<(String, Vec<usize>)> = [64, 128, 256, 512, 1024, 1424]
        .map(|len| equal(64, len))
        .into();
    let mixed = [64, 576, 64, 64, 1424, 576, 64, 64, 576, 64, 576, 64];
    let mixed = mixed.into_iter().cycle().take(60).collect();
    rows.push(("7:4:1 of 64, 576, 1424".to_owned(), mixed));
    for len in [64, 192, 576, 1424] {
        rows.extend([16, 8, 6, 4, 3, 2, 1].map(|count| equal(count, len)));
    }
    let wants = |name: &str| {
        only.as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    if wants("X25519") {
        x25519();
    }
    for (name, lens) in rows {
        if only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
        {
            row(&name, &lens);
        }
    }
}

/// Secrets one by one and eight at once.
fn x25519() {
    let pair = |at: usize| {
        let key = |at: usize| PrivateKey::from_bytes([at as u8; 32]);
        (key(at), key(at + 100).public_key())
    };
    let pairs: [_; 8] = std::array::from_fn(pair);
    let mut times = [(); 2].map(|()| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for (ours, theirs) in &pairs {
            black_box(ours.diffie_hellman(black_box(theirs)));
        }
        times[0].push(start.elapsed().as_nanos() as f64 / 8.0);
        let start = Instant::now();
        let pairs = pairs.each_ref().map(|(ours, theirs)| (ours, theirs));
        diffie_hellman_all(black_box(&pairs), |_, secret| drop(black_box(secret)));
        times[1].push(start.elapsed().as_nanos() as f64 / 8.0);
    }
    let [alone, together] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!(
        "X25519                        alone {alone:.0} (1.00)  eight at once {together:.0} ({:.2})",
        alone / together
    );
}

/// One way to do the work of a row, and the times that it took so far.
struct Column<'a> {
    name: &'static str,
    keys: &'a [AeadKey],
    opening: bool,
    together: bool,
    /// What is sealed, or was.
    from: Vec<Vec<u8>>,
    /// As many batches as a round has.
    batches: Vec<Vec<Vec<u8>>>,
    times: Vec<f64>,
}

fn row(name: &str, lens: &[usize]) {
    // As on a hub: a key every eight packets.
    let keys = |back_end| -> Option<Vec<AeadKey>> {
        let key = |at: usize| AeadKey::by(back_end, &[at as u8; 32]);
        (0..lens.len().div_ceil(8)).map(key).collect()
    };
    let ring = keys(BackEnd::Ring).or_else(|| keys(BackEnd::Portable));
    let ring = ring.expect("one of the two is in every build");
    let avx512 = keys(BackEnd::Avx512);
    let avx2 = keys(BackEnd::Avx2);
    for opening in [false, true] {
        let column = |name, keys, together| Column::new(name, keys, lens, opening, together);
        let mut columns = vec![column("ring", &ring, false)];
        if let Some(keys) = &avx512 {
            columns.push(column("AVX-512 one by one", keys, false));
            columns.push(column("AVX-512", keys, true));
        }
        if let Some(keys) = &avx2 {
            columns.push(column("AVX2", keys, true));
        }
        for _ in 0..ROUNDS {
            for column in &mut columns {
                column.round();
            }
        }
        print!("{:<5} {name:<24}", if opening { "open" } else { "seal" });
        let mut base = None;
        for Column { name, times, .. } in &mut columns {
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            let base = *base.get_or_insert(median);
            print!("  {name} {median:.0} ({:.2})", base / median);
        }
        println!();
    }
}

impl<'a> Column<'a> {
    fn new(
        name: &'static str,
        keys: &'a [AeadKey],
        lens: &[usize],
        opening: bool,
        together: bool,
    ) -> Self {
        let mut from: Vec<Vec<u8>> = lens.iter().map(|len| vec![7; len + TAG_LEN]).collect();
        if opening {
            each(keys, &mut from, together, false);
        }
        let bytes: usize = lens.iter().map(|len| len + 200).sum();
        Self {
            name,
            keys,
            opening,
            together,
            batches: vec![from.clone(); (ROUND / bytes).max(1)],
            from,
            times: Vec::with_capacity(ROUNDS),
        }
    }

    fn round(&mut self) {
        for (to, from) in self
            .batches
            .iter_mut()
            .flat_map(|to| to.iter_mut().zip(&self.from))
        {
            to.copy_from_slice(from);
        }
        let start = Instant::now();
        for batch in &mut self.batches {
            each(self.keys, batch, self.together, self.opening);
        }
        let packets = self.batches.len() * self.from.len();
        self.times
            .push(start.elapsed().as_nanos() as f64 / packets as f64);
        black_box(&self.batches);
    }
}

fn each(keys: &[AeadKey], packets: &mut [Vec<u8>], together: bool, opening: bool) {
    if !together {
        for (at, bytes) in packets.iter_mut().enumerate() {
            let key = &keys[at / 8];
            if opening {
                key.open(at as u64, &[], bytes).expect("it is authentic");
            } else if let Some((text, tag)) = bytes.split_last_chunk_mut() {
                *tag = key.seal(at as u64, &[], text);
            }
        }
        return;
    }
    let mut messages: [Message<'_>; 64] = std::array::from_fn(|_| Message::none());
    let count = packets.len();
    for (at, (message, bytes)) in messages.iter_mut().zip(packets).enumerate() {
        *message = Message::new(&keys[at / 8], at as u64, bytes);
    }
    let messages = &mut messages[..count];
    if opening {
        open_all(messages);
        assert!(messages.iter().all(Message::is_authentic));
    } else {
        seal_all(messages);
    }
}
