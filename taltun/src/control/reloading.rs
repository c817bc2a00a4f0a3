//! Carrying out a reload: reading the configuration again, and changing the running tunnel
//! from what it is now, with what came by way of `wg`, to that.

use ipnet::IpNet;
use tracing::warn;

use super::engine::{Engine, Origin, known, peer_settings};
use super::reload;
use crate::config::{self, Config};

impl Engine {
    /// Reads the configuration again and changes what can be changed under way.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        let Origin {
            path, overrides, ..
        } = &self.origin;
        let path = path.as_deref();
        path.ok_or("started without a configuration file")?;
        let loaded = config::load_with(path, overrides).map_err(|error| error.to_string())?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let new = loaded.config;
        let plan = reload::plan(&self.live_config(), &new)?;
        let now = self.now();
        // The one thing that can fail comes first.
        self.listen(new.interface.local_addr).map_err(|error| {
            let wanted = new.interface.local_addr;
            format!("interface.local_addr: cannot listen on {wanted}: {error}")
        })?;
        // What somebody gains is let through before, what nobody has any more is not after.
        self.shield.add_routes(&routes(&new));
        let key = new.interface.private_key.clone();
        self.device.set_private_key(Some(key), now);
        for key in &plan.removed {
            self.device.remove_peer(key);
        }
        let mut greeted = Vec::new();
        for (peer, change) in &plan.changed {
            reload::apply(&mut self.device, peer, change, now);
            if change.endpoint {
                greeted.push(peer.clone());
            }
        }
        for peer in &plan.added {
            self.device
                .add_peer(peer_settings(peer), now)
                .map_err(|error| format!("{}: {error}", peer.label()))?;
            greeted.push(peer.clone());
        }
        self.lead_names_again();
        self.tell_shield();
        self.shield
            .set_handshakes_per_second(new.accel.handshakes_per_second);
        self.configure_bans(&new.accel.deny, &new.accel.deny_inner);
        self.known = known(&new.peers);
        self.config = new;
        self.end_look_ups();
        for peer in &greeted {
            self.approach(peer);
        }
        Ok(plan.summary())
    }

    /// The configuration as it is now, with what came by way of `wg`.
    pub(super) fn live_config(&self) -> Config {
        let mut allowed_ips = self.device.allowed_ips();
        let peers = self.device.peers().map(|peer| {
            let key = peer.public_key();
            let known = self.known.get(key);
            let interval = self.device.persistent_keepalive(key);
            config::Peer {
                name: known.and_then(|known| known.name.clone()),
                public_key: *key,
                preshared_key: self.device.preshared_key(key).cloned().unwrap_or_default(),
                vip: Vec::new(),
                endpoint: known.and_then(|known| known.endpoint.clone()),
                allowed_ips: allowed_ips.remove(&peer.id()).unwrap_or_default(),
                persistent_keepalive: interval.map(|interval| interval.as_secs() as u16),
            }
        });
        Config {
            peers: peers.collect(),
            ..self.config.clone()
        }
    }
}

/// What the peers of a configuration own.
fn routes(config: &Config) -> Vec<IpNet> {
    let peers = config.peers.iter();
    peers
        .flat_map(|peer| peer.allowed_ips.iter().map(IpNet::trunc))
        .collect()
}
