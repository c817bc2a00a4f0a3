//! `taltun ban`

use clap::Args;
use ipnet::IpNet;

use super::duration::Duration;
use super::failure::Failure;
use super::target::Target;
use crate::config;
use crate::control::Request;

/// Drop everything that comes from a network.
///
/// Without --inner the network is one of the underlay: its datagrams are dropped by the XDP
/// program, before they cost anything. With --inner it is one inside the tunnel. A ban ends
/// after --for, with `unban`, or when the tunnel stops; for lasting ones use `deny` and
/// `deny_inner` in the configuration.
#[derive(Args)]
pub(super) struct Ban {
    /// A network, or a bare address.
    #[arg(value_name = "CIDR", value_parser = network)]
    net: IpNet,

    /// The network is inside the tunnel.
    #[arg(long)]
    inner: bool,

    /// For how long: 90s, 10m, 1h30m, 2d.
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Duration>,

    #[command(flatten)]
    target: Target,
}

impl Ban {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.target.command(&Request::Ban {
            net: self.net,
            inner: self.inner,
            seconds: self.duration.map(|duration| duration.seconds),
        })
    }
}

/// A network of the command line; bits beyond the prefix are cleared.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    config::network(text).map(|(net, _)| net)
}
