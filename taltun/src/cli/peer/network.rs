//! Networks on the command line.

use std::str::FromStr;

use ipnet::IpNet;

use crate::config;

/// A network; an address alone is that of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        config::network_as_written(text).map(Self)
    }
}

/// The networks that were given.
pub(super) fn nets(given: &[Network]) -> Vec<IpNet> {
    given.iter().map(|network| network.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        let of = |text: &str| text.parse::<Network>().map(|net| net.0.to_string());
        for (text, net) in [
            ("192.168.50.0/24", "192.168.50.0/24"),
            ("10.0.0.9", "10.0.0.9/32"),
            ("fd00::9", "fd00::9/128"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(net));
        }
        for wrong in ["", "10.0.0.0/33", "office"] {
            assert!(
                of(wrong)
                    .unwrap_err()
                    .contains("such as \"192.168.50.0/24\"")
            );
        }
    }
}
