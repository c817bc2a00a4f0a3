//! DNS messages, from clients and from servers: read as RFC 1035 draws them; and what is passed on of
//! an answer is a message, without what would lead around the tunnel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use taltun::config::{DnsRoutes, Domain};
use taltun::control::fuzzing as dns;
use taltun_crypto::PublicKey;

/// The longest that an address of the list is led.
const LONGEST: u32 = 86_400;

/// A name at a place, its labels, and the byte behind it there: by recursion, as the RFC tells it. What a
/// pointer leads to lies before the pointer.
pub(crate) fn naive_name(message: &[u8], at: usize, jumps: usize) -> Option<(Vec<Vec<u8>>, usize)> {
    let length = usize::from(*message.get(at)?);
    if length == 0 {
        return Some((Vec::new(), at + 1));
    }
    if length < 64 {
        let label = message.get(at + 1..at + 1 + length)?.to_vec();
        let (mut rest, end) = naive_name(message, at + 1 + length, jumps)?;
        rest.insert(0, label);
        return Some((rest, end));
    }
    if length < 0xc0 || jumps == 64 {
        return None;
    }
    let to = (length - 0xc0) * 256 + usize::from(*message.get(at + 1)?);
    // The header has no names, and is written anew.
    if to < 12 {
        return None;
    }
    let (labels, _) = naive_name(&message[..at], to, jumps + 1)?;
    Some((labels, at + 2))
}

/// The same, of at most 255 bytes.
pub(crate) fn checked_name(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let (labels, end) = naive_name(message, at, 0)?;
    let mut name: Vec<u8> = labels
        .iter()
        .flat_map(|label| [&[label.len() as u8], &label[..]].concat())
        .collect();
    name.push(0);
    (name.len() <= 255).then_some((name, end))
}

pub(crate) fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        message.get(at..at + 2)?.try_into().ok()?,
    ))
}

pub(crate) fn naive_records(message: &[u8]) -> Option<Vec<dns::Record>> {
    if word(message, 4)? != 1 {
        return None;
    }
    let (_, end) = checked_name(message, 12)?;
    message.get(end..end + 4)?;
    let mut at = end + 4;
    let mut records = Vec::new();
    for section in 0..3 {
        for _ in 0..word(message, 6 + 2 * section)? {
            let (name, end) = checked_name(message, at)?;
            let fixed = message.get(end..end + 10)?;
            let length = usize::from(word(fixed, 8)?);
            message.get(end + 10..end + 10 + length)?;
            at = end + 10 + length;
            records.push(dns::Record {
                section,
                name,
                kind: word(fixed, 0)?,
                class: word(fixed, 2)?,
                ttl: u32::from_be_bytes(fixed[4..8].try_into().ok()?),
                data: end + 10..at,
            });
        }
    }
    Some(records)
}

fn routes() -> DnsRoutes {
    DnsRoutes {
        domains: vec![
            Domain::Below("example.net".into()),
            Domain::Name("a.example".into()),
        ],
        via: PublicKey([1; 32]),
        upstream: Vec::new(),
        keep: Duration::ZERO,
    }
}

/// The addresses in what is passed on, by the naive reader.
fn addresses(message: &[u8], records: &[dns::Record]) -> BTreeSet<IpAddr> {
    let address = |record: &dns::Record| {
        let data = &message[record.data.clone()];
        match record.kind {
            1 => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            28 => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
            _ => None,
        }
    };
    records.iter().filter_map(address).collect()
}

pub(crate) fn run(message: &[u8]) {
    let expected = naive_records(message);
    assert_eq!(dns::records(message), expected);
    let question = dns::question(message);
    assert!(question.is_some() || expected.is_none());
    if let Some((name, kind, end)) = question {
        assert!(end <= message.len());
        // A name of plain letters can be asked for, and is the same then.
        let labels = naive_name(message, 12, 0).map(|(labels, _)| labels.concat());
        if labels.is_some_and(|letters| letters.iter().all(u8::is_ascii_alphanumeric))
            && let Some(asked) = dns::ask_for(&name, kind, 7)
        {
            let length = asked.len();
            assert_eq!(dns::question(&asked), Some((name, kind, length)));
        }
    }
    for code in [0, 3] {
        if let Some(nothing) = dns::nothing(message, code) {
            assert_eq!(nothing[..2], message[..2]);
            assert_eq!(nothing[3] & 0x0f, code);
            assert_ne!(nothing[2] & 0x80, 0, "it is an answer");
            let is_asked = dns::question(message).is_some();
            assert_eq!(
                naive_records(&nothing).is_some_and(|them| them.is_empty()),
                is_asked
            );
        }
    }
    answer(message, expected.as_deref());
}

fn answer(message: &[u8], records: Option<&[dns::Record]>) {
    let routes = routes();
    let concerned = dns::concerned(&routes, "www.example.net", message);
    for name in concerned.iter().flatten() {
        assert!(routes.includes(name), "{name} isn't of the list");
    }
    let Some((led, passed)) = dns::listed(&routes, message) else {
        return;
    };
    let before = records.expect("what isn't understood isn't passed on");
    let after = naive_records(&passed).expect("what is passed on is a message");
    let led: BTreeSet<IpAddr> = led.into_iter().map(|(address, _)| address).collect();
    let passed_on = addresses(&passed, &after);
    assert!(passed_on.is_subset(&led), "{passed_on:?} of {led:?}");
    assert!(led.is_subset(&addresses(message, before)));
    let judged: BTreeSet<_> = before.iter().map(|record| &record.name).collect();
    for record in &after {
        assert!(
            judged.contains(&record.name),
            "{:?} is nobody's name",
            record.name
        );
        assert!(
            record.section < 2 || record.kind == 41,
            "only EDNS comes along"
        );
        assert!(record.kind == 41 || record.ttl <= LONGEST);
        if matches!(record.kind, 64 | 65) && record.section < 2 {
            let data = &passed[record.data.clone()];
            assert!(!has_hints(data), "{data:?}");
        }
    }
    let room = 512;
    let cut = dns::fit(passed.clone(), room);
    if passed.len() <= room {
        assert_eq!(cut, passed);
    } else {
        assert!(cut.len() <= room && cut[2] & 2 != 0);
        assert_eq!(naive_records(&cut), Some(Vec::new()));
    }
}

/// Whether a service's data has hints at addresses (RFC 9460).
fn has_hints(data: &[u8]) -> bool {
    let (_, mut at) = checked_name(data, 2).expect("it has a target");
    while at < data.len() {
        let key = word(data, at).expect("a key");
        let length = usize::from(word(data, at + 2).expect("a length"));
        if matches!(key, 4 | 6) {
            return true;
        }
        at += 4 + length;
    }
    assert_eq!(at, data.len());
    false
}
