//! A path-compressed binary trie in one vector, for prefixes of one address family: a node
//! holds a whole prefix, its children differ from it at the next bit.
//!
//! Every packet takes several look-ups, so these are fast: a node takes few bytes, an address is a
//! number of its family's own width, and a look-up reads one node per branch on the way.

use std::ops::{BitAnd, BitXor};

/// No node: beyond the end of any vector.
const NONE: u32 = u32::MAX;

/// An address as a number whose highest bit is its first.
pub(super) trait Bits: Copy + Eq + BitXor<Output = Self> + BitAnd<Output = Self> {
    /// Number of bits.
    const LEN: u8;
    const ZERO: Self;
    const ONES: Self;

    /// The bit at `at`, counted from the first; anything behind the last.
    fn bit(self, at: u8) -> usize;
    /// Whether the first bits of two addresses are the same, those that `mask` says.
    fn is_within(self, prefix: Self, mask: Self) -> bool {
        (self ^ prefix) & mask == Self::ZERO
    }
    /// The first `len` bits, and zeroes behind them.
    fn first(self, len: u8) -> Self;
    /// How many of the first bits two addresses share.
    fn shared(self, other: Self) -> u8;
}

impl Bits for u32 {
    const LEN: u8 = 32;
    const ZERO: Self = 0;
    const ONES: Self = u32::MAX;

    fn bit(self, at: u8) -> usize {
        (self.wrapping_shl(at.into()) >> 31) as usize
    }

    fn first(self, len: u8) -> Self {
        self & !(u64::from(u32::MAX) >> len) as u32
    }

    fn shared(self, other: Self) -> u8 {
        (self ^ other).leading_zeros() as u8
    }
}

impl Bits for u128 {
    const LEN: u8 = 128;
    const ZERO: Self = 0;
    const ONES: Self = u128::MAX;

    fn bit(self, at: u8) -> usize {
        (self.wrapping_shl(at.into()) >> 127) as usize
    }

    fn first(self, len: u8) -> Self {
        self & !u128::MAX.checked_shr(len.into()).unwrap_or(0)
    }

    fn shared(self, other: Self) -> u8 {
        (self ^ other).leading_zeros() as u8
    }
}

/// A longest-prefix-match table.
#[derive(Debug, Clone)]
pub(super) struct Trie<B, T> {
    nodes: Vec<Node<B, T>>,
    /// Nodes that are in no place, to be used again.
    free: Vec<u32>,
    root: u32,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<B, T> {
    /// The prefix; bits behind it are zero.
    bits: B,
    /// Ones where the prefix is.
    mask: B,
    len: u8,
    /// None of a prefix that is a whole address.
    children: [u32; 2],
    value: Option<T>,
}

impl<B, T> Default for Trie<B, T> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            len: 0,
        }
    }
}

impl<B: Bits, T> Trie<B, T> {
    /// How many prefixes it holds.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Gives the prefix of the first `len` bits, behind which `bits` has zeroes, to `value`.
    /// The value that it had before.
    pub(super) fn insert(&mut self, bits: B, len: u8, value: T) -> Option<T> {
        let mut parent: Option<(u32, usize)> = None;
        let mut at = self.root;
        loop {
            if at == NONE {
                let leaf = self.add(bits, len, Some(value));
                self.link(parent, leaf);
                self.len += 1;
                return None;
            }
            let node = &self.nodes[at as usize];
            let shared = node.bits.shared(bits).min(node.len).min(len);
            if shared == node.len && shared == len {
                let old = self.nodes[at as usize].value.replace(value);
                self.len += usize::from(old.is_none());
                return old;
            }
            if shared == node.len {
                let branch = bits.bit(node.len);
                parent = Some((at, branch));
                at = node.children[branch];
                continue;
            }
            // They part inside this node's prefix: a node for what they share goes between.
            let old_branch = node.bits.bit(shared);
            let between = if shared == len {
                self.add(bits, len, Some(value))
            } else {
                let leaf = self.add(bits, len, Some(value));
                let between = self.add(bits.first(shared), shared, None);
                self.nodes[between as usize].children[1 - old_branch] = leaf;
                between
            };
            self.nodes[between as usize].children[old_branch] = at;
            self.link(parent, between);
            self.len += 1;
            return None;
        }
    }

    /// The longest prefix that covers an address: how long it is, and its value.
    pub(super) fn lookup(&self, bits: B) -> Option<(u8, &T)> {
        let mut best = None;
        let mut at = self.root;
        // Where there is no child, there is no such node.
        while let Some(node) = self.nodes.get(at as usize) {
            if !bits.is_within(node.bits, node.mask) {
                break;
            }
            if let Some(value) = &node.value {
                best = Some((node.len, value));
            }
            at = node.children[bits.bit(node.len)];
        }
        best
    }

    /// Keeps only the prefixes whose value `keep` approves, and gives back the memory of the
    /// others.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let old = std::mem::take(self);
        let mut nodes: Vec<Option<Node<B, T>>> = old.nodes.into_iter().map(Some).collect();
        let mut stack = vec![old.root];
        while let Some(at) = stack.pop() {
            let Some(node) = nodes.get_mut(at as usize).and_then(Option::take) else {
                continue;
            };
            stack.extend(node.children);
            if let Some(value) = node.value
                && keep(&value)
            {
                self.insert(node.bits, node.len, value);
            }
        }
    }

    /// Takes exactly this prefix out, if `approved` says so of its value; whether it did.
    pub(super) fn remove_if(
        &mut self,
        bits: B,
        len: u8,
        approved: impl FnOnce(&T) -> bool,
    ) -> bool {
        // Where the link to the node is, and where that to the node with that link is.
        let (mut grandparent, mut parent) = (None, None);
        let mut at = self.root;
        let node = loop {
            let Some(node) = self.nodes.get_mut(at as usize) else {
                return false;
            };
            if node.len > len || !bits.is_within(node.bits, node.mask) {
                return false;
            }
            if node.len == len {
                break node;
            }
            let branch = bits.bit(node.len);
            grandparent = parent.replace((at, branch));
            at = node.children[branch];
        };
        if !node.value.as_ref().is_some_and(approved) {
            return false;
        }
        node.value = None;
        self.len -= 1;
        self.splice(parent, at);
        if let Some((above, _)) = parent {
            self.splice(grandparent, above);
        }
        // What removals leave behind is given back once it outgrows what is in use, not each
        // time.
        if self.nodes.len() > 4 * self.len + 64 {
            self.retain(|_| true);
        }
        true
    }

    /// Takes a node out of its place, whose link is at `parent`, if it is needed no more: it
    /// has no value, and there is no branch at it.
    fn splice(&mut self, parent: Option<(u32, usize)>, at: u32) {
        let node = &self.nodes[at as usize];
        let child = match node.children {
            [child, NONE] | [NONE, child] if node.value.is_none() => child,
            _ => return,
        };
        self.link(parent, child);
        self.free.push(at);
    }

    /// The value of exactly this prefix.
    pub(super) fn get(&self, bits: B, len: u8) -> Option<&T> {
        self.covering(bits)
            .take_while(|(known, _)| *known <= len)
            .find_map(|(known, value)| (known == len).then_some(value))
    }

    /// All prefixes that cover an address, the shortest first: how long each is, and its value.
    pub(super) fn covering(&self, bits: B) -> impl Iterator<Item = (u8, &T)> {
        let mut at = self.root;
        std::iter::from_fn(move || {
            loop {
                let node = self.nodes.get(at as usize)?;
                #[cfg(test)]
                visited::count();
                if !bits.is_within(node.bits, node.mask) {
                    return None;
                }
                at = node.children[bits.bit(node.len)];
                if let Some(value) = &node.value {
                    return Some((node.len, value));
                }
            }
        })
    }

    /// Every prefix, its length and its value, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (B, u8, &T)> {
        self.below(self.root)
    }

    /// Every prefix inside the one of the first `len` bits, and that one itself, in ascending
    /// order: how long each is, and its value. Behind `len` bits, `bits` has zeroes.
    pub(super) fn within(&self, bits: B, len: u8) -> impl Iterator<Item = (B, u8, &T)> {
        let mut at = self.root;
        while let Some(node) = self.nodes.get(at as usize)
            && node.len < len
        {
            #[cfg(test)]
            visited::count();
            let leads_there = bits.is_within(node.bits, node.mask);
            at = if leads_there {
                node.children[bits.bit(node.len)]
            } else {
                NONE
            };
        }
        let node = self.nodes.get(at as usize);
        let is_inside = node.is_some_and(|node| node.bits.is_within(bits, B::ONES.first(len)));
        self.below(if is_inside { at } else { NONE })
    }

    /// The prefixes of a node and of all nodes below it.
    fn below(&self, at: u32) -> impl Iterator<Item = (B, u8, &T)> {
        let mut stack = vec![at];
        std::iter::from_fn(move || {
            while let Some(at) = stack.pop() {
                let Some(node) = self.nodes.get(at as usize) else {
                    continue;
                };
                #[cfg(test)]
                visited::count();
                stack.extend([node.children[1], node.children[0]]);
                if let Some(value) = &node.value {
                    return Some((node.bits, node.len, value));
                }
            }
            None
        })
    }

    fn add(&mut self, bits: B, len: u8, value: Option<T>) -> u32 {
        debug_assert!(len <= B::LEN);
        let node = Node {
            bits,
            mask: B::ONES.first(len),
            len,
            children: [NONE; 2],
            value,
        };
        if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = node;
            return at;
        }
        let at = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        assert!(at != NONE, "four thousand million prefixes");
        self.nodes.push(node);
        at
    }

    fn link(&mut self, parent: Option<(u32, usize)>, child: u32) {
        match parent {
            Some((parent, branch)) => self.nodes[parent as usize].children[branch] = child,
            None => self.root = child,
        }
    }
}

/// How many nodes a thread looked at by those look-ups that may look at many: what their work
/// is.
#[cfg(test)]
pub(super) mod visited {
    use std::cell::Cell;

    thread_local! {
        static NODES: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        NODES.set(NODES.get() + 1);
    }

    /// Since this was last asked.
    pub(crate) fn take() -> usize {
        NODES.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_from_the_first() {
        for at in 0..32 {
            assert_eq!(0x8000_0001_u32.bit(at), usize::from(at == 0 || at == 31));
        }
        for at in 0..=32 {
            assert_eq!(u32::MAX.first(at).count_ones(), u32::from(at));
            assert_eq!(u32::MAX.first(at).leading_ones(), u32::from(at));
        }
        let ends = 1_u128 | 1 << 127;
        for at in 0..128 {
            assert_eq!(ends.bit(at), usize::from(at == 0 || at == 127));
        }
        for at in 0..=128 {
            assert_eq!(u128::MAX.first(at).count_ones(), u32::from(at));
            assert_eq!(u128::MAX.first(at).leading_ones(), u32::from(at));
        }
        assert_eq!(7_u32.shared(7), 32);
        assert_eq!(7_u32.shared(6), 31);
        assert_eq!(7_u128.shared(7), 128);
        assert_eq!(0_u128.shared(u128::MAX), 0);
    }

    #[test]
    fn a_node_of_ipv4_is_half_a_cache_line() {
        assert_eq!(size_of::<Node<u32, std::sync::Arc<()>>>(), 32);
    }

    #[test]
    fn what_comes_and_goes_leaves_no_memory_behind() {
        let mut trie = Trie::default();
        for round in 0..1000_u32 {
            for last in 0..10 {
                let bits = round * 7919 + last;
                trie.insert(bits, 32, last);
                assert!(trie.remove_if(bits, 32, |value| *value == last));
            }
        }
        assert_eq!(trie.len(), 0);
        assert!(trie.nodes.len() < 100, "{} nodes", trie.nodes.len());
    }

    #[test]
    fn what_moves_about_in_a_large_table_takes_no_more_of_it() {
        let mut trie = Trie::default();
        for number in 0..1000_u32 {
            trie.insert(number << 8, 32, number);
        }
        let before = trie.nodes.len();
        for round in 0..10_000_u32 {
            let bits = (round << 8) + 1;
            assert_eq!(trie.insert(bits, 32, round), None);
            assert_eq!(trie.get(bits, 32), Some(&round));
            assert!(trie.remove_if(bits, 32, |_| true));
            assert_eq!(trie.get(bits, 32), None);
        }
        assert!(trie.nodes.len() <= before + 2, "{before} nodes before");
        assert_eq!(trie.iter().count(), 1000);
    }

    #[test]
    fn all_prefixes_around_an_address_are_found_and_each_by_itself() {
        let mut trie = Trie::default();
        for (bits, len) in [
            (0_u32, 0),
            (0x0a00_0000, 8),
            (0x0a01_0000, 16),
            (0x0b00_0000, 8),
        ] {
            trie.insert(bits, len, len);
        }
        let around: Vec<u8> = trie.covering(0x0a01_0203).map(|(len, _)| len).collect();
        assert_eq!(around, [0, 8, 16]);
        assert_eq!(trie.get(0x0a00_0000, 8), Some(&8));
        assert_eq!(trie.get(0x0a00_0000, 9), None);
        assert_eq!(trie.get(0x0a02_0000, 16), None);
    }
}
