//! `[metrics]`: figures for Prometheus.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Figures for a scraper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where scrapers connect to.
    pub listen: MetricsListen,
}

/// Where scrapers connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsListen {
    /// An address and a port.
    Address(SocketAddr),
    /// A Unix socket's file.
    File(PathBuf),
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
