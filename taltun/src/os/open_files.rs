//! How many files this process may have open.

use rustix::process::{Resource, getrlimit};

/// What the smallest tunnel opens, with some to spare for whoever asks it something.
const NEEDED: u64 = 64;

/// Whether a tunnel may open what it needs. One that may not would find out anywhere.
///
/// # Errors
/// A sentence that says what is missing.
pub(crate) fn check() -> Result<(), String> {
    match getrlimit(Resource::Nofile).current {
        Some(few) if few < NEEDED => Err(format!(
            "no more than {few} files may be open here, and a tunnel needs {NEEDED}: raise the limit by \
             `ulimit -n 1024`, or in a unit by LimitNOFILE=1024"
        )),
        _ => Ok(()),
    }
}
