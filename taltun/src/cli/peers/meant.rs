//! Which peer a word means.

use crate::cli::width::shown;
use crate::report::PeerStatus;

/// The peer with this name or key.
pub(in crate::cli) fn meant<'a>(
    peers: &'a [PeerStatus],
    word: &str,
) -> Result<&'a PeerStatus, String> {
    let is_named = |peer: &&PeerStatus| peer.name.as_deref() == Some(word);
    let by_key = peers.iter().find(|peer| peer.public_key == word);
    let mut named = peers.iter().filter(is_named);
    match (by_key.or_else(|| named.next()), named.next()) {
        (Some(peer), None) => Ok(peer),
        (Some(_), Some(_)) => Err(format!(
            "several peers are called {word:?}; give the public key of one"
        )),
        (None, _) => Err(format!(
            "{:?} is no peer's name or key; `taltun peer list` lists them",
            shown(word)
        )),
    }
}
