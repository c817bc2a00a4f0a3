//! What is known of a lab at a moment: all that the drawing shows, and nothing that it would have to
//! ask for.

use std::collections::VecDeque;
use std::time::Duration;

/// How many marks a track keeps: more than the widest terminal shows.
const MARKS: usize = 500;
/// How many lines of news are kept.
const NEWS: usize = 100;

/// A lab at a moment.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// Which lab it is.
    pub title: String,
    /// Since it is up.
    pub elapsed: Duration,
    /// The machine in the middle.
    pub centre: Host,
    /// Those on its left.
    pub left: Vec<Host>,
    /// Those on its right.
    pub right: Vec<Host>,
    /// What is measured all the time.
    pub tracks: Vec<Track>,
    /// What was checked and what happened, the last at the end.
    pub news: VecDeque<News>,
    /// What is being done now, if it takes a while.
    pub doing: Option<String>,
    /// The keys that do something now, and what.
    pub keys: Vec<(String, String)>,
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its address in the tunnel; without one, that on its network.
    pub address: String,
    /// How it is connected to the middle.
    pub link: Link,
    /// Whether its Taltun runs.
    pub state: State,
    /// Bits a second that it sends and receives through the tunnel, where it has one.
    pub rates: Option<(f64, f64)>,
    /// What else is to be told of it, in a word or two.
    pub note: String,
}

/// How a machine is connected to the one in the middle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Link {
    /// By a network alone.
    #[default]
    Plain,
    /// By a tunnel.
    Tunnel,
    /// By a tunnel that doesn't stand.
    Waiting,
    /// By a tunnel that is banned, for so long still where that has an end.
    Banned(Option<Duration>),
}

/// A machine's Taltun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// It has none.
    #[default]
    Bare,
    /// It runs.
    Up,
    /// It was killed so long ago.
    Killed(Duration),
    /// It is being started anew.
    Starting,
}

/// Something that is measured all the time.
#[derive(Debug, Clone, Default)]
pub struct Track {
    /// What it is.
    pub name: String,
    /// The last one, with its unit.
    pub value: String,
    /// One mark for each piece of time.
    pub marks: VecDeque<Mark>,
    /// Whether much of it is bad.
    pub is_loss: bool,
}

/// What was measured in a piece of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mark {
    /// So much, in whatever unit.
    Level(f64),
    /// It failed.
    Miss,
}

/// A check, or something that happened.
#[derive(Debug, Clone)]
pub struct News {
    /// When, since the lab is up.
    pub at: Duration,
    /// For a check, whether it is so.
    pub ok: Option<bool>,
    /// What.
    pub text: String,
}

impl Model {
    /// Adds what happened.
    pub fn tell(&mut self, ok: Option<bool>, text: impl Into<String>) {
        if self.news.len() == NEWS {
            self.news.pop_front();
        }
        self.news.push_back(News {
            at: self.elapsed,
            ok,
            text: text.into(),
        });
    }

    /// All machines: the one in the middle first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.centre)
            .chain(&self.left)
            .chain(&self.right)
    }

    /// The machine of this name.
    pub fn host_mut(&mut self, name: &str) -> Option<&mut Host> {
        std::iter::once(&mut self.centre)
            .chain(&mut self.left)
            .chain(&mut self.right)
            .find(|host| host.name == name)
    }
}

impl Track {
    /// One of which nothing is known yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: "–".to_owned(),
            ..Self::default()
        }
    }

    /// The same for something of which there should be none.
    pub fn of_losses(name: &str) -> Self {
        Self {
            is_loss: true,
            ..Self::new(name)
        }
    }

    /// Adds what was measured last.
    pub fn add(&mut self, mark: Mark) {
        if self.marks.len() == MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }
}
