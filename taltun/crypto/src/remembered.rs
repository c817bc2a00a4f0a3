//! Results of X25519 that a thread remembers, for tests that have the same keys again and again.
//!
//! X25519 is most of what a handshake costs. A test that runs thousands of handshakes with keys that come back
//! makes each result once. Nothing is remembered before a thread [`start`]s to, and a program that is built
//! without the feature `testing` has nothing of this.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::KEY_LEN;

type Bytes = [u8; KEY_LEN];

/// Most secrets at once; then it begins anew.
const MOST: usize = 1 << 19;

#[derive(Default)]
struct Known {
    /// The public key of each private one.
    publics: HashMap<Bytes, Bytes>,
    /// By two public keys, the lesser first, as it doesn't matter who has which: what both share.
    secrets: HashMap<[Bytes; 2], Option<Bytes>>,
}

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// From now on this thread remembers.
pub fn start() {
    KNOWN.with_borrow_mut(|known| {
        known.get_or_insert_default();
    });
}

/// Whether this thread remembers.
pub(super) fn is_on() -> bool {
    KNOWN.with_borrow(Option::is_some)
}

/// The public key of a private one, as it is known or as `make` makes it.
pub(super) fn public_key(private: &Bytes, make: impl FnOnce() -> Bytes) -> Bytes {
    KNOWN.with_borrow_mut(|known| match known {
        Some(known) => *known.publics.entry(*private).or_insert_with(make),
        None => make(),
    })
}

/// What the owner of the public key `ours` shares with that of `theirs`, likewise.
pub(super) fn secret(
    ours: Bytes,
    theirs: Bytes,
    make: impl FnOnce() -> Option<Bytes>,
) -> Option<Bytes> {
    KNOWN.with_borrow_mut(|known| {
        let Some(known) = known else { return make() };
        if known.secrets.len() >= MOST {
            known.secrets.clear();
        }
        let both = [ours.min(theirs), ours.max(theirs)];
        *known.secrets.entry(both).or_insert_with(make)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BASE_POINT, PrivateKey, PublicKey, diffie_hellman_all};

    #[test]
    fn what_is_remembered_is_what_would_have_been_made() {
        let keys = [1, 2, 3].map(|byte| PrivateKey::from_bytes([byte; KEY_LEN]));
        let of_all = || {
            let publics = keys.each_ref().map(PrivateKey::public_key);
            let low = [PublicKey([0; KEY_LEN]), BASE_POINT];
            let points = publics.iter().chain(&low);
            let pairs: Vec<_> = points
                .flat_map(|point| keys.each_ref().map(|key| (key, point)))
                .collect();
            let mut made = Vec::new();
            diffie_hellman_all(&pairs, |_, secret| made.push(secret));
            let single = pairs.iter().map(|(key, point)| key.diffie_hellman(point));
            assert!(single.eq(made.iter().cloned()));
            (publics, made)
        };
        let made = of_all();
        start();
        assert!(is_on());
        for _ in 0..2 {
            assert!(of_all() == made);
        }
    }
}
