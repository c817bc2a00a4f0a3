//! A change without an answer. A tunnel that ended in the middle of it, by SIGKILL or a crash: whether
//! the change is in the file, and what to do. A tunnel that stands still: it may do the change yet, so
//! what the file has now says nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::target::Target;
use crate::control::ControlError;
use crate::control::request::{Overview, PeerEdit, PeerOrder};
use crate::system::for_the_shell;

/// What was asked, as far as it matters when nobody answers.
pub(super) struct Asked {
    /// The tunnel's configuration, if it has one.
    file: Option<PathBuf>,
    /// The peer.
    peer: String,
    /// What the file has once the change is done, and hadn't before: the peer's new key.
    new_key: Option<String>,
    /// Whether the private key of that is made here, and lost if nobody gets it.
    is_made_here: bool,
}

impl Asked {
    /// What is about to be asked. Of a tunnel that doesn't answer a question, nothing more is.
    pub(super) fn of(target: &Target, edit: &PeerEdit) -> Result<Self, ControlError> {
        let (peer, new_key) = match edit {
            PeerEdit::New(new) => (&new.name, Some((&new.public_key, &new.file))),
            PeerEdit::Rotate(rotate) => (&rotate.peer, Some((&rotate.public_key, &rotate.file))),
            PeerEdit::Rename(rename) => (&rename.name, None),
            PeerEdit::Set(set) => (&set.peer, None),
            PeerEdit::Remove(remove) => (&remove.peer, None),
        };
        // Only a tunnel that lives tells its file.
        let nothing = Overview {
            order: PeerOrder::Name,
            find: None,
            skip: 0,
            peers: 0,
            sources: 0,
            pairs: 0,
        };
        let file = match target.ask(nothing) {
            Ok(overview) => overview.file,
            Err(error @ ControlError::NoAnswer { .. }) => return Err(error),
            // Whatever it is, the change meets it as well.
            Err(_) => None,
        };
        Ok(Self {
            file,
            peer: peer.clone(),
            new_key: new_key.map(|(key, _)| key.clone()),
            is_made_here: new_key.is_some_and(|(_, file)| !file.is_there),
        })
    }

    /// What to say when the tunnel stands still.
    pub(super) fn given_up(&self, error: &ControlError) -> String {
        let peer = for_the_shell(&self.peer);
        let look = format!(
            "{error}; whether it is done isn't known: look by `taltun peer show {peer}` once the tunnel \
             answers"
        );
        match &self.new_key {
            None => format!("{look}, before you repeat the command"),
            Some(key) if !self.is_made_here => {
                format!("{look}. It is done if the key is {key}; else repeat the command")
            }
            Some(key) => format!(
                "{look}. If the key is {key}, it is done, and nobody got the file with its private key: \
                 make another one by `taltun peer rotate {peer}`. Else repeat the command"
            ),
        }
    }

    /// What to say when the connection ended without an answer.
    pub(super) fn unanswered(&self, error: &ControlError) -> String {
        let peer = for_the_shell(&self.peer);
        let (file, key) = match (&self.file, &self.new_key) {
            (Some(file), Some(key)) => (file, key),
            (None, _) => {
                return format!(
                    "{error}; whether it was done isn't known: `taltun peer show {peer}` tells it \
                     once the tunnel runs"
                );
            }
            (Some(file), None) => {
                return format!(
                    "{error}; whether it was done isn't known: look into {}",
                    file.display()
                );
            }
        };
        match has(file, key) {
            Some(true) => format!(
                "{error}; it is done in {}, but nobody got the file with the new private key of {}: \
                 start the tunnel again, then make another one by `taltun peer rotate {peer}`, or \
                 take the peer away by `taltun peer remove {peer}`",
                file.display(),
                self.peer
            ),
            Some(false) => format!(
                "{error}; nothing was changed in {}: start the tunnel again and repeat the command",
                file.display()
            ),
            None => format!(
                "{error}; whether it was done isn't known: look for the key {key} in {}",
                file.display()
            ),
        }
    }
}

/// Whether the file has the key; `None` if it can't be read.
fn has(file: &Path, key: &str) -> Option<bool> {
    fs::read_to_string(file).ok().map(|text| text.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_how_far_a_change_came() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        let error = ControlError::Answer {
            path: "/run/taltun/hub.sock".into(),
            reason: "it closed the connection".into(),
        };
        let said = |file: Option<&Path>, new_key: Option<&str>| {
            let asked = Asked {
                file: file.map(Path::to_owned),
                peer: "my phone".into(),
                new_key: new_key.map(str::to_owned),
                is_made_here: true,
            };
            asked.unanswered(&error)
        };
        fs::write(&file, "public_key = \"K=\"").unwrap();
        let done = said(Some(&file), Some("K="));
        assert!(done.contains("`taltun peer rotate 'my phone'`"), "{done}");
        assert!(done.contains("it is done in"), "{done}");
        let not_done = said(Some(&file), Some("L="));
        assert!(not_done.contains("nothing was changed in"), "{not_done}");
        for unknown in [
            said(Some(&dir.path().join("gone")), Some("K=")),
            said(Some(&file), None),
            said(None, Some("K=")),
        ] {
            assert!(unknown.contains("isn't known"), "{unknown}");
        }
    }

    #[test]
    fn what_a_tunnel_that_stands_still_has_done_is_never_known() {
        let error = ControlError::NoAnswer {
            path: "/run/taltun/hub.sock".into(),
            seconds: 15,
        };
        let said = |new_key: Option<&str>, is_made_here| {
            let asked = Asked {
                file: Some("/etc/taltun/hub.toml".into()),
                peer: "ana".into(),
                new_key: new_key.map(str::to_owned),
                is_made_here,
            };
            asked.given_up(&error)
        };
        for (new_key, is_made_here, is_rotated) in [
            (Some("K="), true, true),
            (Some("K="), false, false),
            (None, false, false),
        ] {
            let said = said(new_key, is_made_here);
            assert!(said.contains("no answer within 15 seconds"), "{said}");
            assert!(said.contains("isn't known"), "{said}");
            assert!(said.contains("`taltun peer show ana`"), "{said}");
            assert!(!said.contains("nothing was changed"), "{said}");
            let rotates = said.contains("`taltun peer rotate ana`");
            assert_eq!(rotates, is_rotated, "{said}");
        }
    }
}
