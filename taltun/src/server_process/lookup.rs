//! Questions to the tunnel's tables: whose an inner address is. They are asked in the middle of other work, so
//! they have a socket of their own, at whose other end a thread answers at once.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

/// A tunnel that doesn't answer for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(2);
/// A question: the family of an address and its octets.
const QUESTION: usize = 17;
/// An answer: the question, whether there is an owner, its number, and a prefix length or [`NONE`].
const ANSWER: usize = QUESTION + 6;
const NONE: u8 = u8::MAX;

/// What the tables say of an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// The number of the peer that it leads to.
    pub owner: Option<u32>,
    /// How long the prefix of the widest network is that is the tunnel's and has it.
    pub guarded: Option<u8>,
}

/// A process's end.
#[derive(Debug)]
pub(crate) struct Lookup(Mutex<OwnedFd>);

/// Both ends of such a socket: the tunnel's, and what the process gets.
pub fn lookup_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Answers by `find` until the process is gone.
pub fn answer_lookups(socket: impl AsFd, find: impl Fn(IpAddr) -> Found) -> io::Result<()> {
    let mut question = [0; QUESTION];
    loop {
        let (length, _) = recv(&socket, &mut question, RecvFlags::empty())?;
        if length == 0 {
            return Ok(());
        }
        let found = find(address(&question).ok_or(io::ErrorKind::InvalidData)?);
        send(&socket, &answer(&question, found), SendFlags::NOSIGNAL)?;
    }
}

impl Lookup {
    /// The socket is what [`lookup_sockets`] made for it.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        Ok(Self(Mutex::new(socket)))
    }

    /// What the tables say now.
    ///
    /// # Errors
    /// If the tunnel is gone, or doesn't answer for two seconds.
    pub(crate) fn ask(&self, ip: IpAddr) -> io::Result<Found> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let question = question(ip);
        send(&*socket, &question, SendFlags::NOSIGNAL)?;
        let mut answer = [0; ANSWER];
        loop {
            let (length, _) = recv(&*socket, &mut answer, RecvFlags::empty())?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // One that came too late is to another question.
            if let Some(rest) = answer.strip_prefix(&question) {
                return found(rest).ok_or(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

fn question(ip: IpAddr) -> [u8; QUESTION] {
    let (family, octets) = match ip {
        IpAddr::V4(ip) => (4, ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => (6, ip.octets()),
    };
    let mut bytes = [family; QUESTION];
    if let Some(place) = bytes.last_chunk_mut() {
        *place = octets;
    }
    bytes
}

fn address(question: &[u8; QUESTION]) -> Option<IpAddr> {
    let octets: [u8; 16] = *question.last_chunk()?;
    let ip = Ipv6Addr::from(octets);
    match question.first()? {
        4 => Some(Ipv4Addr::from(*octets.last_chunk::<4>()?).into()),
        6 => Some(ip.into()),
        _ => None,
    }
}

fn answer(question: &[u8; QUESTION], found: Found) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ANSWER);
    bytes.extend(question);
    bytes.push(found.owner.is_some().into());
    bytes.extend(found.owner.unwrap_or_default().to_le_bytes());
    bytes.push(found.guarded.unwrap_or(NONE));
    bytes
}

fn found(rest: &[u8]) -> Option<Found> {
    let (is_owned, rest) = rest.split_first()?;
    let (number, rest) = rest.split_first_chunk()?;
    let guarded = *rest.first()?;
    Some(Found {
        owner: (*is_owned != 0).then_some(u32::from_le_bytes(*number)),
        guarded: (guarded != NONE).then_some(guarded),
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_address_is_asked_for_as_it_is() {
        let (ours, theirs) = lookup_sockets().unwrap();
        let find = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => Found {
                owner: Some(ip.to_bits()),
                guarded: None,
            },
            IpAddr::V6(_) => Found {
                owner: None,
                guarded: Some(64),
            },
        };
        let answering = thread::spawn(move || answer_lookups(ours, find));
        let lookup = Lookup::new(theirs).unwrap();
        let ask = |ip: &str| lookup.ask(ip.parse().unwrap()).unwrap();
        for _ in 0..3 {
            assert_eq!(ask("0.0.0.7").owner, Some(7));
            assert_eq!(ask("0.0.0.7").guarded, None);
            for ip in ["::1", "::ffff:0.0.0.7"] {
                assert_eq!(ask(ip).owner, None, "{ip}");
                assert_eq!(ask(ip).guarded, Some(64), "{ip}");
            }
        }
        drop(lookup);
        answering.join().unwrap().unwrap();
    }

    #[test]
    fn nonsense_ends_it_and_a_tunnel_that_is_gone_is_an_error() {
        let (ours, theirs) = lookup_sockets().unwrap();
        let answering = thread::spawn(move || answer_lookups(ours, |_| Found::default()));
        send(&theirs, &[7; QUESTION], SendFlags::NOSIGNAL).unwrap();
        let error = answering.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let lookup = Lookup::new(theirs).unwrap();
        assert!(lookup.ask("10.0.0.1".parse().unwrap()).is_err());
    }
}
