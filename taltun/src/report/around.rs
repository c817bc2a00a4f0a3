//! What `status` tells of what goes around the tunnel.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A route that leads around a full tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAround {
    /// Where it is for.
    pub net: IpNet,
    /// The interface that it leads through.
    pub interface: String,
    /// Whether the kill switch keeps packets from it.
    #[serde(default)]
    pub refused: bool,
    /// The router that it leads to; `None` for a network that the interface is on.
    pub gateway: Option<IpAddr>,
    /// Who made it, as the kernel knows.
    pub origin: RouteOrigin,
}

/// Who made a route. The kernel has many numbers for it, and anybody may use a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RouteOrigin {
    /// The kernel, for an address of an interface.
    Kernel,
    /// Another: `dhcp`, `ra`, `static`, `boot`, …
    Other(String),
}

impl From<String> for RouteOrigin {
    fn from(word: String) -> Self {
        match word.as_str() {
            "kernel" => Self::Kernel,
            _ => Self::Other(word),
        }
    }
}

impl From<RouteOrigin> for String {
    fn from(origin: RouteOrigin) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for RouteOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Other(word) => word,
        })
    }
}

impl RouteAround {
    /// Whether it is the kernel's own for an address of that interface.
    pub fn is_connected(&self) -> bool {
        self.gateway.is_none() && self.origin == RouteOrigin::Kernel
    }
}

impl fmt::Display for RouteAround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.net)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {} ({})", self.interface, self.origin)
    }
}

/// An address that a name of `[dns_routes]` has and that goes around the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameAround {
    /// The address.
    pub address: IpAddr,
    /// Why, in words.
    pub reason: String,
}
