//! What takes rights and is done by a process of its own, the privileged one: what it is asked, and asking it.
//!
//! The tunnel starts that process before it reads a packet of anybody's, and asks it for one thing at a time, which is a
//! [`Verb`]. What is opened comes back as descriptors, so no packet passes that process. Who asks may be an intruder by
//! then: a verb names no file, no program and no interface, and what it says is checked by who does it.
//!
//! Where there is no such process, as in tests and in that process itself, whoever wants something does it by itself.
//!
//! | file | concern |
//! |---|---|
//! | `frame` | frames and descriptors on the channel |
//! | `verb` | what can be asked |

mod frame;
mod verb;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use socket2::SockRef;

pub use self::frame::{FRAME_MAX, Received, pair, receive, send};
pub use self::verb::{MOST_QUEUES, MOST_SOCKETS, Verb};

/// How long an answer may take. All of it is system calls that don't wait.
const LIMIT: Duration = Duration::from_secs(10);

/// The way to the privileged process.
static CHANNEL: Mutex<Channel> = Mutex::new(Channel::None);

#[derive(Debug)]
enum Channel {
    /// There is no such process.
    None,
    /// There is one.
    Open(OwnedFd),
    /// There was one, whose rights nobody else has.
    Gone,
}

/// From now on, the process at the other end does what takes rights.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn ask_by(channel: OwnedFd) -> io::Result<()> {
    for way in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&channel, way, Some(LIMIT))?;
    }
    *self::channel() = Channel::Open(channel);
    Ok(())
}

/// Lets go of that process, which ends then.
pub(crate) fn ask_nobody() {
    *channel() = Channel::None;
}

/// What `verb` opens, with the descriptors `about` that it is about; `by_ourselves` does it where there is no other
/// process.
///
/// # Errors
/// What the kernel refused to either process; [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the other one is gone.
pub(crate) fn open(
    verb: &Verb,
    about: &[BorrowedFd<'_>],
    by_ourselves: impl FnOnce() -> io::Result<Vec<OwnedFd>>,
) -> io::Result<Vec<OwnedFd>> {
    let mut held = channel();
    let asked = match &*held {
        Channel::None => {
            drop(held);
            return by_ourselves();
        }
        Channel::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
        Channel::Open(channel) => ask(channel, verb, about),
    };
    asked.unwrap_or_else(|error| {
        // An answer that comes now would be taken for that to the next question.
        *held = Channel::Gone;
        Err(error)
    })
}

/// The same for one descriptor.
pub(crate) fn open_one(
    verb: &Verb,
    by_ourselves: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let opened = open(verb, &[], || by_ourselves().map(|one| vec![one]))?;
    opened
        .into_iter()
        .next()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Marks what leaves by a UDP socket from now on, for the firewall and policy routing; 0 for no mark.
///
/// # Errors
/// As [`open`]'s; `EPERM` without `CAP_NET_ADMIN`.
pub(crate) fn mark(socket: impl AsFd, mark: u32) -> io::Result<()> {
    let socket = socket.as_fd();
    let by_ourselves = || SockRef::from(&socket).set_mark(mark).map(|()| Vec::new());
    open(&Verb::Mark { mark }, &[socket], by_ourselves).map(drop)
}

/// The outer error is about the channel, the inner one about what was asked.
fn ask(
    channel: &OwnedFd,
    verb: &Verb,
    about: &[BorrowedFd<'_>],
) -> io::Result<io::Result<Vec<OwnedFd>>> {
    send(channel.as_fd(), &verb.to_frame(), about)?;
    let mut opened = Vec::new();
    let mut lacks_some = false;
    loop {
        let answer = receive(channel.as_fd())?;
        lacks_some |= answer.lacks_some;
        let Some(said) = Answer::of(&answer.frame) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        match said {
            Answer::Opened => opened.extend(answer.descriptors),
            // No more files may be open here: this verb's trouble, and not the channel's.
            Answer::Done if lacks_some => return Ok(Err(Errno::MFILE.into())),
            Answer::Done => return Ok(Ok(opened)),
            Answer::Refused(errno) => return Ok(Err(io::Error::from_raw_os_error(errno))),
        }
    }
}

fn channel() -> MutexGuard<'static, Channel> {
    CHANNEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the privileged process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The descriptors that come with it were opened. It has none of them any more when it says that it is done: an
    /// interface or a port would be there for as long.
    Opened,
    /// That was all.
    Done,
    /// The kernel refused it, by the number of this error.
    Refused(i32),
}

impl Answer {
    /// As a frame.
    pub fn to_frame(self) -> Vec<u8> {
        match self {
            Self::Opened => b"+".to_vec(),
            Self::Done => b".".to_vec(),
            Self::Refused(errno) => [&b"-"[..], &errno.to_le_bytes()].concat(),
        }
    }

    /// Of a frame, if it is one.
    pub fn of(frame: &[u8]) -> Option<Self> {
        match frame {
            b"+" => Some(Self::Opened),
            b"." => Some(Self::Done),
            [b'-', errno @ ..] => Some(Self::Refused(i32::from_le_bytes(errno.try_into().ok()?))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::thread;

    use super::*;

    #[test]
    fn answers_are_what_they_were() {
        for answer in [Answer::Opened, Answer::Done, Answer::Refused(libc::EBUSY)] {
            assert_eq!(Answer::of(&answer.to_frame()), Some(answer));
        }
        for odd in [&b""[..], b"-", b"-123", b"-12345", b"?", b"++"] {
            assert_eq!(Answer::of(odd), None, "{odd:?}");
        }
    }

    /// Answers a question by these frames, each with a descriptor if it says so, and hangs up.
    fn asked(answers: &'static [Answer]) -> io::Result<io::Result<Vec<OwnedFd>>> {
        let (ours, theirs) = pair().unwrap();
        let process = thread::spawn(move || {
            let asked = receive(theirs.as_fd()).unwrap();
            assert_eq!(Verb::of(&asked.frame), Some(Verb::Frames));
            let file = File::open("/dev/null").unwrap();
            for answer in answers {
                let opened = [file.as_fd()];
                let opened = if *answer == Answer::Opened {
                    &opened[..]
                } else {
                    &[]
                };
                send(theirs.as_fd(), &answer.to_frame(), opened).unwrap();
            }
        });
        let outcome = ask(&ours, &Verb::Frames, &[]);
        process.join().unwrap();
        outcome
    }

    #[test]
    fn what_was_opened_comes_back_or_why_it_was_refused() {
        let opened = asked(&[Answer::Opened, Answer::Opened, Answer::Done]);
        assert_eq!(opened.unwrap().unwrap().len(), 2);
        let refused = asked(&[Answer::Refused(libc::EADDRINUSE)]);
        let refused = refused.unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        // It ended in the middle of it.
        let gone = asked(&[Answer::Opened]).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }
}
