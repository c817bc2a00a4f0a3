//! What is served by a process of its own, the metrics and the page: opens the sockets, and keeps
//! the process.
//!
//! It is never a reason for a tunnel not to start: what it can't listen on at the start is told, and
//! tried again until it is free. A reload that asks for such a place is refused.

mod keeper;
mod places;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use std::net::TcpListener;

use taltun_udpgw::{Listen, Listening};
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub(super) use self::keeper::{Answers, Life, Listens, SILENCE, ask, keep};
use self::places::Place;
use crate::config::{Interface, ListenAt};
use crate::report::ProcessRights;

/// The arguments of a process that writes to our log: whether all of it is to be written.
pub(super) fn log_arguments() -> Vec<String> {
    let is_debug = tracing::enabled!(tracing::Level::DEBUG);
    is_debug.then(|| "--debug".to_owned()).into_iter().collect()
}

/// How often it is tried to listen where that can't be.
const RETRY: Duration = Duration::from_secs(10);

/// What the file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where clients connect to.
    pub(super) listen: Vec<ListenAt>,
    /// What the process is told on its command line.
    pub(super) arguments: Vec<String>,
}

/// A service, if the file asks for it.
#[derive(Debug)]
pub(super) struct Served<A> {
    answers: A,
    settings: Option<Settings>,
    running: Option<Running>,
    /// Why it isn't running though it should, and since when that is so.
    fault: Option<(String, Instant)>,
}

/// Sockets that are open, and whom they are for.
#[derive(Debug)]
struct Running {
    places: Vec<Arc<Place>>,
    life: Arc<Mutex<Life>>,
    /// Dropped with its process.
    keeper: JoinHandle<()>,
}

/// Sockets that may take the place of those in use.
#[derive(Debug)]
pub(super) enum Prepared {
    /// All stays.
    Same,
    /// None will be open.
    Off,
    /// These.
    On(Settings, Vec<Arc<Place>>),
}

impl<A: Answers> Served<A> {
    /// Not yet. `answers` knows what its process asks.
    pub(super) fn new(answers: A) -> Self {
        Self {
            answers,
            settings: None,
            running: None,
            fault: None,
        }
    }

    /// What the file asks for at the start, as soon as that can be.
    pub(super) fn start(&mut self, settings: Option<Settings>, interface: &Interface) {
        self.settings = settings;
        self.try_to_start(interface);
    }

    /// Tries again what couldn't be. Call it now and then.
    pub(super) fn look(&mut self, interface: &Interface) {
        let is_due = |(_, since): &(String, Instant)| since.elapsed() >= RETRY;
        if self.fault.as_ref().is_some_and(is_due) {
            self.try_to_start(interface);
        }
    }

    fn try_to_start(&mut self, interface: &Interface) {
        let Some(settings) = self.settings.clone() else {
            return;
        };
        match self.open(&settings, interface, &[]) {
            Ok(places) => self.run(settings, places),
            Err(reason) => {
                let fault = format!("cannot listen on {reason}");
                let told = self.fault.as_ref().is_some_and(|(told, _)| *told == fault);
                if !told {
                    let (section, seconds) = (A::SECTION, RETRY.as_secs());
                    warn!(
                        "{section}.listen: cannot listen on {reason}; the tunnel runs without it, \
                         and it is tried again every {seconds} s"
                    );
                }
                self.fault = Some((fault, Instant::now()));
            }
        }
    }

    /// Opens what the file asks for, beside what is open: nothing has changed yet. `friends` may
    /// give up a place for it.
    pub(super) fn prepare(
        &self,
        settings: Option<Settings>,
        interface: &Interface,
        friends: &[&Listening],
    ) -> Result<Prepared, String> {
        let Some(settings) = settings else {
            return Ok(match self.settings {
                Some(_) => Prepared::Off,
                None => Prepared::Same,
            });
        };
        let unchanged = self.settings.as_ref() == Some(&settings);
        if unchanged && self.is_running_at(&settings, interface) {
            return Ok(Prepared::Same);
        }
        match self.open(&settings, interface, friends) {
            Ok(places) => Ok(Prepared::On(settings, places)),
            // As it was before this reload, which is about something else.
            Err(_) if unchanged && self.running.is_none() => Ok(Prepared::Same),
            Err(reason) => Err(format!("{}.listen: cannot listen on {reason}", A::SECTION)),
        }
    }

    fn is_running_at(&self, settings: &Settings, interface: &Interface) -> bool {
        self.running.as_ref().is_some_and(|running| {
            let mut all = running.places.iter().zip(&settings.listen);
            all.all(|(place, listen)| place.is(listen, interface))
        })
    }

    /// What is open already is kept.
    fn open(
        &self,
        settings: &Settings,
        interface: &Interface,
        friends: &[&Listening],
    ) -> Result<Vec<Arc<Place>>, String> {
        let ours = Listening::others(self.open_places());
        let friends: Vec<&Listening> = friends.iter().copied().chain([&ours]).collect();
        let open = || self.running.iter().flat_map(|running| &running.places);
        let places = settings.listen.iter().map(|listen| {
            match open().find(|place| place.is(listen, interface)) {
                Some(place) => Ok(Arc::clone(place)),
                None => Place::open(listen, interface, &friends).map(Arc::new),
            }
        });
        places.collect()
    }

    /// Where it listens by an address, for who may take it over.
    pub(super) fn open_places(&self) -> impl Iterator<Item = (Listen, TcpListener)> {
        let places = self.running.iter().flat_map(|running| &running.places);
        places.flat_map(|place| place.addresses())
    }

    /// Takes over what was opened; tells what that did.
    pub(super) fn take_over(&mut self, prepared: Prepared) -> Option<String> {
        match prepared {
            Prepared::Same => None,
            Prepared::Off => {
                self.settings = None;
                self.running = None;
                self.fault = None;
                Some(format!("{} off", A::SECTION))
            }
            Prepared::On(settings, places) => {
                let had = self.running.is_some();
                let listen = self.settings.as_ref().map(|before| &before.listen);
                let moved = listen != Some(&settings.listen);
                self.run(settings, places);
                let done = match (had, moved) {
                    (false, _) => "on",
                    (true, true) => "moved",
                    (true, false) => "made anew",
                };
                Some(format!("{} {done}", A::SECTION))
            }
        }
    }

    fn run(&mut self, settings: Settings, places: Vec<Arc<Place>>) {
        for listen in &settings.listen {
            info!("{}: listening on {listen}", A::SECTION);
        }
        if let Some(earlier) = self.running.take() {
            earlier.close_all_but(&places);
        }
        let life = Arc::<Mutex<Life>>::default();
        let arguments = settings.arguments.clone();
        let (answers, open) = (self.answers.clone(), places.clone());
        let keeper = keep(open, arguments, answers, Arc::clone(&life));
        self.running = Some(Running {
            places,
            life,
            keeper: tokio::spawn(keeper),
        });
        self.settings = Some(settings);
        self.fault = None;
    }

    /// Where it is to listen, and why nobody answers there, if so; `None` without the section.
    pub(super) fn status(&self) -> Option<(Vec<String>, Option<String>)> {
        let settings = self.settings.as_ref()?;
        let fault = self.fault.as_ref().map(|(reason, _)| reason.clone());
        let running = self.running.as_ref();
        let listen = settings.listen.iter().map(ToString::to_string).collect();
        Some((listen, fault.or_else(|| running.and_then(Running::fault))))
    }

    /// What its process may do, while there is one.
    pub(super) fn rights(&self) -> Option<ProcessRights> {
        self.running.as_ref()?.life().rights.clone()
    }
}

impl Running {
    /// Its process goes with it, a moment later.
    fn close_all_but(mut self, kept: &[Arc<Place>]) {
        self.places
            .retain(|place| !kept.iter().any(|it| Arc::ptr_eq(it, place)));
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nobody answers.
    fn fault(&self) -> Option<String> {
        let ended = self.life().ended.clone();
        let is_gone = self.places.iter().any(|place| !place.is_in_place());
        let gone = || is_gone.then(|| "its file is gone; `taltun reload` makes it anew".to_owned());
        ended.or_else(gone)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for place in &self.places {
            place.close();
        }
        self.keeper.abort();
    }
}
