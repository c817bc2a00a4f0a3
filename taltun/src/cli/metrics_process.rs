//! `taltun metrics-process`: what a tunnel with `[metrics]` starts for itself.

use clap::Args;

use super::failure::Failure;

/// Serve the metrics of the tunnel that started this process.
#[derive(Args)]
pub(super) struct MetricsProcess {}

impl MetricsProcess {
    pub(super) fn run() -> Result<(), Failure> {
        crate::metrics::serve().map_err(|error| Failure::Other(format!("metrics: {error}")))
    }
}
