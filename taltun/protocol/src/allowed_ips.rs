//! Cryptokey routing (paper §2): from an inner address to the peer that owns the longest
//! prefix covering it, for IPv4 and IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::trie::Trie;

/// A longest-prefix-match table.
#[derive(Debug, Clone)]
pub struct AllowedIps<T> {
    v4: Trie<u32, T>,
    v6: Trie<u128, T>,
}

/// The prefix that matched, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match<'a, T> {
    /// Bits of the matching prefix.
    pub prefix_len: u8,
    /// Its owner.
    pub value: &'a T,
}

impl<T> Default for AllowedIps<T> {
    fn default() -> Self {
        Self {
            v4: Trie::default(),
            v6: Trie::default(),
        }
    }
}

impl<T> AllowedIps<T> {
    /// How many prefixes it holds.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives `net` to `value`, and returns the earlier owner of exactly this prefix.
    pub fn insert(&mut self, net: IpNet, value: T) -> Option<T> {
        let net = canonical(net);
        match net.network() {
            IpAddr::V4(ip) => self.v4.insert(ip.into(), net.prefix_len(), value),
            IpAddr::V6(ip) => self.v6.insert(ip.into(), net.prefix_len(), value),
        }
    }

    /// The owner of the longest prefix that covers `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<Match<'_, T>> {
        let (prefix_len, value) = match address {
            IpAddr::V4(ip) => self.v4.lookup(ip.into()),
            IpAddr::V6(ip) => self.v6.lookup(ip.into()),
        }?;
        Some(Match { prefix_len, value })
    }

    /// The owner of exactly `net`.
    pub fn get(&self, net: IpNet) -> Option<&T> {
        let net = canonical(net);
        match net.network() {
            IpAddr::V4(ip) => self.v4.get(ip.into(), net.prefix_len()),
            IpAddr::V6(ip) => self.v6.get(ip.into(), net.prefix_len()),
        }
    }

    /// Every prefix that covers `address`, by its length, and its owner; the shortest first.
    pub fn covering(&self, address: IpAddr) -> Box<dyn Iterator<Item = (u8, &T)> + '_> {
        match address {
            IpAddr::V4(ip) => Box::new(self.v4.covering(ip.into())),
            IpAddr::V6(ip) => Box::new(self.v6.covering(ip.into())),
        }
    }

    /// Every prefix inside `net`, and `net` itself, with its owner, in ascending order.
    pub fn within(&self, net: IpNet) -> Box<dyn Iterator<Item = (IpNet, &T)> + '_> {
        let net = canonical(net);
        match net.network() {
            IpAddr::V4(ip) => Box::new(v4(self.v4.within(ip.into(), net.prefix_len()))),
            IpAddr::V6(ip) => Box::new(v6(self.v6.within(ip.into(), net.prefix_len()))),
        }
    }

    /// Keeps only the prefixes whose owner `keep` approves, and gives back the memory of
    /// the others.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.v4.retain(&mut keep);
        self.v6.retain(keep);
    }

    /// Takes exactly `net` from its owner, if `owned` says so of the owner; whether it did.
    pub fn remove_if(&mut self, net: IpNet, owned: impl FnOnce(&T) -> bool) -> bool {
        let net = canonical(net);
        match net.network() {
            IpAddr::V4(ip) => self.v4.remove_if(ip.into(), net.prefix_len(), owned),
            IpAddr::V6(ip) => self.v6.remove_if(ip.into(), net.prefix_len(), owned),
        }
    }

    /// Every prefix and its owner: IPv4 first, each family in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        v4(self.v4.iter()).chain(v6(self.v6.iter()))
    }
}

fn v4<'a, T: 'a>(
    prefixes: impl Iterator<Item = (u32, u8, &'a T)>,
) -> impl Iterator<Item = (IpNet, &'a T)> {
    prefixes.map(|(bits, len, value)| (to_net(Ipv4Addr::from(bits).into(), len), value))
}

fn v6<'a, T: 'a>(
    prefixes: impl Iterator<Item = (u128, u8, &'a T)>,
) -> impl Iterator<Item = (IpNet, &'a T)> {
    prefixes.map(|(bits, len, value)| (to_net(Ipv6Addr::from(bits).into(), len), value))
}

/// The one form of a network: IPv4 in its mapped form is IPv4, which is what its addresses
/// are when they are looked up. Host bits are cut off.
pub fn canonical(net: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let net = net.trunc();
    if let IpNet::V6(v6) = net
        && let Some(bits) = v6.prefix_len().checked_sub(MAPPED)
        && let Some(v4) = v6.network().to_ipv4_mapped()
    {
        return to_net(v4.into(), bits);
    }
    net
}

fn to_net(address: IpAddr, len: u8) -> IpNet {
    IpNet::new(address, len).expect("the length came from a network of this family")
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn owner(table: &AllowedIps<u32>, address: &str) -> Option<u32> {
        table.lookup(address.parse().unwrap()).map(|m| *m.value)
    }

    #[test]
    fn the_longest_prefix_wins() {
        let mut table = AllowedIps::default();
        for (prefix, value) in [
            ("0.0.0.0/0", 0),
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.2.3/32", 3),
            ("10.1.2.0/24", 4),
            ("::/0", 5),
            ("2001:db8::/32", 6),
            ("2001:db8::1/128", 7),
        ] {
            assert_eq!(table.insert(net(prefix), value), None);
        }
        assert_eq!(table.len(), 8);
        assert_eq!(owner(&table, "192.0.2.1"), Some(0));
        assert_eq!(owner(&table, "10.2.0.1"), Some(1));
        assert_eq!(owner(&table, "10.1.3.1"), Some(2));
        assert_eq!(owner(&table, "10.1.2.3"), Some(3));
        assert_eq!(owner(&table, "10.1.2.4"), Some(4));
        assert_eq!(owner(&table, "2002::1"), Some(5));
        assert_eq!(owner(&table, "2001:db8::2"), Some(6));
        assert_eq!(owner(&table, "2001:db8::1"), Some(7));
    }

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        for (written, meant) in [
            ("::ffff:198.51.100.7/128", "198.51.100.7/32"),
            ("::ffff:198.51.100.7/120", "198.51.100.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::198.51.100.7/128", "::198.51.100.7/128"),
            ("10.1.2.3/8", "10.0.0.0/8"),
        ] {
            assert_eq!(canonical(net(written)), net(meant), "{written}");
        }
        let mut table = AllowedIps::default();
        table.insert(net("::ffff:198.51.100.0/120"), 1);
        assert_eq!(owner(&table, "198.51.100.77"), Some(1));
        assert!(table.remove_if(net("198.51.100.0/24"), |owner| *owner == 1));
        assert!(table.is_empty());
    }

    #[test]
    fn the_families_do_not_meet() {
        let mut table = AllowedIps::default();
        table.insert(net("0.0.0.0/0"), 4);
        assert_eq!(owner(&table, "::1"), None);
        assert_eq!(owner(&table, "::ffff:1.2.3.4"), None);
    }

    #[test]
    fn a_prefix_moves_to_its_last_owner() {
        let mut table = AllowedIps::default();
        assert_eq!(table.insert(net("10.0.0.0/8"), 1), None);
        assert_eq!(table.insert(net("10.0.0.0/8"), 2), Some(1));
        assert_eq!(table.len(), 1);
        assert_eq!(owner(&table, "10.9.9.9"), Some(2));
    }

    #[test]
    fn a_prefix_is_taken_only_from_the_owner_that_is_meant() {
        let mut table = AllowedIps::default();
        table.insert(net("10.0.0.0/8"), 1);
        table.insert(net("10.1.0.0/16"), 2);
        assert!(!table.remove_if(net("10.1.0.0/16"), |owner| *owner == 1));
        assert!(!table.remove_if(net("10.1.2.0/24"), |_| true));
        assert!(!table.remove_if(net("0.0.0.0/0"), |_| true));
        assert!(table.remove_if(net("10.1.0.0/16"), |owner| *owner == 2));
        assert!(!table.remove_if(net("10.1.0.0/16"), |_| true));
        assert_eq!(owner(&table, "10.1.2.3"), Some(1));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn all_prefixes_are_listed_in_order() {
        let mut table = AllowedIps::default();
        for text in [
            "2001:db8::/32",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "10.1.0.0/16",
            "::/0",
            "9.0.0.0/8",
        ] {
            table.insert(net(text), ());
        }
        let listed: Vec<String> = table.iter().map(|(net, ())| net.to_string()).collect();
        assert_eq!(
            listed,
            [
                "0.0.0.0/0",
                "9.0.0.0/8",
                "10.0.0.0/8",
                "10.1.0.0/16",
                "::/0",
                "2001:db8::/32"
            ]
        );
    }

    #[test]
    fn random_tables_agree_with_a_naive_list() {
        for seed in 0..40 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut table = AllowedIps::default();
            let mut naive: Vec<(IpNet, u32)> = Vec::new();
            for value in 0..300 {
                let prefix = random_net(&mut rng);
                naive.retain(|(known, _)| *known != prefix);
                naive.push((prefix, value % 10));
                table.insert(prefix, value % 10);
            }
            if seed % 2 == 1 {
                table.retain(|value| value % 3 != 0);
                naive.retain(|(_, value)| value % 3 != 0);
            }
            for _ in 0..100 {
                let prefix = random_net(&mut rng);
                let known = naive.iter().any(|(known, _)| *known == prefix);
                assert_eq!(table.remove_if(prefix, |_| true), known);
                naive.retain(|(known, _)| *known != prefix);
            }
            assert_eq!(table.iter().count(), naive.len());
            assert_eq!(table.len(), naive.len());
            for _ in 0..200 {
                let around = random_net(&mut rng);
                let mut expected: Vec<_> = naive.clone();
                expected.retain(|(prefix, _)| around.contains(prefix));
                expected.sort_unstable();
                let mut found: Vec<_> = table.within(around).map(|(net, of)| (net, *of)).collect();
                found.sort_unstable();
                assert_eq!(found, expected, "{around}");
            }
            for _ in 0..2000 {
                let address = random_net(&mut rng).addr();
                let expected = naive
                    .iter()
                    .filter(|(prefix, _)| prefix.contains(&address))
                    .max_by_key(|(prefix, _)| prefix.prefix_len())
                    .map(|(_, value)| *value);
                assert_eq!(table.lookup(address).map(|m| *m.value), expected);
            }
        }
    }

    /// Few distinct leading bytes, so that prefixes nest and part at every length.
    fn random_net(rng: &mut ChaCha8Rng) -> IpNet {
        let word = rng.next_u64();
        let few = |byte: u64| [0, 1, 128, 254, 255][(byte % 5) as usize];
        if word & 1 == 0 {
            let ip = [
                few(word >> 8),
                few(word >> 16),
                few(word >> 24),
                few(word >> 32),
            ];
            let len = (word >> 40) % 33;
            IpNet::new(IpAddr::from(ip), len as u8).unwrap().trunc()
        } else {
            let mut ip = [0_u8; 16];
            for byte in &mut ip {
                *byte = few(rng.next_u64());
            }
            let len = (word >> 40) % 129;
            IpNet::new(IpAddr::from(ip), len as u8).unwrap().trunc()
        }
    }
}
