//! Secrets on their way to standard output.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use zeroize::Zeroizing;

use super::failure::Failure;
use super::output;

/// 32 bytes from the operating system's generator.
pub(super) fn random() -> Result<Zeroizing<[u8; 32]>, Failure> {
    crate::secret::random().map_err(|error| Failure::Other(error.to_string()))
}

/// Prints a secret on a line, with a warning when it lands in a file that others may read.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_file(&Zeroizing::new(format!("{text}\n"))).map(drop)
}

/// The same for a file with a secret in it: false when nobody reads any more.
pub(super) fn print_file(text: &str) -> Result<bool, Failure> {
    if stdout_is_open_to_others() {
        output::warn("this file is open to others than its owner; set `umask 077` and try again");
    }
    output::printed(text)
}

fn stdout_is_open_to_others() -> bool {
    std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| File::from(fd).metadata())
        .is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o077 != 0)
}
