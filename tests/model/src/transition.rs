//! What may happen, and how often it does.

/// Declares the transitions: each with its weight: that of all is at most 256.
macro_rules! transitions {
    ($($(#[$words:meta])* $name:ident = $weight:literal),* $(,)?) => {
        /// Something that happens.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Transition {
            $($(#[$words])* $name,)*
        }

        impl Transition {
            /// All of them, each with its weight.
            pub(crate) const ALL: &[(Self, u16)] = &[$((Self::$name, $weight)),*];
        }
    };
}

transitions! {
    /// A spoke sends a packet to another one.
    Talk = 22,
    /// The hub sends one to a spoke.
    HubTalks = 10,
    /// A spoke sends one to the hub.
    TalkToHub = 14,
    /// Whoever got a packet answers it.
    Answer = 10,
    /// A packet with a source that isn't its sender's.
    Spoof = 4,
    /// One message arrives, before those that were sent before it.
    Deliver = 16,
    /// Several arrive in their order.
    DeliverSome = 20,
    /// One arrives, and stays on its way.
    Copy = 6,
    /// One is lost.
    Lose = 5,
    /// All that are on their way are lost.
    LoseAll = 1,
    /// A bit of one is another one.
    Spoil = 4,
    /// One is cut.
    Cut = 2,
    /// One that was sent before arrives once more.
    Replay = 6,
    /// One comes back to its sender.
    Reflect = 2,
    /// One arrives from another address, as behind a NAT that forgot.
    Readdress = 3,
    /// One is sent to somebody else.
    Misdeliver = 2,
    /// Handshake messages arrive together.
    Burst = 3,
    /// Bytes that nobody sent.
    Garbage = 2,
    /// Milliseconds pass.
    Milliseconds = 10,
    /// The network works, for some seconds at most.
    Run = 22,
    /// All people put right what they had set wrong.
    Mend = 7,
    /// Seconds pass.
    Seconds = 6,
    /// Minutes pass.
    Minutes = 1,
    /// One sleeps, and time passes.
    Sleep = 2,
    /// The monotonic clock of one jumps ahead.
    Skip = 2,
    /// The wall clock of one jumps, ahead or back.
    WallClock = 3,
    /// One starts anew.
    Restart = 2,
    /// One starts anew with what it had on its disk some time ago.
    Rollback = 2,
    /// Disks are saved.
    Save = 2,
    /// One ends all that was agreed on, as after a rollback of its memory.
    StartOver = 1,
    /// A preshared key is another one, on both sides or on one.
    PresharedKey = 2,
    /// A spoke has another key pair, and the hub may know it.
    SpokeKey = 1,
    /// The hub has another key pair, and spokes may know it.
    HubKey = 1,
    /// One learns the keys that its peer has by now.
    Learn = 3,
    /// A spoke is elsewhere.
    Roam = 5,
    /// Ports of the hub are shut.
    ShutPorts = 2,
    /// One of the hub's addresses is shut, or none.
    ShutAddress = 2,
    /// One is cut off, or nobody.
    CutOff = 2,
    /// A spoke is told other places of the hub.
    Places = 3,
    /// A spoke hops in another rhythm.
    Hop = 2,
    /// Networks move from one spoke to another.
    MoveNets = 4,
    /// The hub has other rules.
    Rules = 4,
    /// A spoke is banned, or unbanned.
    Ban = 2,
    /// The hub forgets a spoke, or knows it again.
    Remove = 2,
    /// Somebody is to keep its tunnel alive.
    Keepalive = 2,
    /// One is under load, or isn't.
    UnderLoad = 2,
    /// The hub limits initiations, or doesn't.
    Limit = 1,
    /// The hub relays by itself, or leaves it to its kernel.
    Relay = 1,
    /// A handshake is asked for.
    Initiate = 3,
    /// It is forgotten from which of our addresses a peer was answered.
    ForgetLocal = 1,
    /// The stranger asks for a handshake.
    Stranger = 1,
}

impl Transition {
    /// The one that a byte stands for.
    pub(crate) fn of(byte: u8) -> Self {
        const TOTAL: u16 = {
            let (mut sum, mut at) = (0, 0);
            while at < Transition::ALL.len() {
                sum += Transition::ALL[at].1;
                at += 1;
            }
            sum
        };
        // Else a byte could not stand for each.
        const { assert!(TOTAL <= 256) };
        let mut at = u16::from(byte) * TOTAL / 256;
        for (transition, weight) in Self::ALL {
            if at < *weight {
                return *transition;
            }
            at -= weight;
        }
        unreachable!("the weights' sum is above it")
    }
}
