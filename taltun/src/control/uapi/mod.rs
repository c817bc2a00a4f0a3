//! WireGuard's own configuration protocol, which `wg` and everything built on it speak: a
//! Unix socket `INTERFACE.sock` in `/var/run/wireguard`, lines of `key=value`, an empty line
//! at the end, keys in hexadecimal, and an `errno` as the answer.
//!
//! | file | concern |
//! |---|---|
//! | [`request`] | from lines to a [`SetRequest`]; pure |
//! | [`answer`] | from a [`Snapshot`] to lines; pure |
//! | [`server`] | the socket and its clients |
//! | [`apply`] | what a request does to a running tunnel |
//!
//! A request is read to its end before any of it is done, so one that breaks off or makes
//! no sense changes nothing.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

mod answer;
mod apply;
mod request;
mod server;
mod told;

use std::fmt;
use std::path::PathBuf;

use tokio::sync::oneshot;

use super::caller::Caller;
use crate::verbs::Trouble;
pub(super) use answer::{Snapshot, SnapshotPeer};
pub(super) use apply::{Target, snapshot};
#[cfg(feature = "fuzzing")]
pub(super) use request::SetParser;
pub(super) use request::SetRequest;
pub(super) use server::UapiSocket;
pub(super) use told::WgChanges;

/// Environment variable that moves the sockets out of `/var/run/wireguard`, where `wg`
/// looks for them.
pub const UAPI_DIR_VARIABLE: &str = "TALTUN_UAPI_DIR";

/// An error number of the kernel's, above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errno(pub i32);

impl fmt::Display for Errno {
    /// As the answer to a request tells it: below zero, as wireguard-go does and `wg` takes
    /// it, whatever the protocol's page says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}", self.0)
    }
}

impl Errno {
    /// A value can't be understood, or a key isn't known.
    pub(super) const INVALID: Self = Self(libc::EINVAL);
    /// What came isn't of the protocol's form.
    pub(super) const PROTOCOL: Self = Self(libc::EPROTO);
    /// The request is longer than we keep.
    pub(super) const TOO_LONG: Self = Self(libc::E2BIG);
    /// What is asked for is in use.
    pub(super) const IN_USE: Self = Self(libc::EBUSY);
    /// The kernel refused, and didn't say why.
    pub(super) const IO: Self = Self(libc::EIO);
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        let of_process = Trouble::of(&error).map(Trouble::errno);
        error.raw_os_error().or(of_process).map_or(Self::IO, Self)
    }
}

/// A request on its way to the controller, and where its answer goes.
#[derive(Debug)]
pub(super) enum UapiCall {
    /// `get=1`
    Get(oneshot::Sender<Snapshot>),
    /// `set=1`
    Set(Box<SetRequest>, Caller, oneshot::Sender<Result<(), Errno>>),
}

/// Where the sockets are: `$TALTUN_UAPI_DIR`; else, where the control sockets were moved by
/// `$TALTUN_RUNTIME_DIR`, below that, as interfaces in several network namespaces may have
/// the same name; else `/var/run/wireguard`.
pub(super) fn uapi_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = variable(UAPI_DIR_VARIABLE) {
        PathBuf::from(dir)
    } else if let Some(dir) = variable(super::RUNTIME_DIR_VARIABLE) {
        PathBuf::from(dir).join("wireguard")
    } else {
        PathBuf::from("/var/run/wireguard")
    }
}
