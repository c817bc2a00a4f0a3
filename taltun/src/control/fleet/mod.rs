//! A hub of a fleet: several hubs have the same peers and bans, by way of etcd.
//!
//! A thread of its own talks with etcd and keeps what the fleet agrees on. The controller gets the
//! peers and bans from it and never waits for it, so that all goes on while etcd is away. A peer of
//! the fleet becomes one of the tunnel as if it were in the file: see [`crate::config::AddedPeers`].
//!
//! | file | concern |
//! |---|---|
//! | [`link`] | the way from the controller to the thread |
//! | [`hub`] | the thread: what etcd tells, what is asked, what is written |
//! | [`settings`] | what the configuration says of it |
//! | [`writes`] | what etcd is still to get |
//! | [`health`] | which members of etcd answer |
//! | [`edits`] | changes of peers, signed |
//! | [`records`] | records of the store as peers of a configuration, and back |
//! | [`shared_homes`] | where peers are at home, for the controller and the thread |
//! | [`membership`] | what makes this machine a hub of the fleet, on its disk |
//! | [`operator`] | the commands that make and join a fleet |
//! | [`backup`] | the commands that write its records into a text, and read them |

#[cfg(feature = "fleet")]
pub(crate) mod backup;
#[cfg(feature = "fleet")]
mod edits;
#[cfg(feature = "fleet")]
mod health;
#[cfg(feature = "fleet")]
mod hub;
mod link;
#[cfg(feature = "fleet")]
mod membership;
#[cfg(feature = "fleet")]
pub(crate) mod operator;
#[cfg(feature = "fleet")]
mod records;
#[cfg(feature = "fleet")]
mod settings;
#[cfg(feature = "fleet")]
mod shared_homes;
#[cfg(feature = "fleet")]
mod writes;

#[cfg(feature = "fleet")]
pub(super) use self::link::Standing;
pub(super) use self::link::{FleetBan, FleetEdit, FleetHub, Link, New, News, NotEdited};
#[cfg(feature = "fleet")]
pub(super) use self::shared_homes::SharedHomes;
use crate::config::Config;

/// Starts the thread of a hub that is in a fleet.
#[cfg(feature = "fleet")]
pub(super) fn start(config: &Config) -> anyhow::Result<Option<Link>> {
    config
        .fleet
        .as_ref()
        .map(|fleet| hub::start(fleet, &config.interface))
        .transpose()
}

/// What of `[fleet]` can't be used, such as a file of its certificates that can't be read.
#[cfg(feature = "fleet")]
pub(crate) fn unusable(config: &Config) -> Option<String> {
    let fleet = config.fleet.as_ref()?;
    let read = settings::Settings::of(fleet, &config.interface);
    read.err().map(|error| format!("{error:#}"))
}

/// Without fleets no file has one.
#[cfg(not(feature = "fleet"))]
pub(super) fn start(config: &Config) -> anyhow::Result<Option<Link>> {
    anyhow::ensure!(
        config.fleet.is_none(),
        "this Taltun is built without fleets"
    );
    Ok(None)
}
