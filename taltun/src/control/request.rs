//! The commands of a running tunnel, in one table: what each asks, what it is answered with, and
//! who answers. A request is a line of JSON, one a connection, answered with one line of JSON.
//!
//! The table makes what goes over the socket, and a function that the controller or the reader
//! has to have: a command that nobody answers, or not with what it promises, doesn't compile.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::answer_to::AnswerTo;
use super::caller::Caller;
use super::inside::Inside;
use super::response::{Answer, Done, NewWebToken, Reloaded, Reply, Response, Started};
use super::since::Since;
use crate::layer::Layer;
use crate::report;
use crate::secret::SecretText;

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
    /// The end of a token.
    web_revoke: WebRevoke(command: WebRevoke) => Done, "web";

    Later:
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

/// [`Request::Ban`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BanOnSocket", into = "BanOnSocket")]
pub struct Ban {
    /// The network.
    pub net: IpNet,
    /// Where it is; `None` for outside, unless it looks like one inside: that asks back.
    pub layer: Option<Layer>,
    /// Do it without asking back.
    pub force: bool,
    /// For how long; `None` until unbanned or stopped.
    pub seconds: Option<u64>,
}

/// [`Request::BanPeer`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanPeer {
    /// Its name or public key.
    pub peer: String,
    /// Which of its addresses.
    #[serde(rename = "outer", with = "outer", default = "inner")]
    pub layer: Layer,
    /// Do it without asking back.
    #[serde(default)]
    pub force: bool,
    /// For how long; `None` until unbanned or stopped.
    #[serde(default)]
    pub seconds: Option<u64>,
}

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

/// [`Request::PeerEdit`]
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

/// [`Request::Unban`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unban {
    /// The network, exactly as it was banned.
    pub net: IpNet,
    /// Where it is.
    #[serde(rename = "inner", default)]
    pub layer: Layer,
}

/// [`Request::UnbanPeer`]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnbanPeer {
    /// Its name or public key.
    pub peer: String,
    /// Which of its addresses.
    #[serde(rename = "outer", with = "outer", default = "inner")]
    pub layer: Layer,
}

/// [`Ban`] as it goes over the socket: the layer in two words, as the command line has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BanOnSocket {
    net: IpNet,
    #[serde(default)]
    inner: bool,
    #[serde(default)]
    outer: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    seconds: Option<u64>,
}

impl From<BanOnSocket> for Ban {
    fn from(it: BanOnSocket) -> Self {
        Self {
            net: it.net,
            layer: (it.inner || it.outer).then_some(it.inner.into()),
            force: it.force,
            seconds: it.seconds,
        }
    }
}

impl From<Ban> for BanOnSocket {
    fn from(it: Ban) -> Self {
        Self {
            net: it.net,
            inner: it.layer == Some(Layer::Inner),
            outer: it.layer == Some(Layer::Outer),
            force: it.force,
            seconds: it.seconds,
        }
    }
}

/// A peer's addresses are those inside where nothing else is said.
fn inner() -> Layer {
    Layer::Inner
}

/// A layer as whether it is the outer one.
mod outer {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::layer::Layer;

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for it in this form"
    )]
    pub(super) fn serialize<S: Serializer>(layer: &Layer, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*layer == Layer::Outer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Layer, D::Error> {
        bool::deserialize(from).map(|outer| Layer::from(!outer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_on_the_socket_what_they_have_always_been() {
        let ban = |layer, force, seconds| {
            let net = "10.0.0.0/8".parse().unwrap();
            Request::Ban(Ban {
                net,
                layer,
                force,
                seconds,
            })
        };
        let ban_peer = |layer| {
            Request::BanPeer(BanPeer {
                peer: "ana".into(),
                layer,
                force: false,
                seconds: Some(3),
            })
        };
        let unban = |layer| {
            let net = "10.0.0.0/8".parse().unwrap();
            Request::Unban(Unban { net, layer })
        };
        let unban_peer = |layer| {
            let peer = "ana".into();
            Request::UnbanPeer(UnbanPeer { peer, layer })
        };
        for (request, json) in [
            (Request::Status, r#""status""#),
            (Request::Stats, r#""stats""#),
            (Request::Export, r#""export""#),
            (Request::Reload, r#""reload""#),
            (
                ban(None, false, None),
                r#"{"ban":{"net":"10.0.0.0/8","inner":false,"outer":false,"force":false,"seconds":null}}"#,
            ),
            (
                ban(Some(Layer::Inner), true, Some(3)),
                r#"{"ban":{"net":"10.0.0.0/8","inner":true,"outer":false,"force":true,"seconds":3}}"#,
            ),
            (
                ban(Some(Layer::Outer), false, None),
                r#"{"ban":{"net":"10.0.0.0/8","inner":false,"outer":true,"force":false,"seconds":null}}"#,
            ),
            (
                ban_peer(Layer::Inner),
                r#"{"ban_peer":{"peer":"ana","outer":false,"force":false,"seconds":3}}"#,
            ),
            (
                ban_peer(Layer::Outer),
                r#"{"ban_peer":{"peer":"ana","outer":true,"force":false,"seconds":3}}"#,
            ),
            (
                unban(Layer::Inner),
                r#"{"unban":{"net":"10.0.0.0/8","inner":true}}"#,
            ),
            (
                unban_peer(Layer::Outer),
                r#"{"unban_peer":{"peer":"ana","outer":true}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), json);
            let back: Request = serde_json::from_str(json).unwrap();
            assert_eq!(back, request);
        }
        // What needn't be there.
        for (json, request) in [
            (r#"{"ban":{"net":"10.0.0.0/8"}}"#, ban(None, false, None)),
            (
                r#"{"ban_peer":{"peer":"ana","seconds":3}}"#,
                ban_peer(Layer::Inner),
            ),
            (r#"{"unban":{"net":"10.0.0.0/8"}}"#, unban(Layer::Outer)),
            (r#"{"unban_peer":{"peer":"ana"}}"#, unban_peer(Layer::Inner)),
        ] {
            assert_eq!(serde_json::from_str::<Request>(json).unwrap(), request);
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        for json in [
            r#"{"ban":{"net":"10.0.0.0/8","surprise":1}}"#,
            r#"{"ban_peer":{"peer":"ana","surprise":1}}"#,
            r#"{"unban":{"net":"10.0.0.0/8","surprise":1}}"#,
            r#"{"unban_peer":{"peer":"ana","surprise":1}}"#,
        ] {
            let refused = serde_json::from_str::<Request>(json).unwrap_err();
            assert!(refused.to_string().contains("surprise"), "{refused}");
        }
    }
}
