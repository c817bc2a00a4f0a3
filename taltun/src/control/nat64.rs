//! Reaching an IPv4 address from a network that has IPv6 only, by a translator of the network's
//! (NAT64): its prefix is found by asking for the IPv6 addresses of a name that has none (RFC
//! 7050), and the address is put into it (RFC 6052).

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::look_up::LookUp;

/// A name that has these two IPv4 addresses and no other.
const NAME: &str = "ipv4only.arpa.";
const KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// The lengths that a prefix may have, bits, the usual one first.
const LENGTHS: [usize; 6] = [96, 64, 56, 48, 40, 32];

/// What a translator puts before IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    bytes: [u8; 16],
    length: usize,
}

impl Prefix {
    /// Looks the name up, which may take seconds. `None` where there is no translator.
    pub(super) async fn discover(look_up: &LookUp) -> Option<Self> {
        let addresses = look_up.addresses(NAME, 0).await.ok()?;
        addresses.iter().find_map(|address| match address.ip() {
            IpAddr::V6(address) => Self::of_answer(address),
            IpAddr::V4(_) => None,
        })
    }

    /// The IPv6 address that the translator takes for this one.
    pub(super) fn translate(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut bytes = self.bytes;
        for (place, byte) in places(self.length).zip(address.octets()) {
            if let Some(place) = bytes.get_mut(place) {
                *place = byte;
            }
        }
        bytes.into()
    }

    /// The IPv4 address that an IPv6 address of the translator's stands for.
    pub(super) fn original(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let found = self.embedded(&address.octets());
        (self.translate(found) == address).then_some(found)
    }

    fn embedded(self, bytes: &[u8; 16]) -> Ipv4Addr {
        let mut found = [0; 4];
        for (place, byte) in places(self.length).zip(&mut found) {
            *byte = bytes.get(place).copied().unwrap_or_default();
        }
        found.into()
    }

    /// The prefix of an address that a resolver has made of one of the known ones.
    pub(super) fn of_answer(answer: Ipv6Addr) -> Option<Self> {
        let bytes = answer.octets();
        LENGTHS.into_iter().find_map(|length| {
            let prefix = Self {
                bytes: std::array::from_fn(|at| {
                    let byte = bytes.get(at).filter(|_| at < length / 8);
                    byte.copied().unwrap_or_default()
                }),
                length,
            };
            let known = prefix.original(answer)?;
            KNOWN.contains(&known).then_some(prefix)
        })
    }
}

/// Where the four bytes go: right behind the prefix, but for byte 8, which is zero.
fn places(length: usize) -> impl Iterator<Item = usize> {
    (length / 8..16).filter(|place| *place != 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_put_into_the_prefix_of_an_answer() {
        // The examples of RFC 6052, section 2.4, with the known address in the answer.
        for (answer, expected) in [
            ("64:ff9b::192.0.0.170", "64:ff9b::192.0.2.33"),
            ("2001:db8:c000:aa::", "2001:db8:c000:221::"),
            ("2001:db8:1c0:0:aa::", "2001:db8:1c0:2:21::"),
            ("2001:db8:122:c000:0:ab00::", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:3c0:0:aa::", "2001:db8:122:3c0:0:221::"),
            (
                "2001:db8:122:344:c0:0:aa00:0",
                "2001:db8:122:344:c0:2:2100:0",
            ),
            (
                "2001:db8:122:344::192.0.0.171",
                "2001:db8:122:344::192.0.2.33",
            ),
        ] {
            let prefix = Prefix::of_answer(answer.parse().unwrap());
            let prefix = prefix.unwrap_or_else(|| panic!("{answer}"));
            let translated = prefix.translate(Ipv4Addr::new(192, 0, 2, 33));
            assert_eq!(
                translated,
                expected.parse::<Ipv6Addr>().unwrap(),
                "{answer}"
            );
        }
        assert_eq!(Prefix::of_answer("2001:db8::1".parse().unwrap()), None);
    }
}
