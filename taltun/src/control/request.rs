//! What is said over the control socket: one request a connection, a line of JSON, answered
//! with one line of JSON.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use zeroize::Zeroize;

use crate::report::{Stats, Status};

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Who we are and how the peers are.
    Status,
    /// What was moved and what was dropped.
    Stats,
    /// Drop what comes from a network.
    Ban {
        /// The network.
        net: IpNet,
        /// Whether it is one inside the tunnel rather than on the underlay.
        #[serde(default)]
        inner: bool,
        /// For a network outside, even if the address looks like one inside.
        #[serde(default)]
        outer: bool,
        /// Do it without asking back.
        #[serde(default)]
        force: bool,
        /// For how long; `None` until unbanned or stopped.
        #[serde(default)]
        seconds: Option<u64>,
    },
    /// Drop what comes from a peer's addresses.
    BanPeer {
        /// Its name or public key.
        peer: String,
        /// Its address outside instead of those inside the tunnel.
        #[serde(default)]
        outer: bool,
        /// Do it without asking back.
        #[serde(default)]
        force: bool,
        /// For how long; `None` until unbanned or stopped.
        #[serde(default)]
        seconds: Option<u64>,
    },
    /// Take a ban back.
    Unban {
        /// The network, exactly as it was banned.
        net: IpNet,
        /// Whether it is one inside the tunnel.
        #[serde(default)]
        inner: bool,
    },
    /// Take back the bans of a peer's addresses.
    UnbanPeer {
        /// Its name or public key.
        peer: String,
        /// Its address outside instead of those inside the tunnel.
        #[serde(default)]
        outer: bool,
    },
    /// Read the configuration again.
    Reload,
    /// Everything as a wg-quick file, keys included.
    Export,
}

/// What comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Answers [`Request::Status`].
    Status(Box<Status>),
    /// Answers [`Request::Stats`].
    Stats(Box<Stats>),
    /// Answers [`Request::Export`].
    Export(SecretText),
    /// It is done; the text says what, in a sentence for people.
    Done(String),
    /// Answers [`Request::Reload`].
    Reloaded {
        /// As in [`Self::Done`].
        done: String,
        /// What is odd about the configuration, a sentence each.
        warnings: Vec<String>,
    },
    /// It isn't done; the text says why and what would help, in one line.
    Error(String),
    /// It isn't done, as the configuration has mistakes: a line each.
    Misconfigured(String),
}

/// A text with keys in it: wiped when dropped, and not told by `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({} bytes)", self.0.len())
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A request on its way to the controller, and where its answer goes.
pub type Call = (Request, oneshot::Sender<Response>);

/// The longest request, bytes, line feed included.
pub(super) const REQUEST_MAX: usize = 64 * 1024;
