//! A record with a signature: what it says, from when on, and who says so.
//!
//! What is signed isn't the JSON around it but bytes that have one reading alone: the domain, the
//! network, the key, the generation, whether it is removed, and the payload, each with its length.
//! So a signature is good for no other network, no other key, and no other generation; the payload
//! is kept as the text that was signed.

use serde::{Deserialize, Serialize};
use taltun_crypto::signing::{SIGNATURE_LEN, SigningKey, VerifyingKey};

use crate::hex;
use crate::key::Key;
use crate::label::Label;
use crate::record::{MAX_GENERATION, Record, Unreadable, VERSION, read, write};

const DOMAIN: &[u8] = b"taltun fleet record 1";

/// What decides between two records of a key; see [`Signed::rank`].
pub(crate) type Rank<'s> = (u64, bool, u64, bool, &'s str, &'s [u8], &'s [u8]);

/// A record with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    version: u32,
    /// Of two records of a key the one with the greater generation counts.
    pub generation: u64,
    /// Whether what the key stands for is gone. It stays as a record: a record that is missing
    /// could be one that somebody took away.
    #[serde(default, skip_serializing_if = "is_false")]
    pub removed: bool,
    /// The record, as the text that was signed.
    payload: String,
    #[serde(with = "hex::field")]
    signer: [u8; 32],
    #[serde(with = "hex::field")]
    signature: [u8; SIGNATURE_LEN],
    /// What an admin signed for the signer, where that isn't an admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<Box<Signed>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Signed {
    /// Signs `record` as what is at `key` of `network`.
    pub fn new<T: Record>(
        signer: &SigningKey,
        network: &Label,
        key: &Key,
        generation: u64,
        record: &T,
    ) -> Self {
        Self::of(
            signer,
            network,
            &key.to_string(),
            generation,
            Some(write(record)),
        )
    }

    /// Signs that what was at `key` is gone for good.
    pub fn removal(signer: &SigningKey, network: &Label, key: &Key, generation: u64) -> Self {
        Self::of(signer, network, &key.to_string(), generation, None)
    }

    /// The same for anything that isn't at a key.
    pub(crate) fn of(
        signer: &SigningKey,
        network: &Label,
        place: &str,
        generation: u64,
        payload: Option<String>,
    ) -> Self {
        let removed = payload.is_none();
        let payload = payload.unwrap_or_default();
        let bytes = signed_bytes(network, place, generation, removed, &payload);
        Self {
            version: VERSION,
            generation,
            removed,
            payload,
            signer: signer.verifying_key().0,
            signature: signer.sign(&bytes),
            grant: None,
        }
    }

    /// The same by the word of another admin. Its generation isn't beyond `last`, whatever the admin before made up.
    /// What a hub says of itself stays its own word; what was granted it is signed anew. Whoever signs this makes
    /// the same of it.
    pub(crate) fn renewed(
        &self,
        admin: &SigningKey,
        network: &Label,
        key: &Key,
        last: u64,
    ) -> Self {
        let payload = |signed: &Self| (!signed.removed).then(|| signed.payload.clone());
        let by_admin = |signed: &Self, place: &str| {
            let generation = signed.generation.min(last);
            Self::of(admin, network, place, generation, payload(signed))
        };
        match (self.grant(), key) {
            (Some(grant), Key::Hub(hub)) => {
                let grant = by_admin(grant, &grant_place(hub));
                self.clone().granted(grant)
            }
            _ => by_admin(self, &key.to_string()),
        }
    }

    /// With what an admin signed for its signer.
    #[must_use]
    pub(crate) fn granted(mut self, grant: Self) -> Self {
        self.grant = Some(Box::new(grant));
        self
    }

    /// What an admin signed for its signer.
    pub(crate) fn grant(&self) -> Option<&Self> {
        self.grant.as_deref()
    }

    /// Reads the value of a key. That is all: who signed it is another question.
    pub fn parse(value: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
        let Version { version } = serde_json::from_slice(value).map_err(malformed)?;
        if version > VERSION {
            return Err(Unreadable::Newer(version));
        }
        let signed: Self = serde_json::from_slice(value).map_err(malformed)?;
        signed.check()?;
        Ok(signed)
    }

    /// What must be so before anybody asks for signatures.
    pub(crate) fn check(&self) -> Result<(), Unreadable> {
        let malformed = |why: &str| Err(Unreadable::Malformed(why.to_owned()));
        if self.version != VERSION {
            return malformed("its version isn't one");
        }
        if self.generation > MAX_GENERATION {
            return malformed("its generation is beyond the last");
        }
        if self.removed && !self.payload.is_empty() {
            return malformed("it is removed and says something");
        }
        match self.grant() {
            Some(grant) if grant.grant.is_some() => malformed("its grant has a grant"),
            Some(grant) => grant.check(),
            None => Ok(()),
        }
    }

    /// The value for the store.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always JSON")
    }

    /// Whether the signature is its signer's, for this place in this network.
    pub(crate) fn is_signed_for(&self, network: &Label, place: &str) -> bool {
        let bytes = signed_bytes(network, place, self.generation, self.removed, &self.payload);
        self.signer().verifies(&bytes, &self.signature)
    }

    /// Who signed.
    pub fn signer(&self) -> VerifyingKey {
        VerifyingKey(self.signer)
    }

    /// What it says. `None` if it is removed.
    pub fn record<T: Record>(&self) -> Option<Result<T, Unreadable>> {
        (!self.removed).then(|| read(self.payload.as_bytes()))
    }

    /// The generation of what an admin signed of it: of itself, or of its grant.
    pub(crate) fn admins_generation(&self) -> u64 {
        let signed = self.grant.as_deref().unwrap_or(self);
        signed.generation
    }

    /// Which of two records of a key counts, where both are good: the later, of two that were
    /// made at once the removal, and else any, but on all hubs the same.
    pub(crate) fn rank(&self) -> Rank<'_> {
        (
            // What a hub says of itself counts as of when an admin granted it that: it is below any
            // word of an admin's that came later, and above an earlier one.
            self.admins_generation(),
            self.grant.is_none(),
            self.generation,
            self.removed,
            &self.payload,
            &self.signer,
            &self.signature,
        )
    }
}

/// The place that a grant is signed for, which is no key of the store.
pub(crate) fn grant_place(hub: &Label) -> String {
    format!("grant/{hub}")
}

fn signed_bytes(
    network: &Label,
    place: &str,
    generation: u64,
    removed: bool,
    payload: &str,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DOMAIN.len() + place.len() + payload.len() + 128);
    for text in [DOMAIN, network.as_str().as_bytes(), place.as_bytes()] {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text);
    }
    bytes.extend(generation.to_be_bytes());
    bytes.push(u8::from(removed));
    bytes.extend((payload.len() as u64).to_be_bytes());
    bytes.extend(payload.as_bytes());
    bytes
}
