//! What the page's process asks the tunnel, and what it is answered: each a line of JSON. An empty
//! line says that the process lives.
//!
//! This is all that it can ask. The tunnel believes none of it: but for a login, each question
//! carries the secret of a session, which the tunnel made and looks up.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::report::{Moment, PeerEdited, Stats, Status, Usage, Why};
use crate::secret::SecretText;

/// The longest question, bytes, line feed included.
pub const QUESTION_MAX: u64 = 64 << 10;

/// A question, with who asks it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The secret of a browser's session.
    pub session: Option<SecretText>,
    /// Where that browser is.
    pub source: IpAddr,
    /// What is asked.
    pub verb: Verb,
}

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// A session for this token.
    LogIn(SecretText),
    /// The end of the session.
    LogOut,
    /// Whose session it is.
    Who,
    /// How the tunnel is.
    Report,
    /// What peers moved, or one of them by day.
    Usage(Option<String>),
    /// Drop what comes from a network.
    Ban {
        /// The network.
        net: IpNet,
        /// Whether it is inside the tunnel.
        inner: bool,
        /// Whether it is known to send there. Otherwise an address inside that is banned outside is
        /// asked back about.
        seen: bool,
        /// For how long; `None` until it is taken back.
        seconds: Option<u64>,
    },
    /// Drop what comes from a peer's addresses inside the tunnel.
    BanPeer {
        /// Its public key.
        peer: String,
        /// As above.
        seconds: Option<u64>,
    },
    /// Take a ban back.
    Unban {
        /// The network, exactly as it was banned.
        net: IpNet,
        /// Whether it is inside the tunnel.
        inner: bool,
    },
    /// Take back all bans of a peer's addresses inside the tunnel.
    UnbanPeer(String),
    /// Add a peer, in the file and in the tunnel.
    NewPeer(NewPeer),
    /// Take away a peer, by its public key.
    RemovePeer(String),
    /// Call a peer otherwise, in the file and in the tunnel.
    RenamePeer {
        /// Its public key.
        peer: String,
        /// What to call it.
        name: String,
    },
    /// Give a peer other keys, in the file and in the tunnel.
    RotatePeer(RotatePeer),
    /// Change what a peer has and may, in the file and in the tunnel.
    SetPeer(SetPeer),
}

/// A peer to be added. Its own key is made by who asks, and stays there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPeer {
    /// What to call it.
    pub name: String,
    /// Its public key.
    pub public_key: String,
    /// The key that both sides share.
    pub preshared_key: Option<SecretText>,
    /// Its last day, in UTC: `2026-12-31`.
    pub expires: Option<String>,
    /// Where its file says that the hub is.
    pub endpoint: Option<String>,
}

/// Other keys for a peer. Its own key is made by who asks, and stays there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotatePeer {
    /// Its public key until now.
    pub peer: String,
    /// Its public key from now on.
    pub public_key: String,
    /// The key that both sides share; none without it.
    pub preshared_key: Option<SecretText>,
    /// Where its file says that the hub is.
    pub endpoint: Option<String>,
}

/// What a peer has and may. What isn't given stays as it is; an empty list or text takes away what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPeer {
    /// Its public key.
    pub peer: String,
    /// Networks behind it.
    pub allowed_ips: Option<Vec<IpNet>>,
    /// Its last day, in UTC: `2026-12-31`.
    pub expires: Option<String>,
    /// How much it may move: `100 GB/month`.
    pub quota: Option<String>,
    /// How fast it may send: `20 Mbit/s`.
    pub rate_up: Option<String>,
    /// How fast it may be sent to.
    pub rate_down: Option<String>,
}

impl SetPeer {
    /// Whether all stays as it is.
    pub fn is_nothing(&self) -> bool {
        let texts = [&self.expires, &self.quota, &self.rate_up, &self.rate_down];
        self.allowed_ips.is_none() && texts.iter().all(|text| text.is_none())
    }

    /// Whether the peer may be refused by it, or no more be reached as before.
    pub fn may_cut_off(&self) -> bool {
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        self.allowed_ips.is_some() || is_given(&self.expires) || is_given(&self.quota)
    }
}

/// What it is answered with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// There is a session now.
    Entered(Entered),
    /// The token isn't one, or is no longer.
    WrongToken,
    /// Too many wrong tokens came from there: nothing is looked at for so many seconds.
    TooMany(u64),
    /// There is no such session, or no longer.
    NoSession,
    /// Whose session it is.
    Who(Who),
    /// How the tunnel is.
    Report(Box<Report>),
    /// What peers moved.
    Usage(Box<Usage>),
    /// A peer was added, changed or taken away.
    Edited(Box<PeerEdited>),
    /// It is done.
    Done,
    /// It isn't.
    Refused {
        /// The reason, if it has a code.
        why: Option<Why>,
        /// It in a sentence.
        text: String,
    },
}

/// A new session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entered {
    /// Its secret.
    pub session: SecretText,
    /// How long it lasts.
    pub seconds: u64,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The token's name.
    pub token: String,
    /// What the forms of this session hold, so that no other page can send them.
    pub form: String,
    /// How long it lasts.
    pub seconds: u64,
}

/// How the tunnel is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// What `taltun status` tells.
    pub status: Status,
    /// What `taltun stats` tells.
    pub stats: Stats,
    /// The last minutes, second by second, the oldest first.
    pub moments: Vec<Moment>,
}
