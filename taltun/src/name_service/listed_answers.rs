//! Answers about names of `[dns_routes]`: which addresses they give, and what of them may be
//! passed on. Whatever isn't understood isn't passed on, as somebody may find an address in it
//! that is reached around the tunnel.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::dns_message::{
    CLASS_IN, HEADER, Record, Section, TYPE_CNAME, TYPE_HTTPS, TYPE_OPT, TYPE_SVCB, name, number,
    question, records, text,
};
use crate::config::DnsRoutes;

/// How long an address may be remembered at the most, whatever an answer says.
pub(crate) const LONGEST: Duration = Duration::from_secs(86_400);

/// Yet another kind of other name, and two of names that records hold.
const NAMES_ALONE: [u16; 4] = [TYPE_CNAME, 39, 2, 12];
/// Kinds with names in them that may be shortened: those that aren't rebuilt.
const NAMES_WITHIN: [u16; 16] = [3, 4, 6, 7, 8, 9, 14, 15, 17, 18, 21, 24, 26, 30, 33, 35];
/// Keys of hints at addresses in SVCB and HTTPS records, and that of the list of keys that a
/// client must understand (RFC 9460, section 14.3.2).
const HINTS: [u16; 2] = [4, 6];
const MANDATORY: u16 = 0;
/// Records about an answer's authenticity have the kind that they cover in front.
const TYPE_RRSIG: u16 = 46;

/// An answer that may be passed on once its addresses are led.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Each with how long it may be remembered.
    pub(crate) addresses: Vec<(IpAddr, Duration)>,
    /// What to pass on.
    pub(crate) message: Vec<u8>,
}

/// The names of the list that an answer is about: one on the way to its addresses is, and so is
/// one that a service of another name is found by. `None` where it isn't understood, and may be
/// about any.
pub(crate) fn concerned(routes: &DnsRoutes, asked: &str, answer: &[u8]) -> Option<Vec<String>> {
    let records = records(answer)?;
    let mut names = vec![asked.to_owned()];
    for record in &records {
        names.push(text(&record.name));
        if matches!(record.kind, TYPE_SVCB | TYPE_HTTPS) {
            // After the priority. Hints stand beside it.
            let data = answer.get(record.data.clone())?;
            names.push(text(&name(data, 2)?.0));
        }
    }
    let mut names: Vec<String> = names
        .into_iter()
        .filter(|name| routes.includes(name))
        .map(|name| name.to_ascii_lowercase())
        .collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// What of an answer may be passed on; `None` where that can't be told. Hints at addresses are
/// taken out, as is what leads to a service of another name, and what comes in addition, but
/// for EDNS.
pub(crate) fn listed(routes: &DnsRoutes, answer: &[u8]) -> Option<Listed> {
    let records = records(answer)?;
    let (extra, kept): (Vec<&Record>, Vec<&Record>) = records
        .iter()
        .partition(|record| record.section == Section::Additional);
    let mut addresses = Vec::new();
    for record in &kept {
        if record.class != CLASS_IN {
            return None;
        }
        if let Some(address) = record.address(answer).ok()? {
            addresses.push((address, Duration::from_secs(record.ttl.into())));
        }
    }
    let has_services = kept
        .iter()
        .any(|record| matches!(record.kind, TYPE_SVCB | TYPE_HTTPS));
    let mut message = if has_services {
        rebuild(routes, answer, &kept)?
    } else {
        let end = kept.last().map(|record| record.all.end);
        let end = end.map_or_else(|| question(answer).map(|question| question.end), Some)?;
        answer.get(..end)?.to_vec()
    };
    let edns = extra.iter().find(|record| record.kind == TYPE_OPT);
    // An error has no addresses. It may tell of names on the way.
    let extended = edns.is_some_and(|edns| edns.ttl >> 24 != 0);
    let is_error = answer.get(3)? & 0x0f != 0 || extended;
    if is_error && (has_services || !addresses.is_empty()) {
        return None;
    }
    if let Some(edns) = edns {
        message.extend(answer.get(edns.all.clone())?);
    }
    let additional = u16::from(edns.is_some()).to_be_bytes();
    message.get_mut(10..HEADER)?.copy_from_slice(&additional);
    shorten(&mut message)?;
    // A name may point to whatever stands before it, also to what was changed.
    let judged = names(answer, &records)?;
    if !names(&message, &self::records(&message)?)?.is_subset(&judged) {
        return None;
    }
    Some(Listed { addresses, message })
}

/// The names that records have, and those that are all of their data.
fn names(message: &[u8], records: &[Record]) -> Option<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for record in records {
        names.insert(record.name.clone());
        if NAMES_ALONE.contains(&record.kind) {
            names.insert(name(message, record.data.start)?.0);
        }
    }
    Some(names)
}

/// Lets no record be kept for longer than what it says is routed.
fn shorten(message: &mut [u8]) -> Option<()> {
    let longest = u32::try_from(LONGEST.as_secs()).ok()?;
    for record in records(message)? {
        if record.kind != TYPE_OPT && record.ttl > longest {
            // The time to live and the length of the data stand before the data.
            let start = record.data.start.checked_sub(6)?;
            let ttl = message.get_mut(start..)?.first_chunk_mut()?;
            *ttl = longest.to_be_bytes();
        }
    }
    Some(())
}

/// The answers alone, without pointers, and without hints.
fn rebuild(routes: &DnsRoutes, answer: &[u8], kept: &[&Record]) -> Option<Vec<u8>> {
    let mut message = answer.get(..question(answer)?.end)?.to_vec();
    let mut count: u16 = 0;
    for record in kept {
        let data = answer.get(record.data.clone())?;
        let is_service = |kind| matches!(kind, TYPE_SVCB | TYPE_HTTPS);
        let data = match record.kind {
            kind if is_service(kind) => {
                let data = service(routes, data)?;
                if data.is_empty() {
                    continue;
                }
                data
            }
            // They were about what isn't there any more.
            TYPE_RRSIG if number(data, 0).is_some_and(is_service) => continue,
            kind if NAMES_ALONE.contains(&kind) => name(answer, record.data.start)?.0,
            kind if NAMES_WITHIN.contains(&kind) && record.section == Section::Answer => {
                return None;
            }
            _ => data.to_vec(),
        };
        if record.section != Section::Answer {
            continue;
        }
        message.extend(&record.name);
        message.extend(record.kind.to_be_bytes());
        message.extend(record.class.to_be_bytes());
        message.extend(record.ttl.to_be_bytes());
        message.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        message.extend(data);
        count = count.checked_add(1)?;
    }
    // Not authenticated any more.
    *message.get_mut(3)? &= !0x20;
    message.get_mut(6..8)?.copy_from_slice(&count.to_be_bytes());
    message.get_mut(8..10)?.fill(0);
    Some(message)
}

/// The data of a SVCB or HTTPS record without hints; nothing if it leads to another name that
/// isn't of the list.
fn service(routes: &DnsRoutes, data: &[u8]) -> Option<Vec<u8>> {
    let (target, mut at) = name(data, 2)?;
    if target != [0] && !routes.includes(&text(&target)) {
        return Some(Vec::new());
    }
    let mut without = data.get(..2)?.to_vec();
    without.extend(target);
    while at < data.len() {
        let key = number(data, at)?;
        let length = usize::from(number(data, at.checked_add(2)?)?);
        let start = at.checked_add(4)?;
        let value = data.get(start..start.checked_add(length)?)?;
        at = start.checked_add(length)?;
        if HINTS.contains(&key) {
            continue;
        }
        let mut value = value.to_vec();
        if key == MANDATORY {
            let keys = value.chunks(2).map(|key| number(key, 0));
            let keys = keys.collect::<Option<Vec<u16>>>()?;
            value = keys
                .into_iter()
                .filter(|key| !HINTS.contains(key))
                .flat_map(u16::to_be_bytes)
                .collect();
            if value.is_empty() {
                continue;
            }
        }
        without.extend(key.to_be_bytes());
        without.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        without.extend(value);
    }
    Some(without)
}

/// An answer by UDP no longer than `room`: a longer one says that it was cut, and by TCP there
/// is all of it.
pub(crate) fn fit(message: Vec<u8>, room: usize) -> Vec<u8> {
    if message.len() <= room {
        return message;
    }
    let Some(asked) = question(&message) else {
        return message;
    };
    let mut cut = message;
    cut.truncate(asked.end);
    if let Some([_, _, flags, _, _, _, counts @ ..]) = cut.first_chunk_mut::<HEADER>() {
        *flags |= 0x02;
        counts.fill(0);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Domain;
    use crate::crypto::PublicKey;
    use crate::name_service::dns_message::{TYPE_A, ask_for};

    fn routes() -> DnsRoutes {
        DnsRoutes {
            domains: vec![Domain::Below("example.net".into())],
            via: PublicKey([1; 32]),
            upstream: Vec::new(),
            keep: Duration::ZERO,
        }
    }

    fn answer(kind: u16, records: &[(Section, u16, u16, &[u8])]) -> Vec<u8> {
        of("www.example.net", kind, records)
    }

    /// An answer with these records: section, kind, class and data, all for the name that was
    /// asked for.
    fn of(asked: &str, kind: u16, records: &[(Section, u16, u16, &[u8])]) -> Vec<u8> {
        let mut message = ask_for(asked, kind, 7).unwrap();
        message[2] = 0x81;
        message[3] = 0x80;
        for (section, kind, class, data) in records {
            let at = match section {
                Section::Answer => 7,
                Section::Authority => 9,
                Section::Additional => 11,
            };
            message[at] += 1;
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend(class.to_be_bytes());
            message.extend([0, 0, 0, 30]);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(*data);
        }
        message
    }

    const V4: &[u8] = &[192, 0, 2, 7];

    #[test]
    fn what_comes_in_addition_is_left_out_but_for_edns() {
        let all = answer(
            TYPE_A,
            &[
                (Section::Answer, TYPE_A, 1, V4),
                (Section::Additional, TYPE_A, 1, &[192, 0, 2, 8]),
                (Section::Additional, TYPE_OPT, 1232, &[]),
            ],
        );
        let listed = listed(&routes(), &all).unwrap();
        let expected = ("192.0.2.7".parse().unwrap(), Duration::from_secs(30));
        assert_eq!(listed.addresses, [expected]);
        let left = records(&listed.message).unwrap();
        assert_eq!(left.len(), 2);
        assert_eq!(left[1].kind, TYPE_OPT);
    }

    #[test]
    fn an_error_carries_no_address() {
        for code in [2, 3, 5] {
            let mut message = answer(TYPE_A, &[(Section::Answer, TYPE_A, CLASS_IN, V4)]);
            message[3] |= code;
            assert!(listed(&routes(), &message).is_none(), "{code}");
            // A name on the way that leads to none.
            let name = &[1, b'x', 0];
            let mut message = answer(TYPE_A, &[(Section::Answer, TYPE_CNAME, CLASS_IN, name)]);
            message[3] |= code;
            let listed = listed(&routes(), &message).unwrap();
            assert_eq!(listed.message[3] & 0x0f, code);
        }
        // The higher bits of an error are in what EDNS adds.
        let mut message = answer(
            TYPE_A,
            &[
                (Section::Answer, TYPE_A, CLASS_IN, V4),
                (Section::Additional, TYPE_OPT, 1232, &[]),
            ],
        );
        assert!(listed(&routes(), &message).is_some_and(|listed| !listed.addresses.is_empty()));
        let ttl = message.len() - 6;
        message[ttl..ttl + 4].copy_from_slice(&[0, 0, 0, 0]);
        assert!(listed(&routes(), &message).is_some());
        message[ttl] = 1;
        assert!(listed(&routes(), &message).is_none());
    }

    #[test]
    fn no_record_outlives_its_route() {
        let mut all = answer(TYPE_A, &[(Section::Answer, TYPE_A, 1, V4); 2]);
        let before = records(&all).unwrap();
        let ttl = before[1].data.start - 6;
        all[ttl..ttl + 4].copy_from_slice(&1_209_600_u32.to_be_bytes());
        let listed = listed(&routes(), &all).unwrap();
        let ttls = records(&listed.message).unwrap();
        let ttls: Vec<u32> = ttls.iter().map(|record| record.ttl).collect();
        assert_eq!(ttls, [30, 86_400]);
    }

    #[test]
    fn a_name_that_points_into_what_is_shortened_isnt_passed_on() {
        let all = answer(TYPE_A, &[(Section::Answer, TYPE_A, CLASS_IN, V4); 2]);
        let before = records(&all).unwrap();
        let (first, second) = (before[0].data.start - 6, before[1].all.start);
        for (ttl, is_passed_on) in [(1_209_600_u32, false), (86_400, true)] {
            let mut all = all.clone();
            // The second's name: the last byte of the first's time to live, and what follows it.
            all[first..first + 4].copy_from_slice(&(ttl & 0xffff_ff00).to_be_bytes());
            all[second + 1] = first as u8 + 3;
            assert_eq!(records(&all).unwrap()[1].name, [0]);
            assert_eq!(listed(&routes(), &all).is_some(), is_passed_on, "{ttl}");
            // And the same for a name that is a record's data.
            let mut data = all[..before[1].all.start].to_vec();
            data.extend([0xc0, 12, 0, TYPE_CNAME as u8, 0, 1, 0, 0, 0, 30, 0, 2, 0xc0]);
            data.push(first as u8 + 3);
            assert_eq!(records(&data).unwrap().len(), 2);
            assert_eq!(listed(&routes(), &data).is_some(), is_passed_on, "{ttl}");
        }
    }

    #[test]
    fn what_isnt_understood_isnt_passed_on() {
        for records in [
            &[(Section::Answer, TYPE_A, 0x4242, V4)][..],
            &[(Section::Answer, 16, 3, V4)],
            &[(Section::Answer, TYPE_A, 1, &[192, 0, 2])],
            &[(Section::Authority, 28, 1, V4)],
            &[(Section::Answer, TYPE_HTTPS, 1, &[0, 1, 0, 0, 4, 0, 9, 1])],
        ] {
            let all = answer(TYPE_A, records);
            assert_eq!(listed(&routes(), &all), None, "{records:?}");
        }
        let whole = answer(TYPE_A, &[(Section::Answer, TYPE_A, 1, V4)]);
        for length in 0..whole.len() {
            assert_eq!(listed(&routes(), &whole[..length]), None);
        }
    }

    #[test]
    fn hints_are_taken_out_and_the_rest_stays() {
        // Priority 1, the same name; mandatory: alpn, ipv4hint; alpn h2; both hints; a port.
        let mut data = vec![0, 1, 0];
        data.extend([0, 0, 0, 4, 0, 1, 0, 4]);
        data.extend([0, 1, 0, 3, 2, b'h', b'2']);
        data.extend([0, 3, 0, 2, 1, 0xbb]);
        data.extend([0, 4, 0, 4, 192, 0, 2, 7]);
        data.extend([0, 6, 0, 16]);
        data.extend([0x20; 16]);
        let mut elsewhere = vec![0, 2];
        elsewhere.extend(b"\x03cdn\x07example\x03org\x00");
        for kind in [TYPE_HTTPS, TYPE_SVCB] {
            let all = answer(
                kind,
                &[
                    (Section::Answer, kind, 1, &data),
                    (Section::Answer, kind, 1, &elsewhere),
                ],
            );
            let listed = listed(&routes(), &all).unwrap();
            assert!(listed.addresses.is_empty());
            let left = records(&listed.message).unwrap();
            assert_eq!(left.len(), 1);
            assert_eq!(text(&left[0].name), "www.example.net");
            let expected = [
                &[0, 1, 0][..],
                &[0, 0, 0, 2, 0, 1],
                &[0, 1, 0, 3, 2, b'h', b'2'],
                &[0, 3, 0, 2, 1, 0xbb],
            ];
            assert_eq!(listed.message[left[0].data.clone()], expected.concat());
        }
    }

    #[test]
    fn a_name_on_the_way_is_of_the_list_too() {
        let found = answer(TYPE_A, &[(Section::Answer, TYPE_A, 1, V4)]);
        let concerned = |asked: &str, answer: &[u8]| concerned(&routes(), asked, answer);
        let www = Some(vec!["www.example.net".to_owned()]);
        assert_eq!(concerned("www.example.org", &found), www);
        assert_eq!(concerned("WWW.example.net", &found), www);
        let other = ask_for("www.example.org", TYPE_A, 7).unwrap();
        assert_eq!(concerned("www.example.org", &other), Some(Vec::new()));
        for length in 0..found.len() {
            assert_eq!(
                concerned("www.example.org", &found[..length]),
                None,
                "{length}"
            );
        }
    }

    #[test]
    fn a_service_that_is_found_by_a_name_of_the_list_loses_its_hints() {
        let mut data = vec![0, 1];
        data.extend(b"\x03WWW\x07example\x03net\x00");
        data.extend([0, 1, 0, 3, 2, b'h', b'2']);
        data.extend([0, 4, 0, 4, 192, 0, 2, 7]);
        for kind in [TYPE_HTTPS, TYPE_SVCB] {
            for section in [Section::Answer, Section::Additional] {
                let all = of("alias.example.org", kind, &[(section, kind, 1, &data)]);
                let concerned = concerned(&routes(), "alias.example.org", &all);
                assert_eq!(concerned, Some(vec!["www.example.net".to_owned()]));
                let message = listed(&routes(), &all).unwrap().message;
                let left = records(&message).unwrap();
                assert_eq!(left.len(), usize::from(section == Section::Answer));
                for record in left {
                    assert_eq!(message[record.data.clone()], data[..data.len() - 8]);
                }
            }
        }
        // One that can't be read may be about any.
        let cut = of(
            "alias.example.org",
            TYPE_HTTPS,
            &[(Section::Answer, TYPE_HTTPS, 1, &[0, 1, 3, b'w'])],
        );
        assert_eq!(concerned(&routes(), "alias.example.org", &cut), None);
    }

    #[test]
    fn an_answer_that_is_too_long_says_so() {
        let long = answer(TYPE_A, &[(Section::Answer, TYPE_A, 1, V4); 40]);
        assert_eq!(fit(long.clone(), 4096), long);
        let cut = fit(long, 512);
        assert_eq!(cut[2] & 2, 2);
        assert_eq!(records(&cut), Some(Vec::new()));
    }
}
