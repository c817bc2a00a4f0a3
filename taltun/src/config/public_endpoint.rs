//! `interface.public_endpoint`: where others reach this machine, for the files of new peers.

use super::{Endpoint, PortRange, RangedEndpoint};

/// `interface.public_endpoint`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicEndpoint {
    /// With its ports, or with any where it has none.
    endpoint: RangedEndpoint,
    has_ports: bool,
}

/// What stands for the ports where there are none.
pub(super) const NO_PORTS: PortRange = PortRange { first: 1, last: 1 };

impl PublicEndpoint {
    /// An endpoint with its own ports, or else with [`NO_PORTS`].
    pub(super) fn new(endpoint: RangedEndpoint, has_ports: bool) -> Self {
        Self {
            endpoint,
            has_ports,
        }
    }

    /// A host, at whatever port.
    pub fn of_host(host: std::net::IpAddr) -> Self {
        let first = Endpoint::Address((host, NO_PORTS.first).into());
        Self {
            endpoint: RangedEndpoint {
                first,
                last_port: NO_PORTS.last,
            },
            has_ports: false,
        }
    }

    /// With these ports, unless it has its own.
    pub fn at(&self, ports: PortRange) -> RangedEndpoint {
        if self.has_ports {
            return self.endpoint.clone();
        }
        let first = match &self.endpoint.first {
            Endpoint::Address(address) => Endpoint::Address((address.ip(), ports.first).into()),
            Endpoint::Name(name, _) => Endpoint::Name(name.clone(), ports.first),
        };
        RangedEndpoint {
            first,
            last_port: ports.last,
        }
    }

    /// The address, unless it is a name.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        match &self.endpoint.first {
            Endpoint::Address(address) => Some(address.ip()),
            Endpoint::Name(..) => None,
        }
    }

    /// As it is written.
    pub(in crate::config) fn written(&self) -> String {
        if self.has_ports {
            return self.endpoint.to_string();
        }
        match &self.endpoint.first {
            Endpoint::Address(address) => address.ip().to_string(),
            Endpoint::Name(name, _) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::public_endpoint;

    #[test]
    fn it_has_its_own_ports_or_takes_those_that_there_are() {
        let range = PortRange {
            first: 4096,
            last: 8191,
        };
        for (text, expected) in [
            ("hub.example.net", "hub.example.net:4096-8191"),
            ("hub.example.net:9000", "hub.example.net:9000"),
            ("203.0.113.9:1-2", "203.0.113.9:1-2"),
            ("203.0.113.9", "203.0.113.9:4096-8191"),
            ("2001:db8::9", "[2001:db8::9]:4096-8191"),
            ("[2001:db8::9]", "[2001:db8::9]:4096-8191"),
            ("[2001:db8::9]:7", "[2001:db8::9]:7"),
            ("hub.example.net.:7", "hub.example.net.:7"),
        ] {
            let endpoint = public_endpoint(text).unwrap();
            assert_eq!(endpoint.at(range).to_string(), expected);
            let again = public_endpoint(&endpoint.written()).unwrap();
            assert_eq!(again, endpoint);
        }
        for text in [
            "",
            "0.0.0.0",
            "hub:0",
            "hub:70000",
            "1.2.3",
            "a b:7",
            "h..e",
            ".h",
            "h..:7",
            "[::]:7",
        ] {
            assert!(public_endpoint(text).is_err(), "{text}");
        }
    }
}
