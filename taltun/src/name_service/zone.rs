//! The names of peers, as `[names]` makes them of the file: addresses by name and names by address.
//!
//! It is made anew when the file was read again. Its answers are short-lived, so that who asks
//! follows within half a minute.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::dns_message::{
    CLASS_IN, HEADER, Question, TYPE_A, TYPE_AAAA, TYPE_OPT, nothing, number, records, write_name,
};
use crate::config::{HUB, Interface, Mode, Names, Peer};
use crate::report::NamesStatus;

/// Seconds that an answer may be remembered for, one that there is nothing included.
const TTL: u32 = 30;
/// The start of a domain's authority, the name of an address, and a question for everything.
const TYPE_SOA: u16 = 6;
const TYPE_PTR: u16 = 12;
const TYPE_ANY: u16 = 255;
/// There is no such name.
const NO_SUCH_NAME: u8 = 3;
/// What a datagram to us may have (the size that nobody has to fragment).
const EDNS_SIZE: u16 = 1232;
/// The name of the question, where it stands in each message.
const QUESTIONS_NAME: [u8; 2] = [0xc0, 12];

/// The names there are, and whom to ask for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Zone {
    domain: String,
    /// Who is asked for all other names.
    pub(super) upstream: Vec<IpAddr>,
    /// In small letters, without the domain.
    by_name: HashMap<String, Vec<IpAddr>>,
    by_address: HashMap<IpAddr, String>,
    /// Addresses in them are nobody else's to name.
    nets: Vec<IpNet>,
}

impl Zone {
    /// The names of these peers, and of this machine if it is a hub.
    pub(crate) fn of(names: &Names, interface: &Interface, peers: &[Peer]) -> Self {
        let mut zone = Self {
            domain: names.domain.clone(),
            upstream: names.upstream.clone(),
            by_name: HashMap::new(),
            by_address: HashMap::new(),
            nets: interface.vip.iter().map(IpNet::trunc).collect(),
        };
        if interface.mode == Mode::Server {
            let own = interface.vip.iter().map(IpNet::addr).collect();
            zone.insert(HUB, own);
        }
        for peer in peers {
            if let Some(name) = &peer.name {
                zone.insert(name, addresses(peer));
            }
        }
        zone
    }

    /// What `status` tells.
    pub(crate) fn status(&self) -> NamesStatus {
        NamesStatus {
            domain: self.domain.clone(),
            names: self.by_name.len() as u64,
        }
    }

    fn insert(&mut self, name: &str, addresses: Vec<IpAddr>) {
        let name = name.to_ascii_lowercase();
        for address in &addresses {
            self.by_address.insert(*address, name.clone());
        }
        self.by_name.insert(name, addresses);
    }

    /// The answer to a question about a name or an address that is ours to name; `None` if it
    /// isn't.
    pub(crate) fn answer(&self, asked: &[u8], question: &Question) -> Option<Vec<u8>> {
        let name = question.name.to_ascii_lowercase();
        let found = self.look_up(&name, question.kind)?;
        let class = number(asked, question.end.checked_sub(2)?)?;
        let (code, data) = match found {
            _ if class != CLASS_IN => (0, Vec::new()),
            Found::NoName => (NO_SUCH_NAME, Vec::new()),
            Found::Records(data) => (0, data),
        };
        let mut answer = nothing(asked, code)?;
        // Nobody knows it better.
        *answer.get_mut(2)? |= 0x04;
        for (kind, data) in &data {
            answer.extend(QUESTIONS_NAME);
            write_record(&mut answer, *kind, data)?;
        }
        let is_below = name == self.domain || self.label(&name).is_some();
        let has_authority = data.is_empty() && is_below;
        if has_authority {
            write_name(&mut answer, &self.domain)?;
            write_record(&mut answer, TYPE_SOA, &self.authority()?)?;
        }
        let records = records(asked).unwrap_or_default();
        let edns = records.iter().any(|record| record.kind == TYPE_OPT);
        if edns {
            // The root's name, its kind, a size in place of the class, no flags, no data.
            answer.push(0);
            answer.extend(TYPE_OPT.to_be_bytes());
            answer.extend(EDNS_SIZE.to_be_bytes());
            answer.extend([0; 6]);
        }
        let counts = [
            u16::try_from(data.len()).ok()?,
            u16::from(has_authority),
            u16::from(edns),
        ];
        let places = answer.get_mut(6..HEADER)?.chunks_exact_mut(2);
        for (place, count) in places.zip(counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        Some(answer)
    }

    /// What there is of a name in small letters; `None` if it isn't ours to name.
    fn look_up(&self, name: &str, kind: u16) -> Option<Found> {
        if let Some(address) = reverse(name) {
            let known = self.by_address.get(&address);
            if known.is_none() && !self.nets.iter().any(|net| net.contains(&address)) {
                return None;
            }
            let Some(label) = known else {
                return Some(Found::NoName);
            };
            let mut data = Vec::new();
            write_name(&mut data, &format!("{label}.{}", self.domain))?;
            let records = vec![(TYPE_PTR, data)];
            return Some(Found::Records(wanted(records, kind)));
        }
        if name == self.domain {
            let records = vec![(TYPE_SOA, self.authority()?)];
            return Some(Found::Records(wanted(records, kind)));
        }
        let label = self.label(name)?;
        let Some(addresses) = self.by_name.get(label) else {
            return Some(Found::NoName);
        };
        let records = addresses.iter().map(|address| match address {
            IpAddr::V4(v4) => (TYPE_A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (TYPE_AAAA, v6.octets().to_vec()),
        });
        Some(Found::Records(wanted(records.collect(), kind)))
    }

    /// What stands before the domain.
    fn label<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_suffix(self.domain.as_str())?.strip_suffix('.')
    }

    /// Who answers for the domain, whom to write to (nobody reads that), a serial number and
    /// times, of which the last one says how long it is remembered that there is nothing.
    fn authority(&self) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        write_name(&mut data, &format!("{HUB}.{}", self.domain))?;
        write_name(&mut data, &format!("nobody.{}", self.domain))?;
        for number in [1, 3600, 600, 86_400, TTL] {
            data.extend(number.to_be_bytes());
        }
        Some(data)
    }
}

/// What there is of a name.
enum Found {
    NoName,
    /// Records of the kind that was asked for: the kind and the data of each.
    Records(Vec<(u16, Vec<u8>)>),
}

/// The addresses a peer is found at: its own, or where the file says only what may come from it,
/// single addresses of that.
fn addresses(peer: &Peer) -> Vec<IpAddr> {
    if !peer.vip.is_empty() {
        return peer.vip.clone();
    }
    let single = peer.allowed_ips.iter();
    let single = single.filter(|net| net.prefix_len() == net.max_prefix_len());
    single.map(IpNet::addr).collect()
}

fn wanted(mut records: Vec<(u16, Vec<u8>)>, kind: u16) -> Vec<(u16, Vec<u8>)> {
    records.retain(|(own, _)| kind == TYPE_ANY || *own == kind);
    records
}

/// The rest of a record whose name is written.
fn write_record(message: &mut Vec<u8>, kind: u16, data: &[u8]) -> Option<()> {
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message.extend(TTL.to_be_bytes());
    message.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    message.extend(data);
    Some(())
}

/// The address that a name in small letters stands for (RFC 1035, section 3.5; RFC 3596, section
/// 2.5).
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes = [0_u8; 4];
        let mut labels = rest.split('.');
        for byte in bytes.iter_mut().rev() {
            let label = labels.next()?;
            *byte = label.parse().ok()?;
            // Not 010, not +1.
            if byte.to_string() != label {
                return None;
            }
        }
        return labels
            .next()
            .is_none()
            .then(|| Ipv4Addr::from(bytes).into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let (mut bits, mut labels) = (0_u128, rest.rsplit('.'));
    for _ in 0..32 {
        let [digit] = labels.next()?.as_bytes() else {
            return None;
        };
        bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    labels.next().is_none().then(|| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name_service::dns_message::{Section, ask_for, question, text};

    fn zone() -> Zone {
        let file = "[interface]\nmode = \"server\"\nprivate_key = \"2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM=\"\n\
            vip = [\"10.0.0.1/24\", \"fd00::1/64\"]\n[names]\ndomain = \"VPN.\"\n\
            [[peers]]\nname = \"Ana\"\nvip = [\"10.0.0.2\", \"fd00::2\"]\n\
            public_key = \"N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=\"\n\
            [[peers]]\nname = \"site\"\nallowed_ips = [\"10.9.0.7/32\", \"10.9.1.0/24\"]\n\
            public_key = \"bO4VeO3GqHhVxz/2RLKAvAGWMLPDBMGBrQe0xzzWNRI=\"\n";
        let config = crate::config::parse(file, "hub.toml").unwrap().config;
        Zone::of(
            config.names.as_ref().unwrap(),
            &config.interface,
            &config.peers,
        )
    }

    /// What is answered: the code, and the records with their section.
    fn ask(zone: &Zone, name: &str, kind: u16) -> Option<(u8, Vec<String>)> {
        let asked = ask_for(name, kind, 7).unwrap();
        let answer = zone.answer(&asked, &question(&asked).unwrap())?;
        let shown = records(&answer).unwrap().into_iter().map(|record| {
            let data = match record.address(&answer).unwrap() {
                Some(address) => address.to_string(),
                None => text(
                    &crate::name_service::dns_message::name(&answer, record.data.start)
                        .unwrap()
                        .0,
                ),
            };
            let section = match record.section {
                Section::Answer => "",
                Section::Authority => "authority ",
                Section::Additional => "additional ",
            };
            format!("{section}{} {data}", text(&record.name))
        });
        Some((answer[3] & 15, shown.collect()))
    }

    fn all(records: &[&str]) -> Vec<String> {
        records.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn peers_and_the_hub_are_found_by_name_in_whatever_case() {
        let zone = zone();
        let found = |name, kind| ask(&zone, name, kind);
        assert_eq!(
            found("ana.vpn", TYPE_A),
            Some((0, all(&["ana.vpn 10.0.0.2"])))
        );
        assert_eq!(
            found("ANA.Vpn.", TYPE_AAAA),
            Some((0, all(&["ANA.Vpn fd00::2"])))
        );
        assert_eq!(found("ana.vpn", TYPE_ANY).unwrap().1.len(), 2);
        assert_eq!(
            found("hub.vpn", TYPE_A),
            Some((0, all(&["hub.vpn 10.0.0.1"])))
        );
        assert_eq!(
            found("site.vpn", TYPE_A),
            Some((0, all(&["site.vpn 10.9.0.7"])))
        );
        let authority = all(&["authority vpn hub.vpn"]);
        // It is there, without an address of that family.
        assert_eq!(found("site.vpn", TYPE_AAAA), Some((0, authority.clone())));
        assert_eq!(found("ana.vpn", 16), Some((0, authority.clone())));
        assert_eq!(found("vpn", TYPE_A), Some((0, authority.clone())));
        assert_eq!(found("luis.vpn", TYPE_A), Some((3, authority.clone())));
        assert_eq!(found("phone.ana.vpn", TYPE_A), Some((3, authority)));
        for name in ["ana", "ana.example.org", "myvpn", "ana.myvpn", "vpn.org"] {
            assert_eq!(found(name, TYPE_A), None, "{name}");
        }
    }

    #[test]
    fn addresses_of_peers_have_names_and_our_other_ones_none() {
        let zone = zone();
        let found = |name, kind| ask(&zone, name, kind);
        let name = "2.0.0.10.in-addr.arpa";
        let expected = format!("{name} ana.vpn");
        assert_eq!(found(name, TYPE_PTR), Some((0, vec![expected])));
        assert_eq!(found(name, TYPE_A), Some((0, vec![])));
        let name = format!("2.{}0.0.d.f.IP6.ARPA", "0.".repeat(27));
        assert_eq!(
            found(&name, TYPE_PTR),
            Some((0, vec![format!("{name} ana.vpn")]))
        );
        assert_eq!(found("7.0.9.10.in-addr.arpa", TYPE_PTR).unwrap().0, 0);
        // In our subnet, nobody's.
        assert_eq!(found("9.0.0.10.in-addr.arpa", TYPE_PTR), Some((3, vec![])));
        for name in [
            "1.1.1.1.in-addr.arpa",
            "02.0.0.10.in-addr.arpa",
            "0.0.10.in-addr.arpa",
            "2.2.0.0.10.in-addr.arpa",
            "300.0.0.10.in-addr.arpa",
            "ip6.arpa",
            "2.ip6.arpa",
        ] {
            assert_eq!(found(name, TYPE_PTR), None, "{name}");
        }
    }

    #[test]
    fn answers_are_authoritative_and_short_lived_and_take_edns() {
        let zone = zone();
        let mut asked = ask_for("ana.vpn", TYPE_A, 7).unwrap();
        asked[11] = 1;
        asked.extend([0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]);
        let answer = zone.answer(&asked, &question(&asked).unwrap()).unwrap();
        assert_eq!(answer[2] & 0x84, 0x84);
        let records = records(&answer).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].ttl, records[0].kind), (TTL, TYPE_A));
        assert_eq!((records[1].kind, records[1].class), (TYPE_OPT, EDNS_SIZE));
        // Of another class there is nothing.
        let end = question(&asked).unwrap().end;
        asked[end - 1] = 3;
        let answer = zone.answer(&asked, &question(&asked).unwrap()).unwrap();
        assert_eq!((answer[3] & 15, answer[7]), (0, 0));
    }
}
