//! The sessions of browsers: each begins with a token, and ends with it at the latest.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::tokens::{Hash, hash_of, random};

/// Browsers that may be logged in by one token. One more ends the one that was used least recently.
const MOST_OF_A_TOKEN: usize = 8;
/// A session that nobody uses for so long ends, seconds.
const IDLE: u64 = 12 * 3600;

/// A browser that is logged in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The name of its token, and when that was made: another may get the name later.
    pub(super) token: String,
    pub(super) token_made_at: u64,
    /// What its forms hold.
    pub(super) form: String,
    used_at: u64,
}

/// All sessions, by the hashes of their secrets: so a look-up tells nothing by the time it takes.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<Hash, Session>);

impl Sessions {
    /// Begins one; returns its secret.
    pub(super) fn begin(
        &mut self,
        token: &str,
        token_made_at: u64,
        now: u64,
    ) -> Result<Zeroizing<String>, String> {
        self.forget(now);
        if self.count(token) >= MOST_OF_A_TOKEN {
            let own = self.0.iter().filter(|(_, session)| session.token == token);
            let oldest = own.min_by_key(|(_, session)| session.used_at);
            if let Some(hash) = oldest.map(|(hash, _)| *hash) {
                self.0.remove(&hash);
            }
        }
        let (secret, form) = (random()?, random()?);
        let session = Session {
            token: token.to_owned(),
            token_made_at,
            form: form.to_string(),
            used_at: now,
        };
        self.0.insert(hash_of(&secret), session);
        Ok(secret)
    }

    /// The session with this secret, which is used by that.
    pub(super) fn used(&mut self, secret: &str, now: u64) -> Option<&Session> {
        self.forget(now);
        let session = self.0.get_mut(&hash_of(secret))?;
        session.used_at = now;
        Some(session)
    }

    /// Ends the one with this secret.
    pub(super) fn end(&mut self, secret: &str) {
        self.0.remove(&hash_of(secret));
    }

    /// Ends those of a token.
    pub(super) fn end_of(&mut self, token: &str) {
        self.0.retain(|_, session| session.token != token);
    }

    /// How many a token has.
    pub(super) fn count(&self, token: &str) -> usize {
        let all = self.0.values();
        all.filter(|session| session.token == token).count()
    }

    fn forget(&mut self, now: u64) {
        let is_used = |session: &Session| now.saturating_sub(session.used_at) < IDLE;
        self.0.retain(|_, session| is_used(session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_told_to_or_nobody_uses_it() {
        let mut sessions = Sessions::default();
        let one = sessions.begin("ana", 0, 100).unwrap();
        let other = sessions.begin("ana", 0, 100).unwrap();
        assert_ne!(one, other);
        assert_eq!(sessions.used(&one, 101).unwrap().token, "ana");
        assert!(sessions.used("", 101).is_none());
        sessions.end(&one);
        assert!(sessions.used(&one, 101).is_none());
        assert!(sessions.used(&other, 99 + IDLE).is_some());
        assert!(sessions.used(&other, 98 + 2 * IDLE).is_some());
        assert!(sessions.used(&other, 98 + 3 * IDLE).is_none());
    }

    #[test]
    fn a_token_has_so_many_sessions_and_the_least_used_gives_way() {
        let mut sessions = Sessions::default();
        let first = sessions.begin("ana", 0, 0).unwrap();
        let second = sessions.begin("ana", 0, 1).unwrap();
        let foreign = sessions.begin("eva", 0, 0).unwrap();
        sessions.used(&first, 2).unwrap();
        for _ in 2..=MOST_OF_A_TOKEN {
            sessions.begin("ana", 0, 3).unwrap();
        }
        assert_eq!(sessions.count("ana"), MOST_OF_A_TOKEN);
        assert!(sessions.used(&first, 3).is_some());
        assert!(sessions.used(&second, 3).is_none());
        sessions.end_of("ana");
        assert!(sessions.used(&first, 3).is_none());
        assert!(sessions.used(&foreign, 3).is_some());
    }
}
