//! The blocks of a pcapng file, as draft-ietf-opsawg-pcapng has them.
//!
//! Each function adds one whole block to a buffer. What is written is little-endian, with times in
//! nanoseconds since 1970. A reader needs a section first, then its interfaces, then packets, which
//! name their interface by its place in that order.

/// Packets that begin with their IP header: Linux's number for it (`DLT_RAW`), and not the one of
/// files (`LINKTYPE_RAW`, 101). All readers know both. But tcpdump's library takes 101 of the first
/// interface for 12, and then refuses a second one with 101.
const LINK_RAW: u16 = 12;

/// The type of a block of statistics.
const STATISTICS: u32 = 5;
/// The longest option, and so the longest comment, bytes.
const LONGEST_OPTION: usize = u16::MAX as usize;

/// A kind of packets in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its name in Wireshark.
    pub name: &'a str,
    /// What is to be seen there.
    pub description: &'a str,
    /// The filter that its packets passed, in the words of who wrote it.
    pub filter: Option<&'a str>,
    /// Bytes that are kept of a packet at the most; 0 for all.
    pub snap_length: u32,
}

/// Which way a packet went, as seen from this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It came in.
    Inbound,
    /// It went out.
    Outbound,
    /// Neither, or not known.
    Unknown,
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The place of its interface in the section.
    pub interface: u32,
    /// When it was seen, nanoseconds since 1970.
    pub time: u64,
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// How many it had.
    pub length: u32,
    /// Which way it went.
    pub direction: Direction,
    /// What is to be said about it.
    pub comment: Option<&'a str>,
}

/// What was seen at an interface, at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// The interface's place in the section.
    pub interface: u32,
    /// When the packets began to be looked at, nanoseconds since 1970.
    pub start: u64,
    /// When they no longer were.
    pub end: u64,
    /// Packets that were seen, those that were lost included.
    pub received: u64,
    /// Packets that were lost, as nobody took them in time.
    pub dropped: u64,
    /// Packets that the filter let pass.
    pub accepted: u64,
}

/// Begins a section: what wrote it, and where.
pub fn section(to: &mut Vec<u8>, application: &str, os: &str) {
    block(to, 0x0a0d_0d0a, |to| {
        word(to, 0x1a2b_3c4d);
        half(to, 1);
        half(to, 0);
        // Its length isn't known before its end.
        wide(to, u64::MAX);
        option(to, 3, os.as_bytes());
        option(to, 4, application.as_bytes());
        end_of_options(to);
    });
}

/// Adds an interface to the section.
pub fn interface(to: &mut Vec<u8>, it: &Interface<'_>) {
    block(to, 1, |to| {
        half(to, LINK_RAW);
        half(to, 0);
        word(to, it.snap_length);
        option(to, 2, it.name.as_bytes());
        option(to, 3, it.description.as_bytes());
        // Units of 10⁻⁹ seconds.
        option(to, 9, &[9]);
        if let Some(filter) = it.filter {
            // 0: a filter in words.
            let mut value = vec![0];
            value.extend_from_slice(cut(filter, LONGEST_OPTION.saturating_sub(1)).as_bytes());
            option(to, 11, &value);
        }
        end_of_options(to);
    });
}

/// Adds a packet.
pub fn packet(to: &mut Vec<u8>, it: &Packet<'_>) {
    block(to, 6, |to| {
        word(to, it.interface);
        time(to, it.time);
        word(to, u32::try_from(it.bytes.len()).unwrap_or(u32::MAX));
        word(to, it.length);
        padded(to, it.bytes);
        if let Some(comment) = it.comment {
            option(to, 1, comment_bytes(comment));
        }
        let flags: u32 = match it.direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
            Direction::Unknown => 0,
        };
        option(to, 2, &flags.to_le_bytes());
        end_of_options(to);
    });
}

/// Adds what was seen at an interface.
pub fn statistics(to: &mut Vec<u8>, it: &Statistics) {
    block(to, STATISTICS, |to| {
        word(to, it.interface);
        time(to, it.end);
        for (code, at) in [(2, it.start), (3, it.end)] {
            let mut value = Vec::with_capacity(8);
            time(&mut value, at);
            option(to, code, &value);
        }
        for (code, count) in [(4, it.received), (5, it.dropped), (6, it.accepted)] {
            option(to, code, &count.to_le_bytes());
        }
        end_of_options(to);
    });
}

/// What [`statistics`] wrote; `None` for another block.
pub fn read_statistics(block: &[u8]) -> Option<Statistics> {
    let (head, rest) = block.split_first_chunk::<20>()?;
    let (words, _) = head.as_chunks::<4>();
    let [kind, _, interface, upper, lower] = words else {
        return None;
    };
    if u32::from_le_bytes(*kind) != STATISTICS {
        return None;
    }
    let time = |upper: [u8; 4], lower: [u8; 4]| {
        u64::from(u32::from_le_bytes(upper)) << 32 | u64::from(u32::from_le_bytes(lower))
    };
    let end = time(*upper, *lower);
    let mut found = Statistics {
        interface: u32::from_le_bytes(*interface),
        start: end,
        end,
        received: 0,
        dropped: 0,
        accepted: 0,
    };
    let mut options = rest;
    while let Some(([a, b, c, d], rest)) = options.split_first_chunk::<4>() {
        let (code, length) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        if code == 0 {
            break;
        }
        let value = rest.get(..usize::from(length))?;
        let count = value.first_chunk().map(|value| u64::from_le_bytes(*value));
        match (code, count) {
            (2, Some(_)) => {
                let (halves, _) = value.as_chunks::<4>();
                if let [upper, lower] = halves {
                    found.start = time(*upper, *lower);
                }
            }
            (4, Some(count)) => found.received = count,
            (5, Some(count)) => found.dropped = count,
            (6, Some(count)) => found.accepted = count,
            _ => {}
        }
        options = rest.get(usize::from(length).next_multiple_of(4)..)?;
    }
    Some(found)
}

/// Adds a block: its type, its length, what `body` adds, padded to whole words by it, and its
/// length again.
fn block(to: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    word(to, kind);
    let length_at = to.len();
    word(to, 0);
    body(to);
    let length = to.len().saturating_sub(start).saturating_add(4);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if let Some(place) = to.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut) {
        *place = length.to_le_bytes();
    }
    word(to, length);
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..LONGEST_OPTION).unwrap_or(value);
    half(to, code);
    half(to, value.len() as u16);
    padded(to, value);
}

fn end_of_options(to: &mut Vec<u8>) {
    word(to, 0);
}

/// A comment as an option takes it.
fn comment_bytes(comment: &str) -> &[u8] {
    cut(comment, LONGEST_OPTION).as_bytes()
}

/// As much of a text as so many bytes hold, without half a character.
fn cut(text: &str, longest: usize) -> &str {
    let end = text.floor_char_boundary(longest);
    text.get(..end).unwrap_or_default()
}

/// A time is written as its upper half, then its lower one, whatever the order of bytes is.
fn time(to: &mut Vec<u8>, time: u64) {
    word(to, (time >> 32) as u32);
    word(to, time as u32);
}

/// Bytes, with zeros behind them up to whole words.
fn padded(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(bytes);
    let padding = bytes.len().wrapping_neg() % 4;
    to.extend_from_slice([0; 4].get(..padding).unwrap_or_default());
}

fn half(to: &mut Vec<u8>, value: u16) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn word(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn wide(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a file, each with its type and its body, as a reader finds them.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            let length = number(4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(number(length - 4) as usize, length);
            blocks.push((number(0), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    /// The options in the rest of a block.
    fn options(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut options = Vec::new();
        loop {
            let number = |at: usize| u16::from_le_bytes(rest[at..at + 2].try_into().unwrap());
            let (code, length) = (number(0), usize::from(number(2)));
            if code == 0 {
                assert_eq!(rest.len(), 4, "nothing is behind the end");
                return options;
            }
            options.push((code, rest[4..4 + length].to_vec()));
            rest = &rest[4 + length.next_multiple_of(4)..];
        }
    }

    fn a_packet<'a>(bytes: &'a [u8], comment: Option<&'a str>) -> Packet<'a> {
        Packet {
            interface: 1,
            time: 0x0102_0304_0506_0708,
            bytes,
            length: 1500,
            direction: Direction::Outbound,
            comment,
        }
    }

    #[test]
    fn a_file_is_a_section_then_interfaces_then_packets() {
        let mut file = Vec::new();
        section(&mut file, "taltun 1", "Linux");
        let both = Interface {
            name: "wg0 inner",
            description: "inside",
            filter: Some("icmp"),
            snap_length: 96,
        };
        interface(&mut file, &both);
        packet(&mut file, &a_packet(b"abcde", Some("passed")));
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [0x0a0d_0d0a, 1, 6]);

        let section = &blocks[0].1;
        assert_eq!(section[..4], 0x1a2b_3c4d_u32.to_le_bytes());
        assert_eq!(
            section[4..16],
            *b"\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"
        );
        let texts = [(3, b"Linux".to_vec()), (4, b"taltun 1".to_vec())];
        assert_eq!(options(&section[16..]), texts);

        let interface = &blocks[1].1;
        assert_eq!(interface[..8], [12, 0, 0, 0, 96, 0, 0, 0]);
        assert_eq!(
            options(&interface[8..]),
            [
                (2, b"wg0 inner".to_vec()),
                (3, b"inside".to_vec()),
                (9, vec![9]),
                (11, b"\0icmp".to_vec()),
            ]
        );

        let packet = &blocks[2].1;
        assert_eq!(packet[..4], [1, 0, 0, 0]);
        assert_eq!(packet[4..12], [4, 3, 2, 1, 8, 7, 6, 5]);
        assert_eq!(packet[12..20], [5, 0, 0, 0, 0xdc, 5, 0, 0]);
        assert_eq!(packet[20..28], *b"abcde\0\0\0");
        let said = [(1, b"passed".to_vec()), (2, vec![2, 0, 0, 0])];
        assert_eq!(options(&packet[28..]), said);
    }

    #[test]
    fn statistics_tell_what_was_lost() {
        let mut file = Vec::new();
        let all = Statistics {
            interface: 2,
            start: 1,
            end: 1 << 32,
            received: 10,
            dropped: 3,
            accepted: 7,
        };
        statistics(&mut file, &all);
        let (kind, body) = blocks(&file).remove(0);
        assert_eq!(kind, 5);
        assert_eq!(body[..12], [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let count = |count: u64| count.to_le_bytes().to_vec();
        assert_eq!(
            options(&body[12..]),
            [
                (2, vec![0, 0, 0, 0, 1, 0, 0, 0]),
                (3, vec![1, 0, 0, 0, 0, 0, 0, 0]),
                (4, count(10)),
                (5, count(3)),
                (6, count(7)),
            ]
        );
        assert_eq!(read_statistics(&file), Some(all));
    }

    #[test]
    fn any_bytes_are_read_as_statistics_or_refused() {
        let mut whole = Vec::new();
        let all = Statistics {
            interface: 0,
            start: 0,
            end: 0,
            received: u64::MAX,
            dropped: 1,
            accepted: 2,
        };
        statistics(&mut whole, &all);
        for end in 0..whole.len() {
            // Cut behind the last count it is as good as whole.
            let found = read_statistics(&whole[..end]);
            assert!(found.is_none_or(|found| end < 88 || found == all), "{end}");
            let mut changed = whole.clone();
            for bit in 0..8 {
                changed[end] ^= 1 << bit;
                let _ = read_statistics(&changed);
            }
        }
        let mut other = Vec::new();
        packet(&mut other, &a_packet(b"abc", None));
        assert_eq!(read_statistics(&other), None);
    }

    #[test]
    fn any_length_is_padded_and_a_long_comment_is_cut_between_characters() {
        for length in 0..9 {
            let mut file = Vec::new();
            packet(&mut file, &a_packet(&vec![0xff; length], None));
            assert_eq!(
                options(&blocks(&file)[0].1[20 + length.next_multiple_of(4)..]).len(),
                1
            );
        }
        let comment = "ñ".repeat(40_000);
        let mut file = Vec::new();
        packet(&mut file, &a_packet(b"", Some(&comment)));
        let (code, text) = options(&blocks(&file)[0].1[20..]).remove(0);
        assert_eq!((code, text.len()), (1, 65_534));
        assert_eq!(String::from_utf8(text).unwrap(), "ñ".repeat(32_767));
    }
}
