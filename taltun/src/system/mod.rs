//! The host's network: checks before a tunnel starts, and all changes for it and their undoing:
//! addresses, routes, policy rules, firewall rules, kernel settings and the resolver.
//!
//! Addresses and routes of the TUN interface vanish with the process. All else is in a journal
//! first, so that the next start can undo what a killed process couldn't.

mod check;
mod clones;
mod conntrack;
mod daemon;
mod dns;
mod early_switch;
mod error;
mod firewall;
mod foreign;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host;
mod ipv6;
mod journal;
mod keep;
mod kept;
mod lead;
mod left_file;
mod link;
mod local;
mod marks;
mod namespace;
mod needs;
mod network;
mod news;
mod open_ports;
mod packet_filter;
mod path;
mod policy;
mod predecessor;
mod program;
mod remnants;
mod reserved_ports;
mod resolver;
mod route_watch;
mod routes;
mod secrecy;
#[cfg(feature = "fleet")]
mod shared_address;
mod socket_marks;
mod switches;
mod sysctl;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_routing;
mod undo;
mod unit;

pub use check::check;
pub use clones::Clones;
pub use daemon::{Fork, Ready, fork};
pub use early_switch::close_kill_switch;
pub use error::SystemError;
pub use firewall::{Redirect, Sources};
pub use foreign::Foreign;
pub use host::{Endpoints, Host, remembered_endpoints};
pub use kept::Kept;
pub use link::{LinkProbe, set_mtu, without_multicast};
pub use local::{local_address, source_addresses, way_around};
pub use namespace::current as network_namespace;
pub use needs::{firewall_lack, missing_programs};
pub use open_ports::{listening_places, udp_ports};
pub use packet_filter::{NoFilter, compile_filter};
pub use path::{Path, path, routes_around};
pub use reserved_ports::Reservation;
pub use route_watch::{Changes, RouteWatcher};
pub use secrecy::keep_secrets;
#[cfg(feature = "fleet")]
pub use shared_address::{Hold, SharedAddress};
pub use switches::{LeftSwitch, LeftSwitches, SwitchState, left_switches};
pub use sysctl::{Unforwarded, passes_on, reserved, unforwarded};
pub use undo::{Scope, Undone, undo};
pub use unit::{for_the_shell, start_command};

/// The range of ports that leads to the port of `config`, if there is one.
fn hop_ports(config: &crate::config::Config) -> Option<std::ops::RangeInclusive<u16>> {
    let is_server = config.interface.mode == crate::config::Mode::Server;
    let range = config.hop.port_range.filter(|_| is_server)?;
    Some(range.first..=range.last)
}
