//! Carrying out a reload: changing the running tunnel from what it is now, with what came by
//! way of `wg`, to what the configuration says by now.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tracing::warn;

use super::engine::{Engine, relays};
use super::peers::{self, PeerInfos, Touched};
use super::reload::{self, Plan};
use super::rereading::Compared;
use super::spare;
use crate::config::{self, Config};
use crate::crypto::PublicKey;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::RouteEdit;
use crate::protocol::peer::Peer;
use crate::system::Host;

impl Engine {
    /// Changes what can be changed under way.
    #[allow(
        clippy::too_many_lines,
        reason = "each setting in the order in which it has to change"
    )]
    pub(super) async fn take_over(
        &mut self,
        mut compared: Compared,
        host: &mut Option<Host>,
    ) -> Result<String, String> {
        for warning in &compared.loaded.warnings {
            warn!("{warning}");
        }
        if !Arc::ptr_eq(&compared.base, self.peers.filed()) {
            // Another reload came in between.
            compared.differing = reload::differing(self.peers.filed(), &compared.peers);
        }
        let (peers, infos) = (compared.peers, compared.infos);
        let new = compared.loaded.config;
        reload::refuse_fixed(&self.config, &new, || self.endpoints(&peers))?;
        let plan = self.plan(compared.differing, &peers, &infos);
        let is_new_key = self.device.private_key() != Some(&new.interface.private_key);
        let more = reload::changes(&self.config, &new, is_new_key);
        let now = self.now();
        // What can fail comes first.
        let old = self.config.interface.routes.clone();
        if let Some(host) = host
            && old != new.interface.routes
        {
            let endpoints = self.endpoints(&peers);
            let changed = host.change_routes(&old, &new.interface, &endpoints).await;
            changed.map_err(|error| format!("interface.routes: {error}"))?;
        }
        if let Err(error) = self.listen(new.interface.local_addr) {
            if let Some(host) = host
                && old != new.interface.routes
            {
                let endpoints = self.endpoints(&peers);
                let mut back = new.interface.clone();
                let now = std::mem::replace(&mut back.routes, old);
                // They were there before.
                let _ = host.change_routes(&now, &back, &endpoints).await;
            }
            let wanted = new.interface.local_addr;
            return Err(format!(
                "interface.local_addr: cannot listen on {wanted}: {error}"
            ));
        }
        if let Some(switch) = self.origin.debug_switch
            && self.config.interface.debug != new.interface.debug
        {
            switch(new.interface.debug);
        }
        // Until all of it is done, nobody knows how far it came.
        self.peers.touch_all();
        // What somebody gains is let through before, what nobody has any more is not after.
        self.shield.add_routes(&gained(&plan));
        let key = new.interface.private_key.clone();
        self.device.set_private_key(Some(key), now);
        let gone = plan.removed.iter();
        let gone = gone.filter_map(|key| self.device.forget_peer(key).map(RouteEdit::Clear));
        // All at once, as many of them are.
        let edits: Vec<RouteEdit> = gone.collect();
        self.device.edit_routes(&edits);
        let relay = relays(&new, self.manner);
        if relay != relays(&self.config, self.manner) {
            self.device.set_relay(relay);
        }
        self.change_names(&new);
        let mut greeted = Vec::new();
        for (peer, change) in &plan.changed {
            reload::apply(&mut self.device, peer, change, now);
            if change.endpoint {
                greeted.push(peer.clone());
            }
        }
        for peer in &plan.added {
            self.device
                .add_peer(peers::settings(peer), now)
                .map_err(|error| format!("{}: {error}", peer.label()))?;
            greeted.push(peer.clone());
        }
        self.lead_names_again();
        self.tell_shield();
        self.device
            .set_initiations_per_second(Some(new.accel.handshakes_per_second));
        self.shield
            .set_handshakes_per_second(new.accel.handshakes_per_second);
        self.bans.configure(&new.accel, &mut self.shield);
        let old = (
            self.peers.replace(peers, infos),
            std::mem::replace(&mut self.config, new),
            compared.base,
        );
        // Much of it, in a large hub.
        tokio::task::spawn_blocking(move || {
            drop(old);
            spare::give_back();
        });
        self.forget_strangers();
        self.device.take_displaced();
        self.peers.are_as_filed();
        for peer in &greeted {
            self.approach(peer);
        }
        // Peers would take 15 s to notice that their sessions ended.
        if is_new_key && let Some(memory) = &mut self.memory {
            memory.speak_again();
        }
        Ok(plan.summary(&more))
    }

    /// What becomes of peers that the file changes, and of those that `wg` changed.
    fn plan(&self, differing: Vec<PublicKey>, new: &[config::Peer], infos: &PeerInfos) -> Plan {
        let wanted = |key: &PublicKey| infos.get(key)?.place;
        let live = |key: &PublicKey| self.device.peer(key).map(|peer| self.live_peer(peer));
        match self.peers.touched() {
            Touched::None => reload::plan(differing, new, wanted, live),
            Touched::Some(touched) => {
                let keys = differing.into_iter().chain(touched.iter().copied());
                reload::plan(keys, new, wanted, live)
            }
            Touched::All => {
                let live_keys = self.device.peers().map(|peer| *peer.public_key());
                let keys = live_keys.chain(new.iter().map(|peer| peer.public_key));
                reload::plan(keys, new, wanted, live)
            }
        }
    }

    /// Where peers are, and where these say that they are.
    fn endpoints(&self, new: &[config::Peer]) -> Vec<IpAddr> {
        let live = self.device.peers().filter_map(|peer| peer.endpoint());
        let live = live.map(|endpoint| endpoint.remote.ip().to_canonical());
        let said = new.iter().filter_map(|peer| match peer.endpoint {
            Some(config::Endpoint::Address(address)) => Some(address.ip()),
            _ => None,
        });
        live.chain(said).collect()
    }

    /// The configuration as it is now, with what came by way of `wg`.
    pub(super) fn live_config(&self) -> Config {
        Config {
            peers: self
                .device
                .peers()
                .map(|peer| self.live_peer(peer))
                .collect(),
            ..self.config.clone()
        }
    }

    /// A peer as it is now.
    fn live_peer(&self, peer: &Peer) -> config::Peer {
        let key = peer.public_key();
        let interval = self.device.persistent_keepalive(key);
        let mut allowed_ips: Vec<IpNet> = self.device.allowed_ips_of(peer.id()).collect();
        if let Some(table) = &self.names_routed {
            let said = self.peers.in_file(key);
            let said = said.map_or(&[][..], |peer| &peer.allowed_ips);
            allowed_ips.retain(|net| said.contains(net) || !table.leads(key, net));
        }
        config::Peer {
            name: self.peers.name(key).map(str::to_owned),
            public_key: *key,
            preshared_key: self.device.preshared_key(key).cloned().unwrap_or_default(),
            vip: Vec::new(),
            endpoint: self.peers.endpoint(key).cloned(),
            allowed_ips,
            persistent_keepalive: interval.map(|interval| interval.as_secs() as u16),
        }
    }
}

/// What peers get that a reload adds or changes.
fn gained(plan: &Plan) -> Vec<IpNet> {
    let changed = plan.changed.iter().map(|(peer, _)| peer);
    let peers = plan.added.iter().chain(changed);
    peers
        .flat_map(|peer| peer.allowed_ips.iter().map(|net| canonical(*net)))
        .collect()
}
