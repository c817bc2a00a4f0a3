//! `taltun unban`

use clap::Args;

use super::ban::Whom;
use super::failure::Failure;
use super::target::Target;
use crate::control::request;
use crate::layer::Layer;

/// End a ban.
///
/// What the configuration denies as well stays denied the first time, and is named; a second
/// unban lifts that, too, until the next reload or start.
#[derive(Args)]
pub(super) struct Unban {
    /// The network, or the bare address, exactly as it was banned; or a peer, for all the bans
    /// of its addresses inside the tunnel.
    #[arg(value_name = "CIDR|PEER")]
    whom: Whom,

    /// The network is inside the tunnel.
    #[arg(long)]
    inner: bool,

    /// The network is outside, as without --inner; or, for a peer, its address outside.
    #[arg(long, conflicts_with = "inner")]
    outer: bool,

    #[command(flatten)]
    target: Target,
}

impl Unban {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.whom {
            Whom::Network(net) => self.target.command(request::Unban {
                net,
                layer: Layer::from(self.inner),
            }),
            Whom::Peer(peer) => self.target.command(request::UnbanPeer {
                peer,
                layer: Layer::from(!self.outer),
            }),
        }
    }
}
