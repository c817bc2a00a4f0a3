//! What the commands print. A reader that has seen enough, as in `taltun stats | head`,
//! is no error.

use std::io::{self, ErrorKind, Write};

use super::failure::Failure;

/// Prints `text` to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Other(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// Prints `value` as indented JSON to standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
    text.push('\n');
    print(&text)
}

/// Prints `taltun: message` to standard error. Nobody is left to tell if that fails.
pub(super) fn complain(message: &str) {
    let _ = writeln!(
        io::stderr(),
        "taltun: {}",
        message.replace(['\n', '\r'], " ")
    );
}
