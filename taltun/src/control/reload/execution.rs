//! Carrying out a reload: changing the running tunnel from what it is now, with what came by
//! way of `wg`, to what the configuration says by now.
//!
//! What can fail comes first, as [steps](super::steps) that are undone in turn when a later one fails.
//! All else can't fail, and follows in the order in which peers keep what they have.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use taltun_udpgw::Listening;
use tracing::warn;

use super::compared::Compared;
use super::plan::{self, NOTHING, Plan};
use super::steps::{self, Step, StepTarget};
use crate::accel::Shield;
use crate::config::{self, Config, Interface};
use crate::control::bans::Bans;
use crate::control::changed_peers::ChangedPeers;
use crate::control::dns_routes::{RoutedNames, TunnelRoutes};
use crate::control::gateway::Gateway;
use crate::control::live::LivePeers;
use crate::control::metrics::{self, Metrics};
use crate::control::origin::TunnelKind;
use crate::control::peers::{self, PeerInfos, PeerList, Peers, Touched};
use crate::control::rules::FiledRules;
use crate::control::served::{Prepared, Served};
use crate::control::shaping::FiledRates;
use crate::control::web::{self, Web};
use crate::control::{hop, ownership, spare};
use crate::crypto::{PrivateKey, PublicKey};
use crate::dataplane::data_plane::DataPlane;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::{Device, RouteEdit};
use crate::protocol::time::Time;
use crate::system::Host;

/// What is to become as a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::control) enum Scope {
    /// All of the tunnel: what `wg` changed becomes as the file says.
    All,
    /// What differs from the file before: what `wg` changed stays.
    Edit,
}

/// What a reload may change of a running tunnel.
pub(in crate::control) struct Reload<'a> {
    pub scope: Scope,
    pub kind: TunnelKind,
    pub debug_switch: Option<fn(bool)>,
    /// The key that the hubs of a fleet's group answer with, in place of the file's.
    pub group_key: Option<&'a PrivateKey>,
    pub config: &'a mut Config,
    pub device: &'a mut Device,
    pub shield: &'a mut Shield,
    pub peers: &'a mut Peers,
    pub names: Option<&'a mut RoutedNames>,
    pub bans: &'a mut Bans,
    pub rules: &'a mut FiledRules,
    pub rates: &'a mut FiledRates,
    /// The addresses of this host.
    pub own_addresses: &'a [IpAddr],
    pub data_plane: &'a mut DataPlane,
    pub gateway: &'a mut Gateway,
    pub metrics: Option<&'a mut Metrics>,
    pub web: Option<&'a mut Web>,
}

/// What was done, and what is left for others to do.
pub(in crate::control) struct Done {
    /// What was done, in a sentence.
    pub summary: String,
    /// Peers that are new, or elsewhere.
    pub greeted: Vec<config::Peer>,
    /// Whether our own key is another, so that all sessions have ended.
    pub is_new_key: bool,
    /// Peers that were changed.
    pub peers: ChangedPeers,
}

impl Reload<'_> {
    /// Changes what can be changed under way. An error leaves all as it was.
    pub(in crate::control) async fn carry_out(
        mut self,
        mut compared: Compared,
        host: &mut Option<Host>,
        now: Time,
    ) -> Result<Done, String> {
        for warning in &compared.loaded.warnings {
            warn!("{warning}");
        }
        if !Arc::ptr_eq(&compared.base, self.peers.filed()) {
            // Another reload came in between.
            compared.differing = plan::differing(self.peers.filed(), &compared.peers);
        }
        let (peers, mut infos) = (compared.peers, compared.infos);
        let mut new = compared.loaded.config;
        if self.scope == Scope::Edit {
            let interface = &self.config.interface;
            new.interface.local_addr = interface.local_addr;
            new.host.kill_switch = self.config.host.kill_switch;
        }
        plan::refuse_fixed(self.config, &new, || self.endpoints(&peers))?;
        let plan = self.plan(compared.differing, &peers, &infos);
        let key = self.group_key.unwrap_or(&new.interface.private_key);
        let is_new_key = self.scope == Scope::All && self.device.private_key() != Some(key);
        let mut changes = plan::changes(self.config, &new, is_new_key);
        // Nothing else differs then, and what can't listen now is no reason to refuse a peer.
        if self.scope == Scope::All {
            changes.extend(self.take_steps(&new, &peers, host).await?);
        }
        if let Some(switch) = self.debug_switch
            && self.config.interface.debug != new.interface.debug
        {
            switch(new.interface.debug);
        }
        // Before a peer comes that they are about.
        let relays = self.kind.relays(&new);
        self.rules
            .follow(&new, self.own_addresses, relays, self.shield);
        let touched = self.peers.take_touched();
        let greeted = self.change_peers(&plan, &new, now)?;
        if self.scope == Scope::Edit {
            self.peers.set_touched(touched);
            self.peers.keep_by_wg(&mut infos, self.device, &plan.said());
        }
        self.device
            .set_initiations_per_second(Some(new.accel.handshakes_per_second));
        self.device.set_hop(hop::settings(&new), now);
        self.shield
            .set_handshakes_per_second(new.accel.handshakes_per_second);
        let again = self
            .bans
            .configure(&self.config.accel, &new.accel, self.shield);
        if !again.is_empty() {
            let again: Vec<String> = again.iter().map(ToString::to_string).collect();
            changes.push(format!("denied again by the file: {}", again.join(", ")));
        }
        let changed_peers = self.named(&plan);
        let replaced = self.peers.replace(peers, infos);
        self.rates
            .follow(&new.shaping, self.peers, self.device, now);
        let old = (replaced, std::mem::replace(self.config, new), compared.base);
        // Much of it, in a large hub.
        tokio::task::spawn_blocking(move || {
            drop(old);
            spare::give_back();
        });
        Ok(Done {
            summary: plan.summary(&changes),
            greeted,
            is_new_key,
            peers: changed_peers,
        })
    }

    /// The peers that a plan changes, by their names; what was removed has its old one.
    fn named(&self, plan: &Plan) -> ChangedPeers {
        let mut named = ChangedPeers::default();
        for peer in &plan.added {
            named.added.add(|| peer.label());
        }
        for (peer, _) in &plan.changed {
            named.changed.add(|| peer.label());
        }
        for key in &plan.removed {
            named.removed.add(|| self.peers.label(key));
        }
        named
    }

    /// What becomes of peers that the file changes, and of those that `wg` changed.
    fn plan(&self, differing: Vec<PublicKey>, new: &PeerList, infos: &PeerInfos) -> Plan {
        let live = LivePeers {
            device: self.device,
            peers: self.peers,
            names: self.names.as_deref(),
        };
        let wanted = |key: &PublicKey| infos.get(key)?.place;
        // The other hubs of the fleet are peers without a file.
        let is_files = |key: &PublicKey| infos.contains_key(key) || !self.peers.is_hub(key);
        let live = |key: &PublicKey| self.device.peer(key).map(|peer| live.peer(peer));
        match self.peers.touched() {
            _ if self.scope == Scope::Edit => {
                let filed = self.peers.filed();
                // What `wg` removed has no place of its own any more.
                let places: HashMap<&PublicKey, &config::Peer> = match differing.len() {
                    0 => HashMap::new(),
                    _ => filed.iter().map(|peer| (&peer.public_key, peer)).collect(),
                };
                let before = |key: &PublicKey| places.get(key).map(|peer| (*peer).clone());
                plan::plan_edit(differing, new, wanted, before, live)
            }
            Touched::None => plan::plan(differing, new, wanted, live),
            Touched::Some(touched) => {
                let keys = differing.into_iter().chain(touched.iter().copied());
                plan::plan(keys.filter(is_files), new, wanted, live)
            }
            Touched::All => {
                let live_keys = self.device.peers().map(|peer| *peer.public_key());
                let keys = live_keys.chain(new.iter().map(|peer| peer.public_key));
                plan::plan(keys.filter(is_files), new, wanted, live)
            }
        }
    }

    /// Does what can fail: all of it, or nothing. Tells what became of the gateway, the metrics and the page.
    async fn take_steps(
        &mut self,
        new: &Config,
        peers: &PeerList,
        host: &mut Option<Host>,
    ) -> Result<Vec<String>, String> {
        // Gone through only where it is needed: they may be many.
        let endpoints = || self.endpoints(peers);
        let steps = Step::between(&self.config.interface, &new.interface, endpoints);
        let mut running = Running {
            reload: self,
            host,
            new,
        };
        steps::take(steps, &mut running).await
    }

    /// Our own key and the peers. What somebody gains is let through before, what nobody has
    /// any more is not after. Returns the peers that are to be spoken to.
    fn change_peers(
        &mut self,
        plan: &Plan,
        new: &Config,
        now: Time,
    ) -> Result<Vec<config::Peer>, String> {
        // Until all of it is done, nobody knows how far it came.
        self.peers.touch_all();
        self.shield.open_all();
        self.shield.add_routes(&gained(plan));
        if self.scope == Scope::All {
            let key = self.group_key.unwrap_or(&new.interface.private_key);
            self.device.set_private_key(Some(key.clone()), now);
        }
        let gone = plan.removed.iter();
        let gone = gone.filter_map(|key| self.device.forget_peer(key).map(RouteEdit::Clear));
        // All at once, as many of them are.
        let edits: Vec<RouteEdit> = gone.collect();
        self.device.edit_routes(&edits);
        let relay = self.kind.relays(new);
        if relay != self.kind.relays(self.config) {
            self.device.set_relay(relay);
        }
        self.change_names(|names, routes| {
            if let Some(new) = &new.dns_routes {
                names.change(new, routes);
            }
        });
        let mut greeted = Vec::new();
        for (peer, change) in &plan.changed {
            plan::apply(self.device, peer, change, now);
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
        self.change_names(RoutedNames::lead_again);
        ownership::settle(self.device, self.shield);
        Ok(greeted)
    }

    fn change_names(&mut self, change: impl FnOnce(&mut RoutedNames, &mut TunnelRoutes<'_>)) {
        if let Some(names) = &mut self.names {
            let mut routes = TunnelRoutes {
                device: self.device,
                shield: self.shield,
                peers: self.peers,
                config: self.config,
            };
            change(names, &mut routes);
        }
    }

    /// Where peers are, and where these say that they are.
    fn endpoints(&self, new: &[config::Peer]) -> Vec<IpAddr> {
        let live = self.device.peers().filter_map(|peer| peer.endpoint());
        let live = live.map(|endpoint| endpoint.remote.ip().to_canonical());
        let said = new.iter().flat_map(config::Peer::all_endpoints);
        let said = said.filter_map(|endpoint| match endpoint {
            config::Endpoint::Address(address) => Some(address.ip()),
            config::Endpoint::Name(..) => None,
        });
        live.chain(said).collect()
    }
}

/// The running tunnel, as the steps change it.
struct Running<'r, 'a> {
    reload: &'r mut Reload<'a>,
    host: &'r mut Option<Host>,
    new: &'r Config,
}

impl StepTarget for Running<'_, '_> {
    async fn change_routes(
        &mut self,
        from: &[IpNet],
        to: &Interface,
        endpoints: &[IpAddr],
    ) -> Result<(), String> {
        let Some(host) = self.host else { return Ok(()) };
        let changed = host.change_routes(from, to, endpoints).await;
        changed.map_err(|error| error.to_string())
    }

    fn listen(&mut self, address: SocketAddr) -> Result<(), String> {
        let reload = &mut *self.reload;
        let configured = &mut reload.config.interface.local_addr;
        let listening = reload.data_plane.listen(address, configured, reload.shield);
        listening.map_err(|error| error.to_string())
    }

    async fn follow_services(&mut self) -> Result<Vec<String>, String> {
        let interface = &self.new.interface;
        let reload = &mut *self.reload;
        let tunnel = reload.device.tunnel();
        // All of them may exchange their ports: what overlaps with a new place is about to close.
        let metrics = reload.metrics.as_deref();
        let page = reload.web.as_ref().map(|web| &web.served);
        let of_metrics = metrics.into_iter().flat_map(Metrics::open_places);
        let of_page = page.into_iter().flat_map(Served::open_places);
        let open = Listening::others(of_metrics.chain(of_page));
        let mut friends = vec![&open];
        friends.extend(reload.gateway.listening());
        let new_metrics = match metrics {
            Some(metrics) => {
                let settings = metrics::settings(self.new.metrics.as_ref());
                metrics.prepare(settings, interface, &friends)?
            }
            None => Prepared::Same,
        };
        let new_page = match page {
            Some(page) => page.prepare(web::settings(self.new), interface, &friends)?,
            None => Prepared::Same,
        };
        let gateway = &mut *reload.gateway;
        let followed = gateway.follow(self.new.udpgw.as_ref(), interface, tunnel, &open);
        let mut done = Vec::from_iter(followed.await?);
        let metrics = reload.metrics.as_mut();
        done.extend(metrics.and_then(|metrics| metrics.take_over(new_metrics)));
        let page = reload.web.as_mut();
        done.extend(page.and_then(|page| page.served.take_over(new_page)));
        Ok(done)
    }
}

/// Does what a reload asks of the host, and tells it in `summary`. `before` is whether there was
/// a kill switch.
pub(in crate::control) async fn follow_host(
    config: &mut Config,
    before: bool,
    summary: String,
    host: &mut Option<Host>,
) -> Result<String, String> {
    let Some(host) = host.as_mut().filter(|_| before != config.host.kill_switch) else {
        return Ok(summary);
    };
    match host.follow(config).await {
        Ok(Some(done)) if summary.ends_with(NOTHING) => Ok(summary.replace(NOTHING, done)),
        Ok(Some(done)) => Ok(format!("{summary}; {done}")),
        Ok(None) => Ok(summary),
        Err(error) => {
            config.host.kill_switch = before;
            Err(format!(
                "{summary}, but interface.kill_switch is as before: {error}"
            ))
        }
    }
}

/// What peers get that a reload adds or changes.
fn gained(plan: &Plan) -> Vec<IpNet> {
    let changed = plan.changed.iter();
    let changed = changed.filter_map(|(peer, change)| change.allowed_ips.then_some(peer));
    let peers = plan.added.iter().chain(changed);
    peers
        .flat_map(|peer| peer.allowed_ips.iter().map(|net| canonical(*net)))
        .collect()
}
