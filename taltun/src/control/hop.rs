//! `[hop]` where we choose: how the protocol is told to, and what it tells of the paths to a peer.

use std::time::Duration;

use super::port_range;
use crate::config::Config;
use crate::protocol::device::{Device, HopSettings, PathReport, PathState};
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;
use crate::report::{PathStatus, PathUse};

/// How paths to peers are chosen among.
pub(super) fn settings(config: &Config) -> HopSettings {
    let seconds = |number: u32| Duration::from_secs(number.into());
    let hop = &config.hop;
    HopSettings {
        interval: seconds(hop.hop_interval),
        pool: hop.hop_pool as usize,
        probe_interval: seconds(hop.probe_interval),
        loss_threshold: hop.loss_threshold,
        retry_after: seconds(hop.retry_after),
        // A client knows its hub at once when the hub starts anew and speaks first.
        always_marked: port_range::of(config).is_some(),
    }
}

/// The paths to a peer, where there are several.
pub(super) fn status(device: &Device, peer: &Peer, now: Time) -> Vec<PathStatus> {
    device.paths(peer, now).iter().map(path).collect()
}

fn path(path: &PathReport) -> PathStatus {
    let first = path.place.first();
    PathStatus {
        address: first.ip(),
        first_port: first.port(),
        last_port: path.place.last_port(),
        state: match path.state {
            PathState::Used => PathUse::Used,
            PathState::Ready => PathUse::Ready,
            PathState::SetAside => PathUse::SetAside,
            PathState::Silent => PathUse::Silent,
            PathState::Unknown => PathUse::Unknown,
        },
        delay_seconds: path.delay.map(|delay| delay.as_secs_f64()),
        loss_percent: path.loss,
    }
}
