//! Who may be connected to a listener at the same time.
//!
//! Whoever connects is accepted at once. Where there are too many then, of one sender or in all, one
//! of those that are there is hung up on: the one that has been silent for longest, or else the
//! oldest. So who asks at once and reads gets an answer, whatever others do.
//!
//! Of one sender's the newest silent ones are spared: a browser opens several at once, to ask in a
//! moment, and those that it still has of pages that it left are the ones to end.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::stream::{self, Stream};

/// Which part of a sender's share may be silent and yet stays before those that have asked: of the page's 32 it is
/// more than the 6 that browsers open at once.
const SPARED: usize = 4;

/// How many may be connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// To a listener.
    pub(crate) connections: usize,
    /// Of one sender among them.
    pub(crate) share: usize,
}

/// Where clients come to.
#[derive(Debug)]
pub(crate) enum Listener {
    /// An address and a port.
    Tcp(tokio::net::TcpListener),
    /// A file.
    Unix(tokio::net::UnixListener),
}

/// Whom connections are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// An IPv4 address, or a network of 64 bits of IPv6.
    Net(IpAddr),
    /// A user of this host.
    User(u32),
    /// Somebody whom the kernel doesn't know any more.
    Unknown,
}

impl Listener {
    /// The next connection, with what the kernel knows of the client.
    pub(crate) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Sender)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream::limit(&stream)?;
                Ok((Box::new(stream), Sender::of(address.ip())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().map(|it| Sender::User(it.uid()));
                Ok((Box::new(stream), user.unwrap_or(Sender::Unknown)))
            }
        }
    }
}

impl Sender {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self::Net(network_of(ip))
    }
}

/// What a client's address is counted as: a network of 64 bits of IPv6 is one client.
pub(crate) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// Serves clients for ever: `talk` is one's connection until its end, and sets the flag once the client
/// has asked something.
pub(crate) async fn serve<T>(
    listener: Listener,
    limits: Limits,
    mut talk: impl FnMut(Box<dyn Stream>, Arc<AtomicBool>) -> T,
) where
    T: Future<Output = ()> + Send + 'static,
{
    let mut places = Places::new(limits);
    loop {
        let Ok((stream, sender)) = listener.accept().await else {
            // Out of files, or it was gone again already: that passes.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        places.make_room(sender);
        let has_asked = Arc::<AtomicBool>::default();
        let task = tokio::spawn(talk(stream, Arc::clone(&has_asked)));
        places.add(sender, has_asked, task.abort_handle());
    }
}

/// A connection that is open, or was a moment ago.
#[derive(Debug)]
struct Place {
    sender: Sender,
    has_asked: Arc<AtomicBool>,
    task: AbortHandle,
}

/// The connections of a listener, the oldest first.
#[derive(Debug)]
pub(crate) struct Places {
    limits: Limits,
    open: Vec<Place>,
}

impl Places {
    /// None yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: Vec::new(),
        }
    }

    /// Takes one in. `has_asked` is set once it has asked something.
    pub(crate) fn add(&mut self, sender: Sender, has_asked: Arc<AtomicBool>, task: AbortHandle) {
        self.open.push(Place {
            sender,
            has_asked,
            task,
        });
    }

    /// Hangs up on somebody if `sender` has its share, or all have theirs.
    pub(crate) fn make_room(&mut self, sender: Sender) {
        self.open.retain(|place| !place.task.is_finished());
        let own = self.open.iter().filter(|it| it.sender == sender).count();
        let is_ones_own = own >= self.limits.share;
        if !is_ones_own && self.open.len() < self.limits.connections {
            return;
        }
        let may_go = |place: &Place| !is_ones_own || place.sender == sender;
        let is_silent = |place: &&Place| may_go(place) && !place.has_asked.load(Ordering::Relaxed);
        // Others than the sender may be many, and whoever is silent makes room for all of them.
        let spared = if is_ones_own {
            self.limits.share / SPARED
        } else {
            0
        };
        let silent = if self.open.iter().filter(is_silent).count() > spared {
            self.open.iter().position(|it| is_silent(&it))
        } else {
            None
        };
        if let Some(place) = silent.or_else(|| self.open.iter().position(may_go)) {
            self.open.remove(place).task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections: 16,
        share: 4,
    };

    #[tokio::test]
    async fn a_place_is_taken_from_who_has_its_share_and_from_the_silent_first() {
        let sender = |n: u8| Sender::of([10, 0, 0, n].into());
        let mut places = Places::new(LIMITS);
        let push = |places: &mut Places, sender, asked: bool| {
            places.make_room(sender);
            let task = tokio::spawn(std::future::pending::<()>());
            places.add(sender, Arc::new(asked.into()), task.abort_handle());
            std::mem::forget(task);
        };
        let held = |places: &Places| -> Vec<(Sender, bool)> {
            let all = places.open.iter();
            all.map(|it| (it.sender, it.has_asked.load(Ordering::Relaxed)))
                .collect()
        };
        push(&mut places, sender(9), true);
        // Its own, whatever others have: the silent ones first, but for the newest, then the oldest.
        let asked = |places: &Places| -> Vec<bool> {
            held(places)
                .into_iter()
                .skip(1)
                .map(|(_, asked)| asked)
                .collect()
        };
        for (pushed, left) in [
            (
                &[true, false, true, false][..],
                &[true, false, true, false][..],
            ),
            (&[true], &[true, true, false, true]),
            (&[true, true], &[false, true, true, true]),
            (&[false], &[true, true, true, false]),
            (&[true], &[true, true, false, true]),
        ] {
            for has_asked in pushed {
                push(&mut places, sender(1), *has_asked);
            }
            assert_eq!(asked(&places), left, "{pushed:?}");
        }
        assert_eq!(held(&places)[0], (sender(9), true));
        assert_eq!(places.open.len(), 1 + LIMITS.share);
        places
            .open
            .retain(|place| place.has_asked.load(Ordering::Relaxed));
        push(&mut places, sender(1), true);
        for n in 2..6 {
            for _ in 0..LIMITS.share {
                push(&mut places, sender(n), false);
            }
        }
        assert_eq!(places.open.len(), LIMITS.connections);
        // Those who asked stay, as long as there are silent ones.
        assert_eq!(held(&places)[0], (sender(9), true));
        for n in 20..60 {
            push(&mut places, sender(n), true);
        }
        assert_eq!(places.open.len(), LIMITS.connections);
        assert_eq!(held(&places)[0], (sender(44), true));
    }

    #[test]
    fn a_network_of_ipv6_is_one_sender() {
        let of = |text: &str| Sender::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
