//! `taltun privileged-process`: what a tunnel starts for itself before it reads a packet.

use clap::Args;

use super::failure::Failure;

/// Do what takes rights, for the tunnel that started this process.
#[derive(Args)]
pub(super) struct PrivilegedProcess {
    /// The tunnel's interface.
    interface: String,
}

impl PrivilegedProcess {
    pub(super) fn run(self) -> Result<(), Failure> {
        let served = crate::privileged::serve(&self.interface);
        served.map_err(|error| Failure::Other(format!("privileged process: {error}")))
    }
}
