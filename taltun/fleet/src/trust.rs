//! Whom a hub believes: the admin, and who was it before.
//!
//! The admin's key is replaced by a rotation: a record that the admin until then signs, and that names the next
//! one. A hub takes the first rotation that it hears of, keeps it on its disk, and believes nothing any more that
//! the key before signs, whatever its generation. So who stole that key can't take the rotation back: another
//! one by the same key is refused.

use std::collections::BTreeSet;

use taltun_crypto::signing::VerifyingKey;

use crate::label::Label;
use crate::signed::{Rank, Signed};

/// How often an admin's key can be rotated: a token has all that there were.
pub const MAX_ROTATIONS: usize = 64;

/// Whom a hub believes. It gets this when it joins, not from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The network.
    pub network: Label,
    /// Its admins.
    pub admins: BTreeSet<VerifyingKey>,
    /// The admins that signed its rotations, in order.
    pub former: Vec<VerifyingKey>,
}

impl Trust {
    /// A network that nobody rotated a key of.
    pub fn new(network: Label, admin: VerifyingKey) -> Self {
        Self {
            network,
            admins: [admin].into(),
            former: Vec::new(),
        }
    }

    /// After how many rotations a key is or was an admin's. `None` if it never was.
    pub(crate) fn term(&self, key: &VerifyingKey) -> Option<usize> {
        if self.admins.contains(key) {
            return Some(self.former.len());
        }
        self.former.iter().position(|former| former == key)
    }

    /// The same of the admin who signed a record, or granted it. What nobody signed who is known is before all.
    pub(crate) fn term_of(&self, signed: &Signed) -> usize {
        let by = signed.grant().unwrap_or(signed).signer();
        self.term(&by).unwrap_or(0)
    }

    /// Which of two records counts, where both are good: what the admin signed last.
    pub(crate) fn rank<'s>(&self, signed: &'s Signed) -> (usize, Rank<'s>) {
        (self.term_of(signed), signed.rank())
    }

    /// Who is the admin after the rotation at this place of [`Self::former`].
    pub(crate) fn is_next(&self, place: usize, key: &VerifyingKey) -> bool {
        match self.former.get(place + 1) {
            Some(former) => former == key,
            None => self.admins.contains(key),
        }
    }

    /// The next rotation: from this admin to that one.
    pub(crate) fn rotate(&mut self, from: VerifyingKey, to: VerifyingKey) {
        self.former.push(from);
        self.admins = [to].into();
    }
}
