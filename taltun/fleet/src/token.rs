//! The token that makes a machine a hub of the network.
//!
//! It has all that a new hub must know before it believes anybody: the network, its admins, where
//! the store is, and which hub it is to be. Its right is a key pair: an admin signed the public
//! key as that of the hub, and the hub signs with the private one who it is. So no secret of it is
//! in the store. It is good once: the store has `tokens/ID` until a transaction takes it away and
//! writes `hubs/ID`, and no hub believes a second identity of a token afterwards.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use taltun_crypto::signing::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::hex;
use crate::key::{Key, TOKEN_LEN};
use crate::label::Label;
use crate::record::{Grant, Hub, write};
use crate::signed::{Signed, grant_place};
use crate::trust::{MAX_ROTATIONS, Trust};

const MARK: &str = "taltun-join-1.";
/// Bytes of a token's text at the most.
const MAX_TOKEN: usize = 16 << 10;

/// A token.
pub struct Token {
    /// Whom the new hub believes.
    pub trust: Trust,
    /// Which hub it becomes.
    pub hub: Label,
    /// Where the store is.
    pub endpoints: Vec<String>,
    /// When it can't be used any more, in seconds since 1970.
    pub expires: u64,
    id: [u8; TOKEN_LEN],
    key: SigningKey,
    grant: Signed,
}

/// What a token gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Until when it can be used, in seconds since 1970.
    pub expires: u64,
    /// Whether its hub gets the admin's key.
    pub admin: bool,
    /// The generation of what the admin signs.
    pub generation: u64,
}

/// Why a text is no token that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It isn't whole.
    #[error("this is no whole token; copy all of it, from taltun-join-1. to its end")]
    Malformed,
    /// It says what its admins didn't sign.
    #[error("no admin of its network signed this token; ask for another one")]
    Unsigned,
}

#[derive(Serialize, Deserialize)]
struct Text {
    network: Label,
    admins: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<String>,
    hub: Label,
    etcd: Vec<String>,
    #[serde(with = "hex::field")]
    seed: [u8; 32],
    grant: Signed,
}

impl Token {
    /// Makes a token of random bytes, signed by an admin who is one of `trust`.
    pub fn new(
        admin: &SigningKey,
        trust: Trust,
        hub: Label,
        endpoints: Vec<String>,
        right: Right,
        (id, seed): ([u8; TOKEN_LEN], [u8; 32]),
    ) -> Self {
        let key = SigningKey::from_seed(seed);
        let Right {
            expires,
            admin: gets_admin,
            generation,
        } = right;
        let grant = Grant {
            token: id,
            verifies: key.verifying_key().0,
            expires,
            admin: gets_admin,
        };
        let place = grant_place(&hub);
        let grant = Signed::of(
            admin,
            &trust.network,
            &place,
            generation,
            Some(write(&grant)),
        );
        Self {
            trust,
            hub,
            endpoints,
            expires,
            id,
            key,
            grant,
        }
    }

    /// The key that is in the store until the token is used, and goes when it expires.
    pub fn key(&self) -> Key {
        Key::Token(self.id)
    }

    /// What the hub says of itself, for `hubs/ID`.
    pub fn claim(&self, hub: &Hub, generation: u64) -> Signed {
        let key = Key::Hub(self.hub.clone());
        Signed::new(&self.key, &self.trust.network, &key, generation, hub)
            .granted(self.grant.clone())
    }

    /// The text that somebody copies.
    pub fn to_text(&self) -> Zeroizing<String> {
        let text = Text {
            network: self.trust.network.clone(),
            admins: self.trust.admins.iter().map(ToString::to_string).collect(),
            former: self.trust.former.iter().map(ToString::to_string).collect(),
            hub: self.hub.clone(),
            etcd: self.endpoints.clone(),
            seed: *self.key.seed(),
            grant: self.grant.clone(),
        };
        let json = serde_json::to_vec(&text).expect("texts and numbers are always JSON");
        let json = Zeroizing::new(json);
        let mut token = Zeroizing::new(MARK.to_owned());
        URL_SAFE_NO_PAD.encode_string(&*json, &mut token);
        token
    }

    /// Reads what somebody copied.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let malformed = BadToken::Malformed;
        let text = text.trim();
        let encoded = text.strip_prefix(MARK).ok_or(malformed)?;
        if text.len() > MAX_TOKEN {
            return Err(malformed);
        }
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed)?;
        let json = Zeroizing::new(json);
        let text: Text = serde_json::from_slice(&json).map_err(|_| malformed)?;
        let admins = text.admins.iter().map(|key| key.parse());
        let admins: Result<BTreeSet<VerifyingKey>, _> = admins.collect();
        let former = text.former.iter().map(|key| key.parse());
        let former: Result<Vec<VerifyingKey>, _> = former.collect();
        let trust = Trust {
            network: text.network,
            admins: admins.map_err(|_| malformed)?,
            former: former.map_err(|_| malformed)?,
        };
        if trust.former.len() > MAX_ROTATIONS {
            return Err(malformed);
        }
        let key = SigningKey::from_seed(text.seed);
        let place = grant_place(&text.hub);
        let is_signed = trust.admins.contains(&text.grant.signer())
            && text.grant.is_signed_for(&trust.network, &place);
        if !is_signed {
            return Err(BadToken::Unsigned);
        }
        let grant: Grant = match text.grant.record() {
            Some(Ok(grant)) => grant,
            _ => return Err(BadToken::Unsigned),
        };
        if grant.verifies != key.verifying_key().0 {
            return Err(BadToken::Unsigned);
        }
        Ok(Self {
            trust,
            hub: text.hub,
            endpoints: text.etcd,
            expires: grant.expires,
            id: grant.token,
            key,
            grant: text.grant,
        })
    }
}
