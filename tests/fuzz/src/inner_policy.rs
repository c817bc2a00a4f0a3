//! Packets of any bytes, one after the other, before the judge: fragments, extension headers, ICMP errors,
//! lengths that are wrong. Each gets the verdict of a judge as simple as can be, which reads packets as RFC
//! 791, 792, 4443, 8200, 768 and 9293 draw them, asks one rule after the other, and keeps lists of what it
//! let start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use taltun_policy::rules::Start;
use taltun_policy::{
    Action, Ends, Groups, Judge, Owners, Party, Policy, Rule, RuleSet, Service, Side, Verdict,
    World,
};

use crate::choices::Choices;
use crate::rules::{Peers, decide, key};

/// Most packets of an input: the judge's table never makes room then.
const MOST: usize = 64;
/// Extension headers that a packet may have.
const EXTENSIONS: usize = 8;

fn policy() -> Policy {
    let rule = |from, to: &str, services: &[Service], action| Rule {
        from: vec![from],
        to: vec![Party::Net(to.parse().unwrap())],
        services: services.to_vec(),
        action,
        log: false,
    };
    let net = |net: &str| Party::Net(net.parse().unwrap());
    Policy {
        default: Action::Deny,
        groups: Groups::new(Vec::new()).expect("there are none"),
        rules: vec![
            rule(
                Party::Any,
                "10.0.0.3/32",
                &[Service::Tcp(1, 21)],
                Action::Deny,
            ),
            rule(
                Party::Peer(key(0)),
                "0.0.0.0/0",
                &[Service::Tcp(1, 1023), Service::Udp(53, 53), Service::Icmp],
                Action::Allow,
            ),
            rule(
                net("10.0.0.0/24"),
                "10.0.0.1/32",
                &[Service::Protocol(47)],
                Action::Allow,
            ),
            rule(net("fd00::/64"), "::/0", &[Service::Any], Action::Allow),
        ],
    }
}

fn world() -> World {
    World {
        hub: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        kernel_relays: false,
    }
}

fn peers() -> Peers {
    let nets = |nets: [&str; 2]| nets.map(|net| net.parse().unwrap()).to_vec();
    Peers(vec![
        nets(["10.0.0.2/32", "fd00::2/128"]),
        nets(["10.0.0.3/32", "fd00::3/128"]),
        nets(["192.168.50.0/24", "fd01::/64"]),
    ])
}

/// What IP says, and what is behind it.
struct Headers<'p> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// The identification of a fragment, and whether it isn't the first.
    fragment: Option<(u32, bool)>,
    rest: &'p [u8],
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn headers(packet: &[u8]) -> Option<Headers<'_>> {
    match packet.first()? / 16 {
        4 => headers_v4(packet),
        6 => headers_v6(packet),
        _ => None,
    }
}

fn headers_v4(packet: &[u8]) -> Option<Headers<'_>> {
    let length = usize::from(packet[0] % 16) * 4;
    if length < 20 || packet.len() < length {
        return None;
    }
    let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
    let (more, offset) = (word(packet, 6) & 0x2000 != 0, word(packet, 6) & 0x1fff);
    let id = u32::from(word(packet, 4));
    Some(Headers {
        source: address(12),
        destination: address(16),
        protocol: packet[9],
        fragment: (more || offset != 0).then_some((id, offset != 0)),
        rest: &packet[length..],
    })
}

fn headers_v6(packet: &[u8]) -> Option<Headers<'_>> {
    if packet.len() < 40 {
        return None;
    }
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
    let mut found = Headers {
        source: address(8),
        destination: address(24),
        protocol: packet[6],
        fragment: None,
        rest: &packet[40..],
    };
    for nth in 0.. {
        let is_extension = [0, 43, 44, 51, 60, 135, 139, 140].contains(&found.protocol);
        if !is_extension {
            return Some(found);
        }
        if nth == EXTENSIONS || found.rest.len() < 2 {
            return None;
        }
        let (kind, header) = (found.protocol, found.rest);
        let length = match kind {
            44 => 8,
            51 => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        found.protocol = header[0];
        found.rest = header.get(length..)?;
        if kind == 44 {
            let (offset, more) = (word(header, 2) >> 3, word(header, 2) & 1 != 0);
            let id = u32::from_be_bytes(header[4..8].try_into().unwrap());
            // A fragment of which there is but one is none (RFC 6946).
            if offset != 0 || more {
                found.fragment = Some((id, offset != 0));
            }
            if offset != 0 {
                return Some(found);
            }
        }
    }
    None
}

/// A flow, whichever way a packet of it goes: both ends with their ports, and the protocol.
type Flow = ([(IpAddr, u16); 2], u8);

/// What a packet belongs to.
#[derive(Clone, Copy)]
struct Talk {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    protocol: u8,
}

impl Talk {
    fn flow(&self) -> Flow {
        let mut ends = [self.from, self.to];
        ends.sort_unstable();
        (ends, self.protocol)
    }

    fn is_downwards(&self) -> bool {
        self.from > self.to
    }
}

/// What is behind IP.
struct Content {
    ports: (u16, u16),
    tcp_flags: Option<u8>,
    is_query: bool,
    is_icmp: bool,
    quoted: Option<Talk>,
}

/// `None` where a header is missing that rules are about.
fn content(headers: &Headers<'_>) -> Option<Content> {
    let (bytes, is_v4) = (headers.rest, headers.source.is_ipv4());
    let mut content = Content {
        ports: (0, 0),
        tcp_flags: None,
        is_query: false,
        is_icmp: matches!(headers.protocol, 1 | 58),
        quoted: None,
    };
    match (headers.protocol, is_v4) {
        (6, _) => {
            content.tcp_flags = Some(bytes.get(..20)?[13]);
            content.ports = (word(bytes, 0), word(bytes, 2));
        }
        (17, _) => {
            bytes.get(..8)?;
            content.ports = (word(bytes, 0), word(bytes, 2));
        }
        (1, true) | (58, false) => {
            let kind = bytes.get(..8)?[0];
            let [queries, answers, errors]: [&[u8]; 3] = if is_v4 {
                [&[8, 13, 15, 17], &[0, 14, 16, 18], &[3, 4, 11, 12]]
            } else {
                [&[128], &[129], &[1, 2, 3, 4]]
            };
            content.is_query = queries.contains(&kind);
            if content.is_query || answers.contains(&kind) {
                content.ports = (word(bytes, 4), word(bytes, 4));
            } else if errors.contains(&kind) {
                content.quoted = quoted(&bytes[8..]);
            }
        }
        _ => {}
    }
    Some(content)
}

/// What a packet belongs to that an error quotes: of what is behind IP there are eight bytes at least.
fn quoted(packet: &[u8]) -> Option<Talk> {
    let headers = headers(packet)?;
    let is_later = headers.fragment.is_some_and(|(_, is_later)| is_later);
    if is_later || headers.rest.len() < 8 {
        return None;
    }
    let (source, destination) = match headers.protocol {
        6 | 17 => (word(headers.rest, 0), word(headers.rest, 2)),
        1 | 58 => (word(headers.rest, 4), word(headers.rest, 4)),
        _ => (0, 0),
    };
    Some(Talk {
        from: (headers.source, source),
        to: (headers.destination, destination),
        protocol: headers.protocol,
    })
}

/// What the simple judge says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Pass,
    Start(Option<usize>),
    Denied(Option<usize>),
    LostFragment,
    Malformed,
}

impl From<Verdict> for Said {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Start(decision) => Self::Start(decision.rule),
            Verdict::Denied(decision) => Self::Denied(decision.rule),
            Verdict::LostFragment => Self::LostFragment,
            Verdict::Malformed => Self::Malformed,
        }
    }
}

/// The simple judge.
struct Simple {
    policy: Policy,
    world: World,
    peers: Peers,
    /// What it let start, and whether who started is the larger end.
    flows: BTreeMap<Flow, bool>,
    fragments: BTreeSet<(IpAddr, IpAddr, u32)>,
}

impl Simple {
    fn judge(&mut self, packet: &[u8], ends: Ends) -> Said {
        let Some(headers) = headers(packet) else {
            return Said::Malformed;
        };
        let fragment = headers
            .fragment
            .map(|(id, is_later)| ((headers.source, headers.destination, id), is_later));
        if let Some((fragment, true)) = fragment {
            return if self.fragments.contains(&fragment) {
                Said::Pass
            } else {
                Said::LostFragment
            };
        }
        let Some(content) = content(&headers) else {
            return Said::Malformed;
        };
        let said = self.whole(&headers, &content, ends);
        if let Some((fragment, _)) = fragment
            && matches!(said, Said::Pass | Said::Start(_))
        {
            self.fragments.insert(fragment);
        }
        said
    }

    fn whole(&mut self, headers: &Headers<'_>, content: &Content, ends: Ends) -> Said {
        // From the way that the packet took which it is about: from the host, or from whom it was for.
        let owner = |address| self.peers.owner(Side::Peer, address);
        if let Some(quoted) = content.quoted
            && headers.destination == quoted.from.0
            && (ends.from == Side::Host || owner(headers.source) == owner(quoted.to.0))
            && self.flows.contains_key(&quoted.flow())
        {
            return Said::Pass;
        }
        let talk = Talk {
            from: (headers.source, content.ports.0),
            to: (headers.destination, content.ports.1),
            protocol: headers.protocol,
        };
        let (syn, ack, rst) = (2, 16, 4);
        let flags = content.tcp_flags.unwrap_or(0);
        let starts = flags & (syn | ack) == syn;
        let flow = self.flows.get(&talk.flow()).copied();
        // Who is asked may answer, which isn't to ask.
        let asks_back = content.is_query && flow == Some(!talk.is_downwards());
        if flow.is_some() && !starts && !asks_back {
            return Said::Pass;
        }
        let start = Start {
            ends,
            source: headers.source,
            destination: headers.destination,
            protocol: headers.protocol,
            port: talk.to.1,
        };
        let (action, rule) = decide(&self.policy, &self.world, &self.peers, &start);
        if action == Action::Deny {
            return Said::Denied(rule);
        }
        // Nothing follows a reset, nor ICMP that asks for nothing.
        let has_more = flags & rst == 0 && (content.is_query || !content.is_icmp);
        if has_more {
            self.flows.insert(talk.flow(), talk.is_downwards());
        }
        Said::Start(rule)
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut simple = Simple {
        policy: policy(),
        world: world(),
        peers: peers(),
        flows: BTreeMap::new(),
        fragments: BTreeSet::new(),
    };
    let rules = RuleSet::compile(&simple.policy, &simple.world);
    let judge = Judge::new(rules, [1, 2], 4096);
    let mut session = judge.session(Duration::from_secs(1));
    let mut choices = Choices::new(input);
    for _ in 0..MOST {
        if choices.is_over() {
            return;
        }
        let how = choices.byte();
        let side = |bit: u8| {
            if how & bit == 0 {
                Side::Peer
            } else {
                Side::Host
            }
        };
        let ends = Ends {
            from: side(1),
            to: side(2),
        };
        // In one batch with those before it, or in the next.
        if how & 4 != 0 {
            session = judge.session(Duration::from_secs(1));
        }
        let length = choices.word();
        let packet = choices.bytes(usize::from(length));
        // What isn't its sender's has fallen before.
        let source = headers(packet).map(|headers| headers.source);
        let is_its = source.is_none_or(|source| peers().owner(Side::Peer, source).is_some());
        if ends.from == Side::Peer && !is_its {
            continue;
        }
        let found = session.judge(packet, ends, &simple.peers);
        let expected = simple.judge(packet, ends);
        assert_eq!(Said::from(found), expected, "of {packet:02x?}, {ends:?}");
    }
}
