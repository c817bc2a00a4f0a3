//! Where something listens beside the tunnel.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The most places that one service listens at.
pub(crate) const LISTEN_MAX: usize = 8;

/// Where clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAt {
    /// An address and a port.
    Address(SocketAddr),
    /// A Unix socket's file.
    File(PathBuf),
}

impl ListenAt {
    /// The address, if it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::File(_) => None,
        }
    }
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
