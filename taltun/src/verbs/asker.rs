//! The tunnel's end of the channel.
//!
//! One thing is asked at a time, and waited for a limited time. Who isn't answered goes on without: the answer is thrown
//! away when it comes, and what came with it is closed. Until then nothing else is asked, so that a process that is stopped
//! holds up nobody twice.
//!
//! The limit is short while a tunnel runs, as the thread that waits is the one that answers handshakes. To leave the
//! waiting to another thread would take apart what changes as one thing: the sockets, the threads that use them and the
//! programs that lead to them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::frame::{Received, receive, send};
use super::message::{Answer, Question, Said};
use super::trouble::Trouble;
use super::verb::Verb;

/// How long an answer may take before the tunnel runs. All of it is system calls that don't wait.
const AT_START: Duration = Duration::from_secs(10);
/// The same from then on.
const RUNNING: Duration = Duration::from_secs(1);
/// How long it may be silent without being asked for anything. A machine that is busy makes it wait, too.
const SILENT: Duration = Duration::from_secs(3);

/// Asks the process at the other end.
#[derive(Debug)]
pub(super) struct Asker {
    channel: OwnedFd,
    /// How long an answer may take.
    limit: Duration,
    /// The number of the last question.
    asked: u64,
    /// That question, while it has no answer.
    waiting: Option<Waiting>,
    /// Since when it is known to others that it doesn't answer.
    told: Option<Instant>,
    /// Whether something was done that nobody waited for any more.
    did_late: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    /// Whether nobody waits any more.
    given_up: bool,
    /// Whether an answer means that something was done.
    does_something: bool,
}

/// What is new about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It doesn't answer.
    Silent,
    /// It answers again, after so long.
    Answers(Duration),
    /// It has done something that was given up, and that must be put right.
    DidLate,
}

/// What came with an answer to the question that is waited for.
struct Came {
    said: Said,
    descriptors: Vec<OwnedFd>,
    lacks_some: bool,
}

impl Asker {
    pub(super) fn new(channel: OwnedFd) -> Self {
        Self {
            channel,
            limit: AT_START,
            asked: 0,
            waiting: None,
            told: None,
            did_late: false,
        }
    }

    /// From now on an answer may take less.
    pub(super) fn hurry(&mut self) {
        self.limit = RUNNING;
    }

    /// Whether a question was given up and has no answer yet.
    pub(super) fn is_silent(&self) -> bool {
        self.waiting.is_some_and(|waiting| waiting.given_up)
    }

    /// What `verb` opens, with the descriptors `about` that it is about. The outer error is about the process, the inner
    /// one about what was asked.
    pub(super) fn ask(
        &mut self,
        verb: Verb,
        about: &[BorrowedFd<'_>],
    ) -> Result<io::Result<Vec<OwnedFd>>, Trouble> {
        self.take_what_came()?;
        if self.is_silent() {
            return Err(Trouble::NoAnswer);
        }
        let until = Instant::now() + self.limit;
        if let Err(error) = self.send(verb, about)? {
            return Ok(Err(error));
        }
        let mut opened = Vec::new();
        let mut lacks_some = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(came) = self.next(left)? else {
                self.give_up();
                return Err(Trouble::NoAnswer);
            };
            lacks_some |= came.lacks_some;
            match came.said {
                Said::Opened => opened.extend(came.descriptors),
                // No more files may be open here: this verb's trouble, and not the channel's.
                Said::Done if lacks_some => return Ok(Err(Errno::MFILE.into())),
                Said::Done => return Ok(Ok(opened)),
                // It found the question a moment too late.
                Said::Refused(libc::ETIMEDOUT) => return Err(Trouble::NoAnswer),
                Said::Refused(errno) => return Ok(Err(io::Error::from_raw_os_error(errno))),
            }
        }
    }

    /// Looks whether it answers, without waiting; call it once a second.
    pub(super) fn look(&mut self) -> Result<Vec<News>, Trouble> {
        self.take_what_came()?;
        match self.waiting {
            Some(waiting) if waiting.since.elapsed() >= SILENT => self.give_up(),
            Some(_) => {}
            // What it can't be asked now, it is asked the next time.
            None => drop(self.send(Verb::Nothing, &[])?),
        }
        let mut news = Vec::new();
        match (self.is_silent(), self.told) {
            (true, None) => {
                self.told = Some(Instant::now());
                news.push(News::Silent);
            }
            (false, Some(since)) => {
                self.told = None;
                news.push(News::Answers(since.elapsed()));
            }
            _ => {}
        }
        if std::mem::take(&mut self.did_late) {
            news.push(News::DidLate);
        }
        Ok(news)
    }

    fn give_up(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.given_up = true;
        }
    }

    fn send(&mut self, verb: Verb, about: &[BorrowedFd<'_>]) -> Result<io::Result<()>, Trouble> {
        self.asked += 1;
        let question = Question::new(self.asked, self.limit, verb);
        match send(self.channel.as_fd(), &question.to_frame(), about) {
            Ok(()) => {}
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Err(Trouble::NoAnswer),
                    io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotConnected => Err(Trouble::Ended),
                    _ => Ok(Err(error)),
                };
            }
        }
        self.waiting = Some(Waiting {
            since: Instant::now(),
            given_up: false,
            does_something: verb != Verb::Nothing,
        });
        Ok(Ok(()))
    }

    /// Throws away what came and nobody waits for.
    fn take_what_came(&mut self) -> Result<(), Trouble> {
        while self.next(Duration::ZERO)?.is_some() {}
        Ok(())
    }

    /// The next answer to the last question; none in this time. Those to earlier ones are thrown away.
    fn next(&mut self, within: Duration) -> Result<Option<Came>, Trouble> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !comes_in(self.channel.as_fd(), left)? {
                return Ok(None);
            }
            let Received {
                frame,
                descriptors,
                lacks_some,
            } = receive(self.channel.as_fd()).map_err(|_| Trouble::Ended)?;
            // Nothing is in a frame once the other end hung up.
            let answer = Answer::of(&frame).ok_or(Trouble::Ended)?;
            if answer.number != self.asked {
                continue;
            }
            // Nor is there another after the last one.
            let waiting = self.waiting.ok_or(Trouble::Ended)?;
            if answer.said.is_last() {
                self.waiting = None;
                self.did_late |=
                    waiting.given_up && waiting.does_something && answer.said == Said::Done;
            }
            return Ok(Some(Came {
                said: answer.said,
                descriptors,
                lacks_some,
            }));
        }
    }
}

/// Whether a frame, or the end, comes in this time.
pub(super) fn comes_in(channel: BorrowedFd<'_>, within: Duration) -> Result<bool, Trouble> {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Trouble::Ended)?;
        let mut watched = [PollFd::new(&channel, PollFlags::IN)];
        match poll(&mut watched, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(_) => return Err(Trouble::Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;
    use std::thread::{self, JoinHandle};

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::super::frame::pair;
    use super::*;

    /// What a process answers to the next question, each time with a descriptor if it says so; the number is that of
    /// the question, or of one so long before.
    type Script = &'static [(u64, Said)];

    /// Answers each question by the next script, and hangs up after the last.
    fn process(theirs: OwnedFd, scripts: Vec<Script>) -> JoinHandle<()> {
        let file = File::open("/dev/null").unwrap();
        thread::spawn(move || {
            for script in scripts {
                let asked = receive(theirs.as_fd()).unwrap();
                let question = Question::of(&asked.frame).unwrap();
                for &(before, said) in script {
                    let opened = [file.as_fd()];
                    let opened = if said == Said::Opened {
                        &opened[..]
                    } else {
                        &[]
                    };
                    let number = question.number - before;
                    let answer = Answer { number, said };
                    send(theirs.as_fd(), &answer.to_frame(), opened).unwrap();
                }
            }
        })
    }

    fn asker(limit: Duration) -> (Asker, OwnedFd) {
        let (ours, theirs) = pair().unwrap();
        let asker = Asker {
            limit,
            ..Asker::new(ours)
        };
        (asker, theirs)
    }

    const OPENED: Script = &[(0, Said::Opened), (0, Said::Opened), (0, Said::Done)];

    #[test]
    fn what_was_opened_comes_back_or_why_it_was_refused() {
        let (mut asker, theirs) = asker(AT_START);
        let scripts: Vec<Script> = vec![
            OPENED,
            &[(0, Said::Refused(libc::EADDRINUSE))],
            // It ends in the middle of it.
            &[(0, Said::Opened)],
        ];
        let process = process(theirs, scripts);
        let mut ask = || asker.ask(Verb::Frames, &[]);
        assert_eq!(ask().unwrap().unwrap().len(), 2);
        let refused = ask().unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(ask().unwrap_err(), Trouble::Ended);
        process.join().unwrap();
        assert_eq!(ask().unwrap_err(), Trouble::Ended);
    }

    /// As one that is stopped for a while: it finds the question later.
    #[test]
    fn an_answer_that_comes_too_late_is_thrown_away_and_the_next_question_is_answered() {
        let short = Duration::from_millis(20);
        let (mut asker, theirs) = asker(short);
        assert_eq!(asker.ask(Verb::Frames, &[]).unwrap_err(), Trouble::NoAnswer);
        assert!(asker.is_silent());
        assert_eq!(asker.look().unwrap(), [News::Silent]);
        // Nobody waits for it a second time.
        asker.limit = Duration::from_secs(60);
        let began = Instant::now();
        assert_eq!(asker.ask(Verb::Frames, &[]).unwrap_err(), Trouble::NoAnswer);
        assert!(began.elapsed() < Duration::from_secs(30));

        let process = process(theirs, vec![OPENED, OPENED, OPENED]);
        let mut news = Vec::new();
        while news.len() < 2 {
            news.extend(asker.look().unwrap());
        }
        let is_back = |news: &News| matches!(news, News::Answers(_));
        assert!(is_back(&news[0]) && news[1] == News::DidLate, "{news:?}");
        assert!(!asker.is_silent());
        // One of these is for the question that a look asks.
        assert_eq!(asker.ask(Verb::Frames, &[]).unwrap().unwrap().len(), 2);
        process.join().unwrap();
    }

    #[test]
    fn answers_to_earlier_questions_are_for_nobody_and_those_to_none_end_it() {
        let (mut asker, theirs) = asker(AT_START);
        let of_another: Script = &[(1, Said::Opened), (1, Said::Done), (0, Said::Done)];
        let twice: Script = &[(0, Said::Done), (0, Said::Done)];
        let process = process(theirs, vec![of_another, twice]);
        assert!(asker.ask(Verb::Frames, &[]).unwrap().unwrap().is_empty());
        assert!(asker.ask(Verb::Frames, &[]).unwrap().unwrap().is_empty());
        process.join().unwrap();
        assert_eq!(asker.ask(Verb::Frames, &[]).unwrap_err(), Trouble::Ended);
    }

    #[test]
    fn what_is_no_answer_ends_it() {
        let (mut asker, theirs) = asker(AT_START);
        send(theirs.as_fd(), b"hello", &[]).unwrap();
        assert_eq!(asker.look().unwrap_err(), Trouble::Ended);
    }

    #[test]
    fn a_process_that_nobody_asks_is_missed_too() {
        let (mut asker, _theirs) = asker(AT_START);
        assert_eq!(asker.look().unwrap(), []);
        assert_eq!(asker.look().unwrap(), []);
        let waiting = asker.waiting.as_mut().unwrap();
        waiting.since = waiting.since.checked_sub(SILENT).unwrap();
        assert_eq!(asker.look().unwrap(), [News::Silent]);
        assert_eq!(asker.look().unwrap(), []);
    }

    /// Set for the child below.
    const VARIABLE: &str = "TALTUN_TEST_FILES";

    /// Not a test of its own: what the child of the test below does, as a limit is that of a whole process.
    #[test]
    fn child_that_may_open_no_more_files() {
        if std::env::var_os(VARIABLE).is_none() {
            return;
        }
        let (mut asker, theirs) = asker(AT_START);
        let process = process(theirs, vec![OPENED, OPENED]);
        let before = getrlimit(Resource::Nofile);
        let few = Rlimit {
            current: Some(64),
            ..before
        };
        setrlimit(Resource::Nofile, few).unwrap();
        let mut all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        // One descriptor finds a place, the other doesn't.
        all.pop();
        let refused = asker.ask(Verb::Frames, &[]).unwrap().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
        // The one that did is closed again.
        assert!(File::open("/dev/null").is_ok());
        drop(all);
        assert_eq!(asker.ask(Verb::Frames, &[]).unwrap().unwrap().len(), 2);
        process.join().unwrap();
        // As libtest itself says nothing of a child.
        std::process::exit(7);
    }

    #[test]
    fn who_may_open_no_more_files_is_refused_and_can_ask_again() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("verbs::asker::tests::child_that_may_open_no_more_files")
            .env(VARIABLE, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{told}");
    }
}
