//! Where the answer to a request goes, and whether anybody still waits for it: what nobody waits for isn't
//! done. Who made keys for a peer takes them along.
//!
//! A client may leave while its request waits for a thread or a disk, or while this whole process stands
//! still. So the connection itself is asked at the moment when something would be done.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Where an answer goes.
#[derive(Debug)]
pub struct AnswerTo<A> {
    to: oneshot::Sender<A>,
    /// The connection of who asked, if it is by one.
    connection: Option<OwnedFd>,
}

impl<A> AnswerTo<A> {
    /// To a client that waits at the other end of a connection.
    pub(super) fn client(to: oneshot::Sender<A>, stream: &UnixStream) -> Self {
        Self {
            to,
            // Without a descriptor for it, it is known a little later that the client left.
            connection: stream.as_fd().try_clone_to_owned().ok(),
        }
    }

    /// Whether nobody waits any more.
    pub(super) fn is_closed(&self) -> bool {
        self.to.is_closed() || self.connection.as_ref().is_some_and(has_left)
    }

    /// Answers. Who asked may have left by now.
    pub(super) fn send(self, answer: A) {
        drop(self.to.send(answer));
    }
}

impl<A> From<oneshot::Sender<A>> for AnswerTo<A> {
    fn from(to: oneshot::Sender<A>) -> Self {
        Self {
            to,
            connection: None,
        }
    }
}

/// Whether the other end of a connection is closed. A client that only says that it sends no more still
/// waits.
pub(super) fn has_left(connection: impl AsFd) -> bool {
    let mut watched = [PollFd::new(&connection, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let polled = poll(&mut watched, Some(&at_once));
    let is_closed = |watched: &PollFd<'_>| watched.revents().contains(PollFlags::HUP);
    polled.is_ok() && watched.iter().any(is_closed)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;

    #[test]
    fn a_client_has_left_once_its_end_is_closed_not_when_it_sends_no_more() {
        let (ours, theirs) = StdStream::pair().unwrap();
        assert!(!has_left(&ours));
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!has_left(&ours));
        drop(theirs);
        assert!(has_left(&ours));
    }

    #[tokio::test]
    async fn an_answer_is_for_nobody_once_its_client_or_its_receiver_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (to, mut answered) = oneshot::channel();
        let answer = AnswerTo::client(to, &ours);
        assert!(!answer.is_closed());
        drop(theirs);
        assert!(answer.is_closed());
        answer.send("late");
        assert!(answered.try_recv().is_ok());

        let (to, answered) = oneshot::channel::<()>();
        let answer = AnswerTo::from(to);
        assert!(!answer.is_closed());
        drop(answered);
        assert!(answer.is_closed());
    }
}
