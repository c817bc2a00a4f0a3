//! What commands show of peers: how each stands, what is amiss with it, what it is held to; and which of
//! them a word means.

mod limits;
mod meant;
mod standing;
mod troubles;

pub(super) use self::limits::{bits, of_peer as limits};
pub(super) use self::meant::meant;
pub(super) use self::standing::{Standing, by_weight, mark, title};
pub(super) use self::troubles::{banned, moves, problem, troubles};
