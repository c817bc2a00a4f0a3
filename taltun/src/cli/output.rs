//! What the commands print. A reader that has seen enough, as in `taltun stats | head`,
//! is no error.

use std::io::{self, ErrorKind, Write};

use super::failure::Failure;
use super::logging::{self, Priority};

/// Prints `text` to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    printed(text).map(drop)
}

/// The same for what nobody gets a second time: false when nobody reads any more.
pub(super) fn printed(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What became of writing to standard output: false when nobody reads any more.
pub(super) fn written(outcome: io::Result<()>) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Other(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// `value` as JSON in a line.
pub(super) fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(value);
    let line = line.map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
    Ok(line + "\n")
}

/// Prints `value` as indented JSON to standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    printed_json(value).map(drop)
}

/// The same for what nobody gets a second time: false when nobody reads any more.
pub(super) fn printed_json(value: &impl serde::Serialize) -> Result<bool, Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
    text.push('\n');
    printed(&text)
}

/// Prints `taltun: message`, each of its lines so, to where the log goes: standard error unless
/// somebody chose another place.
pub(super) fn complain(message: &str) {
    say(Priority::Error, message);
}

/// The same for what is odd, and no failure.
pub(super) fn warn(message: &str) {
    say(Priority::Warning, &format!("warning: {message}"));
}

/// The same for what was done.
pub(super) fn note(message: &str) {
    say(Priority::Info, message);
}

fn say(priority: Priority, message: &str) {
    let mut text = String::new();
    for line in message.lines() {
        text.push_str("taltun: ");
        text.push_str(&line.replace('\r', " "));
        text.push('\n');
    }
    let text = if logging::to_journal() {
        logging::with_priority(priority, &text)
    } else {
        text
    };
    logging::add(text.as_bytes());
}

/// The same for a message of several lines of our own.
pub(super) fn complain_lines(message: &str) {
    logging::add(format!("taltun: {message}\n").as_bytes());
}
