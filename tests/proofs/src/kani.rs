//! The same kind of proofs by [Kani](https://model-checking.github.io/kani/), which proves a harness for all
//! values at once, panics and overflows included: `cargo xtask kani`.

use taltun_common::address::updated_udp_checksum;
use taltun_common::bucket::Rate;
use taltun_common::steering::{MAX_WORKERS, index_of, worker_of};
use taltun_protocol::ip;
use taltun_protocol::messages::{REJECT_AFTER_MESSAGES, REPLAY_WINDOW};
use taltun_protocol::replay::ReplayWindow;

/// The sum of RFC 1071 in ones' complement.
fn sum(words: &[u16]) -> u16 {
    words.iter().fold(0, |sum: u16, word| {
        let (sum, carry) = sum.overflowing_add(*word);
        sum + u16::from(carry)
    })
}

/// UDP's checksum of these words, which is never zero: that would stand for none.
fn udp_checksum(words: &[u16]) -> u16 {
    match !sum(words) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[kani::proof]
fn a_checksum_with_one_word_changed_is_that_of_the_whole() {
    let (rest, old, new): (u16, u16, u16) = (kani::any(), kani::any(), kani::any());
    let updated = updated_udp_checksum(udp_checksum(&[rest, old]), old, new);
    assert_eq!(updated, udp_checksum(&[rest, new]));
}

#[kani::proof]
#[kani::unwind(12)]
fn a_hop_less_keeps_the_header_checksum_right() {
    let mut packet: [u8; 20] = kani::any();
    packet[0] = 0x45;
    let words = |packet: &[u8; 20]| -> [u16; 10] {
        std::array::from_fn(|at| u16::from_be_bytes([packet[2 * at], packet[2 * at + 1]]))
    };
    packet[10..12].fill(0);
    let checksum = !sum(&words(&packet));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    let before = packet;
    if ip::take_hop(&mut packet) {
        assert!(packet[8] == before[8] - 1 && packet[8] > 0);
        assert!(sum(&words(&packet)) == 0xffff);
    } else {
        assert!(before[8] <= 1);
    }
}

#[kani::proof]
fn an_index_made_for_a_worker_leads_to_it() {
    let (workers, worker, random): (u32, u32, u32) = (kani::any(), kani::any(), kani::any());
    kani::assume(workers > 0 && workers as usize <= MAX_WORKERS && worker < workers);
    assert_eq!(
        worker_of(index_of(worker, workers, random), workers),
        Some(worker)
    );
}

#[kani::proof]
fn an_index_belongs_to_one_of_the_workers_or_to_none() {
    let (workers, index): (u32, u32) = (kani::any(), kani::any());
    kani::assume(workers > 0 && workers as usize <= MAX_WORKERS);
    assert!(worker_of(index, workers).is_none_or(|worker| worker < workers));
}

#[kani::proof]
fn a_bucket_takes_exactly_if_it_allows_and_never_gets_fuller_by_that() {
    const RATE: Rate = Rate::with_burst(100, 200);
    let (full_at, now): (u64, u64) = (kani::any(), kani::any());
    // Times of a clock that counts nanoseconds since a start.
    kani::assume(full_at < 1 << 62 && now < 1 << 62);
    let mut left = full_at;
    let took = RATE.take(&mut left, now);
    assert_eq!(took, RATE.allows(full_at, now));
    assert!(if took {
        left > full_at
    } else {
        left == full_at
    });
}

/// Whatever came before, which is any two counters here.
#[kani::proof]
#[kani::unwind(132)]
fn a_counter_is_accepted_exactly_if_it_is_new_and_not_too_old() {
    let [first, second, third]: [u64; 3] = kani::any();
    let mut window = ReplayWindow::default();
    let before = [first, second].map(|counter| window.accept(counter).then_some(counter));
    let accepted = before.into_iter().flatten();
    let newest = accepted.clone().max().unwrap_or(0);
    let is_new = accepted.clone().all(|counter| counter != third);
    let is_old = newest > third && newest - third > REPLAY_WINDOW;
    let expected = third < REJECT_AFTER_MESSAGES && is_new && !is_old;
    assert_eq!(window.accept(third), expected);
}
