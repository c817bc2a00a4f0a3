//! Who may see the page: tokens, the sessions that they begin, and who tries in vain.

use std::net::IpAddr;
use std::path::Path;

use tracing::{info, warn};
use zeroize::Zeroizing;

use super::attempts::Attempts;
use super::sessions::Sessions;
use super::tokens::{Token, Tokens};
use crate::report::{UnixTime, WebToken};
use crate::web::{Entered, Who};

/// The file below the tunnel's directory.
const FILE: &str = "web-tokens.json";

/// All that decides about it.
#[derive(Debug)]
pub(super) struct Doors {
    tokens: Tokens,
    sessions: Sessions,
    attempts: Attempts,
}

/// What became of a token that somebody tried.
#[derive(Debug)]
pub(super) enum LogIn {
    Entered(Entered),
    Wrong,
    /// To be tried again after so many seconds.
    Wait(u64),
    /// Why it can't be.
    Failed(String),
}

impl Doors {
    /// Those of the tunnel whose files are in `dir`.
    pub(super) fn of(dir: &Path) -> Self {
        Self {
            tokens: Tokens::read(dir.join(FILE)),
            sessions: Sessions::default(),
            attempts: Attempts::default(),
        }
    }

    pub(super) fn add_token(
        &mut self,
        name: Option<&str>,
        seconds: u64,
        now: u64,
    ) -> Result<(Token, Zeroizing<String>), String> {
        self.tokens.add(name, seconds, now)
    }

    /// Ends a token, and who is logged in by it.
    pub(super) fn revoke(&mut self, name: &str, now: u64) -> Result<usize, String> {
        let sessions = self.sessions.count(name);
        let removed = self.tokens.remove(name, now);
        self.sessions.end_of(name);
        removed.map(|()| sessions)
    }

    pub(super) fn tokens(&self, now: u64) -> Vec<WebToken> {
        let at = |seconds| UnixTime::at(std::time::Duration::from_secs(seconds));
        let living = self.tokens.living(now);
        living
            .map(|token| WebToken {
                name: token.name.clone(),
                made_at: at(token.made_at),
                ends_at: at(token.ends_at),
                sessions: self.sessions.count(&token.name) as u64,
            })
            .collect()
    }

    /// Begins a session. How long somebody waits goes by `uptime`, seconds that pass whatever becomes of
    /// the time of day.
    pub(super) fn log_in(&mut self, secret: &str, source: IpAddr, now: u64, uptime: u64) -> LogIn {
        if let Some(seconds) = self.attempts.wait(source, uptime) {
            return LogIn::Wait(seconds);
        }
        let Some(token) = self.tokens.find(secret.trim(), now) else {
            if self.attempts.failed(source, uptime) {
                warn!("web: {source} tries wrong tokens; its logins are refused for 5 min");
            }
            return LogIn::Wrong;
        };
        let seconds = token.ends_at.saturating_sub(now);
        match self.sessions.begin(&token.name, token.made_at, now) {
            Ok(session) => {
                info!("web: {} logged in from {source}", token.name);
                let session = session.to_string().into();
                LogIn::Entered(Entered { session, seconds })
            }
            Err(reason) => LogIn::Failed(reason),
        }
    }

    /// Whose session this is, if it is one.
    pub(super) fn who(&mut self, session: &str, now: u64) -> Option<Who> {
        let found = self.sessions.used(session, now)?.clone();
        let token = self.tokens.named(&found.token, now);
        let token = token.filter(|token| token.made_at == found.token_made_at);
        let Some(token) = token else {
            self.sessions.end(session);
            return None;
        };
        Some(Who {
            token: token.name.clone(),
            form: found.form,
            seconds: token.ends_at.saturating_sub(now),
        })
    }

    pub(super) fn log_out(&mut self, session: &str) {
        self.sessions.end(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> IpAddr {
        "10.0.0.2".parse().unwrap()
    }

    fn entered(doors: &mut Doors, secret: &str, now: u64) -> Entered {
        match doors.log_in(secret, source(), now, 0) {
            LogIn::Entered(entered) => entered,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_lasts_as_long_as_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let mut doors = Doors::of(dir.path());
        let (_, secret) = doors.add_token(Some("ana"), 100, 1000).unwrap();
        let session = entered(&mut doors, &format!(" {}\n", *secret), 1010);
        assert_eq!(session.seconds, 90);
        let who = doors.who(session.session.as_str(), 1099).unwrap();
        assert_eq!((who.token.as_str(), who.seconds), ("ana", 1));
        assert_eq!(doors.tokens(1099)[0].sessions, 1);
        assert_eq!(doors.who(session.session.as_str(), 1100), None);
        // A token that is made anew by that name doesn't bring it back.
        doors.add_token(Some("ana"), 100, 1100).unwrap();
        assert_eq!(doors.who(session.session.as_str(), 1100), None);
    }

    #[test]
    fn a_token_that_is_revoked_takes_its_sessions_along() {
        let dir = tempfile::tempdir().unwrap();
        let mut doors = Doors::of(dir.path());
        let (_, secret) = doors.add_token(Some("ana"), 100, 0).unwrap();
        let one = entered(&mut doors, &secret, 0);
        let other = entered(&mut doors, &secret, 0);
        doors.log_out(one.session.as_str());
        assert_eq!(doors.who(one.session.as_str(), 0), None);
        assert!(doors.who(other.session.as_str(), 0).is_some());
        assert_eq!(doors.revoke("ana", 0), Ok(1));
        assert_eq!(doors.who(other.session.as_str(), 0), None);
        let revoked = doors.log_in(&secret, source(), 0, 0);
        assert!(matches!(revoked, LogIn::Wrong));
        assert!(doors.revoke("ana", 0).is_err());
    }

    #[test]
    fn after_many_wrong_tokens_the_right_one_waits_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut doors = Doors::of(dir.path());
        let (_, secret) = doors.add_token(None, 10_000, 0).unwrap();
        while !matches!(doors.log_in("guess", source(), 0, 7), LogIn::Wait(_)) {}
        // Whatever the time of day is by then.
        for now in [0, 5_000] {
            let waits = doors.log_in(&secret, source(), now, 8);
            assert!(matches!(waits, LogIn::Wait(299)), "{waits:?}");
        }
        let done = doors.log_in(&secret, source(), 0, 307);
        assert!(matches!(done, LogIn::Entered(_)), "{done:?}");
    }
}
