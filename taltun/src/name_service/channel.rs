//! What the tunnel and its resolver say to each other, over a pair of Unix sockets: lines of JSON.
//!
//! First the sockets go over. The tunnel then tells what there is to answer by, and again when the
//! file has changed. The process tells addresses that have to be led into the tunnel before it
//! answers, and every three seconds that it lives.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::zone::Zone;
use crate::config::DnsRoutes;

/// What the tunnel says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// What to answer by, from now on.
    Known {
        /// `[names]`
        zone: Option<Box<Zone>>,
        /// `[dns_routes]`
        routes: Option<DnsRoutes>,
    },
    /// What was learned is led.
    Led {
        /// Which of the messages this is about.
        number: u64,
        /// Whether all of it is.
        all: bool,
    },
}

/// What the process says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It lives.
    Beat,
    /// Addresses that belong into the tunnel from now on.
    Learned {
        /// The number of this message.
        number: u64,
        /// The names of the list that they are of.
        names: Vec<String>,
        /// Each with how long it may be remembered.
        addresses: Vec<(IpAddr, Duration)>,
    },
}
