//! Secrets on their way to standard output.

use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;
use crate::config;

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

/// The file is the shell's choice, and doing it again would empty it: a key may be there that nobody
/// else has.
fn warn_if_open() {
    let warning = std::fs::read_link("/proc/self/fd/1")
        .ok()
        .and_then(|path| config::open_to_others(&path));
    if let Some(warning) = warning {
        output::warn(&warning);
    }
}
