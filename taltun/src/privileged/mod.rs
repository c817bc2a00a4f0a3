//! The privileged process: it does for a tunnel what takes rights, and reads nothing but what that tunnel asks.
//!
//! The tunnel's own process reads packets of anybody, so one day it may do what an intruder wants. This one has the
//! rights that the [verbs] take and no others, makes few system calls, opens no file but the device of TUN
//! interfaces, and ends at the first frame that no tunnel sends. It ends with its tunnel, too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, set_name};

use crate::dataplane::sys::xsk;
use crate::dataplane::{tun, udp};
use crate::os::seccomp::Argument;
use crate::os::{capabilities, ethtool, signals, sockets};
use crate::server_process::{Needs, close_inherited, restrict};
use crate::verbs::{self, Answer, MOST_QUEUES, Question, Received, Said, Verb};

/// The hidden command of that process.
pub const COMMAND: &str = "privileged-process";
/// As `ps` shows it.
const NAME: &str = "taltun-verbs";

/// What the verbs take.
const CAPABILITIES: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE);

const NEEDS: Needs = Needs {
    calls: &[
        libc::SYS_socket,
        libc::SYS_bind,
        // Of files, Landlock allows the device alone.
        libc::SYS_openat,
    ],
    // The numbers are small, whatever type a C library has for them.
    some: &[
        (libc::SYS_ioctl, &[Argument::Is(1, libc::TUNSETIFF as u32)]),
        // The name of an interface, and its settings.
        (
            libc::SYS_ioctl,
            &[Argument::Is(1, libc::SIOCGIFNAME as u32)],
        ),
        (
            libc::SYS_ioctl,
            &[Argument::Is(1, libc::SIOCETHTOOL as u32)],
        ),
    ],
    ports: &[],
    directories: &[],
    devices: &[tun::DEVICE],
};

/// Does what the tunnel asks that this process's standard input leads to, until it is gone. `interface` is the name of
/// its interface.
///
/// # Errors
/// When it can't begin, and at a frame that is no question.
pub fn serve(interface: &str) -> io::Result<()> {
    close_inherited();
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    set_name(&std::ffi::CString::new(NAME)?)?;
    // They are for the tunnel, which may want something of this process on its way down.
    signals::ignore_all_of_others()?;
    capabilities::keep(CAPABILITIES)?;
    // After that, which takes it back. A process that is stopped ends with its tunnel, too. If that has ended already,
    // the channel is closed, and this one reads no question.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (rights, ()) = restrict(NAME, &NEEDS, || Ok(()))?;
    let for_itself = |_| io::Error::other("a tunnel starts this command for itself");
    verbs::send(channel.as_fd(), &serde_json::to_vec(&rights)?, &[]).map_err(for_itself)?;
    let mut process = Process {
        interface,
        queues: 0,
    };
    loop {
        let asked = verbs::receive(channel.as_fd())?;
        if asked.frame.is_empty() {
            return Ok(());
        }
        let answer = process.answer(channel.as_fd(), asked)?;
        verbs::send(channel.as_fd(), &answer.to_frame(), &[])?;
    }
}

#[derive(Debug)]
struct Process<'a> {
    interface: &'a str,
    /// Those that it opened.
    queues: usize,
}

impl Process<'_> {
    /// Does what is asked and hands over what that opened. Nothing of it is open here when this returns.
    ///
    /// Who asks doesn't wait for ever, and goes on as if nothing had been done. So what was asked long ago, as before this
    /// process was stopped, isn't done, and what takes that long is closed again.
    fn answer(&mut self, channel: BorrowedFd<'_>, asked: Received) -> io::Result<Answer> {
        let Received {
            frame,
            descriptors,
            lacks_some,
        } = asked;
        let question = Question::of(&frame).ok_or(io::ErrorKind::InvalidData)?;
        let number = question.number;
        let say = |said| Ok(Answer { number, said });
        if lacks_some {
            return say(Said::Refused(libc::EMFILE));
        }
        if question.is_over() {
            return say(Said::Refused(libc::ETIMEDOUT));
        }
        let opened = match self.perform(question.verb, &descriptors) {
            Ok(opened) => opened,
            Err(error) => {
                return say(Said::Refused(error.raw_os_error().unwrap_or(libc::EINVAL)));
            }
        };
        if !opened.is_empty() {
            if question.is_over() {
                return say(Said::Refused(libc::ETIMEDOUT));
            }
            let opened: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
            let said = Said::Opened;
            verbs::send(channel, &Answer { number, said }.to_frame(), &opened)?;
        }
        say(Said::Done)
    }

    fn perform(&mut self, verb: Verb, about: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
        let one = |opened: io::Result<OwnedFd>| opened.map(|one| vec![one]);
        match verb {
            Verb::Nothing => Ok(Vec::new()),
            Verb::Listen { address, count } => udp::open_group(address, count.into()),
            Verb::Mark { mark } => {
                for socket in about {
                    if !is_udp(socket)? {
                        return Err(io::Error::from_raw_os_error(libc::EPERM));
                    }
                }
                let sockets: Vec<_> = about.iter().map(AsFd::as_fd).collect();
                verbs::mark(&sockets, mark).map(|()| Vec::new())
            }
            Verb::Frames => one(xsk::open()),
            Verb::Unreachable { v6 } => one(sockets::hear_unreachable(v6)),
            Verb::Gro { interface, on } => ethtool::switch_gro(interface, on).map(|()| Vec::new()),
            Verb::Queue { several } => {
                if self.queues == MOST_QUEUES {
                    return Err(io::Error::from_raw_os_error(libc::EMFILE));
                }
                let opened = tun::open_queue(self.interface, several)?;
                self.queues += 1;
                Ok(vec![opened])
            }
        }
    }
}

/// Of others, some could be made to do with a mark what the tunnel never does.
fn is_udp(socket: &OwnedFd) -> io::Result<bool> {
    let family = socket_domain(socket)?;
    let is_ip = family == AddressFamily::INET || family == AddressFamily::INET6;
    Ok(is_ip && socket_type(socket)? == SocketType::DGRAM)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::time::Duration;

    use super::*;

    fn process() -> Process<'static> {
        Process {
            interface: "no-such-tun",
            queues: MOST_QUEUES,
        }
    }

    fn question(verb: Verb) -> Question {
        Question::new(7, Duration::from_secs(60), verb)
    }

    /// What it says, and how many descriptors come before that.
    fn said(frame: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<(Said, usize)> {
        let (ours, theirs) = verbs::pair().unwrap();
        let frame = frame.to_vec();
        let asked = Received {
            frame,
            descriptors,
            lacks_some: false,
        };
        let answer = process().answer(theirs.as_fd(), asked)?;
        assert_eq!(answer.number, 7);
        drop(theirs);
        let descriptors = verbs::receive(ours.as_fd())?.descriptors.len();
        Ok((answer.said, descriptors))
    }

    /// The same of a verb that is asked now.
    fn said_to(verb: Verb, descriptors: Vec<OwnedFd>) -> (Said, usize) {
        said(&question(verb).to_frame(), descriptors).unwrap()
    }

    #[test]
    fn sockets_are_opened_and_none_is_kept() {
        let address = "127.0.0.1:0".parse().unwrap();
        let listen = Verb::Listen { address, count: 3 };
        assert_eq!(said_to(listen, Vec::new()), (Said::Done, 3));
        // A port that somebody has.
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let listen = Verb::Listen { address, count: 1 };
        let refused = (Said::Refused(libc::EADDRINUSE), 0);
        assert_eq!(said_to(listen, Vec::new()), refused);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_done() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let reader = udp.try_clone().unwrap();
        let mark = Question::new(7, Duration::ZERO, Verb::Mark { mark: 7 });
        let refused = (Said::Refused(libc::ETIMEDOUT), 0);
        assert_eq!(said(&mark.to_frame(), vec![udp.into()]).unwrap(), refused);
        assert_eq!(socket2::SockRef::from(&reader).mark().unwrap(), 0);
    }

    #[test]
    fn only_sockets_of_udp_are_marked() {
        let mark = Verb::Mark { mark: 0 };
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = (Said::Refused(libc::EPERM), 0);
        assert_eq!(said_to(mark, vec![tcp.into()]), refused);
        let file = std::fs::File::open("/dev/null").unwrap();
        let refused = (Said::Refused(libc::ENOTSOCK), 0);
        assert_eq!(said_to(mark, vec![file.into()]), refused);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (outcome, _) = said_to(mark, vec![udp.into()]);
        assert!(
            matches!(outcome, Said::Done | Said::Refused(libc::EPERM)),
            "{outcome:?}"
        );
    }

    #[test]
    fn only_a_veth_is_changed() {
        let of_loopback = Verb::Gro {
            interface: 1,
            on: false,
        };
        let (refused, _) = said_to(of_loopback, Vec::new());
        assert!(matches!(refused, Said::Refused(_)), "{refused:?}");
    }

    #[test]
    fn it_opens_no_more_queues_than_a_tunnel_has() {
        let queue = Verb::Queue { several: true };
        let refused = (Said::Refused(libc::EMFILE), 0);
        assert_eq!(said_to(queue, Vec::new()), refused);
    }

    #[test]
    fn what_no_tunnel_says_ends_it() {
        for odd in [
            &b"{"[..],
            b"\"frames\"",
            b"{\"number\":1,\"until\":1,\"verb\":\"run\"}",
            b"{\"number\":1,\"until\":1,\"verb\":{\"listen\":{\"address\":\"[::]:1\",\"count\":65535}}}",
        ] {
            let error = said(odd, Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{odd:?}");
        }
    }
}
