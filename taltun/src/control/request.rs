//! The commands of a running tunnel, in one table: what each asks, what it is answered with, and
//! who answers. A request is a line of JSON, one a connection, answered with one line of JSON.
//!
//! The table makes what goes over the socket, and a function that the controller or the reader
//! has to have: a command that nobody answers, or not with what it promises, doesn't compile.

mod bans;
mod peers;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::answer_to::AnswerTo;
use super::caller::Caller;
use super::inside::Inside;
use super::response::{Answer, Done, NewWebToken, Reloaded, Reply, Response, Started};
use super::since::Since;
use crate::metrics::Seen;
use crate::report;
use crate::secret::SecretText;

pub use self::bans::{Ban, BanPeer, Unban, UnbanPeer};
pub use self::peers::{
    ClientWishes, NewPeer, PeerEdit, RemovePeer, RenamePeer, RotatePeer, SetPeer,
};

/// A command, with what it asks.
pub trait Command {
    /// What it is answered with when it is done.
    type Answer: Answer;

    /// As it goes over the socket.
    fn request(self) -> Request;
}

/// A request on its way to the controller.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Who asks.
    pub by: Caller,
    /// Where the answer goes.
    pub answer: AnswerTo<Response>,
}

/// The longest request, bytes, line feed included.
pub(super) const REQUEST_MAX: usize = 64 * 1024;

/// Makes the requests of the table, and who answers them.
macro_rules! requests {
    (
        Controller: $(
            #[doc = $doc:literal]
            $function:ident: $name:ident $(($fields:ident: $type:ty))? => $answer:ty, $command:literal;
        )*
        Later: $(
            #[doc = $later_doc:literal]
            $later_function:ident: $later_name:ident($later_type:ty) => $later_answer:ty,
            $later_command:literal;
        )*
        Editor: $(
            #[doc = $edit_doc:literal]
            $edit_function:ident: $edit_name:ident($edit_type:ty) => $edit_answer:ty,
            $edit_command:literal;
        )*
        Reader: $(
            #[doc = $read_doc:literal]
            $read_function:ident: $read_name:ident => $read_answer:ty, $read_command:literal;
        )*
    ) => {
        /// What a client may ask.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum Request {
            $(#[doc = $doc] $name $(($type))?,)*
            $(#[doc = $later_doc] $later_name($later_type),)*
            $(#[doc = $edit_doc] $edit_name($edit_type),)*
            $(#[doc = $read_doc] $read_name,)*
        }

        /// Who answers at once what needs no more than the tunnel's state, and passes on what
        /// another thread knows.
        pub(super) trait Controller {
            $(#[doc = $doc] fn $function(&mut self, command: $name) -> Result<$answer, report::Refused>;)*
            $(
                #[doc = $later_doc]
                fn $later_function(&mut self, command: $later_name, reply: Reply<$later_answer>);
            )*

            /// What a change of the file has to know of the tunnel as it is.
            fn inside(&mut self) -> Inside;
        }

        /// Who reads files beside the controller, or changes them, and answers later.
        pub(super) trait Reader {
            $(
                #[doc = $edit_doc]
                fn $edit_function(
                    &self,
                    command: $edit_name,
                    inside: Inside,
                    by: Caller,
                    reply: Reply<$edit_answer>,
                );
            )*
            $(
                #[doc = $read_doc]
                fn $read_function(
                    &self,
                    command: $read_name,
                    by: Caller,
                    reply: Reply<$read_answer>,
                );
            )*
        }

        $(impl Command for $name {
            type Answer = $answer;

            fn request(self) -> Request {
                Request::$name $(({
                    let $fields: $type = self;
                    $fields
                }))?
            }
        })*

        $(impl Command for $later_name {
            type Answer = $later_answer;

            fn request(self) -> Request {
                Request::$later_name(self)
            }
        })*

        $(impl Command for $edit_name {
            type Answer = $edit_answer;

            fn request(self) -> Request {
                Request::$edit_name(self)
            }
        })*

        $(impl Command for $read_name {
            type Answer = $read_answer;

            fn request(self) -> Request {
                Request::$read_name
            }
        })*

        impl Request {
            /// The commands of the command line that ask something.
            #[cfg(test)]
            pub(crate) const COMMANDS: &[&str] = &[$($command,)* $($later_command,)* $($edit_command,)* $($read_command,)*];

            /// Lets whoever answers it do so.
            pub(super) fn pass_on(
                self,
                by: Caller,
                answer: AnswerTo<Response>,
                controller: &mut impl Controller,
                reader: &impl Reader,
            ) {
                match self {
                    $(Self::$name $(($fields))? => {
                        let command = requests!(@fields $name $($fields)?);
                        Reply::new(answer).outcome(controller.$function(command));
                    })*
                    $(Self::$later_name(command) => {
                        controller.$later_function(command, Reply::new(answer));
                    })*
                    $(Self::$edit_name(command) => {
                        let inside = controller.inside();
                        reader.$edit_function(command, inside, by, Reply::new(answer));
                    })*
                    $(Self::$read_name => {
                        reader.$read_function($read_name, by, Reply::new(answer));
                    })*
                }
            }
        }
    };
    (@fields $name:ident) => { $name };
    (@fields $name:ident $fields:ident) => { $fields };
}

requests! {
    Controller:
    /// Who we are and how the peers are.
    status: Status => Box<report::Status>, "status";
    /// What was moved and what was dropped.
    stats: Stats => Box<report::Stats>, "stats";
    /// As much of both as a screen shows.
    overview: Overview(command: Overview) => Box<report::Overview>, "top";
    /// What of both the metrics show.
    metrics: Metrics => Box<Seen>, "metrics-process";
    /// What would happen to a packet.
    explain: Explain(command: Explain) => Box<report::Explanation>, "explain";
    /// Drop what comes from a network.
    ban: Ban(command: Ban) => Done, "ban";
    /// Drop what comes from a peer's addresses.
    ban_peer: BanPeer(command: BanPeer) => Done, "ban";
    /// Take a ban back.
    unban: Unban(command: Unban) => Done, "unban";
    /// Take back the bans of a peer's addresses.
    unban_peer: UnbanPeer(command: UnbanPeer) => Done, "unban";
    /// What happens to packets, from now on.
    trace: Trace(command: Trace) => Started, "trace";
    /// Packets themselves, from now on.
    capture: Capture(command: Capture) => Started, "capture";
    /// Everything as a wg-quick file, keys included.
    export: Export => SecretText, "export";
    /// A token to log in to the page.
    web_token: WebToken(command: WebToken) => NewWebToken, "web";
    /// The tokens there are.
    web_tokens: WebTokens => Vec<report::WebToken>, "web";
    /// What is known of the fleet.
    fleet_status: FleetStatus => Box<report::FleetStatus>, "fleet";
    /// Give up the peers of this hub, or have peers again.
    fleet_drain: FleetDrain(command: FleetDrain) => Done, "fleet";
    /// The end of a token.
    web_revoke: WebRevoke(command: WebRevoke) => Done, "web";

    Later:
    /// Another key for the admin of the fleet.
    fleet_key_rotate: FleetKeyRotate(FleetKeyRotate) => Done, "fleet";
    /// A hub that is to be none any more.
    fleet_hub_remove: FleetHubRemove(FleetHubRemove) => Done, "fleet";
    /// What peers moved, by day.
    usage: Usage(Usage) => Box<report::Usage>, "usage";

    Editor:
    /// Change a peer, in the file and in the tunnel.
    edit_peer: PeerEdit(PeerEdit) => Box<report::PeerEdited>, "peer";

    Reader:
    /// Read the configuration again.
    reload: Reload => Reloaded, "reload";
}

/// [`Request::Status`]
#[derive(Debug, Clone, Copy)]
pub struct Status;

/// [`Request::Stats`]
#[derive(Debug, Clone, Copy)]
pub struct Stats;

/// [`Request::Metrics`]
#[derive(Debug, Clone, Copy)]
pub struct Metrics;

/// [`Request::Overview`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// What the peers are ordered by.
    pub order: PeerOrder,
    /// Only those that have this in their name, key or an address.
    #[serde(default)]
    pub find: Option<String>,
    /// How many of them to leave out at the beginning.
    #[serde(default)]
    pub skip: u32,
    /// Most peers.
    pub peers: u32,
    /// Most sources outside, and as many inside.
    pub sources: u32,
    /// Most pairs of peers that send to each other; 0 for whoever doesn't look at them, so that they
    /// needn't be counted.
    #[serde(default)]
    pub pairs: u32,
}

/// What peers are ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerOrder {
    /// Those that are there by what they move now, then those that were there last.
    #[default]
    Rate,
    /// By what they moved since the start.
    Total,
    /// By when they were last heard.
    Seen,
    /// By name.
    Name,
}

/// [`Request::Export`]
#[derive(Debug, Clone, Copy)]
pub struct Export;

/// [`Request::WebTokens`]
#[derive(Debug, Clone, Copy)]
pub struct WebTokens;

/// [`Request::WebToken`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebToken {
    /// What it is to be called; `None` for a name with a number.
    #[serde(default)]
    pub name: Option<String>,
    /// How long it lasts.
    pub seconds: u64,
}

/// [`Request::FleetStatus`]
#[derive(Debug, Clone, Copy)]
pub struct FleetStatus;

/// [`Request::FleetDrain`]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetDrain {
    /// Whether the peers are given up.
    pub leaving: bool,
}

/// [`Request::FleetKeyRotate`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetKeyRotate {
    /// Hubs that are removed, and don't get the new key.
    pub without: Vec<String>,
    /// Whether the keys of groups are other ones as well.
    pub group_keys: bool,
}

/// [`Request::FleetHubRemove`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetHubRemove {
    /// Its name.
    pub hub: String,
}

/// [`Request::WebRevoke`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebRevoke {
    /// The token's name.
    pub name: String,
}

/// [`Request::Reload`]
#[derive(Debug, Clone, Copy)]
pub struct Reload;

/// [`Request::Explain`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Who sends it: a peer's name or public key, an address inside, or `hub`.
    pub from: String,
    /// Whom it is for, likewise.
    pub to: String,
    /// What it is: `tcp/443`, `icmp`.
    pub service: String,
    /// Its source inside; `None` for the sender's first address of the destination's family.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// Where its datagram comes from outside; `None` for where the peer is.
    #[serde(default)]
    pub outer: Option<IpAddr>,
}

/// [`Request::Trace`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The name or public key of the only peer whose packets are told.
    #[serde(default)]
    pub peer: Option<String>,
    /// Whether only those are told that are dropped.
    #[serde(default)]
    pub drops: bool,
    /// Most lines a second.
    pub rate: u32,
}

/// [`Request::Capture`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a kind of packets, in any combination"
)]
pub struct Capture {
    /// The name or public key of the only peer to capture.
    #[serde(default)]
    pub peer: Option<String>,
    /// Packets in the tunnel between this host and peers.
    pub inner: bool,
    /// Packets in the tunnel from peer to peer.
    pub relayed: bool,
    /// Datagrams.
    pub outer: bool,
    /// Bytes that are kept of each packet; 0 for all.
    #[serde(default)]
    pub snap_length: u32,
    /// Which of them.
    #[serde(default)]
    pub filter: Option<CaptureFilter>,
}

/// A filter of a [`Capture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureFilter {
    /// As somebody wrote it.
    pub words: String,
    /// The same as classic BPF: code, jumps if true and if false, operand.
    pub program: Vec<[u32; 4]>,
}

/// [`Request::Usage`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The name or public key of the only peer that is asked for.
    #[serde(default)]
    pub peer: Option<String>,
    /// Since when.
    pub since: Since,
}

#[cfg(test)]
mod tests;
