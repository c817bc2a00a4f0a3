//! The protocol's small things.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use taltun_crypto::{PresharedKey, PrivateKey};
use taltun_protocol::allowed_ips::{AllowedIps, canonical};
use taltun_protocol::control_message::{CONTROL_LEN, ControlMessage, is_control};
use taltun_protocol::cookie::{Checker, Proof, Sealer};
use taltun_protocol::ecn;
use taltun_protocol::ip;
use taltun_protocol::messages::{
    Message, REJECT_AFTER_MESSAGES, REPLAY_WINDOW, Response, padded_len,
};
use taltun_protocol::noise::{self, Identity};
use taltun_protocol::ratelimiter::RateLimiter;
use taltun_protocol::replay::ReplayWindow;
use taltun_protocol::tai64n::Tai64n;
use taltun_protocol::time::Time;
use taltun_tests::random::Random;

/// All counters that were accepted.
#[derive(Default)]
struct Counters {
    seen: BTreeSet<u64>,
}

impl Counters {
    fn accept(&mut self, counter: u64) -> bool {
        let newest = self.seen.last().copied().unwrap_or(0);
        let is_old = newest.saturating_sub(counter) > REPLAY_WINDOW;
        counter < REJECT_AFTER_MESSAGES && !is_old && self.seen.insert(counter)
    }
}

#[test]
fn a_window_accepts_what_a_set_accepts_after_any_six_counters_at_its_edges() {
    const W: u64 = REPLAY_WINDOW;
    let edges = [0, 1, 63, 64, W - 1, W, W + 1, 2 * W + 63];
    let all = (edges.len() as u64).pow(6);
    for mut order in 0..all {
        let (mut window, mut naive) = (ReplayWindow::default(), Counters::default());
        for _ in 0..6 {
            let counter = edges[(order % 8) as usize];
            order /= 8;
            assert_eq!(window.accept(counter), naive.accept(counter), "{counter}");
        }
    }
}

#[test]
fn a_window_accepts_what_a_set_accepts_up_to_the_last_counter() {
    let mut random = Random::new(5);
    for start in [0, 1 << 32, REJECT_AFTER_MESSAGES - 40_000] {
        let (mut window, mut naive) = (ReplayWindow::default(), Counters::default());
        let mut at = start;
        for _ in 0..60_000 {
            let step = random.next_u64();
            at = at.saturating_add(step & 1);
            let counter = match step >> 1 & 7 {
                0 => at.saturating_add(step >> 50),
                1 => at.saturating_sub(step >> 50),
                2 => at.saturating_add(u64::MAX - at),
                _ => at,
            };
            assert_eq!(window.accept(counter), naive.accept(counter), "{counter}");
        }
    }
}

#[test]
fn padding_is_the_next_sixteen_within_the_mtu() {
    for mtu in [0, 1, 15, 16, 576, 1280, 1420, 1421, 9000, 65_535] {
        for len in 0..=usize::from(u16::MAX) {
            // Of what is longer than the MTU only what is beyond its last multiple is padded.
            let last = if mtu > 0 && len > mtu { len % mtu } else { len };
            let mut padded = last;
            while padded % 16 != 0 && (mtu == 0 || padded < mtu) {
                padded += 1;
            }
            let expected = len - last + padded;
            assert_eq!(padded_len(len, mtu), expected, "{len} of {mtu}");
        }
    }
}

#[test]
fn a_datagram_of_each_length_is_the_message_that_its_first_word_says() {
    let bytes = vec![0; 2048];
    for length in 0..=bytes.len() {
        for first in 0..=u8::MAX {
            for reserved in [0, 1] {
                let mut datagram = bytes[..length].to_vec();
                let head = [first, 0, 0, reserved];
                for (at, byte) in head.into_iter().enumerate().take(length) {
                    datagram[at] = byte;
                }
                let fits = reserved == 0
                    && match first {
                        1 => length == 148,
                        2 => length == 92,
                        3 => length == 64,
                        4 => length >= 32,
                        _ => false,
                    };
                assert_eq!(Message::parse(&datagram).is_ok(), fits, "{first} {length}");
            }
        }
    }
}

#[test]
fn timestamps_are_in_the_order_of_their_clock() {
    let mut random = Random::new(6);
    for _ in 0..2_000_000 {
        let shown = Duration::new(
            random.next_u64() >> 24,
            (random.next_u64() % 1_000_000_000) as u32,
        );
        let ahead = Duration::from_nanos(random.next_u64() >> (random.next_u64() % 64));
        let (now, later) = (Tai64n::from_unix(shown), Tai64n::from_unix(shown + ahead));
        assert!(now <= later);
        // So much apart, nobody takes the later one for the earlier.
        assert!(ahead < Duration::from_nanos(1 << 24) || now < later);
        assert_eq!(later.behind(now), Duration::ZERO);
    }
}

#[test]
fn the_next_timestamp_is_later_marked_or_not_through_a_whole_second() {
    let mut at = Tai64n::from_unix(Duration::from_secs(1_700_000_000));
    let end = Tai64n::from_unix(Duration::from_secs(1_700_000_001));
    let mut count = 0;
    while at < end {
        let next = at.next();
        assert!(at < next && at.marked() < next && at <= at.marked());
        assert!(at.marked().is_marked() && !at.is_marked());
        assert_eq!(at.marked().next(), next, "the mark is no step");
        let nanos = u32::from_be_bytes(*next.0.last_chunk().unwrap());
        assert!(nanos < 1_000_000_000);
        (at, count) = (next, count + 1);
    }
    assert!(count > 15_000, "{count} in a second");
}

#[test]
fn a_hop_less_keeps_each_checksum_right() {
    for hops in 0..=u8::MAX {
        for rest in 0..=u16::MAX {
            let mut packet = [0; 20];
            packet[0] = 0x45;
            packet[8] = hops;
            packet[4..6].copy_from_slice(&rest.to_be_bytes());
            let sum = |packet: &[u8; 20]| {
                packet.chunks(2).fold(0, |sum: u16, word| {
                    let word = u16::from_be_bytes([word[0], word[1]]);
                    let (sum, carry) = sum.overflowing_add(word);
                    sum + u16::from(carry)
                })
            };
            let checksum = !sum(&packet);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            let before = packet;
            let taken = ip::take_hop(&mut packet);
            assert_eq!(taken, hops > 1);
            if taken {
                assert_eq!(packet[8], hops - 1);
                assert_eq!(sum(&packet), 0xffff, "{hops} {rest:#x}");
            } else {
                assert_eq!(packet, before);
            }
        }
    }
}

/// All networks of eight addresses, and what is in them: fifteen.
fn small_nets() -> Vec<IpNet> {
    let nets = (29..=32).flat_map(|len: u8| {
        let step = 1 << (32 - len);
        (0..8_u8).step_by(step).map(move |last| {
            let address = Ipv4Addr::new(10, 0, 0, last);
            IpNet::from(Ipv4Net::new(address, len).expect("32 bits at the most"))
        })
    });
    nets.collect()
}

fn naive(nets: &[(IpNet, usize)], address: IpAddr) -> Option<usize> {
    let found = nets.iter().filter(|(net, _)| net.contains(&address));
    found
        .max_by_key(|(net, _)| net.prefix_len())
        .map(|(_, value)| *value)
}

#[test]
fn each_table_of_the_networks_of_eight_addresses_says_what_a_list_says() {
    let nets = small_nets();
    assert_eq!(nets.len(), 15);
    for chosen in 0..1_u32 << nets.len() {
        let list = nets.iter().enumerate();
        let list = list.filter(|(at, _)| chosen >> at & 1 == 1);
        let list: Vec<_> = list.map(|(at, net)| (*net, at)).collect();
        let mut table = AllowedIps::default();
        for (net, value) in &list {
            assert_eq!(table.insert(*net, *value), None);
        }
        assert_eq!(table.len(), list.len());
        for last in 0..8 {
            let address = IpAddr::from([10, 0, 0, last]);
            let found = table.lookup(address).map(|found| *found.value);
            assert_eq!(found, naive(&list, address), "{chosen:#b} {address}");
        }
    }
}

#[test]
fn what_is_taken_out_of_a_table_leaves_the_rest_in_any_order() {
    let nets = small_nets();
    let mut random = Random::new(7);
    for _ in 0..4_000 {
        let mut list = Vec::new();
        let mut table = AllowedIps::default();
        for step in 0..60 {
            let net = nets[(random.next_u64() % 15) as usize];
            let before = list.iter().position(|(other, _)| *other == net);
            let before = before.map(|at| list.remove(at).1);
            if random.next_u64() & 1 == 0 {
                assert_eq!(table.insert(net, step), before);
                list.push((net, step));
            } else {
                assert_eq!(table.remove_if(net, |_| true), before.is_some());
            }
            for last in 0..8 {
                let address = IpAddr::from([10, 0, 0, last]);
                let found = table.lookup(address).map(|found| *found.value);
                assert_eq!(found, naive(&list, address));
            }
        }
        let listed: BTreeSet<IpNet> = list.iter().map(|(net, _)| *net).collect();
        assert!(
            table.iter().map(|(net, _)| net).eq(listed),
            "all, in their order"
        );
    }
}

#[test]
fn a_network_in_its_plain_form_is_the_same_network() {
    let address = Ipv6Addr::from([0xff; 16]);
    let mapped = Ipv4Addr::new(203, 0, 113, 255).to_ipv6_mapped();
    for len in 0..=128 {
        let net = IpNet::new(address.into(), len).unwrap();
        let plain = canonical(net);
        assert_eq!(canonical(plain), plain);
        assert_eq!(plain, net.trunc());
        let plain = canonical(IpNet::new(mapped.into(), len).unwrap());
        assert_eq!(canonical(plain), plain);
        if len >= 96 {
            assert_eq!(
                (plain.prefix_len(), plain.addr().is_ipv4()),
                (len - 96, true)
            );
        }
    }
}

#[test]
fn marks_of_congestion_go_in_as_rfc_6040_has_it() {
    let packets = |class: u8| {
        let v4 = vec![
            0x45, class, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        let mut v6 = vec![0; 40];
        v6[..2].copy_from_slice(&(0x6000 | u16::from(class) << 4).to_be_bytes());
        [v4, v6]
    };
    for class in 0..=u8::MAX {
        for outer in 0..=u8::MAX {
            // Section 4.2, but that what nobody would read is left as it is.
            let expected = match (class & 3, outer & 3) {
                (1 | 2, 3) => 3,
                (2, 1) => 1,
                (inner, _) => inner,
            };
            for mut packet in packets(class) {
                ecn::take_in(&mut packet, outer);
                let now = if packet.len() == 20 {
                    packet[1]
                } else {
                    packet[0] << 4 | packet[1] >> 4
                };
                assert_eq!(now, class & !3 | expected, "{class:#x} {outer:#x}");
            }
        }
        for packet in packets(class) {
            let outer = if class & 3 == 3 { 2 } else { class & 3 };
            assert_eq!(ecn::class(&packet, false), outer);
            assert_eq!(ecn::class(&packet, true), class & !3 | outer);
        }
    }
}

#[test]
fn each_bit_of_an_initiation_counts_for_its_first_mac() {
    let hub = PrivateKey::from_bytes([1; 32]).public_key();
    let checker = Checker::new(&hub);
    let from = SocketAddr::from(([192, 0, 2, 1], 1));
    let mut message = [7; 148];
    Sealer::new(&hub).seal(&mut message, Time::START);
    assert_eq!(checker.check(&message, from, Time::START), Proof::Mac1);
    for bit in 0..148 * 8 {
        let mut other = message;
        other[bit / 8] ^= 1 << (bit % 8);
        let proof = checker.check(&other, from, Time::START);
        // What is behind the first MAC is the second, which isn't asked for yet.
        let expected = if bit < 132 * 8 {
            Proof::None
        } else {
            Proof::Mac1
        };
        assert_eq!(proof, expected, "bit {bit}");
    }
}

#[test]
fn each_bit_of_a_response_counts() {
    let identities = [1, 2].map(|byte| Identity::new(PrivateKey::from_bytes([byte; 32])));
    let [ours, theirs] = &identities;
    let secret = ours.static_static(theirs.public()).unwrap();
    let at = Tai64n::from_unix(Duration::from_secs(1));
    let start = || {
        let ephemeral = PrivateKey::from_bytes([3; 32]);
        noise::initiate(ours, theirs.public(), &secret, ephemeral, 7, at).unwrap()
    };
    let psk = PresharedKey([9; 32]);
    let (_, message) = start();
    let Ok(Message::Initiation(initiation)) = Message::parse(&message) else {
        panic!("it is an initiation");
    };
    let claimed = noise::receive(theirs, initiation).unwrap();
    let of_them = theirs.static_static(ours.public()).unwrap();
    let verified = claimed.verify(&of_them).unwrap();
    let ephemeral = PrivateKey::from_bytes([4; 32]);
    let (response, _) = verified.respond(&psk, &ephemeral, 8).unwrap();
    let finishes = |bytes: &[u8]| {
        let (initiator, _) = start();
        match Message::parse(bytes) {
            Ok(Message::Response(response)) => initiator.finish(ours, &psk, response).is_ok(),
            _ => false,
        }
    };
    assert!(finishes(&response));
    // From its ephemeral key to its tag: 32 and 16 bytes behind type and indices.
    for bit in 12 * 8..60 * 8 {
        let mut other = response.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        // The highest bit of a point on the curve is none of it, but it is hashed.
        assert!(!finishes(&other), "bit {bit}");
    }
    assert_eq!(size_of::<Response>(), response.len());
}

#[test]
fn a_control_message_is_one_by_each_of_its_bits() {
    for message in [
        ControlMessage::Hello(0x0123_4567_89ab_cdef),
        ControlMessage::Probe(1),
        ControlMessage::Reply(u64::MAX),
    ] {
        let bytes = message.to_bytes();
        assert!(is_control(&bytes) && ip::parse(&bytes).is_none());
        assert_eq!(ControlMessage::parse(&bytes).unwrap(), message);
        // But for three bytes that say nothing yet.
        for bit in (0..CONTROL_LEN * 8).filter(|bit| !(40..64).contains(bit)) {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            let read = ControlMessage::parse(&other).ok();
            assert_ne!(read, Some(message), "bit {bit}");
            assert!(
                read.is_none_or(|read| read.to_bytes() == other),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn a_source_has_its_rate_whatever_others_send() {
    let mut random = Random::new(8);
    let mut limiter = RateLimiter::new(20, 5);
    let mut given: HashMap<u64, u64> = HashMap::new();
    let mut now = 0;
    for _ in 0..300_000 {
        now += random.next_u64() % 500_000;
        let who = random.next_u64() % 50;
        let source = IpAddr::from([10, 0, 0, who as u8]);
        if limiter.allow(source, Time::from_nanos(now)) {
            *given.entry(who).or_default() += 1;
        }
        let most = 5 + now / 50_000_000;
        assert!(given.values().all(|given| *given <= most + 1));
    }
    // Each asked more often than it may, and had all that it may.
    let least = now / 50_000_000 * 9 / 10;
    assert!(
        given.values().all(|given| *given >= least),
        "{given:?} of {least}"
    );
}
