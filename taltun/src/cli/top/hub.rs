//! Asks the tunnel each second, and has it do what somebody wants, on a thread of its own: keys are
//! heard while it doesn't answer.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::failure::Failure;
use crate::control::{self, ControlError, request};
use crate::report::Overview;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the tunnel is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Drop what comes from a network.
    Ban(request::Ban),
    /// Drop what comes from a peer's addresses.
    BanPeer(request::BanPeer),
    /// End such a ban.
    Unban(request::Unban),
    /// End the bans of a peer's addresses.
    UnbanPeer(request::UnbanPeer),
}

/// What came of it.
pub(super) enum Told {
    /// How it is.
    Overview(Box<Overview>),
    /// The tunnel doesn't say.
    NoAnswer(String),
    /// What a command did, or why it didn't.
    Done(String),
}

enum Asked {
    Want(request::Overview),
    Do(Command),
}

/// The tunnel, as seen from the terminal.
pub(super) struct Hub {
    ask: Sender<Asked>,
    answers: Receiver<Told>,
    wanted: Option<request::Overview>,
}

impl Hub {
    /// Begins to ask the tunnel of this interface.
    pub(super) fn of(interface: &str) -> Result<Self, Failure> {
        let (ask, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let interface = interface.to_owned();
        let thread = thread::Builder::new().name("taltun-top".to_owned());
        thread
            .spawn(move || go_on(&interface, &asked, &answer))
            .map_err(|error: io::Error| Failure::Other(format!("cannot start: {error}")))?;
        Ok(Self {
            ask,
            answers,
            wanted: None,
        })
    }

    /// From now on this much is to be told; if it is something else, at once.
    pub(super) fn want(&mut self, wanted: request::Overview) {
        if self.wanted.as_ref() != Some(&wanted) {
            self.wanted = Some(wanted.clone());
            // The thread ends with us only.
            let _ = self.ask.send(Asked::Want(wanted));
        }
    }

    /// Has the tunnel do something.
    pub(super) fn command(&self, command: Command) {
        let _ = self.ask.send(Asked::Do(command));
    }

    /// What it has told meanwhile.
    pub(super) fn told(&self) -> impl Iterator<Item = Told> {
        self.answers.try_iter()
    }
}

/// Asks until nobody listens any more.
fn go_on(interface: &str, asked: &Receiver<Asked>, answer: &Sender<Told>) {
    let mut wanted = None;
    let mut next = Instant::now();
    loop {
        let wait = next.saturating_duration_since(Instant::now());
        let told = match asked.recv_timeout(wait) {
            Ok(Asked::Want(new)) => {
                wanted = Some(new);
                // The last of several that came together is the one.
                next = Instant::now();
                continue;
            }
            Ok(Asked::Do(command)) => {
                next = Instant::now();
                Told::Done(carry_out(interface, command))
            }
            Err(RecvTimeoutError::Timeout) => {
                next = Instant::now() + INTERVAL;
                let Some(wanted) = wanted.clone() else {
                    continue;
                };
                match control::call(Some(interface), wanted) {
                    Ok(overview) => Told::Overview(overview),
                    Err(error) => Told::NoAnswer(first_line(&error)),
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if answer.send(told).is_err() {
            return;
        }
    }
}

/// Has the tunnel do it, and says what came of it in a line.
fn carry_out(interface: &str, command: Command) -> String {
    let interface = Some(interface);
    let outcome = match command {
        Command::Ban(command) => control::call(interface, command),
        Command::BanPeer(command) => control::call(interface, command),
        Command::Unban(command) => control::call(interface, command),
        Command::UnbanPeer(command) => control::call(interface, command),
    };
    match outcome {
        Ok(done) => done.0,
        Err(error) => format!("not done: {}", first_line(&error)),
    }
}

fn first_line(error: &ControlError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
