//! Why a packet was dropped: one list for XDP, TC and user space.
//!
//! Every drop Taltun makes carries one of these; each is a counter and a line in
//! `taltun stats`.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal => $meaning:literal,)+) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name shown to people and machines; stable.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// What it means, in a few words for people.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }
        }
    };
}

reasons! {
    /// The outer source is on the deny list.
    Denied = "denied" => "sender is banned",
    /// Not shaped like a WireGuard message: type, reserved bytes or length.
    Shape = "shape" => "not a WireGuard message",
    /// A receiver index that we didn't give out.
    UnknownIndex = "unknown_index" => "no such session",
    /// The first MAC doesn't verify: the sender doesn't know our public key.
    Mac1 = "mac1" => "sender has a wrong key for us",
    /// An initiation whose first MAC wasn't verified, for lack of time: too many wrong ones
    /// come from where no peer was ever heard.
    Unverified = "unverified" => "no time to verify it: a flood",
    /// Under load, a handshake message without proof that its sender receives at the address
    /// it sends from. It was answered with a cookie, unless too many ask for one.
    NoCookie = "no_cookie" => "no cookie, under load",
    /// More handshakes than one source may send.
    RateLimited = "rate_limited" => "too many handshakes of a source",
    /// A handshake message that doesn't authenticate, is replayed or is from an unknown key.
    Handshake = "handshake" => "key or preshared key unknown",
    /// More handshakes are waiting than we keep.
    HandshakeQueueFull = "handshake_queue_full" => "too many handshakes wait",
    /// A data message that doesn't authenticate.
    Authentication = "authentication" => "damaged or forged",
    /// A counter that was seen before or is older than the window.
    Replay = "replay" => "came before, or much too late",
    /// A session past its lifetime.
    Expired = "expired" => "its session is too old",
    /// The inner packet is not IP or lies about its length.
    InnerMalformed = "inner_malformed" => "not an IP packet inside",
    /// The inner source isn't among the peer's allowed IPs.
    InnerSource = "inner_source" => "source not in its allowed_ips",
    /// The inner source is banned.
    InnerDenied = "inner_denied" => "source is banned inside",
    /// The inner destination is in nobody's allowed IPs.
    NoPeer = "no_peer" => "nobody has that destination",
    /// The peer's address isn't known yet.
    NoEndpoint = "no_endpoint" => "peer's address isn't known yet",
    /// No session yet, and the queue that waits for one is full.
    StagedQueueFull = "staged_queue_full" => "too much waits for a handshake",
    /// A relayed packet reached its hop limit.
    HopLimit = "hop_limit" => "at the end of its hops",
    /// Larger than a buffer can hold.
    Oversized = "oversized" => "larger than a buffer",
    /// The kernel refused to send a datagram.
    UdpSend = "udp_send" => "kernel refused to send it",
    /// The kernel refused a packet written to the TUN.
    TunWrite = "tun_write" => "kernel refused it, from a peer",
    /// The ring of an AF_XDP socket was full, or its memory used up.
    RingFull = "ring_full" => "a ring of AF_XDP was full",
    /// A datagram of our own that was routed into the tunnel, or one that lies in too many others.
    RoutingLoop = "routing_loop" => "our own, sent into the tunnel",
    /// A control message between two Taltuns that is unknown, cut, or more than a peer may send.
    Control = "control" => "control message, odd or too many",
    /// No rule lets it start what it would start, and it belongs to nothing that was started.
    Rule = "rule" => "no rule lets it start",
    /// A handshake of a peer that is over its quota or past its last day, or a packet for it.
    PeerRefused = "peer_refused" => "peer over its quota or last day",
    /// A fragment of a packet whose first fragment didn't pass, or came behind it.
    LostFragment = "lost_fragment" => "its first fragment is missing",
    /// It waited too long for its turn at its peer's rate or the uplink's, or found no room to
    /// wait.
    Shaped = "shaped" => "over a rate: waited too long",
}

/// How many reasons there are: the length of counter arrays.
pub const DROP_REASONS: usize = DropReason::ALL.len();
