//! `taltun names-process`: what a tunnel with `[names]` or `[dns_routes]` starts for itself.

use clap::Args;

use super::failure::Failure;

/// Answer questions for names, for the tunnel that started this process.
#[derive(Args)]
pub(super) struct NamesProcess {
    /// Say more.
    #[arg(long)]
    debug: bool,
}

impl NamesProcess {
    pub(super) fn run(self) -> Result<(), Failure> {
        let served = crate::name_service::serve(self.debug);
        served.map_err(|error| Failure::Other(format!("names: {error}")))
    }
}
