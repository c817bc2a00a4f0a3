//! What the page's process asks the tunnel, and what it is answered: each a line of JSON. An empty
//! line says that the process lives.
//!
//! This is all that it can ask. The tunnel believes none of it: but for a login, each question
//! carries the secret of a session, which the tunnel made and looks up.

use std::net::IpAddr;

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::report::{Moment, PeerEdited, Stats, Status, Usage};

/// The longest question, bytes, line feed included.
pub const QUESTION_MAX: u64 = 64 << 10;

/// A token, a session's secret or a key: wiped when dropped, and not told by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A question, with who asks it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The secret of a browser's session.
    pub session: Option<Secret>,
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
    LogIn(Secret),
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
    pub preshared_key: Option<Secret>,
    /// Its last day, in UTC: `2026-12-31`.
    pub expires: Option<String>,
    /// Where its file says that the hub is.
    pub endpoint: Option<String>,
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
    /// A peer was added.
    Edited(Box<PeerEdited>),
    /// It is done, in a sentence.
    Done(String),
    /// It isn't, in a sentence.
    Refused(String),
}

/// A new session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entered {
    /// Its secret.
    pub session: Secret,
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
