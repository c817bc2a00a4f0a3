//! Forms that make keys are done once. A browser that loads their answer again, as phones do with a tab that
//! was long in the background, sends the form again: that must not make other keys, which would end those that a
//! device has by now, nor say that somebody else has this name.
//!
//! Each such form has a number, and the number of one that is done is kept for a while with the peer.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::request::Fields;
use crate::secret;

/// The field that has the number.
pub(super) const FIELD: &str = "once";
/// Forms that are kept; of more, those that were done first are forgotten.
const KEPT: usize = 256;
/// The digits of a number.
const DIGITS: usize = 32;

/// The forms that are done.
#[derive(Debug, Default)]
pub(super) struct Once(Mutex<VecDeque<Done>>);

#[derive(Debug)]
struct Done {
    /// What the forms of its session hold.
    session: String,
    number: String,
    /// The public key that the peer got.
    peer: String,
}

impl Once {
    /// The peer of a form of this session that was done before.
    pub(super) fn peer_of(&self, session: &str, form: &Fields) -> Option<String> {
        let number = number_in(form)?;
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = all
            .iter()
            .find(|done| done.session == session && done.number == number)?;
        Some(done.peer.clone())
    }

    /// Keeps that this form is done.
    pub(super) fn keep(&self, session: &str, form: &Fields, peer: &str) {
        let Some(number) = number_in(form) else {
            return;
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT {
            all.pop_front();
        }
        all.push_back(Done {
            session: session.to_owned(),
            number: number.to_owned(),
            peer: peer.to_owned(),
        });
    }
}

/// A number for a form. Without random numbers it has none, and no keys can be made either.
pub(super) fn number() -> String {
    let mut number = String::with_capacity(DIGITS);
    if let Ok(bytes) = secret::random::<{ DIGITS / 2 }>() {
        for byte in *bytes {
            let _ = write!(number, "{byte:02x}");
        }
    }
    number
}

fn number_in(form: &Fields) -> Option<&str> {
    form.get(FIELD).filter(|number| number.len() == DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(number: &str) -> Fields {
        Fields::of(format!("{FIELD}={number}").as_bytes())
    }

    #[test]
    fn a_form_that_is_done_is_known_to_its_session_for_a_while() {
        let once = Once::default();
        let first = form(&number());
        assert_eq!(once.peer_of("ana", &first), None);
        once.keep("ana", &first, "KEY");
        assert_eq!(once.peer_of("ana", &first).as_deref(), Some("KEY"));
        assert_eq!(once.peer_of("eva", &first), None);
        // What has no number of ours is never known.
        for other in ["", "7", &"7".repeat(DIGITS + 1)] {
            once.keep("ana", &form(other), "KEY");
            assert_eq!(once.peer_of("ana", &form(other)), None);
        }
        for _ in 0..KEPT {
            once.keep("ana", &form(&number()), "OTHER");
        }
        assert_eq!(once.peer_of("ana", &first), None);
    }
}
