//! The controller: handshakes, timers, maps and the control socket, all on one thread.

mod answer_to;
mod audit;
mod bans;
mod caller;
mod changed_peers;
mod client;
mod diagnosis;
mod dialer;
mod dirs;
mod dns_routes;
mod engine;
mod error;
mod explain;
mod export;
mod flaps;
pub(crate) mod fleet;
mod forwards;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gateway;
mod handshake_load;
mod hooks;
mod hop;
mod icmp;
mod inside;
mod kernel_relay;
mod last_minute;
mod ledger;
mod left_switches;
mod limits;
mod listener;
mod listening;
mod live;
mod load;
mod look_up;
mod lookups;
mod memory;
#[cfg(feature = "fleet")]
mod mesh;
mod metrics;
mod metrics_seen;
mod moments;
mod name_servers;
mod name_service;
mod names;
mod nat64;
mod network_watch;
mod origin;
mod overview;
mod ownership;
mod pace;
mod panics;
mod peer_log;
mod peer_process;
mod peer_rates;
mod peers;
mod port_range;
mod pretenders;
mod privileged;
mod rate_meter;
mod reload;
mod reporting;
pub mod request;
pub mod response;
mod rules;
mod run;
mod served;
mod shaping;
mod since;
mod socket;
mod socket_file;
mod spare;
mod state_file;
mod suspicions;
mod switch_words;
mod terminal;
mod uapi;
mod underlay;
mod usage_file;
mod usage_table;
mod watching;
mod web;
mod window;
mod words;

pub use caller::Caller;
pub use client::{call, interface_of, open};
pub use error::ControlError;
#[cfg(feature = "fleet")]
pub(crate) use fleet::unusable as unusable_fleet;
pub(crate) use forwards::kept_from_others as forwards_keep_from_others;
pub(crate) use gateway::unopened as unopened_by_gateway;
pub(crate) use kernel_relay::lacks as kernel_relay_lacks;
pub use left_switches::left_switches;
pub use origin::{Origin, TunnelKind};
pub(crate) use pretenders::unrefused as pretenders_unrefused;
pub use request::{Call, Request};
pub use response::Response;
pub use run::run;
pub use since::Since;
pub use socket::ControlSocket;
pub use uapi::UAPI_DIR_VARIABLE;
pub use usage_file::usage;
pub use watching::MOST_LINES;

use std::path::PathBuf;

/// Environment variable that moves the control sockets out of `/run/taltun`. Network
/// namespaces share `/run`, so nodes of the same interface name in different namespaces
/// need a directory each.
pub const RUNTIME_DIR_VARIABLE: &str = "TALTUN_RUNTIME_DIR";

/// Environment variable that moves what outlives a run out of `/var/lib/taltun`. Without it
/// a tunnel whose control socket was moved keeps that beside its socket, in `state`.
pub const STATE_DIR_VARIABLE: &str = "TALTUN_STATE_DIR";

/// Where the control sockets are: `$TALTUN_RUNTIME_DIR`, or else `/run/taltun`; for a user
/// who may not write there, `$XDG_RUNTIME_DIR/taltun`.
pub fn runtime_dir() -> PathBuf {
    dirs::runtime()
}

/// Who serves the interface called `name`, as the error that says so; `None` when nobody
/// does who can be found.
pub fn holder(name: &str) -> Option<ControlError> {
    [runtime_dir(), uapi::uapi_dir()]
        .iter()
        .find_map(|dir| socket_file::holder(&socket_path(dir, name)))
}

fn socket_path(dir: &std::path::Path, interface: &str) -> PathBuf {
    dir.join(format!("{interface}.sock"))
}
