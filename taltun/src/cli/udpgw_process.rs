//! `taltun udpgw-process`: what a tunnel with `[udpgw]` starts for itself.

use clap::Args;

use super::failure::Failure;

/// Run the UDP gateway of the tunnel that started this process.
#[derive(Args)]
pub(super) struct UdpgwProcess {
    /// The section of the file, as JSON.
    settings: String,
    /// Say more.
    #[arg(long)]
    debug: bool,
}

impl UdpgwProcess {
    pub(super) fn run(self) -> Result<(), Failure> {
        let served = crate::gateway::serve(&self.settings, self.debug);
        served.map_err(|error| Failure::Other(format!("udpgw: {error}")))
    }
}
