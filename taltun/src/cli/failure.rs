//! How a command fails: who is at fault, and so which exit code.

use std::error::Error;
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
    /// Something else is, and what to do takes lines of its own.
    Lines(String),
    /// What was printed says it.
    Told,
}

impl Failure {
    /// 2 for a wrong command line or configuration, 1 for the rest.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Other(_) | Self::Lines(_) | Self::Told => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Other(message) | Self::Lines(message) => {
                f.write_str(message)
            }
            Self::Told => Ok(()),
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
            ControlError::Name(_) | ControlError::Several(_) | ControlError::Misconfigured(_) => {
                Self::Usage(error.to_string())
            }
            ControlError::NotRunning { ref left, .. } if !left.found.is_empty() => {
                Self::Lines(error.to_string())
            }
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
        Self::Other(in_one_line(error.as_ref()))
    }
}

/// An error and its causes in one line, no cause twice: some errors tell their cause
/// themselves.
pub(super) fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use anyhow::Context as _;

    use super::*;

    /// How often a line names the cause.
    fn times(failure: &Failure, cause: &str) -> usize {
        failure.to_string().matches(cause).count()
    }

    #[test]
    fn no_cause_is_told_twice() {
        let refused = || io::Error::from_raw_os_error(libc::EROFS);
        let cause = refused().to_string();
        let errors: Vec<anyhow::Error> = vec![
            refused().into(),
            SystemError::TunRefused(refused()).into(),
            SystemError::Refused {
                action: "set net.ipv4.ip_forward to 1".into(),
                reason: refused(),
            }
            .into(),
            ControlError::Io {
                action: "bind",
                path: PathBuf::from("/run/taltun/hub.sock"),
                reason: refused(),
            }
            .into(),
            ControlError::Answer {
                path: PathBuf::from("/run/taltun/hub.sock"),
                reason: refused().to_string(),
            }
            .into(),
            SystemError::Firewall(refused().to_string()).into(),
            SystemError::Resolver(refused().to_string()).into(),
        ];
        for error in errors {
            for layers in 0..3 {
                let error = (0..layers).fold(anyhow::anyhow!("{error}"), |error, _| {
                    error.context("cannot start")
                });
                assert_eq!(times(&Failure::from(error), &cause), 1);
            }
        }
        // With the errors themselves below, as they come.
        let layered: Result<(), _> = Err(SystemError::Refused {
            action: "set it".into(),
            reason: refused(),
        });
        let failure = Failure::from(layered.context("cannot start").unwrap_err());
        assert_eq!(
            failure.to_string(),
            format!("cannot start: cannot set it: {cause}")
        );
        let failure = Failure::from(anyhow::Error::from(ControlError::Io {
            action: "bind",
            path: PathBuf::from("/x"),
            reason: refused(),
        }));
        assert_eq!(times(&failure, &cause), 1, "{failure}");
    }

    #[test]
    fn causes_that_say_something_new_are_told() {
        let layered: Result<(), _> = Err(io::Error::from_raw_os_error(libc::EPERM));
        let failure = Failure::from(layered.context("cannot start the workers").unwrap_err());
        assert_eq!(
            failure.to_string(),
            "cannot start the workers: Operation not permitted (os error 1)"
        );
    }
}
