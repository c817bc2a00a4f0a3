//! DNS messages (RFC 1035), as far as the name service and look-ups need them: the question, and
//! every record with its place. Nothing is believed: what doesn't parse to its end is nothing.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Length of the header of a message (section 4.1.1).
pub(crate) const HEADER: usize = 12;
/// IPv4 addresses.
pub(crate) const TYPE_A: u16 = 1;
/// Another name for the same.
pub(crate) const TYPE_CNAME: u16 = 5;
/// IPv6 addresses.
pub(crate) const TYPE_AAAA: u16 = 28;
/// What EDNS adds to a message.
pub(crate) const TYPE_OPT: u16 = 41;
/// Where services are, with hints at addresses (RFC 9460).
pub(crate) const TYPE_SVCB: u16 = 64;
/// The same for web servers.
pub(crate) const TYPE_HTTPS: u16 = 65;
/// The Internet.
pub(crate) const CLASS_IN: u16 = 1;
/// Pointers that are followed in one name at the most.
const JUMPS: usize = 64;
/// The longest name, bytes.
const LONGEST_NAME: usize = 255;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) kind: u16,
    /// Where it ends in the message.
    pub(crate) end: usize,
}

/// Where in a message a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// A record of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) section: Section,
    /// Its name as in the message, without pointers.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    /// Where all of it is.
    pub(crate) all: Range<usize>,
    /// Where its data is.
    pub(crate) data: Range<usize>,
}

impl Record {
    /// The address in it; the error is that it should have one.
    pub(crate) fn address(&self, message: &[u8]) -> Result<Option<IpAddr>, ()> {
        let data = message.get(self.data.clone()).ok_or(())?;
        match self.kind {
            TYPE_A => {
                let bytes: [u8; 4] = data.try_into().map_err(|_| ())?;
                Ok(Some(Ipv4Addr::from(bytes).into()))
            }
            TYPE_AAAA => {
                let bytes: [u8; 16] = data.try_into().map_err(|_| ())?;
                Ok(Some(Ipv6Addr::from(bytes).into()))
            }
            _ => Ok(None),
        }
    }
}

/// The question of a message that has exactly one.
pub(crate) fn question(message: &[u8]) -> Option<Question> {
    if number(message, 4)? != 1 {
        return None;
    }
    let (name, end) = name(message, HEADER)?;
    let kind = number(message, end)?;
    let end = end.checked_add(4)?;
    (end <= message.len()).then(|| Question {
        name: text(&name),
        kind,
        end,
    })
}

/// All records of a message with one question; `None` if any of it doesn't parse.
pub(crate) fn records(message: &[u8]) -> Option<Vec<Record>> {
    let mut at = question(message)?.end;
    let mut records = Vec::new();
    for (section, count) in [
        (Section::Answer, number(message, 6)?),
        (Section::Authority, number(message, 8)?),
        (Section::Additional, number(message, 10)?),
    ] {
        for _ in 0..count {
            let record = record(message, at, section)?;
            at = record.all.end;
            records.push(record);
        }
    }
    Some(records)
}

/// A name at a place of a message, without pointers, and where it ends there.
pub(crate) fn name(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut end) = (start, None);
    let (mut name, mut jumps) = (Vec::new(), 0_usize);
    // A pointer leads to what stands before it, all of it: so what is read comes to an end, and is
    // the same where more or less follows.
    let mut before = message;
    loop {
        let length = usize::from(*before.get(at)?);
        match length {
            0 => {
                name.push(0);
                return Some((name, end.unwrap_or(at.checked_add(1)?)));
            }
            1..=63 => {
                let next = at.checked_add(1)?.checked_add(length)?;
                name.extend(before.get(at..next)?);
                at = next;
            }
            _ if length & 0xc0 == 0xc0 => {
                let target = usize::from(number(before, at)? & 0x3fff);
                end = end.or(at.checked_add(2));
                jumps = jumps.saturating_add(1);
                // No name is in the header: what is passed on has another one.
                if target < HEADER || jumps > JUMPS {
                    return None;
                }
                before = before.get(..at)?;
                at = target;
            }
            _ => return None,
        }
        if name.len() >= LONGEST_NAME {
            return None;
        }
    }
}

/// A name with dots between its labels. One within a label is written as RFC 1035 has it (section 5.1), or
/// the label would pass for several, and a name of nobody's for one of the list.
pub(crate) fn text(name: &[u8]) -> String {
    let (mut rest, mut labels) = (name, Vec::new());
    while let Some((length, behind)) = rest.split_first()
        && *length > 0
        && let Some((label, behind)) = behind.split_at_checked(usize::from(*length))
    {
        let label = String::from_utf8_lossy(label);
        labels.push(label.replace('\\', "\\092").replace('.', "\\046"));
        rest = behind;
    }
    labels.join(".")
}

/// The two bytes at a place, as a number.
pub(crate) fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

/// Whether a message is an answer with this number to this question, in whatever case.
pub(crate) fn is_answer_to(message: &[u8], id: u16, asked: &[u8], end: usize) -> bool {
    number(message, 0) == Some(id)
        && message.get(2).is_some_and(|flags| flags & 0x80 != 0)
        && number(message, 4) == Some(1)
        && message.get(HEADER..end).is_some_and(|repeated| {
            asked
                .get(HEADER..end)
                .is_some_and(|asked| repeated.eq_ignore_ascii_case(asked))
        })
}

/// The answer to a question that there is nothing, or what was wrong.
pub(crate) fn nothing(asked: &[u8], code: u8) -> Option<Vec<u8>> {
    let end = question(asked).map_or(HEADER, |question| question.end);
    let mut answer = asked.get(..end)?.to_vec();
    // An answer; the operation and whether recursion was asked for as they were; recursion is
    // available.
    let [_, _, flags, more, counts @ ..] = answer.first_chunk_mut::<HEADER>()?;
    *flags = 0x80 | *flags & 0x79;
    *more = 0x80 | code & 0x0f;
    *counts = [0, u8::from(end > HEADER), 0, 0, 0, 0, 0, 0];
    Some(answer)
}

/// A question for the addresses of a name; `None` if that is none.
pub(crate) fn ask_for(host: &str, kind: u16, id: u16) -> Option<Vec<u8>> {
    let [high, low] = id.to_be_bytes();
    // Recursion is wanted, and there is one question.
    let mut message = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    write_name(&mut message, host.strip_suffix('.').unwrap_or(host))?;
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    Some(message)
}

/// Writes a name with dots at the end of a message, without pointers; `None` if it is none.
pub(crate) fn write_name(message: &mut Vec<u8>, name: &str) -> Option<()> {
    let start = message.len();
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if !(1..=63).contains(&length) {
            return None;
        }
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    let length = message.len().checked_sub(start)?;
    (length <= LONGEST_NAME).then_some(())
}

fn record(message: &[u8], start: usize, section: Section) -> Option<Record> {
    let (name, at) = name(message, start)?;
    let ttl = message.get(at.checked_add(4)?..at.checked_add(8)?)?;
    let ttl = u32::from_be_bytes(ttl.try_into().ok()?);
    let length = usize::from(number(message, at.checked_add(8)?)?);
    let data = at.checked_add(10)?..at.checked_add(10)?.checked_add(length)?;
    message.get(data.clone())?;
    Some(Record {
        section,
        name,
        kind: number(message, at)?,
        class: number(message, at.checked_add(2)?)?,
        ttl,
        all: start..data.end,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_read_back() {
        let asked = ask_for("www.Example.net.", TYPE_AAAA, 0x1234).unwrap();
        let read = question(&asked).unwrap();
        assert_eq!((read.name.as_str(), read.kind), ("www.Example.net", 28));
        assert_eq!(read.end, asked.len());
        let nothing = nothing(&asked, 2).unwrap();
        assert!(is_answer_to(&nothing, 0x1234, &asked, read.end));
        assert!(!is_answer_to(&nothing, 0x1235, &asked, read.end));
        assert_eq!(nothing[3] & 15, 2);
        assert_eq!(records(&nothing), Some(Vec::new()));
        let other_case = ask_for("WWW.example.net", TYPE_AAAA, 0x1234).unwrap();
        assert!(is_answer_to(&nothing, 0x1234, &other_case, read.end));
        for host in ["", ".", "a..b", &"a".repeat(64), &"abc.".repeat(70)] {
            assert!(ask_for(host, TYPE_A, 1).is_none(), "{host}");
        }
    }

    #[test]
    fn a_dot_within_a_label_separates_nothing() {
        assert_eq!(text(b"\x03ana\x03vpn\0"), "ana.vpn");
        assert_eq!(text(b"\x07ana.vpn\0"), "ana\\046vpn");
        assert_eq!(text(b"\x04www.\x03net\0"), "www\\046.net");
        assert_eq!(text(b"\x08a\\046vpn\0"), "a\\092046vpn");
    }

    #[test]
    fn records_cut_anywhere_are_none_and_pointers_come_to_an_end() {
        let mut message = ask_for("www.example.net", TYPE_A, 7).unwrap();
        message[2] = 0x81;
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 7]);
        let all = records(&message).unwrap();
        assert_eq!(text(&all[0].name), "www.example.net");
        let expected = "192.0.2.7".parse().unwrap();
        assert_eq!(all[0].address(&message), Ok(Some(expected)));
        assert_eq!(all[0].ttl, 30);
        for length in 0..message.len() {
            assert_eq!(records(&message[..length]), None);
            let _ = nothing(&message[..length], 1);
        }
        let at = message.len() - 16;
        for target in [at as u8, at as u8 + 1, 255] {
            message[at + 1] = target;
            assert_eq!(records(&message), None);
        }
        // In the header, which is written anew, there may be bytes that look like a name.
        for target in 0..HEADER as u8 {
            message[at + 1] = target;
            assert_eq!(records(&message), None, "{target}");
        }
        // A pointer to a label that goes on over the pointer.
        let mut over = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, b'a', 3, 0xc0, 14];
        over.extend([b'c', 0, 0, 1, 0, 1]);
        assert_eq!(question(&over), None);
        // Two questions are none that can be answered.
        message[5] = 2;
        assert_eq!(question(&message), None);
    }
}
