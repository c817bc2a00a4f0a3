//! Asks the kernel for routes in the place of the threads that send.
//!
//! The kernel looks up links and neighbours under locks that are held, too, by whoever makes an interface or
//! changes one, for as long as a second where many come and go. A thread that asked by itself would stand
//! there with sealed packets in its hand, which others overtake. So it leaves its question here, without
//! waiting for anything, and looks for the answer with a later batch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::headers::NextHop;
use super::lookup::{Lookup, Question};
use crate::os::capabilities;

/// How long an answer is good without asking again.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// Destinations remembered; then all are forgotten.
pub(super) const MOST: usize = 65_536;
/// Questions that wait; then more are asked another time.
const MOST_WAITING: usize = 1024;

/// What the kernel said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CachedRoute {
    /// `None` when the socket has to send.
    pub(super) way: Option<NextHop>,
    pub(super) at: Instant,
}

/// Questions to the kernel, and its answers, for all threads that send.
#[derive(Debug, Default)]
pub struct RouteAsker {
    state: Mutex<State>,
    /// There is a question, or no more of them will come.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Question, CachedRoute>,
    waiting: VecDeque<Question>,
    /// Those that wait, and the one that the kernel was asked.
    asked: HashSet<Question>,
    ended: bool,
}

impl RouteAsker {
    /// An answer that is still [fresh](FRESH); else the question is asked. Never waits: who comes
    /// while another looks is told nothing, and comes again with the next batch.
    pub(super) fn answer(&self, question: Question, now: Instant) -> Option<CachedRoute> {
        let mut state = self.state.try_lock().ok()?;
        let known = state.answers.get(&question);
        // An answer may be younger than the batch.
        if let Some(known) = known.filter(|known| now.saturating_duration_since(known.at) < FRESH) {
            return Some(*known);
        }
        if state.waiting.len() < MOST_WAITING && state.asked.insert(question) {
            state.waiting.push_back(question);
            drop(state);
            self.changed.notify_one();
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next question, once there is one; `None` at the end.
    fn next(&self) -> Option<Question> {
        let mut state = self.state();
        while !state.ended {
            if let Some(question) = state.waiting.pop_front() {
                return Some(question);
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Lets all know what the kernel said.
    pub(super) fn tell(&self, question: Question, answer: CachedRoute) {
        let mut state = self.state();
        state.asked.remove(&question);
        if state.answers.len() >= MOST {
            state.answers.clear();
        }
        state.answers.insert(question, answer);
    }

    fn end(&self) {
        self.state().ended = true;
        self.changed.notify_one();
    }
}

/// The thread that asks. It ends after its question when this is dropped.
#[derive(Debug)]
pub(super) struct AskerThread(Arc<RouteAsker>);

impl AskerThread {
    /// Starts it.
    pub(super) fn start(asker: &Arc<RouteAsker>) -> io::Result<Self> {
        let mut lookup = Lookup::connect()?;
        let running = Arc::clone(asker);
        thread::Builder::new()
            .name("taltun-routes".into())
            .spawn(move || {
                if let Err(error) = capabilities::give_up() {
                    tracing::debug!(%error, "the thread that asks for routes keeps its rights");
                }
                while let Some(question) = running.next() {
                    let way = lookup.way(question).unwrap_or_else(|error| {
                        tracing::debug!(%error, "no way past the network stack");
                        None
                    });
                    let at = Instant::now();
                    running.tell(question, CachedRoute { way, at });
                }
            })?;
        Ok(Self(Arc::clone(asker)))
    }
}

impl Drop for AskerThread {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
impl RouteAsker {
    /// What was asked since this was last called.
    pub(super) fn take_asked(&self) -> Vec<Question> {
        self.state().waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn question(last: u8) -> Question {
        (IpAddr::from([127, 0, 0, last]), None)
    }

    #[test]
    fn each_question_is_asked_once_until_it_is_answered() {
        let asker = RouteAsker::default();
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(asker.answer(question(1), now), None);
        }
        assert_eq!(asker.take_asked(), [question(1)]);
        let answer = CachedRoute { way: None, at: now };
        asker.tell(question(1), answer);
        assert_eq!(asker.answer(question(1), now), Some(answer));
        assert_eq!(asker.answer(question(1), now + FRESH), None);
        assert_eq!(asker.take_asked(), [question(1)]);
    }

    #[test]
    fn who_comes_while_another_looks_does_not_wait() {
        let asker = RouteAsker::default();
        let held = asker.state();
        assert_eq!(asker.answer(question(1), Instant::now()), None);
        drop(held);
        assert!(asker.take_asked().is_empty());
    }

    #[test]
    fn no_more_questions_wait_than_may() {
        let asker = RouteAsker::default();
        for number in 0..=MOST_WAITING as u32 {
            let remote = IpAddr::from(number.to_be_bytes());
            assert_eq!(asker.answer((remote, None), Instant::now()), None);
        }
        assert_eq!(asker.take_asked().len(), MOST_WAITING);
    }

    #[test]
    fn the_thread_asks_the_kernel() {
        let asker = Arc::new(RouteAsker::default());
        let thread = AskerThread::start(&asker).unwrap();
        // This host itself, by its own routes, and one that only a link makes unique: the socket sends.
        let remotes = ["127.0.0.1", "127.1.2.3", "::1", "fe80::1"];
        for remote in remotes.map(|text| text.parse::<IpAddr>().unwrap()) {
            let deadline = Instant::now() + Duration::from_secs(10);
            let answer = loop {
                if let Some(answer) = asker.answer((remote, None), Instant::now()) {
                    break answer;
                }
                assert!(Instant::now() < deadline, "no answer");
                thread::sleep(Duration::from_millis(1));
            };
            assert_eq!(answer.way, None);
        }
        drop(thread);
        assert_eq!(asker.next(), None);
    }
}
