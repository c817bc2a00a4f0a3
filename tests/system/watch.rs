//! Counts handshake messages on the wire by their kind, with nftables: what two
//! implementations said to each other, told by neither of them.

use std::fmt::Write;

use anyhow::{Context, Result};
use taltun_tests::command::output_of;
use taltun_tests::lab::PORT;
use taltun_tests::netns::Namespace;

/// A kind of message, each with a length that no data message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Any initiation.
    Initiation,
    /// An initiation that carries the proof which a cookie allows.
    InitiationWithMac2,
    Response,
    CookieReply,
}

impl MessageKind {
    const ALL: [Self; 4] = [
        Self::Initiation,
        Self::InitiationWithMac2,
        Self::Response,
        Self::CookieReply,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Initiation => "initiation",
            Self::InitiationWithMac2 => "mac2",
            Self::Response => "response",
            Self::CookieReply => "cookie",
        }
    }

    /// What an nftables rule has to match: the length of UDP, its header included, and
    /// whether the last 16 bytes of an initiation are zero.
    fn pattern(self) -> &'static str {
        match self {
            Self::Initiation => "udp length 156",
            Self::InitiationWithMac2 => "udp length 156 @th,1120,128 != 0",
            Self::Response => "udp length 100",
            Self::CookieReply => "udp length 72",
        }
    }
}

/// Counters in a namespace, for messages between our [`PORT`] and that of the other end.
#[derive(Debug)]
pub struct Watch<'n> {
    namespace: &'n Namespace,
}

impl<'n> Watch<'n> {
    pub fn start(namespace: &'n Namespace) -> Result<Self> {
        let mut rules = "add table inet watch;".to_owned();
        for (way, hook) in [("out", "output"), ("in", "input")] {
            // Writing to a String can't fail.
            let _ = write!(
                rules,
                "add chain inet watch {way} {{ type filter hook {hook} priority 0; }};"
            );
            for kind in MessageKind::ALL {
                let (name, pattern) = (kind.name(), kind.pattern());
                let _ = write!(
                    rules,
                    "add counter inet watch {name}-{way}; add rule inet watch {way} \
                     udp sport {PORT} udp dport {PORT} {pattern} counter name {name}-{way};"
                );
            }
        }
        output_of(namespace.command("nft").arg(rules))?;
        Ok(Self { namespace })
    }

    /// Messages that left the namespace.
    pub fn sent(&self, kind: MessageKind) -> Result<u64> {
        self.count(&format!("{}-out", kind.name()))
    }

    /// Messages that came in.
    pub fn received(&self, kind: MessageKind) -> Result<u64> {
        self.count(&format!("{}-in", kind.name()))
    }

    fn count(&self, counter: &str) -> Result<u64> {
        let mut nft = self.namespace.command("nft");
        let told = output_of(nft.args(["list", "counter", "inet", "watch", counter]))?;
        let mut words = told.split_whitespace();
        words
            .find(|word| *word == "packets")
            .and_then(|_| words.next()?.parse().ok())
            .with_context(|| format!("nft tells no number: {told}"))
    }
}
