//! Questions about the names of peers, from any of them: what is answered is what the file says of
//! exactly that name, in a message that has the question and nothing else of the asker's; and what
//! the file doesn't say is answered only where the name is ours to give.

use std::net::IpAddr;
use std::sync::OnceLock;

use taltun::config::{self, Config};
use taltun::control::fuzzing::named;

use crate::dns::{checked_name, naive_name, naive_records, word};

const FILE: &str = "[interface]\nmode = \"server\"\n\
    private_key = \"2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM=\"\n\
    vip = [\"10.0.0.1/24\", \"fd00::1/64\"]\n[names]\ndomain = \"vpn\"\n\
    [[peers]]\nname = \"ana\"\nvip = [\"10.0.0.2\", \"fd00::2\"]\n\
    public_key = \"N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=\"\n\
    [[peers]]\nname = \"site\"\nallowed_ips = [\"10.9.0.7/32\", \"10.9.1.0/24\"]\n\
    public_key = \"bO4VeO3GqHhVxz/2RLKAvAGWMLPDBMGBrQe0xzzWNRI=\"\n";
/// What it says.
const NAMES: [(&str, &[&str]); 3] = [
    ("hub", &["10.0.0.1", "fd00::1"]),
    ("ana", &["10.0.0.2", "fd00::2"]),
    ("site", &["10.9.0.7"]),
];
const A: u16 = 1;
const SOA: u16 = 6;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const ANY: u16 = 255;

/// What there is of a name: the code, and kind and data of each record.
type Answer = (u8, Vec<(u16, Vec<u8>)>);

fn wire(labels: &[&str]) -> Vec<u8> {
    let mut name = Vec::new();
    for label in labels {
        name.push(label.len() as u8);
        name.extend(label.as_bytes());
    }
    name.push(0);
    name
}

/// The address that a name stands for (RFC 1035, section 3.5; RFC 3596, section 2.5).
fn reverse(labels: &[Vec<u8>]) -> Option<IpAddr> {
    let texts: Option<Vec<&str>> = labels
        .iter()
        .map(|label| std::str::from_utf8(label).ok())
        .collect();
    match texts?.as_slice() {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok(),
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let is_nibble = |it: &&str| it.len() == 1 && it.as_bytes()[0].is_ascii_hexdigit();
            let text: String = nibbles.iter().rev().copied().collect();
            let bits = u128::from_str_radix(&text, 16).ok()?;
            nibbles
                .iter()
                .all(is_nibble)
                .then(|| IpAddr::from(bits.to_be_bytes()))
        }
        _ => None,
    }
}

/// What the file says of a name; `None` where it isn't ours to give.
fn look_up(labels: &[Vec<u8>], kind: u16) -> Option<Answer> {
    let labels: Vec<Vec<u8>> = labels.iter().map(|it| it.to_ascii_lowercase()).collect();
    let wanted = |all: Vec<(u16, Vec<u8>)>| {
        let those = all
            .into_iter()
            .filter(|(own, _)| [*own, ANY].contains(&kind));
        Some((0, those.collect()))
    };
    if let Some(address) = reverse(&labels) {
        let has = |(_, all): &(&str, &[&str])| all.iter().any(|one| one.parse() == Ok(address));
        let ours: [ipnet::IpNet; 2] = ["10.0.0.0/24", "fd00::/64"].map(|net| net.parse().unwrap());
        return match NAMES.iter().find(|it| has(it)) {
            Some((name, _)) => wanted(vec![(PTR, wire(&[name, "vpn"]))]),
            None => ours
                .iter()
                .any(|net| net.contains(&address))
                .then(|| (3, Vec::new())),
        };
    }
    let (domain, below) = labels.split_last()?;
    if domain != b"vpn" {
        return None;
    }
    if below.is_empty() {
        let mut data = [wire(&["hub", "vpn"]), wire(&["nobody", "vpn"])].concat();
        for number in [1_u32, 3600, 600, 86_400, 30] {
            data.extend(number.to_be_bytes());
        }
        return wanted(vec![(SOA, data)]);
    }
    let peer = NAMES
        .iter()
        .find(|(name, _)| below == [name.as_bytes()].as_slice());
    let Some((_, addresses)) = peer else {
        return Some((3, Vec::new()));
    };
    let record = |address: &&str| match address.parse().unwrap() {
        IpAddr::V4(v4) => (A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
    };
    wanted(addresses.iter().map(record).collect())
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| config::parse(FILE, "hub.toml").expect("it is right").config)
}

pub(crate) fn run(asked: &[u8]) {
    check(asked);
    // The same as a question for any bytes with dots in them.
    let (kind, name) = asked.split_at(asked.len().min(1));
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split(|byte| *byte == b'.') {
        let label = &label[..label.len().min(63)];
        if !label.is_empty() {
            message.push(label.len() as u8);
            message.extend(label);
        }
    }
    let kinds = [A, AAAA, PTR, SOA, ANY, 16];
    let kind = kinds[usize::from(kind.first().copied().unwrap_or(0)) % kinds.len()];
    message.extend([0, 0, kind as u8, 0, 1]);
    check(&message);
}

fn check(asked: &[u8]) {
    let answer = named(config(), asked);
    let question = (word(asked, 4) == Some(1))
        .then(|| checked_name(asked, 12))
        .flatten()
        .filter(|(_, end)| asked.len() >= end + 4);
    let Some((_, end)) = question else {
        assert_eq!(answer, None, "there is no question");
        return;
    };
    let (labels, _) = naive_name(asked, 12, 0).unwrap();
    let (kind, class) = (word(asked, end).unwrap(), word(asked, end + 2).unwrap());
    let expected = look_up(&labels, kind);
    let Some((code, data)) = expected else {
        assert_eq!(answer, None, "of {labels:?}");
        return;
    };
    let answer = answer.expect("it is ours to answer");
    let is_internet = class == 1;
    let (code, data) = if is_internet {
        (code, data)
    } else {
        (0, Vec::new())
    };
    // An answer with authority, and the question as it was.
    assert_eq!(answer[..2], asked[..2]);
    assert_eq!(answer[2] & 0x86, 0x84);
    assert_eq!(answer[3] & 15, code, "of {labels:?}");
    assert_eq!(answer[12..end + 4], asked[12..end + 4]);
    let records = naive_records(&answer).expect("an answer is a message");
    let (name, _) = checked_name(asked, 12).unwrap();
    let section = |section: usize| records.iter().filter(move |it| it.section == section);
    let answers: Vec<_> = section(0)
        .map(|it| {
            assert_eq!((&it.name, it.class, it.ttl), (&name, 1, 30));
            (it.kind, answer[it.data.clone()].to_vec())
        })
        .collect();
    assert_eq!(answers, data, "of {labels:?}");
    // Who asks below the domain learns how long there is nothing.
    let is_below = labels
        .last()
        .is_some_and(|it| it.eq_ignore_ascii_case(b"vpn"));
    let authorities: Vec<u16> = section(1).map(|it| it.kind).collect();
    let expects_one = data.is_empty() && is_below;
    assert_eq!(authorities, vec![SOA; usize::from(expects_one)]);
    let asks_edns = naive_records(asked).is_some_and(|all| all.iter().any(|it| it.kind == OPT));
    let edns: Vec<u16> = section(2).map(|it| it.kind).collect();
    assert_eq!(edns, vec![OPT; usize::from(asks_edns)]);
}
