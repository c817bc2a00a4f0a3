//! What was done to a peer, and what undoes it.

use std::fmt::Write;

use super::unanswered::Asked;
use crate::cli::failure::Failure;
use crate::cli::target::Target;
use crate::cli::{advice, output};
use crate::control::ControlError;
use crate::control::request::PeerEdit;
use crate::report::{PeerEdited, PeerTold};

/// Has the tunnel change a peer. Commands that it advises name the tunnel where this one did.
pub(super) fn ask(target: &Target, edit: PeerEdit) -> Result<Box<PeerEdited>, Failure> {
    let asked = Asked::of(target, &edit)
        .map_err(|error| Failure::Other(format!("{error} (nothing was changed)")))?;
    let mut edited = target.ask(edit).map_err(|error| match error {
        ControlError::NoAnswer { .. } => Failure::Other(target.advice(&asked.given_up(&error))),
        ControlError::Answer { .. } => Failure::Other(target.advice(&asked.unanswered(&error))),
        error => error.into(),
    })?;
    edited.undo = advice::command(&edited.undo, target.interface());
    for warning in &mut edited.warnings {
        *warning = target.advice(warning);
    }
    Ok(edited)
}

/// Tells what was done, beside what is printed.
pub(super) fn note(edited: &PeerEdited) {
    output::note(&edited.done);
    for warning in &edited.warnings {
        output::warn(warning);
    }
    if !edited.undo.is_empty() {
        output::note(&format!("to undo it: {}", edited.undo));
    }
}

/// Has the tunnel change a peer, and prints what was done.
pub(super) fn change(target: &Target, edit: PeerEdit, json: bool) -> Result<(), Failure> {
    let edited = ask(target, edit)?;
    tell(&edited, json)
}

/// Prints what was done. It is done by now, and only this says what undoes it: where nobody gets what is
/// printed, it goes to standard error.
pub(super) fn tell(edited: &PeerEdited, json: bool) -> Result<(), Failure> {
    let text = if json {
        output::json_text(&PeerTold { edited, file: None })?
    } else {
        for warning in &edited.warnings {
            output::warn(warning);
        }
        let mut text = format!("{}\n", edited.done);
        if !edited.undo.is_empty() {
            let _ = writeln!(text, "to undo it: {}", edited.undo);
        }
        text
    };
    let is_nowhere = output::is_nowhere();
    let printed = output::print(&text);
    if is_nowhere || printed.is_err() {
        output::note(&edited.done);
        if !edited.undo.is_empty() {
            output::note(&format!("to undo it: {}", edited.undo));
        }
    }
    printed
}
