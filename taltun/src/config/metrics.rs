//! `[metrics]`: figures for Prometheus.

use super::listen_at::ListenAt;

/// Figures for a scraper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where scrapers connect to.
    pub listen: Vec<ListenAt>,
}
