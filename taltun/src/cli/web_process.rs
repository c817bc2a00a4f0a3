//! `taltun web-process`: what a tunnel with `[web]` starts for itself.

use clap::Args;

use super::failure::Failure;

/// Serve the page of the tunnel that started this process.
#[derive(Args)]
pub(super) struct WebProcess {
    /// Names by which browsers may ask for it.
    hosts: Vec<String>,
}

impl WebProcess {
    pub(super) fn run(self) -> Result<(), Failure> {
        crate::web::serve(self.hosts).map_err(|error| Failure::Other(format!("web: {error}")))
    }
}
