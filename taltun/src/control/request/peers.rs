//! What is asked to change peers, in the file and in the tunnel.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::secret::SecretText;

/// [`Request::PeerEdit`](super::Request::PeerEdit)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PeerEdit {
    /// Add one.
    New(NewPeer),
    /// Take one away.
    Remove(RemovePeer),
    /// Give one another name.
    Rename(RenamePeer),
    /// Give one another key.
    Rotate(RotatePeer),
    /// Change what one has and may.
    Set(SetPeer),
}

/// [`PeerEdit::New`]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPeer {
    /// What to call it.
    pub name: String,
    /// Its public key, base64. Its private key is nobody's but its own.
    pub public_key: String,
    /// The key that both sides share, base64.
    #[serde(default)]
    pub preshared_key: Option<SecretText>,
    /// Its last day, in UTC: `2026-12-31`.
    #[serde(default)]
    pub expires: Option<String>,
    /// Its addresses; empty for the next free ones.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Networks behind it.
    #[serde(default)]
    pub allowed_ips: Vec<IpNet>,
    /// What its file is to say.
    #[serde(default)]
    pub file: ClientWishes,
}

/// What the file of a peer is to say, where somebody has a wish.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientWishes {
    /// Where the hub is, `HOST` or `HOST:PORT`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// What is sent into the tunnel; empty for what the hub thinks right.
    #[serde(default)]
    pub routes: Vec<IpNet>,
    /// Whether the peer has its file already, so that there is none to be made.
    #[serde(default)]
    pub is_there: bool,
}

/// [`PeerEdit::Remove`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovePeer {
    /// Its name or public key.
    pub peer: String,
}

/// [`PeerEdit::Rename`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenamePeer {
    /// Its name or public key.
    pub peer: String,
    /// What to call it from now on.
    pub name: String,
}

/// [`PeerEdit::Rotate`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotatePeer {
    /// Its name or public key.
    pub peer: String,
    /// Its public key from now on.
    pub public_key: String,
    /// The key that both sides share from now on; `None` for that which there is.
    #[serde(default)]
    pub preshared_key: Option<SecretText>,
    /// Whether they share none from now on.
    #[serde(default)]
    pub without_preshared_key: bool,
    /// What its file is to say.
    #[serde(default)]
    pub file: ClientWishes,
}

/// [`PeerEdit::Set`]. What isn't given stays as it is; an empty list or text takes away what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPeer {
    /// Its name or public key.
    pub peer: String,
    /// Networks behind it.
    #[serde(default)]
    pub allowed_ips: Option<Vec<IpNet>>,
    /// Its last day, in UTC: `2026-12-31`.
    #[serde(default)]
    pub expires: Option<String>,
    /// How much it may move: `100 GB/month`.
    #[serde(default)]
    pub quota: Option<String>,
    /// How fast it may send: `20 Mbit/s`.
    #[serde(default)]
    pub rate_up: Option<String>,
    /// How fast it may be sent to.
    #[serde(default)]
    pub rate_down: Option<String>,
}
