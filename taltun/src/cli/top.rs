//! `taltun top`: the tunnel live on a terminal.
//!
//! What is known is a [`Model`], which keys and answers change; a picture of it is made by
//! [`draw::draw`] from nothing else. This file joins the two with the terminal and the hub.

mod draw;
mod history;
mod hub;
mod keys;
mod model;
mod places;
mod terminal;

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use crossterm::event::{self, Event};

use self::hub::{Hub, Told};
use self::keys::Wanted;
use self::model::Model;
use self::terminal::Terminal;
use super::failure::Failure;
use super::screen;
use super::target::Subject;

/// How long keys are waited for before the hub is listened to again.
const TICK: Duration = Duration::from_millis(100);

/// Watch a running tunnel live: peers, senders and drops, with keys to sort, find and ban.
///
/// Keys: Tab or 1 to 5 for peers, senders outside, senders inside, drops and which peer sends to which;
/// arrows to choose, Enter for all of a peer, s to sort, / to find, b to ban and u to unban, ? for help,
/// q to quit. It asks the tunnel for no more than the terminal shows. In a pipe use `taltun status --watch`.
#[derive(Args)]
pub(super) struct TopCommand {
    #[command(flatten)]
    subject: Subject,
}

impl TopCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(reason) = terminal::unusable() {
            return Err(Failure::Usage(reason));
        }
        let mut model = Model::new(screen::has_colours());
        // That there is no tunnel, or several, is said before the terminal is taken.
        let first = self.subject.ask(model.wanted(Terminal::size()))?;
        let name = first.status.interface.clone();
        model.take_in(*first, Instant::now());
        let mut hub = Hub::of(&name)?;
        let mut terminal = Terminal::take()?;
        let outcome = watch(&mut terminal, &mut hub, &mut model);
        // Drawing on a terminal that is gone fails, which is an end as any other.
        let is_to_end = terminal.is_to_end();
        drop(terminal);
        if is_to_end { Ok(()) } else { outcome }
    }
}

/// Goes on until somebody quits, or ends us.
fn watch(terminal: &mut Terminal, hub: &mut Hub, model: &mut Model) -> Result<(), Failure> {
    let mut is_old = true;
    let lost = |error: io::Error| Failure::Other(format!("the terminal is gone: {error}"));
    let events = events()?;
    while !terminal.is_to_end() {
        hub.want(model.wanted(Terminal::size()));
        for told in hub.told() {
            match told {
                Told::Overview(overview) => model.take_in(*overview, Instant::now()),
                Told::NoAnswer(reason) => model.no_answer(&reason, Instant::now()),
                Told::Done(text) => model.say(text),
            }
            is_old = true;
        }
        if is_old || model.is_older_than_shown(Instant::now()) {
            terminal
                .show(|frame| draw::draw(frame, model, Instant::now()))
                .map_err(lost)?;
            is_old = false;
        }
        // Several keys may wait: a key that is held down is no slower than the terminal.
        let mut wait = TICK;
        loop {
            let event = match events.recv_timeout(wait) {
                Ok(event) => event.map_err(lost)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            wait = Duration::ZERO;
            is_old = true;
            match keys::press(model, &event) {
                Wanted::Nothing => {}
                Wanted::Quit => return Ok(()),
                Wanted::Redraw => terminal.forget().map_err(lost)?,
                Wanted::Command(command) => hub.command(command),
            }
        }
    }
    Ok(())
}

/// Keys, read on a thread of its own: reading waits for the rest of a key of which the terminal has
/// sent a part, and never returns where the terminal is gone. It ends with the process.
fn events() -> Result<Receiver<io::Result<Event>>, Failure> {
    let (sender, events) = mpsc::channel();
    let thread = thread::Builder::new().name("taltun-keys".to_owned());
    let read = move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if sender.send(event).is_err() || is_last {
                return;
            }
        }
    };
    thread
        .spawn(read)
        .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    Ok(events)
}
