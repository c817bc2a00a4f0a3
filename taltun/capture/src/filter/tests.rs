//! Filters that tcpdump compiled, compared with what they mean; and programs that are none.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

/// `tcpdump -y RAW -ddd 'icmp or icmp6'`
const ICMP: &str = "\
15
48 0 0 0
84 0 0 240
21 0 2 64
48 0 0 9
21 8 9 1
48 0 0 0
84 0 0 240
21 0 6 96
48 0 0 6
21 3 0 58
21 0 3 44
48 0 0 40
21 0 1 58
6 0 0 262144
6 0 0 0
";

/// `tcpdump -y RAW -ddd 'tcp dst port 443'`
const HTTPS: &str = "\
19
48 0 0 0
84 0 0 240
21 0 4 96
48 0 0 6
21 0 13 6
40 0 0 42
21 10 11 443
48 0 0 0
84 0 0 240
21 0 8 64
48 0 0 9
21 0 6 6
40 0 0 6
69 4 0 8191
177 0 0 0
72 0 0 2
21 0 1 443
6 0 0 262144
6 0 0 0
";

/// `tcpdump -y RAW -ddd 'tcp[tcpflags] & tcp-syn != 0'`
const SYN: &str = "\
12
48 0 0 0
84 0 0 240
21 0 8 64
48 0 0 9
21 0 6 6
40 0 0 6
69 4 0 8191
177 0 0 0
80 0 0 13
69 0 1 2
6 0 0 262144
6 0 0 0
";

/// `tcpdump -y RAW -ddd 'src net 10.1.0.0/16 and not udp'`
const NET: &str = "\
10
48 0 0 0
84 0 0 240
21 0 6 64
32 0 0 12
84 0 0 4294901760
21 0 3 167837696
48 0 0 9
21 1 0 17
6 0 0 262144
6 0 0 0
";

/// `tcpdump -y RAW -ddd 'greater 40 and ip[8] * 2 / 3 - ip[9] % 7 < (ip[1] << 2 | 8)'`
const SUMS: &str = "\
23
128 0 0 0
53 0 20 40
48 0 0 0
84 0 0 240
21 0 17 64
48 0 0 8
36 0 0 2
52 0 0 3
2 0 0 3
48 0 0 9
148 0 0 7
7 0 0 6
96 0 0 3
28 0 0 0
2 0 0 6
48 0 0 1
100 0 0 2
68 0 0 8
7 0 0 10
96 0 0 6
61 1 0 0
6 0 0 262144
6 0 0 0
";

/// IPv4 packets with and without options, in fragments or whole, IPv6 ones, and cut ones.
struct Packets(ChaCha20Rng);

impl Packets {
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.next_u32() as usize % of.len()]
    }

    fn next(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 64];
        self.0.fill_bytes(&mut packet);
        let protocol = self.pick(&[1, 6, 6, 6, 17, 58, 44]);
        let payload = if self.0.next_u32().is_multiple_of(3) {
            packet[0] = 0x60;
            packet[6] = protocol;
            40
        } else {
            let words = self.pick(&[5, 5, 6]);
            packet[0] = 0x40 | words;
            packet[6..8].copy_from_slice(&self.pick(&[[0, 0], [0x40, 0], [0x20, 0], [0, 9]]));
            packet[9] = protocol;
            let source = self.pick(&[[10, 1, 2, 3], [10, 2, 2, 3]]);
            packet[12..16].copy_from_slice(&source);
            usize::from(words) * 4
        };
        let port: u16 = self.pick(&[443, 443, 80]);
        packet[payload + 2..payload + 4].copy_from_slice(&port.to_be_bytes());
        let length = self.pick(&[64, 64, 64, 50, 41, 30, 8, 0]);
        packet.truncate(length);
        packet
    }
}

/// What can be said of a packet without a filter; `None` beyond its end.
struct Naive<'p>(&'p [u8]);

impl Naive<'_> {
    fn byte(&self, at: usize) -> Option<u32> {
        self.0.get(at).copied().map(u32::from)
    }

    fn version(&self) -> Option<u32> {
        Some(self.byte(0)? >> 4)
    }

    /// Its protocol, that of IPv6 without looking behind a fragment header.
    fn protocol(&self) -> Option<u32> {
        match self.version()? {
            4 => self.byte(9),
            6 => self.byte(6),
            _ => None,
        }
    }

    /// Where its payload begins, if it is the first fragment of IPv4.
    fn ipv4_payload(&self) -> Option<usize> {
        let offset = (self.byte(6)? << 8 | self.byte(7)?) & 0x1fff;
        (offset == 0).then_some((self.byte(0)? as usize & 15) * 4)
    }

    fn icmp(&self) -> Option<bool> {
        let protocol = self.protocol()?;
        Some(match self.version()? {
            4 => protocol == 1,
            _ => protocol == 58 || protocol == 44 && self.byte(40)? == 58,
        })
    }

    fn https(&self) -> Option<bool> {
        let payload = match self.version()? {
            4 if self.protocol()? == 6 => self.ipv4_payload()?,
            6 if self.protocol()? == 6 => 40,
            _ => return None,
        };
        Some(self.byte(payload + 2)? << 8 | self.byte(payload + 3)? == 443)
    }

    fn syn(&self) -> Option<bool> {
        if self.version()? != 4 || self.protocol()? != 6 {
            return None;
        }
        let flags = self.byte(self.ipv4_payload()? + 13)?;
        Some(flags & 2 != 0)
    }

    fn net(&self) -> Option<bool> {
        if self.version()? != 4 {
            return None;
        }
        let is_inside = self.0.get(12..16)?.starts_with(&[10, 1]);
        Some(is_inside && self.protocol()? != 17)
    }

    fn sums(&self) -> Option<bool> {
        if self.0.len() < 40 || self.version()? != 4 {
            return None;
        }
        let left = (self.byte(8)? * 2 / 3).wrapping_sub(self.byte(9)? % 7);
        Some(left < (self.byte(1)? << 2 | 8))
    }
}

#[test]
fn compiled_filters_pass_what_they_say() {
    type Meaning = fn(&[u8]) -> Option<bool>;
    let cases: [(&str, Meaning); 5] = [
        (ICMP, |packet| Naive(packet).icmp()),
        (HTTPS, |packet| Naive(packet).https()),
        (SYN, |packet| Naive(packet).syn()),
        (NET, |packet| Naive(packet).net()),
        (SUMS, |packet| Naive(packet).sums()),
    ];
    for (listing, meaning) in cases {
        let filter = Filter::parse(listing).unwrap();
        let mut packets = Packets(ChaCha20Rng::seed_from_u64(1));
        let mut passed = 0;
        for _ in 0..20_000 {
            let packet = packets.next();
            let wanted = meaning(&packet).unwrap_or(false);
            assert_eq!(
                filter.matches(&packet, packet.len() as u32),
                wanted,
                "{packet:02x?} by {listing}"
            );
            passed += u32::from(wanted);
        }
        assert!((1_000..19_000).contains(&passed), "{passed} by {listing}");
    }
}

#[test]
fn the_length_is_that_of_the_whole_packet() {
    // `tcpdump -y RAW -ddd greater 100`
    let filter = Filter::parse("4\n128 0 0 0\n53 0 1 100\n6 0 0 262144\n6 0 0 0\n").unwrap();
    assert!(filter.matches(&[0x45], 100));
    assert!(!filter.matches(&[0x45; 200], 99));
}

#[test]
fn words_are_a_filter_again() {
    let filter = Filter::parse(ICMP).unwrap();
    assert_eq!(Filter::new(filter.words().to_vec()), Ok(filter));
}

#[test]
fn what_is_no_listing_is_refused() {
    for (listing, error) in [
        ("", FilterError::Line(1)),
        ("tcpdump: syntax error", FilterError::Line(1)),
        ("1\n6 0 0", FilterError::Line(2)),
        ("1\n6 0 0 0 0", FilterError::Line(2)),
        ("1\n6 0 0 -1", FilterError::Line(2)),
        ("1\n6 0 0 4294967296", FilterError::Line(2)),
        ("2\n6 0 0 0", FilterError::Count),
        ("0\n", FilterError::Length(0)),
    ] {
        assert_eq!(Filter::parse(listing), Err(error), "{listing}");
    }
}

#[test]
fn what_is_no_program_is_refused() {
    let end = [6, 0, 0, 1];
    for (words, error) in [
        (vec![], FilterError::Length(0)),
        (vec![end; 4097], FilterError::Length(4097)),
        (vec![[0, 0, 0, 1]], FilterError::End),
        (vec![end, [7, 0, 0, 0]], FilterError::End),
        // Codes that there aren't.
        (vec![[0x38, 0, 0, 0], end], FilterError::Instruction(0)),
        (vec![[0xff, 0, 0, 0], end], FilterError::Instruction(0)),
        (vec![[0x106, 0, 0, 0], end], FilterError::Instruction(0)),
        // The kernel's own registers, memory beyond the end, division by 0.
        (vec![end, [2, 0, 0, 16], end], FilterError::Instruction(1)),
        (vec![[0x61, 0, 0, 16], end], FilterError::Instruction(0)),
        (vec![[0x34, 0, 0, 0], end], FilterError::Instruction(0)),
        (vec![[0x94, 0, 0, 0], end], FilterError::Instruction(0)),
        // Jumps to behind the end, or around it.
        (vec![[5, 0, 0, 1], end], FilterError::Jump(0)),
        (vec![[5, 0, 0, u32::MAX], end], FilterError::Jump(0)),
        (vec![[0x15, 0, 1, 0], end], FilterError::Jump(0)),
        (vec![[0x15, 255, 0, 0], end], FilterError::Jump(0)),
        (vec![[0x15, 256, 0, 0], end], FilterError::Instruction(0)),
    ] {
        assert_eq!(Filter::new(words), Err(error));
    }
}

#[test]
fn the_longest_program_runs_to_its_end() {
    let mut words = vec![[0x04, 0, 0, 1]; 4095];
    words.push([0x16, 0, 0, 0]);
    assert!(Filter::new(words).unwrap().matches(b"", 0));
    // A jump over all but the last.
    let mut words = vec![[6, 0, 0, 0]; 4096];
    words[0] = [5, 0, 0, 4094];
    words[4095] = [6, 0, 0, 1];
    assert!(Filter::new(words).unwrap().matches(b"", 0));
}

#[test]
fn division_by_what_is_0_at_the_time_ends_it() {
    for code in [0x3c, 0x9c] {
        let words = vec![[0, 0, 0, 7], [code, 0, 0, 0], [6, 0, 0, 1]];
        assert!(!Filter::new(words).unwrap().matches(b"", 0));
    }
}

#[test]
fn no_program_and_no_packet_make_it_panic() {
    let mut random = ChaCha20Rng::seed_from_u64(2);
    // Mostly codes that exist, with operands around the limits.
    let codes = [
        0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x61,
        0x80, 0x81, 0x84, 0x87, 0xb1, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c,
        0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x94, 0x9c, 0xa4, 0xac, 0x15, 0x1d, 0x25, 0x2d, 0x35,
        0x3d, 0x45, 0x4d, 0x16, 0x0e,
    ];
    let edges = [
        0,
        1,
        2,
        3,
        15,
        16,
        31,
        32,
        0x7fff_ffff,
        u32::MAX - 1,
        u32::MAX,
    ];
    let mut programs = 0;
    for _ in 0..200_000 {
        let mut pick = |of: &[u32]| of[random.next_u32() as usize % of.len()];
        let length = pick(&[1, 2, 3, 5, 8]);
        let mut words: Vec<Word> = (0..length)
            .map(|_| {
                [
                    pick(&codes),
                    pick(&[0, 1, 2]),
                    pick(&[0, 1, 2]),
                    pick(&edges),
                ]
            })
            .collect();
        words.push([0x16, 0, 0, 0]);
        let length = pick(&[0, 1, 20, 64]);
        let Ok(filter) = Filter::new(words) else {
            continue;
        };
        programs += 1;
        let mut packet = vec![0; length as usize];
        random.fill_bytes(&mut packet);
        filter.matches(&packet, random.next_u32());
    }
    assert!(programs > 10_000, "{programs}");
    // And listings of any text.
    for _ in 0..20_000 {
        let mut listing = vec![0; random.next_u32() as usize % 40];
        for byte in &mut listing {
            *byte = b"0123456789 \n-x"[random.next_u32() as usize % 14];
        }
        let _ = Filter::parse(std::str::from_utf8(&listing).unwrap());
    }
}

#[test]
fn what_only_a_kernel_knows_is_no_filter() {
    // As tcpdump compiles `inbound`: the packet's kind, where the kernel keeps it.
    let words = vec![[0x30, 0, 0, 0xffff_f004], [0x06, 0, 0, 1]];
    assert_eq!(Filter::new(words), Err(FilterError::Kernels(0)));
    let words = vec![[0x30, 0, 0, 9], [0x06, 0, 0, 1]];
    assert!(Filter::new(words).is_ok());
}
