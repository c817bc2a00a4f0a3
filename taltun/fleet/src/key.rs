//! The keys under which a network's records are in the store.
//!
//! All are below `/taltun/v1/NETWORK/`. A key has one text alone: what is read back isn't written
//! in another form, so that no record can be there twice.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use taltun_crypto::{KEY_LEN, PublicKey};

use crate::hex;
use crate::label::Label;

/// In how many records the homes of the peers are. Few writes carry the homes of many peers, and
/// 10,000 peers take 20 KB in each.
pub const SHARDS: u8 = 64;
/// Bytes of a token's number.
pub const TOKEN_LEN: usize = 16;

/// What a record is about. The order is the one in which the store lists them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The rotation of the admin's key that has this number, from 1. It is the first of the list, as it says who
    /// may sign the others.
    Admin(u32),
    /// What somebody did.
    Audit {
        /// When, in milliseconds since 1970.
        at: u64,
        /// At which hub.
        hub: Label,
    },
    /// Who may send nothing, until when: a network outside the tunnel.
    Ban(IpNet),
    /// The same of a network inside the tunnel.
    InnerBan(IpNet),
    /// What is the same for all hubs.
    Config,
    /// Where the peers of one shard are at home.
    Home(u8),
    /// A hub that belongs to the network.
    Hub(Label),
    /// The admin's private key, sealed for a hub.
    Sealed(Label),
    /// The private key of a hub's group, sealed for it.
    Group(Label),
    /// A hub that says it is there, for as long as its lease lives.
    Live(Label),
    /// Which peer has a name.
    Name(Label),
    /// A peer.
    Peer(PublicKey),
    /// A token that wasn't used yet.
    Token([u8; TOKEN_LEN]),
    /// Which peer has an address.
    Vip(IpAddr),
}

/// Where all records of a network are.
pub fn prefix(network: &Label) -> String {
    format!("/taltun/v1/{network}/")
}

impl Key {
    /// The key of what is below a network's [`prefix`]; `None` for what no Taltun writes.
    pub fn parse(path: &str) -> Option<Self> {
        let key = match path.split_once('/') {
            None if path == "config" => Self::Config,
            None => return None,
            Some((kind, name)) => match kind {
                "admins" => Self::Admin(name.parse().ok().filter(|number| *number > 0)?),
                "audit" => {
                    let (at, hub) = name.split_once('-')?;
                    let at = u64::from_str_radix(at, 16).ok()?;
                    let hub = hub.parse().ok()?;
                    Self::Audit { at, hub }
                }
                "bans" => match name.strip_prefix("inner/") {
                    Some(net) => Self::InnerBan(net.parse().ok()?),
                    None => Self::Ban(name.parse().ok()?),
                },
                "home" => Self::Home(name.parse().ok().filter(|shard| *shard < SHARDS)?),
                "hubs" => Self::Hub(name.parse().ok()?),
                "keys" => match name.strip_prefix("group/") {
                    Some(hub) => Self::Group(hub.parse().ok()?),
                    None => Self::Sealed(name.parse().ok()?),
                },
                "live" => Self::Live(name.parse().ok()?),
                "name" => Self::Name(name.parse().ok()?),
                "peers" => Self::Peer(PublicKey(hex::decode::<KEY_LEN>(name)?)),
                "tokens" => Self::Token(hex::decode(name)?),
                "vip" => Self::Vip(name.parse().ok()?),
                _ => return None,
            },
        };
        (key.is_plain() && key.to_string() == path).then_some(key)
    }

    /// The same address isn't another one by being mapped into IPv6, nor a network by what its
    /// address has beyond the prefix.
    fn is_plain(&self) -> bool {
        match self {
            Self::Vip(address) => address.to_canonical() == *address,
            Self::Ban(net) | Self::InnerBan(net) => {
                net.trunc() == *net && net.addr().to_canonical() == net.addr()
            }
            _ => true,
        }
    }

    /// How many bytes its value may have.
    pub fn limit(&self) -> usize {
        match self {
            // With 10,000 peers it is some 20 KB; etcd takes 1.5 MiB.
            Self::Home(_) => 1 << 20,
            Self::Config => 256 << 10,
            _ => 64 << 10,
        }
    }

    /// Whether its record counts only with a signature.
    pub fn is_signed(&self) -> bool {
        matches!(
            self,
            Self::Admin(_)
                | Self::Config
                | Self::Hub(_)
                | Self::Sealed(_)
                | Self::Group(_)
                | Self::Peer(_)
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(number) => write!(f, "admins/{number:08}"),
            Self::Audit { at, hub } => write!(f, "audit/{at:016x}-{hub}"),
            Self::Ban(net) => write!(f, "bans/{net}"),
            Self::InnerBan(net) => write!(f, "bans/inner/{net}"),
            Self::Config => f.write_str("config"),
            Self::Home(shard) => write!(f, "home/{shard}"),
            Self::Hub(hub) => write!(f, "hubs/{hub}"),
            Self::Sealed(hub) => write!(f, "keys/{hub}"),
            Self::Group(hub) => write!(f, "keys/group/{hub}"),
            Self::Live(hub) => write!(f, "live/{hub}"),
            Self::Name(name) => write!(f, "name/{name}"),
            Self::Peer(peer) => write!(f, "peers/{}", hex::encode(&peer.0)),
            Self::Token(token) => write!(f, "tokens/{}", hex::encode(token)),
            Self::Vip(address) => write!(f, "vip/{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_reads_back_from_its_one_text() {
        let label: Label = "madrid".parse().unwrap();
        let keys = [
            Key::Admin(7),
            Key::Audit {
                at: 1_796_022_000_000,
                hub: label.clone(),
            },
            Key::Ban("198.18.0.0/15".parse().unwrap()),
            Key::Ban("2001:db8::/32".parse().unwrap()),
            Key::InnerBan("10.0.0.5/32".parse().unwrap()),
            Key::Config,
            Key::Home(63),
            Key::Hub(label.clone()),
            Key::Sealed(label.clone()),
            Key::Group(label.clone()),
            Key::Live(label.clone()),
            Key::Name(label),
            Key::Peer(PublicKey([0xab; KEY_LEN])),
            Key::Token([7; TOKEN_LEN]),
            Key::Vip("10.0.0.2".parse().unwrap()),
            Key::Vip("fd00::2".parse().unwrap()),
        ];
        for key in &keys {
            assert_eq!(Key::parse(&key.to_string()).as_ref(), Some(key));
        }
        let mut texts = keys.map(|key| key.to_string());
        let written = texts.clone();
        texts.sort();
        let kind = |text: &String| text.split('/').next().map(str::to_owned);
        let kinds = |texts: &[String]| texts.iter().map(kind).collect::<Vec<_>>();
        assert_eq!(kinds(&texts), kinds(&written), "the order of the store");
    }

    #[test]
    fn a_second_text_for_a_key_is_none() {
        let peer = hex::encode(&[0xab; 32]);
        for wrong in [
            "",
            "config/",
            "config/x",
            "peers",
            "peers/",
            &format!("peers/{}", peer.to_uppercase()),
            &format!("peers/{peer}0"),
            &format!("peers/{peer}/x"),
            "home/64",
            "home/07",
            "home/+7",
            "vip/10.0.0.02",
            "vip/::ffff:10.0.0.2",
            "vip/FD00::2",
            "vip/fd00:0::2",
            "bans/10.0.0.1/8",
            "bans/10.0.0.1",
            "name/Ana",
            "name/a/b",
            "keys/group/",
            "keys/other/a",
            "audit/1-madrid",
            "audit/0000000000000001-",
            "tokens/00",
            "admins/7",
            "admins/00000000",
            "other/a",
        ] {
            assert_eq!(Key::parse(wrong), None, "{wrong:?}");
        }
    }
}
