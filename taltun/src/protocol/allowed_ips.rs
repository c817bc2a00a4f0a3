//! Cryptokey routing (paper §2): from an inner address to the peer that owns the longest
//! prefix covering it, for IPv4 and IPv6.
//!
//! A path-compressed binary trie in one vector: a node holds a whole prefix, its children
//! differ from it at the next bit. Lookup touches one node a branching on the way.

use std::net::IpAddr;

use ipnet::IpNet;

const NONE: u32 = u32::MAX;

/// A longest-prefix-match table.
#[derive(Debug, Clone)]
pub struct AllowedIps<T> {
    nodes: Vec<Node<T>>,
    roots: [u32; 2],
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// The prefix, left-aligned; bits behind it are zero.
    bits: u128,
    len: u8,
    children: [u32; 2],
    value: Option<T>,
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
            nodes: Vec::new(),
            roots: [NONE; 2],
            len: 0,
        }
    }
}

impl<T> AllowedIps<T> {
    /// How many prefixes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives `net` to `value`, taking it from whoever had exactly this prefix before.
    pub fn insert(&mut self, net: IpNet, value: T) -> Option<T> {
        let (family, bits) = align(net.network());
        let len = net.prefix_len();
        let mut parent: Option<(u32, usize)> = None;
        let mut at = self.roots[family];
        loop {
            if at == NONE {
                let leaf = self.add(bits, len, Some(value));
                self.link(family, parent, leaf);
                self.len += 1;
                return None;
            }
            let node = &self.nodes[at as usize];
            let common = common_len(node.bits, bits).min(node.len).min(len);
            if common == node.len && common == len {
                let old = self.nodes[at as usize].value.replace(value);
                self.len += usize::from(old.is_none());
                return old;
            }
            if common == node.len {
                let branch = bit(bits, node.len);
                parent = Some((at, branch));
                at = node.children[branch];
                continue;
            }
            // They part inside this node's prefix: a node for what they share goes between.
            let old_branch = bit(node.bits, common);
            let between = if common == len {
                self.add(bits, len, Some(value))
            } else {
                let leaf = self.add(bits, len, Some(value));
                let between = self.add(mask(bits, common), common, None);
                self.nodes[between as usize].children[1 - old_branch] = leaf;
                between
            };
            self.nodes[between as usize].children[old_branch] = at;
            self.link(family, parent, between);
            self.len += 1;
            return None;
        }
    }

    /// The owner of the longest prefix that covers `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<Match<'_, T>> {
        let (family, bits) = align(address);
        let mut best = None;
        let mut at = self.roots[family];
        while at != NONE {
            let node = &self.nodes[at as usize];
            if mask(bits, node.len) != node.bits {
                break;
            }
            if let Some(value) = &node.value {
                best = Some(Match {
                    prefix_len: node.len,
                    value,
                });
            }
            if usize::from(node.len) == max_len(family) {
                break;
            }
            at = node.children[bit(bits, node.len)];
        }
        best
    }

    /// Keeps only the prefixes whose owner `keep` approves, and gives back the memory of
    /// the others.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let old = std::mem::take(self);
        let roots = old.roots;
        let mut nodes: Vec<Option<Node<T>>> = old.nodes.into_iter().map(Some).collect();
        for (family, root) in roots.into_iter().enumerate() {
            let mut stack = vec![root];
            while let Some(at) = stack.pop() {
                let Some(node) = nodes.get_mut(at as usize).and_then(Option::take) else {
                    continue;
                };
                stack.extend(node.children);
                if let Some(value) = node.value
                    && keep(&value)
                {
                    self.insert(to_net(family, node.bits, node.len), value);
                }
            }
        }
    }

    /// Takes exactly `net` from its owner, if `owned` says so of the owner; whether it did.
    pub fn remove_if(&mut self, net: IpNet, owned: impl FnOnce(&T) -> bool) -> bool {
        let (family, bits) = align(net.network());
        let mut at = self.roots[family];
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            if node.len > net.prefix_len() || mask(bits, node.len) != node.bits {
                return false;
            }
            if node.len == net.prefix_len() {
                if !node.value.as_ref().is_some_and(owned) {
                    return false;
                }
                node.value = None;
                self.len -= 1;
                break;
            }
            at = node.children[bit(bits, node.len)];
        }
        if at == NONE {
            return false;
        }
        // A table of n prefixes needs fewer than 2n nodes. What removals leave behind is
        // given back once it outgrows what is in use, not each time.
        if self.nodes.len() > 4 * self.len + 64 {
            self.retain(|_| true);
        }
        true
    }

    /// Every prefix and its owner: IPv4 first, each family in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        let mut stack = vec![(1, self.roots[1]), (0, self.roots[0])];
        std::iter::from_fn(move || {
            while let Some((family, at)) = stack.pop() {
                let Some(node) = self.nodes.get(at as usize) else {
                    continue;
                };
                stack.push((family, node.children[1]));
                stack.push((family, node.children[0]));
                if let Some(value) = &node.value {
                    return Some((to_net(family, node.bits, node.len), value));
                }
            }
            None
        })
    }

    fn add(&mut self, bits: u128, len: u8, value: Option<T>) -> u32 {
        let at = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        assert!(at != NONE, "four thousand million prefixes");
        self.nodes.push(Node {
            bits,
            len,
            children: [NONE; 2],
            value,
        });
        at
    }

    fn link(&mut self, family: usize, parent: Option<(u32, usize)>, child: u32) {
        match parent {
            Some((parent, branch)) => self.nodes[parent as usize].children[branch] = child,
            None => self.roots[family] = child,
        }
    }
}

/// Root index and left-aligned bits.
fn align(address: IpAddr) -> (usize, u128) {
    match address {
        IpAddr::V4(ip) => (0, u128::from(u32::from(ip)) << 96),
        IpAddr::V6(ip) => (1, u128::from(ip)),
    }
}

fn to_net(family: usize, bits: u128, len: u8) -> IpNet {
    let address = if family == 0 {
        IpAddr::V4(((bits >> 96) as u32).into())
    } else {
        IpAddr::V6(bits.into())
    };
    IpNet::new(address, len).expect("the length came from a network of this family")
}

fn max_len(family: usize) -> usize {
    if family == 0 { 32 } else { 128 }
}

fn bit(bits: u128, at: u8) -> usize {
    usize::from(bits << at >> 127 == 1)
}

fn mask(bits: u128, len: u8) -> u128 {
    match len {
        0 => 0,
        len => bits & u128::MAX << (128 - len),
    }
}

fn common_len(a: u128, b: u128) -> u8 {
    (a ^ b).leading_zeros() as u8
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
    fn what_comes_and_goes_leaves_no_memory_behind() {
        let mut table = AllowedIps::default();
        for round in 0..1000_u32 {
            for last in 0..10 {
                let prefix = IpNet::from(IpAddr::from((round * 7919 + last).to_be_bytes()));
                table.insert(prefix, last);
                assert!(table.remove_if(prefix, |owner| *owner == last));
            }
        }
        assert!(table.is_empty());
        assert!(table.nodes.len() < 100, "{} nodes", table.nodes.len());
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
