//! Adding a peer from the page.
//!
//! The keys are made here and the tunnel gets the public one, so that the private key is nowhere but
//! in the answer to the browser: shown once, and kept by nobody.

use zeroize::Zeroizing;

use super::asked::{NewPeer, Reply, Verb};
use super::hub::{Browser, Hub};
use super::request::Fields;
use crate::client_file::code::Code;
use crate::client_file::{self, Keys};
use crate::crypto::{PresharedKey, PrivateKey};
use crate::report::PeerEdited;

/// A peer that was added, with what its device needs.
pub(super) struct Added {
    pub(super) edited: Box<PeerEdited>,
    /// For Taltun.
    pub(super) toml: Zeroizing<String>,
    /// For any other client.
    pub(super) wg_quick: Zeroizing<String>,
    /// The same to be read by a camera; `None` for more than a code takes.
    pub(super) code: Option<Code>,
}

/// What became of it.
pub(super) enum Outcome {
    Added(Added),
    Refused(String),
    NoSession,
    Gone,
}

/// Adds the peer that a form asks for.
pub(super) async fn add(hub: &Hub, browser: &Browser, form: &Fields) -> Outcome {
    let keys = match keys(form.get("psk").is_some()) {
        Ok(keys) => keys,
        Err(reason) => return Outcome::Refused(reason),
    };
    let private_key = keys.private_key.as_ref();
    let Some(public_key) = private_key.map(PrivateKey::public_key) else {
        return Outcome::Gone;
    };
    let given = |name: &str| {
        let value = form.get(name).unwrap_or_default();
        (!value.is_empty()).then(|| value.to_owned())
    };
    let preshared_key = keys.preshared_key.as_ref();
    let asked = NewPeer {
        name: given("name").unwrap_or_default(),
        public_key: public_key.to_string(),
        preshared_key: preshared_key.map(|key| key.to_base64().to_string().into()),
        expires: given("expires"),
        endpoint: given("endpoint"),
    };
    match hub.ask(browser, Verb::NewPeer(asked)).await {
        Some(Reply::Edited(edited)) => match &edited.client {
            Some(access) => {
                let wg_quick = client_file::wg_quick(access, &keys);
                Outcome::Added(Added {
                    toml: client_file::toml(access, &keys),
                    code: Code::of(&wg_quick),
                    wg_quick,
                    edited,
                })
            }
            None => Outcome::Refused(edited.done.clone()),
        },
        Some(Reply::Refused(reason)) => Outcome::Refused(reason),
        Some(Reply::NoSession) => Outcome::NoSession,
        Some(_) | None => Outcome::Gone,
    }
}

/// A new key, and one that both sides share if that is wished.
fn keys(shared: bool) -> Result<Keys, String> {
    let random = || {
        let mut bytes = Zeroizing::new([0; 32]);
        let filled = getrandom::fill(&mut *bytes);
        filled.map_err(|error| format!("no random numbers: {error}"))?;
        Ok::<_, String>(bytes)
    };
    let private_key = PrivateKey::from_bytes(*random()?);
    let preshared_key = if shared {
        Some(PresharedKey(*random()?))
    } else {
        None
    };
    Ok(Keys {
        private_key: Some(private_key),
        preshared_key,
    })
}
