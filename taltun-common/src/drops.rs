//! Why a packet was dropped: one list for XDP, TC and user space.
//!
//! Every drop Taltun makes carries one of these; each is a counter and a line in
//! `taltun stats`.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal,)+) => {
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
        }
    };
}

reasons! {
    /// The outer source is on the deny list.
    Denied = "denied",
    /// Not shaped like a WireGuard message: type, reserved bytes or length.
    Shape = "shape",
    /// A receiver index that we didn't give out.
    UnknownIndex = "unknown_index",
    /// The first MAC doesn't verify: the sender doesn't know our public key.
    Mac1 = "mac1",
    /// An initiation whose first MAC wasn't verified, for lack of time: too many wrong ones
    /// come from where no peer was ever heard.
    Unverified = "unverified",
    /// Under load, a handshake message without proof that its sender receives at the address
    /// it sends from. It was answered with a cookie, unless too many ask for one.
    NoCookie = "no_cookie",
    /// More handshakes than one source may send.
    RateLimited = "rate_limited",
    /// A handshake message that doesn't authenticate, is replayed or is from an unknown key.
    Handshake = "handshake",
    /// More handshakes are waiting than we keep.
    HandshakeQueueFull = "handshake_queue_full",
    /// A data message that doesn't authenticate.
    Authentication = "authentication",
    /// A counter that was seen before or is older than the window.
    Replay = "replay",
    /// A session past its lifetime.
    Expired = "expired",
    /// The inner packet is not IP or lies about its length.
    InnerMalformed = "inner_malformed",
    /// The inner source isn't among the peer's allowed IPs.
    InnerSource = "inner_source",
    /// The inner source is banned.
    InnerDenied = "inner_denied",
    /// The inner destination is in nobody's allowed IPs.
    NoPeer = "no_peer",
    /// The peer's address isn't known yet.
    NoEndpoint = "no_endpoint",
    /// No session yet, and the queue that waits for one is full.
    StagedQueueFull = "staged_queue_full",
    /// A relayed packet reached its hop limit.
    HopLimit = "hop_limit",
    /// Larger than a buffer can hold.
    Oversized = "oversized",
    /// The kernel refused to send a datagram.
    UdpSend = "udp_send",
    /// The kernel refused a packet written to the TUN.
    TunWrite = "tun_write",
    /// The ring of an AF_XDP socket was full, or its memory used up.
    RingFull = "ring_full",
    /// A datagram of our own that was routed into the tunnel, or one that lies in too many others.
    RoutingLoop = "routing_loop",
    /// A control message between two Taltuns that is unknown, cut, or more than a peer may send.
    Control = "control",
    /// No rule lets it start what it would start, and it belongs to nothing that was started.
    Rule = "rule",
    /// A handshake of a peer that is over its quota or past its last day, or a packet for it.
    PeerRefused = "peer_refused",
    /// A fragment of a packet whose first fragment didn't pass, or came behind it.
    LostFragment = "lost_fragment",
    /// It waited too long for its turn at its peer's rate or the uplink's, or found no room to
    /// wait.
    Shaped = "shaped",
}

/// How many reasons there are: the length of counter arrays.
pub const DROP_REASONS: usize = DropReason::ALL.len();
