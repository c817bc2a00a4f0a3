//! The page of `[web]`: its process, who may see it, and what it may ask.
//!
//! | file | concern |
//! |---|---|
//! | [`replies`] | what the process asks, each question checked as an attacker's |
//! | [`doors`] | who may see the page, of the three below |
//! | [`tokens`] | tokens, and their file |
//! | [`sessions`] | browsers that are logged in |
//! | [`attempts`] | who tries wrong tokens |

mod attempts;
mod doors;
mod replies;
mod sessions;
mod tokens;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use self::doors::Doors;
use self::replies::Replies;
use super::moments::Moments;
use super::request::{Call, WebRevoke, WebToken};
use super::response::{Done, NewWebToken};
use super::served::{Served, Settings};
use super::state_file::wall_clock;
use super::words;
use crate::config::{Config, HUB, ListenAt, Mode};
use crate::report;
use crate::report::{ProcessRights, UnixTime, WebStatus};

/// The longest that a token may last, seconds: ten years.
const LONGEST: u64 = 3650 * 24 * 3600;

/// The page, if there is one.
#[derive(Debug)]
pub(super) struct Web {
    pub(super) served: Served<Replies>,
    doors: Arc<Mutex<Doors>>,
}

impl Web {
    /// That of the tunnel whose files are in `dir`. `calls` leads to the controller.
    pub(super) fn new(dir: &Path, calls: mpsc::Sender<Call>, moments: Moments) -> Self {
        let doors = Arc::new(Mutex::new(Doors::of(dir)));
        let replies = Replies::new(calls, Arc::clone(&doors), moments);
        Self {
            served: Served::new(replies),
            doors,
        }
    }

    /// How it is.
    pub(super) fn status(&self) -> Option<WebStatus> {
        let (listen, ended) = self.served.status()?;
        Some(WebStatus { listen, ended })
    }

    /// What its process may do, while there is one.
    pub(super) fn rights(&self) -> Option<ProcessRights> {
        self.served.rights()
    }

    /// Makes a token, which is told this once.
    pub(super) fn token(&self, asked: &WebToken) -> Result<NewWebToken, String> {
        let (listen, _) = self.served.status().ok_or_else(|| {
            "the configuration has no [web]: there is no page to log in to; add the section and \
             reload"
                .to_owned()
        })?;
        if !(1..=LONGEST).contains(&asked.seconds) {
            return Err("expected a time from 1s to 3650d".into());
        }
        let now = wall_clock();
        let name = asked.name.as_deref();
        let (token, secret) = lock(&self.doors).add_token(name, asked.seconds, now)?;
        Ok(NewWebToken {
            name: token.name,
            token: secret.to_string().into(),
            ends_at: UnixTime::at(Duration::from_secs(token.ends_at)),
            listen,
        })
    }

    /// The tokens that haven't ended.
    pub(super) fn tokens(&self) -> Vec<report::WebToken> {
        lock(&self.doors).tokens(wall_clock())
    }

    /// Ends a token, and the sessions by it.
    pub(super) fn revoke(&self, asked: &WebRevoke) -> Result<Done, String> {
        let ended = lock(&self.doors).revoke(&asked.name, wall_clock())?;
        let sessions = match ended {
            0 => String::new(),
            ended => format!(", and {}", words::count(ended, "session")),
        };
        Ok(Done(format!("ended the token {}{sessions}", asked.name)))
    }
}

/// What the file asks for.
pub(super) fn settings(config: &Config) -> Option<Settings> {
    let web = config.web.as_ref()?;
    let is_hub = config.interface.mode == Mode::Server;
    let names = config.names.as_ref().filter(|_| is_hub);
    let own = names.map(|names| format!("{HUB}.{}", names.domain));
    Some(Settings {
        listen: web.listen.iter().copied().map(ListenAt::Address).collect(),
        arguments: web.hosts.iter().cloned().chain(own).collect(),
    })
}

fn lock(doors: &Mutex<Doors>) -> MutexGuard<'_, Doors> {
    doors.lock().unwrap_or_else(PoisonError::into_inner)
}
