//! `[metrics]`: figures for Prometheus.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The most places for scrapers to connect to.
pub(crate) const METRICS_LISTEN_MAX: usize = 8;

/// Figures for a scraper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where scrapers connect to.
    pub listen: Vec<MetricsListen>,
}

/// Where scrapers connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsListen {
    /// An address and a port.
    Address(SocketAddr),
    /// A Unix socket's file.
    File(PathBuf),
}

impl MetricsListen {
    /// The address, if it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::File(_) => None,
        }
    }
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
