//! Changing a peer in the file: what the file says now is read, checked, changed and checked again;
//! only then it is replaced in one go. The controller takes it over as it takes over a reload. If it
//! can't, the file becomes what it was.
//!
//! | file | concern |
//! |---|---|
//! | [`addresses`] | the next free address of a subnet |
//! | [`client`] | what the file of a new peer has to say |
//! | [`changes`] | the new text for each kind of change, and what undoes it |
//! | [`set`] | the same for values of a peer that there is |
//! | [`edited`] | what a change leaves, and how it is taken back |
//! | [`fleet`] | a peer that all hubs of the fleet have, in etcd |

mod addresses;
mod changes;
mod client;
mod edited;
mod fleet;
mod set;

use std::path::Path;

use self::changes::{Known, change};
pub(in crate::control) use self::edited::{Edited, Written, WrittenFile};
use super::compared::Compared;
use super::last_read::LastRead;
use super::not_read::NotRead;
use crate::config::{self, ConfigError, Loaded, NotReplaced, OnDisk, Overrides};
use crate::control::fleet::Link;
use crate::control::inside::Inside;
use crate::control::origin::Origin;
use crate::control::request::PeerEdit;
use crate::control::words;
use crate::report::{Refused, Why};

/// How often a file is read again that somebody changes at the same time.
const TRIES: usize = 5;
/// The answer where there is no file.
const NO_FILE: &str = "this tunnel has no configuration file that a peer could be written to; change \
    its peers with `wg set`";

/// Changes the file, or what the fleet has.
pub(super) fn edit(
    origin: &Origin,
    last: &LastRead,
    fleet: Option<&Link>,
    inside: &Inside,
    asked: &PeerEdit,
) -> Result<Edited, NotRead> {
    if let Some(link) = fleet.filter(|_| fleet::is_meant(origin, last, asked)) {
        return fleet::edit(origin, last, link, inside, asked);
    }
    let path = origin.path.as_deref().filter(|_| !inside.is_plain);
    let path = path.ok_or_else(|| Refused::because(Why::NotInFile, NO_FILE))?;
    for _ in 0..TRIES {
        let disk = OnDisk::read(path).map_err(|error| mistakes(&error))?;
        let now = load(path, &disk.text, &origin.overrides)?;
        let different = last.different(&now.config);
        if !different.is_empty() {
            let text = format!(
                "{} has changes that the tunnel hasn't taken over: {}; run `taltun reload` first \
                 (nothing was changed)",
                path.display(),
                words::list(&different)
            );
            return Err(Refused::because(Why::NotTakenOver, text).into());
        }
        let known = Known {
            text: &disk.text,
            config: &now.config,
            inside,
        };
        let (text, mut answer) = change(&known, asked)?;
        let mut new = load(path, &text, &origin.overrides)?;
        new.warnings = news(&now, new.warnings);
        answer.warnings.extend(new.warnings.iter().cloned());
        match disk.replace(&text) {
            Ok(after) => {
                return Ok(Edited {
                    compared: Compared::new(new, last.peers.clone()),
                    written: Written::File(WrittenFile {
                        after,
                        before: disk.text,
                    }),
                    answer: Box::new(answer),
                });
            }
            Err(NotReplaced::Changed) => {}
            Err(NotReplaced::Failed(reason)) => {
                let text = format!("{reason} (nothing was changed)");
                return Err(Refused::because(Why::NotWritten, text).into());
            }
        }
    }
    let text = format!(
        "{} changes all the time; nothing was changed",
        path.display()
    );
    Err(Refused::because(Why::NotWritten, text).into())
}

fn load(path: &Path, text: &str, overrides: &Overrides) -> Result<Loaded, NotRead> {
    config::load_text(path, text, overrides).map_err(|error| mistakes(&error))
}

fn mistakes(error: &ConfigError) -> NotRead {
    NotRead::Mistakes(format!("{error} (nothing was changed)"))
}

/// The warnings that there weren't before, wherever they stand by now.
fn news(before: &Loaded, warnings: Vec<String>) -> Vec<String> {
    let said = |warning: &str| match warning.split_once(": ") {
        Some((_, said)) => said.to_owned(),
        None => warning.to_owned(),
    };
    let mut known: Vec<String> = before.warnings.iter().map(|it| said(it)).collect();
    let is_new = |warning: &String| {
        let said = said(warning);
        let found = known.iter().position(|known| *known == said);
        found.map(|at| known.swap_remove(at)).is_none()
    };
    warnings.into_iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests;
