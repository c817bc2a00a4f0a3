//! Telling a running tunnel as a wg-quick file.

use super::live::LivePeers;
use crate::config::wgquick::{self, Running};
use crate::config::{Config, Endpoint, Peer};
use crate::dataplane::data_plane::DataPlane;
use crate::secret::SecretText;

/// The tunnel as it is now; `config` is what was last read. A peer whose place was given as a
/// name keeps it; any other is where it was last heard.
pub(super) fn export(live: LivePeers<'_>, config: &Config, data_plane: &DataPlane) -> SecretText {
    let mut config = live.config(config);
    let interface = &mut config.interface;
    let port = data_plane.listen_address().port();
    interface.local_addr.set_port(port);
    interface.mtu = live.device.tunnel().mtu() as u16;
    place_peers(&mut config.peers, live);
    let mut text = wgquick::running(&Running {
        config: &config,
        private_key: live.device.private_key(),
        fwmark: data_plane.mark(),
    });
    SecretText::from(std::mem::take(&mut *text))
}

fn place_peers(peers: &mut [Peer], live: LivePeers<'_>) {
    for peer in peers.iter_mut() {
        if matches!(peer.endpoint, Some(Endpoint::Name(..))) {
            continue;
        }
        let heard = live.device.peer(&peer.public_key);
        if let Some(endpoint) = heard.and_then(|peer| peer.endpoint()) {
            peer.endpoint = Some(Endpoint::Address(endpoint.remote));
        }
    }
    // As the file has them, then the others.
    peers.sort_by_key(|peer| live.peers.place(&peer.public_key).unwrap_or(usize::MAX));
}
