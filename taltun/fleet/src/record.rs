//! What the records say: types for the JSON in the store.
//!
//! All of it is another's text. A field that this version doesn't know is kept and written back, so
//! that an older hub takes nothing away; a record of a newer version is left alone. No list is
//! longer than its limit says, and no value longer than [`Key::limit`](crate::Key::limit).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use taltun_crypto::KEY_LEN;
use taltun_crypto::sealed::OVERHEAD;

use crate::hex;
use crate::key::TOKEN_LEN;
use crate::label::Label;

/// The version of the records that this Taltun writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// Addresses of one peer at the most.
pub const MAX_VIPS: usize = 8;
/// Networks behind one peer, or of one fleet, at the most.
pub const MAX_NETWORKS: usize = 256;
/// Endpoints of one hub at the most.
pub const MAX_ENDPOINTS: usize = 16;
/// Bytes of a text for people at the most.
pub const MAX_TEXT: usize = 1024;
/// The last generation there can be: what every reader of JSON has exactly.
pub const MAX_GENERATION: u64 = 1 << 53;

/// Fields that this version doesn't know.
pub type Extra = BTreeMap<String, serde_json::Value>;

/// Why a record isn't read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A newer Taltun wrote it.
    #[error("its version is {0}, and this Taltun reads up to {VERSION}; update this hub")]
    Newer(u32),
    /// It is no such record.
    #[error("{0}")]
    Malformed(String),
    /// A part of it is too long.
    #[error("it has more than {limit} {of}")]
    TooLong {
        /// What there is too much of.
        of: &'static str,
        /// How much there may be.
        limit: usize,
    },
}

/// What a record of the store says.
pub trait Record: Serialize + DeserializeOwned {
    /// The first thing that there is too much of.
    fn too_long(&self) -> Option<Unreadable>;
}

/// A record with its version.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

/// Reads a record.
pub fn read<T: Record>(json: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
    let Version { version } = serde_json::from_slice(json).map_err(malformed)?;
    match version {
        0 => return Err(Unreadable::Malformed("its version is 0".to_owned())),
        1..=VERSION => {}
        newer => return Err(Unreadable::Newer(newer)),
    }
    let Versioned { record, .. } =
        serde_json::from_slice::<Versioned<T>>(json).map_err(malformed)?;
    match record.too_long() {
        Some(unreadable) => Err(unreadable),
        None => Ok(record),
    }
}

/// Writes a record.
pub fn write<T: Record>(record: &T) -> String {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        version: u32,
        #[serde(flatten)]
        record: &'a T,
    }
    serde_json::to_string(&Versioned {
        version: VERSION,
        record,
    })
    .expect("no record has keys that aren't texts")
}

fn at_most(length: usize, limit: usize, of: &'static str) -> Option<Unreadable> {
    (length > limit).then_some(Unreadable::TooLong { of, limit })
}

/// `peers/PUBKEY`, signed: a peer and what is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What people call it.
    pub name: Label,
    /// Its addresses in the tunnel.
    pub vips: Vec<IpAddr>,
    /// Networks behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// What it may.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// What a newer version says of it.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a peer may, each as the configuration of a hub has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Its last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// How much it may move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<String>,
    /// How fast it may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_up: Option<String>,
    /// How fast it may be sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_down: Option<String>,
    /// What a newer version says of it.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Limits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn longest(&self) -> usize {
        let texts = [&self.expires, &self.quota, &self.rate_up, &self.rate_down];
        let lengths = texts.into_iter().flatten().map(String::len);
        lengths.max().unwrap_or(0)
    }
}

/// `admins/NUMBER`, signed by the admin until then: who is the admin from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The key that verifies what the new admin signs.
    #[serde(with = "hex::field")]
    pub next: [u8; KEY_LEN],
    /// What a newer version says.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `config`, signed: what is the same for all hubs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Of what networks peers get addresses.
    pub networks: Vec<IpNet>,
    /// What a newer version says.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `hubs/ID`, signed: a hub of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hub {
    /// The X25519 key that it is known by among hubs, and that its secrets are sealed to.
    #[serde(with = "hex::field")]
    pub identity: [u8; KEY_LEN],
    /// Where other hubs reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// With which hubs it belongs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Label>,
    /// Its own addresses in the tunnel, which no peer gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<IpAddr>,
    /// An address of their network that hubs of its group take over from each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<IpAddr>,
    /// What a newer version says of it.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `keys/HUB`, signed: the admin's private key, which only this hub can read. Behind it is the secret that the keys
/// of groups are made of, where that isn't the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    /// The key, sealed to [`Hub::identity`]; hexadecimal.
    pub sealed: String,
    /// That identity.
    #[serde(
        default,
        with = "hex::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub reader: Option<[u8; KEY_LEN]>,
    /// What a newer version says of it.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `keys/group/HUB`, signed: the private key that all hubs of a group answer their peers with, which only
/// this hub can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupKey {
    /// The group.
    pub group: Label,
    /// Its public key, which peers know.
    #[serde(with = "hex::field")]
    pub public: [u8; KEY_LEN],
    /// [`Hub::identity`] of who can read it.
    #[serde(with = "hex::field")]
    pub reader: [u8; KEY_LEN],
    /// The private key, sealed to that; hexadecimal.
    pub sealed: String,
    /// What a newer version says of it.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The right to be one hub, signed by an admin; it is in a token, and in what the hub says then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The token's number.
    #[serde(with = "hex::field")]
    pub token: [u8; TOKEN_LEN],
    /// What verifies the signature of who has the token.
    #[serde(with = "hex::field")]
    pub verifies: [u8; KEY_LEN],
    /// When it can't be used any more, in seconds since 1970.
    pub expires: u64,
    /// Whether this hub gets the admin's key, so that peers can be changed there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub admin: bool,
}

/// `vip/IP` and `name/NAME`: who has it. It only keeps two from getting the same; what is so is
/// in the signed record of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The peer's public key.
    #[serde(with = "hex::field")]
    pub peer: [u8; KEY_LEN],
}

/// `live/ID`: a hub that is connected to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Which Taltun it runs.
    pub taltun: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What its clock says when this is written, in milliseconds since 1970. It is written anew twice a minute.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub now: u64,
    /// What a newer version says.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `bans/PREFIX`: nobody there may send, until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Until when, in seconds since 1970.
    pub until: u64,
    /// Until when this must be remembered, where that is longer: an earlier decision that this one
    /// shortens would last as long, and somebody may still have it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept: u64,
    /// Whether it was lifted before.
    #[serde(default)]
    pub lifted: bool,
    /// When that was decided, in milliseconds since 1970.
    pub decided: u64,
    /// At which hub.
    pub by: Label,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `audit/TIME-HUB`: what somebody changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Who.
    pub who: String,
    /// What.
    pub what: String,
    /// What a newer version says.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `home/SHARD`: at which hub peers are, by the newest handshake of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Homes {
    /// By the peer's public key, hexadecimal.
    pub peers: BTreeMap<String, HomeEntry>,
}

/// Where one peer is at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeEntry {
    /// The hub.
    pub hub: Label,
    /// The TAI64N of the handshake that made it so.
    #[serde(with = "hex::field")]
    pub at: [u8; 12],
}

impl SealedKey {
    /// A record of what [`seal`](taltun_crypto::sealed::seal) made for this identity.
    pub fn new(reader: [u8; KEY_LEN], sealed: &[u8]) -> Self {
        Self {
            sealed: hex::encode(sealed),
            reader: Some(reader),
            extra: Extra::new(),
        }
    }

    /// What is to be opened.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let one = hex::decode::<{ KEY_LEN + OVERHEAD }>(&self.sealed).map(Vec::from);
        let two = || hex::decode::<{ 2 * KEY_LEN + OVERHEAD }>(&self.sealed).map(Vec::from);
        one.or_else(two)
    }
}

impl Record for Peer {
    fn too_long(&self) -> Option<Unreadable> {
        at_most(self.vips.len(), MAX_VIPS, "addresses")
            .or_else(|| at_most(self.networks.len(), MAX_NETWORKS, "networks"))
            .or_else(|| at_most(self.limits.longest(), MAX_TEXT, "bytes in a limit"))
    }
}

impl Record for Config {
    fn too_long(&self) -> Option<Unreadable> {
        at_most(self.networks.len(), MAX_NETWORKS, "networks")
    }
}

impl Record for Hub {
    fn too_long(&self) -> Option<Unreadable> {
        let longest = self.endpoints.iter().map(String::len).max().unwrap_or(0);
        at_most(self.endpoints.len(), MAX_ENDPOINTS, "endpoints")
            .or_else(|| at_most(self.vips.len(), MAX_VIPS, "addresses"))
            .or_else(|| at_most(longest, MAX_TEXT, "bytes in an endpoint"))
    }
}

impl Record for SealedKey {
    fn too_long(&self) -> Option<Unreadable> {
        at_most(self.sealed.len(), MAX_TEXT, "bytes in the sealed key")
    }
}

impl GroupKey {
    /// What is to be opened.
    pub fn bytes(&self) -> Option<[u8; KEY_LEN + OVERHEAD]> {
        hex::decode(&self.sealed)
    }

    /// A record of what [`seal`](taltun_crypto::sealed::seal) made of a private key.
    pub fn new(group: Label, public: [u8; KEY_LEN], reader: [u8; KEY_LEN], sealed: &[u8]) -> Self {
        Self {
            group,
            public,
            reader,
            sealed: hex::encode(sealed),
            extra: Extra::new(),
        }
    }

    /// The public key that a hub answers as by this, if it is for that hub as it is now.
    pub fn of(&self, hub: &Hub) -> Option<[u8; KEY_LEN]> {
        let is_its = hub.group.as_ref() == Some(&self.group) && hub.identity == self.reader;
        is_its.then_some(self.public)
    }
}

impl Record for GroupKey {
    fn too_long(&self) -> Option<Unreadable> {
        at_most(self.sealed.len(), MAX_TEXT, "bytes in the sealed key")
    }
}

impl Record for Live {
    fn too_long(&self) -> Option<Unreadable> {
        at_most(self.taltun.len(), MAX_TEXT, "bytes in a version")
    }
}

impl Record for Ban {
    fn too_long(&self) -> Option<Unreadable> {
        at_most(self.reason.len(), MAX_TEXT, "bytes in a reason")
    }
}

impl Record for Audit {
    fn too_long(&self) -> Option<Unreadable> {
        at_most(self.who.len(), MAX_TEXT, "bytes in a name")
            .or_else(|| at_most(self.what.len(), MAX_TEXT, "bytes in an action"))
    }
}

/// The records whose length is limited by that of their value alone.
macro_rules! short {
    ($($record:ty),*) => {
        $(impl Record for $record {
            fn too_long(&self) -> Option<Unreadable> {
                None
            }
        })*
    };
}

short!(Grant, Taken, Homes, Rotation);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_version_says_is_kept() {
        let json = r#"{"version":1,"name":"ana","vips":["10.0.0.2"],"colour":{"of":["red",1.5]}}"#;
        let peer: Peer = read(json.as_bytes()).unwrap();
        assert_eq!(peer.name.as_str(), "ana");
        assert!(!peer.extra.contains_key("version"));
        assert_eq!(write(&peer), json);
    }

    #[test]
    fn a_newer_record_says_so_and_others_say_what_is_wrong() {
        let newer = read::<Taken>(br#"{"version":2,"peer":7}"#);
        assert_eq!(newer, Err(Unreadable::Newer(2)));
        for (json, part) in [
            (r#"{"version":1}"#, "missing field"),
            (r#"{"name":"ana","vips":[]}"#, "missing field `version`"),
            (r#"{"version":0,"name":"ana","vips":[]}"#, "version is 0"),
            (r#"{"version":1,"name":"Ana","vips":[]}"#, "small letters"),
            (r#"{"version":1,"name":"ana","vips":["x"]}"#, "IP address"),
            ("", "EOF"),
            ("[", "EOF"),
        ] {
            match read::<Peer>(json.as_bytes()) {
                Err(Unreadable::Malformed(why)) => assert!(why.contains(part), "{json}: {why}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }

    #[test]
    fn lists_have_limits_and_depth_has_one() {
        let peer = |vips: usize| Peer {
            name: "ana".parse().unwrap(),
            vips: vec!["10.0.0.2".parse().unwrap(); vips],
            networks: Vec::new(),
            limits: Limits::default(),
            extra: Extra::new(),
        };
        assert!(read::<Peer>(write(&peer(MAX_VIPS)).as_bytes()).is_ok());
        let too_long = read::<Peer>(write(&peer(MAX_VIPS + 1)).as_bytes());
        assert!(matches!(too_long, Err(Unreadable::TooLong { .. })));
        let deep = format!(
            r#"{{"version":1,"name":"ana","vips":[],"x":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(matches!(
            read::<Peer>(deep.as_bytes()),
            Err(Unreadable::Malformed(_))
        ));
    }
}
