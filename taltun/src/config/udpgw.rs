//! `[udpgw]`: a UDP gateway beside the tunnel.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::declared::{self, settings};

declared::udpgw::declared! { settings! {
    /// A gateway for clients that only have TCP.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Udpgw {
        /// Where clients connect to, at least one.
        pub listen: Vec<SocketAddr>,
        /// Where clients may send to besides the Internet.
        pub allow: Vec<IpNet>,
        /// Where they may not.
        pub deny: Vec<IpNet>,
    }
} }
