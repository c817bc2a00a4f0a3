//! The words of `status` and `stats` that stand for one of a few things. In JSON each is its
//! word.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $about:literal])+ $word:literal => $variant:ident,)+
    })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
            pub enum $name {
                $($(#[doc = $about])+ #[serde(rename = $word)] $variant,)+
            }

            impl $name {
                /// All that it can be.
                pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

                /// Its word.
                pub const fn word(self) -> &'static str {
                    match self {
                        $(Self::$variant => $word,)+
                    }
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(self.word())
                }
            }
        )+
    };
}

words! {
    /// What decides about a tunnel.
    TunnelMode {
        /// A file, as a hub.
        "server" => Server,
        /// A file, as one that dials.
        "client" => Client,
        /// No file: it was made by its name, and others set it.
        "plain" => Plain,
    }

    /// What decides about a packet.
    StepKind {
        /// Whether its sender's address outside is banned.
        "outside" => Outside,
        /// Whether the peer may have a session, and has one.
        "session" => Session,
        /// Whether its source belongs to the peer.
        "source" => Source,
        /// Whether its source inside is banned.
        "ban" => Ban,
        /// The rules.
        "rules" => Rules,
        /// Where it goes.
        "route" => Route,
        /// Where it waits for its turn.
        "limits" => Limits,
    }

    /// What became of a packet.
    TraceVerdict {
        /// It went on.
        "passed" => Passed,
        /// It waits for a session.
        "waits" => Waits,
        /// It was dropped.
        "dropped" => Dropped,
        /// There was no room to tell of it.
        "left_out" => LeftOut,
    }

    /// Where a packet was seen.
    TracePlace {
        /// A datagram that arrived.
        "arrived" => Arrived,
        /// A datagram that leaves.
        "leaves" => Leaves,
        /// A packet of a peer's for this host, or what is behind it.
        "to_host" => ToHost,
        /// A packet of this host's, or from behind it, for a peer.
        "from_host" => FromHost,
        /// A packet of a peer's for another.
        "relayed" => Relayed,
        /// A datagram that the XDP program dropped.
        "xdp" => Xdp,
        /// A packet that a TC program dropped.
        "tc" => Tc,
    }

    /// What seals and opens the traffic on this machine.
    Aead {
        /// Taltun's own code for AVX-512.
        "avx512" => Avx512,
        /// The library ring.
        "ring" => Ring,
        /// Rust that runs everywhere.
        "portable" => Portable,
    }

    /// Where the XDP program runs on an interface.
    XdpAttachment {
        /// In the driver, before there is a packet buffer.
        "driver" => Driver,
        /// In the network stack.
        "generic" => Generic,
        /// Nowhere.
        "off" => Off,
    }

    /// How an AF_XDP socket takes frames from its queue.
    AfXdpSocket {
        /// The driver writes into our memory.
        "zero-copy" => ZeroCopy,
        /// The kernel copies them.
        "copy" => Copy,
        /// There is none.
        "off" => Off,
    }

    /// How the TC programs hang on the tunnel interface.
    TcAttachment {
        /// By a link of the kernel's.
        "tcx" => Tcx,
        /// By a queueing discipline.
        "clsact" => Clsact,
        /// They don't.
        "off" => Off,
    }

    /// How the threads that move packets compete for the cores.
    Priority {
        /// As others, in short slices.
        "normal" => Normal,
        /// With more weight.
        "high" => High,
        /// Before all others.
        "realtime" => Realtime,
    }

    /// How datagrams find their worker.
    Steering {
        /// By receiver index.
        "ebpf" => Ebpf,
        /// By the kernel's hash of addresses and ports.
        "off" => Off,
        /// There is one worker, which gets all.
        "none" => None,
    }

    /// What leads a range of ports to the one we listen on.
    PortRangeBy {
        /// The XDP program.
        "xdp" => Xdp,
        /// A rule of nftables.
        "nftables" => Nftables,
        /// A rule of iptables.
        "iptables" => Iptables,
        /// Nothing does.
        "none" => None,
    }

    /// What leads a port of this host to a peer.
    ForwardedBy {
        /// Rules of nftables.
        "nftables" => Nftables,
        /// Rules of iptables.
        "iptables" => Iptables,
        /// Nothing does.
        "none" => None,
    }

    /// Whose address a peer sees.
    SourceSeen {
        /// Our vip.
        "hub" => Hub,
        /// The sender's own.
        "keep" => Keep,
    }

    /// Why a peer is refused.
    RefusedBy {
        /// Its quota is used up.
        "quota" => Quota,
        /// Its last day is over.
        "expired" => Expired,
        /// It has a quota, and what it has moved isn't read yet.
        "unread" => Unread,
    }

    /// Where what peers move is kept.
    UsageKept {
        /// In a file.
        "disk" => Disk,
        /// In memory, until it can be written.
        "memory" => Memory,
        /// In memory, as the configuration wants.
        "off" => Off,
    }

    /// Where changes are written down.
    AuditKept {
        /// In a file.
        "disk" => Disk,
        /// In memory, until the file can be written.
        "memory" => Memory,
        /// Nowhere, as the configuration wants.
        "off" => Off,
    }

    /// What becomes of a path to a peer that has several.
    PathUse {
        /// Data goes there.
        "used" => Used,
        /// It works, and waits for its turn.
        "ready" => Ready,
        /// It was left not long ago, or loses too much.
        "set_aside" => SetAside,
        /// The last probes weren't answered.
        "silent" => Silent,
        /// It wasn't probed yet.
        "unknown" => Unknown,
    }

    /// What rules say of what somebody starts.
    RuleAction {
        /// It passes.
        "allow" => Allow,
        /// It is dropped.
        "deny" => Deny,
    }

    /// Why there is no handshake with a peer.
    ProblemCause {
        /// The two sides have different preshared keys.
        "preshared_key" => PresharedKey,
        /// It takes none of our answers.
        "not_confirmed" => NotConfirmed,
        /// Nobody has that port.
        "port_closed" => PortClosed,
        /// There is no way to it, or it is forbidden.
        "unreachable" => Unreachable,
        /// The kernel didn't send.
        "not_sent" => NotSent,
        /// The name of its endpoint can't be looked up.
        "not_resolved" => NotResolved,
        /// Its clock went backwards.
        "clock" => Clock,
        /// Nothing comes back.
        "no_answer" => NoAnswer,
        /// A peer whose endpoint isn't configured is no more where it was heard, which is
        /// nothing to mend.
        "away" => Away,
    }

    /// A part of what is set up on the host for a tunnel.
    HostPart {
        /// Addresses of the interface.
        "addresses" => Addresses,
        /// What the firewall got.
        "firewall rules" => FirewallRules,
        /// The interface itself.
        "interface" => Interface,
        /// What is below `/proc/sys`.
        "kernel settings" => KernelSettings,
        /// Whether the interface is up.
        "link state" => LinkState,
        /// What the resolver was told.
        "name servers" => NameServers,
        /// Rules that choose a routing table.
        "policy rules" => PolicyRules,
        /// Routes into the tunnel.
        "routes" => Routes,
    }

    /// What a kill switch does whose tunnel doesn't run.
    SwitchLeftState {
        /// It lets nothing out.
        "holds" => Holds,
        /// It isn't whole.
        "open" => Open,
        /// It can't be looked at.
        "unknown" => Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_json_each_is_its_word() {
        for part in HostPart::ALL {
            let json = format!("\"{part}\"");
            assert_eq!(serde_json::to_string(part).unwrap(), json);
            assert_eq!(serde_json::from_str::<HostPart>(&json).unwrap(), *part);
        }
        assert!(serde_json::from_str::<Steering>("\"no such word\"").is_err());
    }
}
