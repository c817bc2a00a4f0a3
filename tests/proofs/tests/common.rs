//! What user space and the eBPF programs share.

use taltun_common::address::{
    Address, is_v4_mapped, pseudo_header_sum, updated_udp_checksum, v4_mapped,
};
use taltun_common::bucket::{LEAST_BURST, Rate};
use taltun_common::headers::{Ipv4, Ipv6, Tcp};
use taltun_common::hints::{HINT_WORDS, Hint};
use taltun_common::segments;
use taltun_common::steering::{MAX_WORKERS, index_of, worker_of};
use taltun_common::wire::{Fit, MessageKind};
use taltun_tests::random::Random;
use zerocopy::FromBytes as _;

/// Where arithmetic has its edges.
const EDGES: [u16; 10] = [0, 1, 2, 0x7f, 0xff, 0x100, 0x7fff, 0x8000, 0xfffe, 0xffff];

/// The sum in ones' complement, word after word.
fn folded(words: impl Iterator<Item = u16>) -> u16 {
    words.fold(0, |sum: u16, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

#[test]
fn a_checksum_with_one_word_changed_is_that_of_the_whole() {
    let of_whole = |words: [u16; 2]| match !folded(words.into_iter()) {
        0 => 0xffff,
        sum => sum,
    };
    for rest in EDGES {
        for old in 0..=u16::MAX {
            let before = of_whole([rest, old]);
            for new in EDGES.into_iter().chain([old.wrapping_mul(31), !old]) {
                let after = of_whole([rest, new]);
                let updated = updated_udp_checksum(before, old, new);
                // Zero and ffff are one number in ones' complement: both are right.
                assert_eq!(updated, after, "{rest:#x} {old:#x} {new:#x}");
            }
        }
    }
}

#[test]
fn a_checksum_that_changes_twice_comes_back() {
    for checksum in 1..=u16::MAX {
        for old in EDGES {
            for new in EDGES {
                let there = updated_udp_checksum(checksum, old, new);
                assert_ne!(there, 0, "no checksum is made of one");
                assert_eq!(updated_udp_checksum(there, new, old), checksum);
            }
        }
    }
}

#[test]
fn the_sum_of_a_pseudo_header_is_that_of_its_words() {
    let mut random = Random::new(1);
    for _ in 0..1_000_000 {
        let mut address = || -> Address {
            let edge = random.next_u64();
            let mut bytes = [if edge & 1 == 0 { 0xff } else { 0 }; 16];
            for byte in &mut bytes[..(edge >> 8) as usize % 17] {
                *byte = random.next_u64() as u8;
            }
            bytes
        };
        let (source, destination) = (address(), address());
        let length = random.next_u64() as u16;
        let words = [source, destination].concat();
        let words = words
            .chunks(2)
            .map(|word| u16::from_be_bytes([word[0], word[1]]));
        let expected = folded(words.chain([17, length]));
        assert_eq!(pseudo_header_sum(&source, &destination, length), expected);
    }
}

#[test]
fn an_address_is_of_ipv4_exactly_with_its_prefix() {
    let v4 = v4_mapped([192, 0, 2, 7]);
    assert!(is_v4_mapped(&v4));
    for at in 0..16 {
        for byte in 0..=u8::MAX {
            let mut other = v4;
            other[at] = byte;
            let expected = at >= 12 || byte == v4[at];
            assert_eq!(is_v4_mapped(&other), expected, "{other:?}");
        }
    }
}

#[test]
fn each_index_belongs_to_one_worker_or_to_none() {
    for workers in 1..=MAX_WORKERS as u32 {
        let mut of_each = vec![0; workers as usize];
        for index in 0..=u32::from(u16::MAX) {
            // What is above the lowest bits says nothing.
            let high = index.wrapping_mul(0x9e37_79b1) & 0xffff_0000;
            let worker = worker_of(index, workers);
            assert_eq!(worker, worker_of(index | high, workers));
            if let Some(worker) = worker {
                assert!(worker < workers);
                of_each[worker as usize] += 1;
                assert_eq!(index_of(worker, workers, index), index);
            }
        }
        assert!(
            of_each.iter().all(|count| *count == of_each[0]),
            "{workers}"
        );
    }
}

#[test]
fn an_index_made_for_a_worker_leads_to_it_and_keeps_its_chance() {
    for workers in 1..=MAX_WORKERS as u32 {
        let number = workers.next_power_of_two() - 1;
        for worker in 0..workers {
            for random in (0..=u16::MAX).map(|low| u32::from(low) | u32::from(!low) << 16) {
                let index = index_of(worker, workers, random);
                assert_eq!(worker_of(index, workers), Some(worker));
                assert_eq!(index & !number, random & !number);
            }
        }
    }
}

/// A bucket as people think of one: what is in it, and since when.
struct Naive {
    level: u64,
    since: u64,
    rate: Rate,
}

impl Naive {
    fn take(&mut self, now: u64) -> bool {
        let level = self.level.saturating_add(now - self.since);
        (self.level, self.since) = (level.min(self.rate.bucket), now);
        let allowed = self.level >= self.rate.token;
        if allowed {
            self.level -= self.rate.token;
        }
        allowed
    }
}

#[test]
fn a_bucket_of_one_number_gives_what_a_bucket_gives() {
    let mut random = Random::new(2);
    for tokens in [1, 2, 3, 7, 20, 100, 5000, 1_000_000, 999_999_999] {
        for burst in [1, 2, 5, 500] {
            let rate = Rate::with_burst(tokens, burst);
            let mut naive = Naive {
                level: rate.bucket,
                since: 0,
                rate,
            };
            let (mut full_at, mut now) = (0, 0);
            for _ in 0..20_000 {
                let pause = random.next_u64();
                now += match pause & 3 {
                    0 => 0,
                    1 => (pause >> 2) % (rate.token + 1),
                    2 => rate.token,
                    _ => (pause >> 2) % (2 * rate.bucket + 1),
                };
                assert_eq!(
                    rate.take(&mut full_at, now),
                    naive.take(now),
                    "{rate:?} {now}"
                );
            }
        }
    }
}

#[test]
fn a_bucket_never_gives_more_than_its_rate_and_its_burst() {
    let mut random = Random::new(3);
    for tokens in [1, 20, 777, 50_000] {
        let rate = Rate::with_burst(tokens, 10);
        let (mut full_at, mut now, mut given) = (0, 0_u64, 0_u64);
        for _ in 0..200_000 {
            now += random.next_u64() % (rate.token / 2 + 1);
            given += u64::from(rate.take(&mut full_at, now));
            assert!(given <= 10 + now / rate.token, "{given} by {now}");
        }
        // Nor much less, where there is always somebody who wants one.
        assert!(given + 1 >= now / rate.token);
    }
}

#[test]
fn a_bucket_looks_the_same_before_and_after_a_look() {
    let mut random = Random::new(4);
    for _ in 0..1_000_000 {
        let rate = Rate::per_second(1 + (random.next_u64() % 100_000) as u32);
        let (full_at, now) = (random.next_u64() >> 8, random.next_u64() >> 8);
        let mut taken = full_at;
        assert_eq!(rate.allows(full_at, now), rate.take(&mut taken, now));
        assert_eq!(taken != full_at, rate.allows(full_at, now));
    }
}

#[test]
fn a_rate_a_second_is_no_more_than_it_says() {
    for tokens in 1..=2_000_000 {
        let rate = Rate::per_second(tokens);
        let burst = u64::from(tokens).max(LEAST_BURST);
        assert!(rate.token * u64::from(tokens) <= 1_000_000_000);
        assert!((rate.token + 1) * u64::from(tokens) > 1_000_000_000);
        assert_eq!(rate.bucket, rate.token * burst);
    }
}

#[test]
fn a_batch_counts_as_the_packets_that_it_is_cut_into() {
    for headers in [0, 28, 40, 48, 52, 60] {
        for size in (0..=1500).step_by(7) {
            for length in (0..=4000_u32).step_by(3) {
                let (mut packets, mut bytes) = (0, 0);
                let mut left = length.saturating_sub(headers);
                if size == 0 || length <= headers {
                    (packets, bytes) = (1, u64::from(length));
                } else {
                    while left > 0 {
                        let payload = left.min(size);
                        packets += 1;
                        bytes += u64::from(headers + payload);
                        left -= payload;
                    }
                }
                let counted = segments::count(length, headers, size);
                assert_eq!(counted, (packets, bytes), "{length} {headers} {size}");
            }
        }
    }
}

#[test]
fn four_words_are_kinds_of_messages_and_no_others() {
    // All of 2^24 words, and each of these with each byte at the top.
    for word in 0..1 << 24 {
        let expected = (1..=4).contains(&word);
        assert_eq!(MessageKind::of(word).is_some(), expected, "{word:#x}");
    }
    for top in 1..=u32::from(u8::MAX) {
        for word in 0..=u32::from(u16::MAX) {
            assert_eq!(MessageKind::of(top << 24 | word), None);
        }
    }
}

#[test]
fn each_length_fits_the_kinds_that_the_paper_says() {
    for length in 0..=usize::from(u16::MAX) {
        for (word, exact) in [(1, 148), (2, 92), (3, 64)] {
            let fit = MessageKind::of(word).unwrap().fit(length);
            let expected = match length {
                _ if length == exact => Fit::One,
                _ if length >= exact + 32 => Fit::Several(exact),
                _ => Fit::Wrong,
            };
            assert_eq!(fit, expected, "{word} {length}");
        }
        let fit = MessageKind::of(4).unwrap().fit(length);
        assert_eq!(fit == Fit::One, length >= 32);
        assert!(matches!(fit, Fit::One | Fit::Wrong));
    }
}

#[test]
fn a_fragment_is_one_by_its_offset_or_by_more_to_come() {
    for field in 0..=u16::MAX {
        let mut header = [0; 20];
        header[6..8].copy_from_slice(&field.to_be_bytes());
        let ip = Ipv4::ref_from_bytes(&header).unwrap();
        let (more, offset) = (field & 0x2000 != 0, field & 0x1fff);
        assert_eq!(ip.is_fragment(), more || offset != 0, "{field:#x}");
        assert_eq!(ip.is_later_fragment(), offset != 0, "{field:#x}");
    }
}

#[test]
fn lengths_of_headers_are_four_times_their_fields() {
    for byte in 0..=u8::MAX {
        let mut ip = [0; 20];
        ip[0] = byte;
        let ip = Ipv4::ref_from_bytes(&ip).unwrap();
        assert_eq!(ip.header_len(), usize::from(byte & 15) * 4);
        let mut tcp = [0; 20];
        tcp[12] = byte;
        let tcp = Tcp::ref_from_bytes(&tcp).unwrap();
        assert_eq!(tcp.header_len(), usize::from(byte >> 4) * 4);
    }
}

#[test]
fn a_connection_starts_by_syn_without_ack() {
    for flags in 0..=u8::MAX {
        let mut tcp = [0; 20];
        tcp[13] = flags;
        let tcp = Tcp::ref_from_bytes(&tcp).unwrap();
        assert_eq!(tcp.is_start(), flags & 0x12 == 0x02, "{flags:#x}");
    }
}

#[test]
fn the_first_words_of_ipv6_say_version_and_class() {
    for word in 0..=u16::MAX {
        let mut header = [0; 40];
        header[..2].copy_from_slice(&word.to_be_bytes());
        let ip = Ipv6::ref_from_bytes(&header).unwrap();
        assert_eq!(u16::from(ip.version()), word >> 12);
        assert_eq!(u16::from(ip.class()), word >> 4 & 0xff);
    }
}

#[test]
fn each_address_has_one_bit_of_the_hints_and_neighbours_spread() {
    let mut words = vec![0_u64; HINT_WORDS];
    for number in 0..=u16::MAX {
        let [c, d] = number.to_be_bytes();
        let hint = Hint::of(&v4_mapped([10, 7, c, d]));
        assert!((hint.word as usize) < HINT_WORDS);
        assert_eq!(hint.bit.count_ones(), 1);
        words[hint.word as usize] |= hint.bit;
    }
    // As many as there are bits: by chance 63 % of them would be set.
    let set: u32 = words.iter().map(|word| word.count_ones()).sum();
    assert!(set > 40_000, "{set} bits for 65,536 neighbours");
}
