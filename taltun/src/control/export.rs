//! Telling a running tunnel as a wg-quick file.

use super::engine::Engine;
use super::request::SecretText;
use crate::config::wgquick::{self, Running};
use crate::config::{Config, Endpoint};

impl Engine {
    /// The tunnel as it is now. A peer whose place was given as a name keeps it; any other is
    /// where it was last heard.
    pub(super) fn export(&self) -> SecretText {
        let mut config = self.live_config();
        let interface = &mut config.interface;
        interface
            .local_addr
            .set_port(self.plant.listen_address().port());
        interface.mtu = self.device.tunnel().mtu() as u16;
        self.place_peers(&mut config);
        let mut text = wgquick::running(&Running {
            config: &config,
            private_key: self.device.private_key(),
            fwmark: self.plant.mark(),
        });
        SecretText::from(std::mem::take(&mut *text))
    }

    fn place_peers(&self, config: &mut Config) {
        for peer in &mut config.peers {
            if matches!(peer.endpoint, Some(Endpoint::Name(..))) {
                continue;
            }
            let heard = self.device.peer(&peer.public_key);
            if let Some(endpoint) = heard.and_then(|peer| peer.endpoint()) {
                peer.endpoint = Some(Endpoint::Address(endpoint.remote));
            }
        }
        // As the file has them, then the others.
        let place =
            |peer: &crate::config::Peer| self.peers.place(&peer.public_key).unwrap_or(usize::MAX);
        config.peers.sort_by_key(place);
    }
}
