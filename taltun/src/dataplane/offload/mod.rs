//! Segmentation offloads of the TUN, done by hand: many packets a system call.
//!
//! With `IFF_VNET_HDR` the kernel hands over TCP streams (and, since Linux 6.2, UDP bursts)
//! in pieces of up to 64 KB that nobody has cut into packets or checksummed yet, and takes
//! such pieces back. [`split`] cuts what the kernel sends; [`coalesce`] joins what peers
//! sent. Both are pure functions over bytes, tested against naive references.

pub mod checksum;
pub mod coalesce;
pub mod split;
#[cfg(test)]
mod tests;
pub mod vnet;
