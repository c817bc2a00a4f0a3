//! What takes rights and is done by a process of its own, the privileged one: what it is asked, and asking it.
//!
//! The tunnel starts that process before it reads a packet of anybody's, and asks it for one thing at a time, which is a
//! [`Verb`]. What is opened comes back as descriptors, so no packet passes that process. Who asks may be an intruder by
//! then: a verb names no file and no program, and what it says is checked by who does it.
//!
//! Where there is no such process, as in tests and in that process itself, whoever wants something does it by itself.
//!
//! | file | concern |
//! |---|---|
//! | `asker` | the tunnel's end of the channel: waiting for answers, and going on without |
//! | `descriptors` | descriptors on this channel and on those of other processes |
//! | `frame` | frames and descriptors on the channel |
//! | `message` | questions and answers |
//! | `trouble` | what may be the matter with the process |
//! | `verb` | what can be asked |

mod asker;
pub(crate) mod descriptors;
mod frame;
mod message;
mod trouble;
mod verb;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::sync::Notify;

use self::asker::Asker;
pub(crate) use self::asker::News;
pub use self::frame::{FRAME_MAX, Received, pair, receive, send};
pub use self::message::{Answer, Question, Said};
pub(crate) use self::trouble::Trouble;
pub use self::verb::{MOST_QUEUES, MOST_SOCKETS, Verb};

/// The way to the privileged process.
static CHANNEL: Mutex<Channel> = Mutex::new(Channel::None);
/// Rings when that process is found to be gone.
static ENDED: Notify = Notify::const_new();

#[derive(Debug)]
enum Channel {
    /// There is no such process.
    None,
    /// There is one.
    Open(Asker),
    /// There was one, whose rights nobody else has.
    Ended,
}

/// From now on, the process at the other end does what takes rights.
pub(crate) fn ask_by(channel: OwnedFd) {
    *self::channel() = Channel::Open(Asker::new(channel));
}

/// Lets go of that process, which ends then.
pub(crate) fn ask_nobody() {
    *channel() = Channel::None;
}

/// The tunnel runs: from now on peers wait while somebody waits for an answer.
pub(crate) fn tunnel_runs() {
    if let Channel::Open(asker) = &mut *channel() {
        asker.hurry();
    }
}

/// What is new about that process; call it once a second.
pub(crate) fn look() -> Vec<News> {
    let mut held = channel();
    let Channel::Open(asker) = &mut *held else {
        return Vec::new();
    };
    let news = asker.look();
    news.or_else(|trouble| note(&mut held, trouble))
        .unwrap_or_default()
}

/// What is the matter with it, if anything is.
pub(crate) fn trouble() -> Option<Trouble> {
    match &*channel() {
        Channel::Open(asker) => asker.is_silent().then_some(Trouble::NoAnswer),
        Channel::None => None,
        Channel::Ended => Some(Trouble::Ended),
    }
}

/// Waits until it is found to be gone: it hung up, or says what no such process says.
pub(crate) async fn ended() {
    loop {
        let ended = ENDED.notified();
        if trouble() == Some(Trouble::Ended) {
            return;
        }
        ended.await;
    }
}

/// What `verb` opens, with the descriptors `about` that it is about; `by_ourselves` does it where there is no other
/// process.
///
/// # Errors
/// What the kernel refused to either process, or a [`Trouble`].
pub(crate) fn open(
    verb: Verb,
    about: &[BorrowedFd<'_>],
    by_ourselves: impl FnOnce() -> io::Result<Vec<OwnedFd>>,
) -> io::Result<Vec<OwnedFd>> {
    let mut held = channel();
    let asked = match &mut *held {
        Channel::None => {
            drop(held);
            return by_ourselves();
        }
        Channel::Ended => return Err(Trouble::Ended.into()),
        Channel::Open(asker) => asker.ask(verb, about),
    };
    asked.or_else(|trouble| note(&mut held, trouble))?
}

/// The same for one descriptor.
pub(crate) fn open_one(
    verb: Verb,
    by_ourselves: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let opened = open(verb, &[], || by_ourselves().map(|one| vec![one]))?;
    opened
        .into_iter()
        .next()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Marks what leaves by UDP sockets from now on, for the firewall and policy routing; 0 for no mark.
///
/// # Errors
/// As [`open`]'s; `EPERM` without `CAP_NET_ADMIN`.
pub(crate) fn mark(sockets: &[BorrowedFd<'_>], mark: u32) -> io::Result<()> {
    let by_ourselves = || {
        for socket in sockets {
            SockRef::from(socket).set_mark(mark)?;
        }
        Ok(Vec::new())
    };
    open(Verb::Mark { mark }, sockets, by_ourselves).map(drop)
}

/// What the privileged process may do, as it says first of all.
///
/// # Errors
/// A sentence.
pub(crate) fn first_frame(channel: impl AsFd, within: Duration) -> io::Result<Vec<u8>> {
    let channel = channel.as_fd();
    if !asker::comes_in(channel, within)? {
        return Err(io::Error::other("it doesn't say what it may do"));
    }
    let told = receive(channel)?;
    if told.frame.is_empty() {
        return Err(io::Error::other("it ended at once"));
    }
    Ok(told.frame)
}

/// Remembers that the process is gone, if it is.
fn note<T>(channel: &mut Channel, trouble: Trouble) -> Result<T, Trouble> {
    if trouble == Trouble::Ended {
        *channel = Channel::Ended;
        ENDED.notify_waiters();
    }
    Err(trouble)
}

fn channel() -> MutexGuard<'static, Channel> {
    CHANNEL.lock().unwrap_or_else(PoisonError::into_inner)
}
