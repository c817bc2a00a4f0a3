//! What reads the kernel's answers, for those who make such answers: `tests/fuzz`. Only there with
//! the feature `fuzzing`.

use std::io;
use std::net::IpAddr;

use crate::{own, routes};

/// The addresses in a piece of the answer to the question for ours, and whether it was the last one.
///
/// # Errors
/// Where the answer is an error.
pub fn own_addresses(piece: &[u8]) -> io::Result<(Vec<IpAddr>, bool)> {
    let mut found = Vec::new();
    let is_over = own::read(piece, &mut found)?;
    Ok((found, is_over))
}

/// What an answer says to the question for a route with this number: whether what is sent there goes to one host;
/// `None` where it is no answer to it.
pub fn leads_away(answer: &[u8], number: u32) -> Option<io::Result<bool>> {
    routes::answer(answer, number)
}
