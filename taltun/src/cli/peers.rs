//! What commands show of peers: how each stands, what is amiss with it, what it is held to.

mod limits;
mod standing;
mod troubles;

pub(super) use self::limits::{bits, of_peer as limits};
pub(super) use self::standing::{Standing, by_weight, mark, title};
pub(super) use self::troubles::{banned, moves, problem, troubles};
