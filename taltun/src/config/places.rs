//! Which places to listen at are one.

use std::net::SocketAddr;

use taltun_udpgw::listens_twice;

use super::error::{ConfigError, Spot};

/// Whether two that don't know of each other can't listen at both: `[::]` is for IPv4 as well then.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let [one, other] = [one, other].map(|it| SocketAddr::new(it.ip().to_canonical(), it.port()));
    let is_all = |it: SocketAddr| it.is_ipv6() && it.ip().is_unspecified();
    let all = one.port() == other.port() && (is_all(one) || is_all(other));
    all || listens_twice(one, other)
}

/// Refuses an address that overlaps with one that `section` has before.
pub(super) fn refuse_twice(
    address: SocketAddr,
    spot: &Spot,
    section: &str,
    overlap: fn(SocketAddr, SocketAddr) -> bool,
    before: impl IntoIterator<Item = SocketAddr>,
) -> Result<(), ConfigError> {
    let mut before = before.into_iter();
    match before.find(|other| overlap(*other, address)) {
        Some(other) => Err(spot.error(format!(
            "{address} and {other} of {section} are one place to listen; leave out one of them, or \
             give it another port"
        ))),
        None => Ok(()),
    }
}
