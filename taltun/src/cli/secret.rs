//! Secrets on their way to standard output.

use std::os::unix::fs::MetadataExt;

use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;

/// 32 bytes from the operating system's generator.
pub(super) fn random() -> Result<Zeroizing<[u8; 32]>, Failure> {
    crate::secret::random().map_err(|error| Failure::Other(error.to_string()))
}

/// Prints a secret on a line, with a warning when it lands in a file that others may read. It is an
/// error if nobody got it.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_once(&Zeroizing::new(format!("{text}\n")))
}

/// The same for a file with a secret in it.
pub(super) fn print_once(text: &str) -> Result<(), Failure> {
    warn_if_open();
    output::print_once(text)
}

/// The same for one that can be printed again, so that it doesn't matter who reads all of it.
pub(super) fn print_file(text: &str) -> Result<(), Failure> {
    warn_if_open();
    output::print(text)
}

fn warn_if_open() {
    if stdout_is_open_to_others() {
        output::warn("this file is open to others than its owner; set `umask 077` and try again");
    }
}

fn stdout_is_open_to_others() -> bool {
    output::stdout_file()
        .and_then(|file| file.metadata())
        .is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o077 != 0)
}
