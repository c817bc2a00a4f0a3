//! `taltun unban`

use clap::Args;
use ipnet::IpNet;

use super::ban::network;
use super::failure::Failure;
use super::target::Target;
use crate::control::Request;

/// Take a ban back.
#[derive(Args)]
pub(super) struct Unban {
    /// The network, or the bare address, exactly as it was banned.
    #[arg(value_name = "CIDR", value_parser = network)]
    net: IpNet,

    /// The network is inside the tunnel.
    #[arg(long)]
    inner: bool,

    #[command(flatten)]
    target: Target,
}

impl Unban {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.target.command(&Request::Unban {
            net: self.net,
            inner: self.inner,
        })
    }
}
