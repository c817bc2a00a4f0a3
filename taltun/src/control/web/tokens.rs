//! The tokens for the page: who holds one may log in until it ends.
//!
//! A token is 192 random bits, shown once. The file has its BLAKE2s alone: with so many bits there
//! is nothing to guess, and who reads the file can't log in by it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use tracing::warn;
use zeroize::Zeroizing;

use crate::config;
use crate::control::state_file;
use crate::crypto::{constant_time_eq, hash};
use crate::secret;
use crate::system::for_the_shell;

/// Tokens at the most, those included that have ended and nobody looked at.
const MOST: usize = 64;
/// The longest name, characters.
const NAME_MAX: usize = 64;
/// The largest file, bytes: more than all tokens take.
const FILE_MAX: u64 = 64 << 10;
/// Random bytes of a secret.
const SECRET: usize = 24;
/// What tokens are hashed with besides, so that no hash is one of something else.
const LABEL: &[u8] = b"taltun web token";

/// A secret's hash.
pub(super) type Hash = [u8; 32];

/// A token, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub(super) name: String,
    /// Base64.
    hash: String,
    /// In Unix seconds.
    pub(super) made_at: u64,
    pub(super) ends_at: u64,
}

/// All tokens, and their file.
#[derive(Debug)]
pub(super) struct Tokens {
    file: PathBuf,
    tokens: Vec<Token>,
}

impl Tokens {
    /// Those that the file has. One that can't be read has none, which is told.
    pub(super) fn read(file: PathBuf) -> Self {
        let read = state_file::read(&file, FILE_MAX).and_then(|text| match text {
            Some(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            None => Ok(Vec::new()),
        });
        let tokens = read.unwrap_or_else(|reason| {
            let file = file.display();
            warn!("{file}: {reason}; its tokens for the page don't count");
            Vec::new()
        });
        Self { file, tokens }
    }

    /// Makes a token for so many seconds, and keeps its hash. Without a name it gets a number.
    pub(super) fn add(
        &mut self,
        name: Option<&str>,
        seconds: u64,
        now: u64,
    ) -> Result<(Token, Zeroizing<String>), String> {
        self.tokens.retain(|token| token.ends_at > now);
        if self.tokens.len() >= MOST {
            return Err(format!(
                "there are {MOST} tokens already; `taltun web tokens` lists them, and `taltun web \
                 revoke NAME` ends one"
            ));
        }
        let is_taken = |name: &str| self.tokens.iter().any(|token| token.name == name);
        let name = match name {
            Some(name) => checked(name)?.to_owned(),
            None => (1..=MOST)
                .map(|number| format!("token-{number}"))
                .find(|name| !is_taken(name))
                .unwrap_or_default(),
        };
        if is_taken(&name) {
            return Err(format!(
                "there is a token {name:?} already; give another name, or end that one by `taltun \
                 web revoke {}`",
                for_the_shell(&name)
            ));
        }
        let secret = random()?;
        let token = Token {
            name,
            hash: STANDARD.encode(hash_of(&secret)),
            made_at: now,
            ends_at: now.saturating_add(seconds),
        };
        self.tokens.push(token.clone());
        if let Err(reason) = self.write() {
            self.tokens.pop();
            return Err(format!("{reason}; no token was made"));
        }
        Ok((token, secret))
    }

    /// The token that this is, unless it has ended. All are compared, whichever it is.
    pub(super) fn find(&self, secret: &str, now: u64) -> Option<&Token> {
        let hash = STANDARD.encode(hash_of(secret));
        let same = |token: &&Token| constant_time_eq(token.hash.as_bytes(), hash.as_bytes());
        let found = self.tokens.iter().fold(None, |found, token| {
            let is_it = same(&token);
            if is_it { Some(token) } else { found }
        });
        found.filter(|token| token.ends_at > now)
    }

    /// The token of this name, unless it has ended.
    pub(super) fn named(&self, name: &str, now: u64) -> Option<&Token> {
        let mut all = self.living(now);
        all.find(|token| token.name == name)
    }

    /// Those that haven't ended.
    pub(super) fn living(&self, now: u64) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(move |token| token.ends_at > now)
    }

    /// Ends the token of this name. An error tells what is left to do; without such a token
    /// nothing is.
    pub(super) fn remove(&mut self, name: &str, now: u64) -> Result<(), String> {
        if self.named(name, now).is_none() {
            return Err(format!(
                "there is no token {name:?}; `taltun web tokens` lists them"
            ));
        }
        self.tokens.retain(|token| token.name != name);
        self.write().map_err(|reason| {
            format!(
                "the token {name:?} has ended, but {reason}: it is back after a restart; take it \
                 out of there"
            )
        })
    }

    fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string(&self.tokens).map_err(|error| error.to_string())?;
        let written = state_file::write(&self.file, &text);
        written.map_err(|error| format!("cannot write {}: {error}", self.file.display()))
    }
}

/// A name that can be printed and typed.
fn checked(name: &str) -> Result<&str, String> {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
    if name.is_empty() || name.chars().count() > NAME_MAX || !name.chars().all(is_plain) {
        return Err(format!(
            "expected a name of at most {NAME_MAX} characters without spaces, found {name:?}"
        ));
    }
    // What isn't seen would look like another token.
    config::peer_name(name)?;
    Ok(name)
}

/// A new secret.
pub(super) fn random() -> Result<Zeroizing<String>, String> {
    let bytes = secret::random::<SECRET>().map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

/// What is kept of a secret.
pub(super) fn hash_of(secret: &str) -> Hash {
    hash(&[LABEL, secret.as_bytes()])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_known_until_it_ends_and_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub/web-tokens.json");
        let mut tokens = Tokens::read(file.clone());
        let (token, secret) = tokens.add(Some("ana"), 60, 1000).unwrap();
        assert_eq!(token.name, "ana");
        assert_eq!(secret.len(), 32);
        assert_eq!(tokens.find(&secret, 1059).unwrap().name, "ana");
        assert_eq!(tokens.find(&secret, 1060), None);
        assert_eq!(tokens.find(&format!("{}x", *secret), 1000), None);
        assert_eq!(tokens.find("", 1000), None);
        let again = Tokens::read(file.clone());
        assert_eq!(again.find(&secret, 1000), Some(&token));
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // Who reads the file doesn't have it.
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&**secret) && text.contains("ana"), "{text}");
        tokens.remove("ana", 1000).unwrap();
        assert!(tokens.remove("ana", 1000).unwrap_err().contains("no token"));
        assert_eq!(Tokens::read(file).find(&secret, 1000), None);
    }

    #[test]
    fn names_are_given_taken_once_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let mut tokens = Tokens::read(dir.path().join("tokens"));
        let mut name = |name: Option<&str>, now| Ok::<_, String>(tokens.add(name, 10, now)?.0.name);
        assert_eq!(name(None, 0).unwrap(), "token-1");
        assert_eq!(name(None, 0).unwrap(), "token-2");
        assert!(name(Some("token-2"), 0).unwrap_err().contains("already"));
        // Those have ended.
        assert_eq!(name(None, 10).unwrap(), "token-1");
        for wrong in ["", "a b", "a\n", "a\u{200b}", "a\u{202e}b", &"x".repeat(65)] {
            let refused = name(Some(wrong), 10).unwrap_err();
            assert!(refused.contains("expected a name"), "{refused}");
        }
        for _ in 1..MOST {
            name(None, 10).unwrap();
        }
        assert!(name(None, 10).unwrap_err().contains("64 tokens"));
    }

    #[test]
    fn what_cannot_be_kept_is_not_made_and_a_broken_file_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens");
        fs::write(&file, "nonsense").unwrap();
        let mut tokens = Tokens::read(file.clone());
        assert_eq!(tokens.living(0).count(), 0);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let refused = tokens.add(None, 10, 0).unwrap_err();
        assert!(refused.contains("no token was made"), "{refused}");
        assert_eq!(tokens.living(0).count(), 0);
    }
}
