//! Keys for a peer, made on the page.
//!
//! They are made here and the tunnel gets the public one, so that the private key is nowhere but
//! in the answer to the browser: shown once, and kept by nobody.

use zeroize::Zeroizing;

use super::asked::{NewPeer, Reply, RotatePeer, Verb};
use super::hub::{Browser, Hub, Nothing};
use super::request::Fields;
use crate::client_file::code::Code;
use crate::client_file::{self, Keys};
use crate::crypto::{PresharedKey, PrivateKey, PublicKey};
use crate::report::PeerEdited;
use crate::secret::{self, SecretText};

/// A peer with new keys, and what its device needs.
pub(super) struct Keyed {
    pub(super) edited: Box<PeerEdited>,
    /// For Taltun.
    pub(super) toml: Zeroizing<String>,
    /// For any other client.
    pub(super) wg_quick: Zeroizing<String>,
    /// The same to be read by a camera; `None` for more than a code takes.
    pub(super) code: Option<Code>,
}

/// Adds the peer that a form asks for.
pub(super) async fn add(hub: &Hub, browser: &Browser, form: &Fields) -> Result<Keyed, Nothing> {
    keyed(hub, browser, form, |public_key, preshared_key| {
        Verb::NewPeer(NewPeer {
            name: form.given("name").unwrap_or_default(),
            public_key,
            preshared_key,
            expires: form.given("expires"),
            endpoint: form.given("endpoint"),
        })
    })
    .await
}

/// Gives the peer that a form names other keys.
pub(super) async fn rotate(hub: &Hub, browser: &Browser, form: &Fields) -> Result<Keyed, Nothing> {
    keyed(hub, browser, form, |public_key, preshared_key| {
        Verb::RotatePeer(RotatePeer {
            peer: form.given("key").unwrap_or_default(),
            public_key,
            preshared_key,
            endpoint: form.given("endpoint"),
        })
    })
    .await
}

/// Makes keys, asks with the public one, and puts all of it together.
async fn keyed(
    hub: &Hub,
    browser: &Browser,
    form: &Fields,
    verb: impl FnOnce(String, Option<SecretText>) -> Verb,
) -> Result<Keyed, Nothing> {
    let (keys, public_key) = keys(form.get("psk").is_some())
        .map_err(|error| Nothing::Refused(error.to_string().into()))?;
    let preshared_key = keys.preshared_key.as_ref();
    let preshared_key = preshared_key.map(|key| key.to_base64().to_string().into());
    let reply = hub.ask(browser, verb(public_key.to_string(), preshared_key));
    let Reply::Edited(edited) = reply.await? else {
        return Err(Nothing::Gone);
    };
    let Some(access) = &edited.client else {
        return Err(Nothing::Refused(edited.done.clone().into()));
    };
    let wg_quick = client_file::wg_quick(access, &keys);
    Ok(Keyed {
        toml: client_file::toml(access, &keys),
        code: Code::of(&wg_quick),
        wg_quick,
        edited,
    })
}

/// A new key, with its public half, and one that both sides share if that is wished.
fn keys(shared: bool) -> std::io::Result<(Keys, PublicKey)> {
    let private_key = PrivateKey::from_bytes(*secret::random()?);
    let public_key = private_key.public_key();
    let preshared_key = shared.then(secret::random).transpose()?;
    let keys = Keys {
        private_key: Some(private_key),
        preshared_key: preshared_key.map(|bytes| PresharedKey(*bytes)),
    };
    Ok((keys, public_key))
}
