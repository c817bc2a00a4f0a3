//! Why the privileged process didn't do what it was asked, where that isn't the kernel's doing.

use std::fmt;
use std::io;

/// What is the matter with the privileged process itself. Inside an [`io::Error`] it goes wherever what the kernel refuses
/// goes, and is told as what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It doesn't answer, at least not in time: it may be stopped, or have no processor or no memory.
    NoAnswer,
    /// It is gone, and so is this tunnel in a moment.
    Ended,
}

impl Trouble {
    /// What is in an error, if it is that.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// What it does or did, without its name.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::NoAnswer => "doesn't answer",
            Self::Ended => "has ended",
        }
    }

    /// The number that says the most of it, for who is told nothing else.
    pub(crate) fn errno(self) -> i32 {
        match self {
            Self::NoAnswer => libc::ETIMEDOUT,
            Self::Ended => libc::EPIPE,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the privileged process (taltun-verbs) {}", self.words())
    }
}

impl std::error::Error for Trouble {}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        let kind = match trouble {
            Trouble::NoAnswer => io::ErrorKind::TimedOut,
            Trouble::Ended => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_again_in_an_error() {
        for trouble in [Trouble::NoAnswer, Trouble::Ended] {
            let error = io::Error::from(trouble);
            assert_eq!(Trouble::of(&error), Some(trouble));
            assert_eq!(error.to_string(), trouble.to_string());
        }
        for errno in [libc::ETIMEDOUT, libc::EPIPE] {
            assert_eq!(Trouble::of(&io::Error::from_raw_os_error(errno)), None);
        }
    }
}
