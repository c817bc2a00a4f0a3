//! The host's network: what must be there before a tunnel can start, and the addresses and
//! routes that it adds and takes back.
//!
//! Nothing else on the host is changed, and everything that is hangs on the TUN interface:
//! it vanishes with the process, whatever ends it.

mod check;
mod daemon;
mod error;
mod host;
mod interface;
mod link;
mod routes;
#[cfg(test)]
mod tests;
mod way;

pub use check::check;
pub use daemon::{Fork, Ready, fork};
pub use error::SystemError;
pub use host::Host;
pub(crate) use interface::index as interface_index;
pub use link::{LinkProbe, set_mtu};
pub use way::Ways;
