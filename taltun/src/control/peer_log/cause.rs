//! Why there is no handshake with a peer, and what to do about it.

use std::time::Duration;

use crate::control::words::span;
use crate::report::ProblemCause;

/// Why there is no handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) enum Cause {
    /// The answer to our initiation is for another preshared key.
    PresharedKey,
    /// It takes none of our answers.
    NotConfirmed,
    /// An ICMP message said that nobody has the port.
    PortClosed,
    /// An ICMP message said that there is no way, or that it is forbidden.
    Unreachable(&'static str),
    /// The kernel didn't send.
    NotSent(String),
    /// The name of its endpoint can't be looked up, and why.
    NotResolved(String),
    /// The clock by which it says when it begins a handshake is so far behind its last one.
    Clock(Duration),
    /// Nothing came back.
    NoAnswer,
    /// It isn't any more where it was heard last, as this shows, and that is all that is known
    /// of where it may be.
    Away(&'static str),
}

impl Cause {
    /// As `status` has it.
    pub(super) fn reported(&self) -> ProblemCause {
        match self {
            Self::PresharedKey => ProblemCause::PresharedKey,
            Self::NotConfirmed => ProblemCause::NotConfirmed,
            Self::PortClosed => ProblemCause::PortClosed,
            Self::Unreachable(_) => ProblemCause::Unreachable,
            Self::NotSent(_) => ProblemCause::NotSent,
            Self::NotResolved(_) => ProblemCause::NotResolved,
            Self::Clock(_) => ProblemCause::Clock,
            Self::NoAnswer => ProblemCause::NoAnswer,
            Self::Away(_) => ProblemCause::Away,
        }
    }

    /// What the same means of a peer that was heard there before, where the configuration
    /// doesn't say where it is.
    pub(super) fn of_roaming(self) -> Self {
        match self {
            Self::PortClosed => Self::Away("ICMP: port unreachable"),
            Self::Unreachable("host unreachable") => Self::Away("ICMP: host unreachable"),
            Self::Unreachable("address unreachable") => Self::Away("ICMP: address unreachable"),
            Self::NoAnswer => Self::Away("no answer"),
            other => other,
        }
    }

    /// What happened and what to do.
    pub(super) fn message(&self) -> String {
        match self {
            Self::PresharedKey => {
                "it answers, but with another preshared key; give both sides the \
                                   same preshared_key, or none"
                    .to_owned()
            }
            Self::NotConfirmed => {
                "it starts over although it was answered: it has another preshared key, or our \
                 answers don't reach it (a firewall there or on the way)"
                    .to_owned()
            }
            Self::PortClosed => "nobody listens at that port (ICMP: port unreachable); start the \
                                 other side, or mend the port of its endpoint"
                .to_owned(),
            Self::Unreachable(what) => {
                format!(
                    "it can't be reached (ICMP: {what}); look at routes and firewalls on the way"
                )
            }
            Self::NotSent(error) => {
                format!(
                    "nothing can be sent there: {error}; look at `ip route get` and the firewall"
                )
            }
            Self::NotResolved(reason) => format!("{reason}; it is tried again and again"),
            Self::Clock(behind) => format!(
                "its clock went backwards: it shows a time {} before its last handshake, so that \
                 its handshakes are refused as replayed; set its clock right (NTP)",
                span(behind.as_secs())
            ),
            Self::NoAnswer => {
                "no answer: the endpoint is wrong, UDP is blocked on the way, or the \
                               other side doesn't know our key (its log says so) or has another \
                               public key than the file"
                    .to_owned()
            }
            Self::Away(what) => format!(
                "it isn't where it was last heard ({what}): it is off, or elsewhere; it comes \
                 back when it sends something"
            ),
        }
    }

    /// Whether it is the same again, perhaps by another measure.
    pub(super) fn is_again(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::Clock(_), Self::Clock(_)))
    }

    /// Whether it says that datagrams didn't get there.
    pub(super) fn is_of_the_way(&self) -> bool {
        match self {
            Self::PortClosed | Self::Unreachable(_) | Self::NotSent(_) => true,
            Self::Away(what) => what.starts_with("ICMP"),
            Self::PresharedKey
            | Self::NotConfirmed
            | Self::NotResolved(_)
            | Self::Clock(_)
            | Self::NoAnswer => false,
        }
    }

    /// Whether it says more than `other`, and so stays where both are so.
    pub(super) fn outranks(&self, other: &Self) -> bool {
        let says_little = |cause: &Self| matches!(cause, Self::NoAnswer | Self::Away("no answer"));
        says_little(other) && !says_little(self)
    }
}
