//! How a command fails: who is at fault, and so which exit code.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::control::ControlError;
use crate::system::SystemError;

/// Why a command didn't do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// Something else is.
    Other(String),
}

impl Failure {
    /// 2 for a wrong command line or configuration, 1 for the rest.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Other(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Other(message) => f.write_str(message),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Name(_) | ControlError::Several(_) => Self::Usage(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<SystemError> for Failure {
    fn from(error: SystemError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // The alternate form is the chain of causes in one line.
        Self::Other(format!("{error:#}"))
    }
}
