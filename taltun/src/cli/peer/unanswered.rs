//! A tunnel that ended in the middle of a change, by SIGKILL or a crash: whether the change is in the
//! file, and what to do.

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
}

impl Asked {
    /// What is about to be asked.
    pub(super) fn of(target: &Target, edit: &PeerEdit) -> Self {
        let (peer, new_key) = match edit {
            PeerEdit::New(new) => (&new.name, Some(new.public_key.clone())),
            PeerEdit::Rotate(rotate) => (&rotate.peer, Some(rotate.public_key.clone())),
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
        Self {
            file: target.ask(nothing).ok().and_then(|it| it.file),
            peer: peer.clone(),
            new_key,
        }
    }

    /// What to say when there is no answer.
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
}
