//! The command line.

use std::process::ExitCode;

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
