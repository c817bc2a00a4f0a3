//! What is asked of a running tunnel: commands, requests of the UAPI, reloads.

use std::sync::Arc;

use taltun_capture::Filter;
use tokio::sync::oneshot;
use tracing::debug;

use super::Engine;
use crate::accel::Shield;
use crate::control::audit::Audit;
use crate::control::bans::{BanOptions, Bans, Owners};
use crate::control::caller::Caller;
use crate::control::explain;
use crate::control::export::export;
use crate::control::inside::Inside;
use crate::control::limits::Refusal;
use crate::control::live::LivePeers;
use crate::control::metrics_seen::seen;
use crate::control::ownership;
use crate::control::pretenders::peers_networks;
use crate::control::reload::{self, Compared, Reload, Scope};
use crate::control::reporting::View;
use crate::control::request::{self, Call, Controller};
use crate::control::response::{Done, NewWebToken, Reply, Started};
use crate::control::uapi::{self, UapiCall, WgChanges};
use crate::control::watching::{self, Stream};
use crate::control::web::Web;
use crate::control::words;
use crate::dataplane::tap::Wants;
use crate::metrics::Seen;
use crate::name_service::Zone;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::peer::Peer;
use crate::report::{
    self, Explanation, FleetStatus, Overview, PeerStatus, Refused, RefusedBy, Stats, Status,
};
use crate::secret::SecretText;
use crate::system::Host;

/// Peers of the fleet that don't fit the file of which `fleet status` tells, at the most.
const MOST_ODD_PEERS: usize = 8;

impl Engine {
    /// The peers that have a session.
    pub(in crate::control) fn peers_up(&self) -> Vec<PeerStatus> {
        self.view().peers_up()
    }

    /// The peers that were refused or allowed again since this was last asked, with why.
    pub(in crate::control) fn take_limited(&mut self) -> Vec<(PeerStatus, Option<RefusedBy>)> {
        let changes = self.limits.take_changes();
        let changes = changes.into_iter().filter_map(|change| {
            let refusal = change.refusal.map(Refusal::word);
            Some((self.view().peer(&change.key)?, refusal))
        });
        changes.collect()
    }

    /// What the tunnel is, in a line.
    pub(in crate::control) fn summary(&self) -> String {
        let all = self.device.len();
        format!(
            "UDP port {}, {all} peer{}, {} with a session",
            self.listen_port(),
            if all == 1 { "" } else { "s" },
            self.view().count_up()
        )
    }

    /// Does what is asked, or has it answered later; what changes something is written down.
    pub(in crate::control) fn handle_call(&mut self, call: Call, reader: &impl request::Reader) {
        let Call {
            request,
            by,
            answer,
        } = call;
        if answer.is_closed() {
            // Who gave up, or was told to try again, may have asked again since.
            return debug!("dropped a request of a client that left");
        }
        self.audit.begun(&by, &request);
        let Some(change) = Audit::change(&request) else {
            return request.pass_on(by, answer, self, reader);
        };
        let (inner, mut answered) = oneshot::channel();
        request.pass_on(by.clone(), inner.into(), self, reader);
        // What changes something is answered at once.
        if let Ok(response) = answered.try_recv() {
            self.audit.answered(&by, change, &response);
            answer.send(response);
        }
    }

    /// A configuration couldn't be read again.
    pub(in crate::control) fn not_reloaded(&self, by: &Caller, reason: &str) {
        self.audit.reloaded(by, Err(reason), None);
    }

    /// The tunnel ends, told by somebody or because of this.
    pub(in crate::control) fn going_down(&self, by: &Caller, reason: Option<&str>) {
        self.audit.stopped(by, reason.unwrap_or("told to stop"));
    }

    /// Does what a client of the UAPI asks.
    pub(in crate::control) fn handle_uapi(&mut self, call: UapiCall) {
        // A client that left meanwhile misses its answer.
        match call {
            UapiCall::Get(answer) => {
                drop(answer.send(uapi::snapshot(&self.device, &self.data_plane)));
            }
            UapiCall::Set(request, by, answer) => {
                let now = self.now();
                let mut changes = WgChanges::default();
                let mut target = uapi::Target {
                    device: &mut self.device,
                    shield: &mut self.shield,
                    peers: &mut self.peers,
                    data_plane: &mut self.data_plane,
                    dialer: &self.dialer,
                    changes: &mut changes,
                    fixed_mark: self.marks.fixed,
                    local_addr: &mut self.config.interface.local_addr,
                };
                let outcome = target.set(*request, now);
                self.audit.set_by_wg(&by, outcome.err(), &changes);
                self.by_wg.merge(changes);
                self.forget_removed();
                self.follow_limits();
                if let Some((names, mut routes)) = self.names_and_routes() {
                    names.lead_again(&mut routes);
                }
                let shaping = &self.config.shaping;
                self.filed_rates
                    .follow_new(shaping, &self.peers, &self.device, now);
                ownership::settle(&mut self.device, &mut self.shield);
                let _ = answer.send(outcome);
            }
        }
    }

    /// Takes over a configuration that was read again. Returns what that did, in a sentence.
    pub(in crate::control) async fn reload(
        &mut self,
        compared: Compared,
        host: &mut Option<Host>,
        by: &Caller,
    ) -> Result<String, String> {
        let kill_switch = self.config.host.kill_switch;
        let done = match self.carry_out_file(compared, Scope::All, host).await {
            Ok(done) => done,
            Err(reason) => {
                self.audit.reloaded(by, Err(&reason), None);
                return Err(reason);
            }
        };
        self.peers.are_as_filed();
        // Peers would take 15 s to notice that their sessions ended.
        if done.is_new_key
            && let Some(memory) = &mut self.memory
        {
            memory.speak_again();
        }
        let summary = reload::follow_host(&mut self.config, kill_switch, done.summary, host).await;
        let summary = match (summary, self.follow_file(host).await) {
            (Ok(summary), Some(reason)) => Err(format!("{summary}, but {reason}")),
            (summary, _) => summary,
        };
        self.audit.follow(self.config.audit.keep_mib, |audit| {
            let outcome = summary.as_deref().map_err(String::as_str);
            audit.reloaded(by, outcome, Some(&done.peers));
        });
        summary
    }

    /// Changes the tunnel to what a file says, as far as that is asked for.
    pub(super) async fn carry_out_file(
        &mut self,
        compared: Compared,
        scope: Scope,
        host: &mut Option<Host>,
    ) -> Result<reload::Done, String> {
        let now = self.now();
        if let Some(ledger) = &mut self.ledger {
            // While those who go still have their names.
            ledger.collect(&self.device, &self.peers, now);
        }
        let own = self.config.interface.private_key.clone();
        let reload = Reload {
            scope,
            kind: self.kind,
            debug_switch: self.origin.debug_switch,
            group_key: self.group_key.as_ref(),
            config: &mut self.config,
            device: &mut self.device,
            shield: &mut self.shield,
            peers: &mut self.peers,
            names: self.names.as_mut(),
            bans: &mut self.bans,
            rules: &mut self.rules,
            rates: &mut self.filed_rates,
            own_addresses: self.network.own_addresses(),
            data_plane: &mut self.data_plane,
            gateway: &mut self.gateway,
            metrics: self.metrics.as_mut(),
            web: self.web.as_mut(),
        };
        let done = reload.carry_out(compared, host, now).await?;
        if self.config.interface.private_key != own {
            self.own_key_changed();
        }
        self.forget_removed();
        self.device.take_displaced();
        self.follow_fleet_peers();
        if let Some(ledger) = &mut self.ledger {
            ledger.follow(self.config.usage.keep_days);
        }
        self.follow_limits();
        self.approach(&done.greeted);
        self.tell_names();
        Ok(done)
    }

    /// Has the host's rules follow a file that was taken over. Returns what of it can't be.
    pub(super) async fn follow_file(&mut self, host: &mut Option<Host>) -> Option<String> {
        self.led_ports.look_again();
        self.lead_ports(host).await;
        self.forwards.look_again();
        self.forward_ports(host).await;
        let guarded = peers_networks(&self.config, self.peers.filed());
        self.network.guard(guarded);
        self.pretenders.look_again();
        self.follow_kernel_relay(host.as_ref());
        self.refuse_pretenders(host).await;
        self.forwards.failure()
    }

    /// Tells the name service the names that the file has by now.
    fn tell_names(&mut self) {
        if let (Some(told), Some(names)) = (&self.zone, &self.config.names) {
            let zone = Zone::of(names, &self.config.interface, self.peers.filed());
            told.send_if_modified(|before| {
                let is_new = **before != zone;
                if is_new {
                    *before = Arc::new(zone);
                }
                is_new
            });
        }
    }

    /// What `status` and `stats` read.
    pub(super) fn view(&self) -> View<'_> {
        View {
            kind: self.kind,
            file: self.origin.path.as_deref(),
            started: self.started,
            started_at: self.started_at,
            config: &self.config,
            device: &self.device,
            peers: &self.peers,
            data_plane: &self.data_plane,
            shield: &self.shield,
            bans: &self.bans,
            names: self.names.as_ref(),
            zone: self.zone.as_ref(),
            diagnosis: &self.diagnosis,
            flaps: &self.flaps,
            gateway: &self.gateway,
            privileged: &self.privileged,
            metrics: self.metrics.as_ref(),
            name_service: self.name_service.as_ref(),
            web: self.web.as_ref(),
            led_ports: &self.led_ports,
            forwards: &self.forwards,
            rules: &self.rules,
            rates: &self.rates,
            filed_rates: &self.filed_rates,
            underlay: &self.underlay,
            kept: self.kept.as_ref(),
            ledger: self.ledger.as_ref(),
            audit: &self.audit,
            limits: &self.limits,
        }
    }

    /// The peer that somebody wants to watch, where one is named.
    fn watched(&self, peer: Option<&str>) -> Result<Option<Arc<Peer>>, String> {
        let Some(word) = peer else { return Ok(None) };
        let peer = self.peers.meant(word, &self.device)?;
        peer.cloned().map(Some).ok_or_else(|| {
            let word = words::quoted(word);
            format!("{word} is no peer's name or key; `taltun status` lists the peers")
        })
    }

    /// Somebody watches packets from now on.
    fn begin_watch(&mut self, wants: Wants, stream: Box<dyn Stream>) -> Result<Started, String> {
        let taps = self.data_plane.taps();
        self.watches.take_names(&self.peers, &self.device);
        Ok(Started {
            interface: self.config.interface.tun_name.clone(),
            flow: self.watches.begin(taps, wants, stream, &self.shield)?,
        })
    }

    /// The page, which a tunnel without a configuration has no place for.
    fn web(&self) -> Result<&Web, String> {
        self.web.as_ref().ok_or_else(|| {
            let interface = &self.config.interface.tun_name;
            format!("{interface} was made by its name, without a configuration: it has no page")
        })
    }

    pub(super) fn live(&self) -> LivePeers<'_> {
        LivePeers {
            device: &self.device,
            peers: &self.peers,
            names: self.names.as_ref(),
        }
    }

    /// The bans, what they are about, and where they are carried into.
    /// Why there is nothing to say of a fleet.
    fn in_no_fleet(&self) -> Refused {
        let name = &self.config.interface.tun_name;
        format!("{name} is in no fleet: its configuration has no [fleet]").into()
    }

    fn bans_and_owners(&mut self) -> (&mut Bans, Owners<'_>, &mut Shield) {
        let owners = Owners {
            device: &mut self.device,
            peers: &self.peers,
            vips: &self.config.interface.vip,
            own: self.network.own_addresses(),
        };
        (&mut self.bans, owners, &mut self.shield)
    }
}

impl Controller for Engine {
    fn status(&mut self, _: request::Status) -> Result<Box<Status>, Refused> {
        Ok(Box::new(self.view().status()))
    }

    fn stats(&mut self, _: request::Stats) -> Result<Box<Stats>, Refused> {
        Ok(Box::new(self.view().stats()))
    }

    fn overview(&mut self, asked: request::Overview) -> Result<Box<Overview>, Refused> {
        Ok(Box::new(self.view().overview(&asked)))
    }

    fn metrics(&mut self, _: request::Metrics) -> Result<Box<Seen>, Refused> {
        Ok(Box::new(seen(&self.view())))
    }

    fn explain(&mut self, asked: request::Explain) -> Result<Box<Explanation>, Refused> {
        explain::explain(&asked, self.view(), self.network.own_addresses())
            .map(Box::new)
            .map_err(Refused::from)
    }

    fn ban(&mut self, ban: request::Ban) -> Result<Done, Refused> {
        let options = BanOptions {
            force: ban.force,
            seconds: ban.seconds,
        };
        let (bans, mut owners, shield) = self.bans_and_owners();
        let done = bans.ban(ban.net, ban.layer, options, &mut owners, shield)?;
        let (nets, layer) = (vec![canonical(ban.net)], ban.layer.unwrap_or_default());
        Ok(Done(done + self.share_bans(nets, layer, ban.seconds)))
    }

    fn ban_peer(&mut self, ban: request::BanPeer) -> Result<Done, Refused> {
        let options = BanOptions {
            force: ban.force,
            seconds: ban.seconds,
        };
        let (bans, mut owners, shield) = self.bans_and_owners();
        let (_, nets) = owners.nets_of(&ban.peer, ban.layer)?;
        let done = bans.ban_peer(&ban.peer, ban.layer, options, &mut owners, shield)?;
        Ok(Done(done + self.share_bans(nets, ban.layer, ban.seconds)))
    }

    fn unban(&mut self, unban: request::Unban) -> Result<Done, Refused> {
        let done = self.bans.unban(unban.net, unban.layer, &mut self.shield)?;
        Ok(Done(done + self.share_unbans(&[unban.net], unban.layer)))
    }

    fn unban_peer(&mut self, unban: request::UnbanPeer) -> Result<Done, Refused> {
        let (bans, mut owners, shield) = self.bans_and_owners();
        let (_, nets) = owners.nets_of(&unban.peer, unban.layer)?;
        let done = bans.unban_peer(&unban.peer, unban.layer, &mut owners, shield)?;
        Ok(Done(done + self.share_unbans(&nets, unban.layer)))
    }

    fn trace(&mut self, asked: request::Trace) -> Result<Started, Refused> {
        let peer = self.watched(asked.peer.as_deref())?;
        let stream = watching::Trace::new(asked.rate);
        let wants = watching::Trace::wants(peer, asked.drops);
        Ok(self.begin_watch(wants, Box::new(stream))?)
    }

    fn capture(&mut self, asked: request::Capture) -> Result<Started, Refused> {
        let peer = self.watched(asked.peer.as_deref())?;
        let filter = asked.filter.map(|filter| {
            let program = Filter::new(filter.program);
            program.map(|program| (filter.words, program))
        });
        let captured = watching::Captured {
            inner: asked.inner,
            relayed: asked.relayed,
            outer: asked.outer,
            snap_length: asked.snap_length,
            filter: filter.transpose().map_err(|error| error.to_string())?,
        };
        let wants = captured.wants(peer);
        let interface = &self.config.interface.tun_name;
        let stream = watching::Capture::new(captured, interface, Arc::clone(self.tunnel()));
        Ok(self.begin_watch(wants, Box::new(stream))?)
    }

    fn usage(&mut self, asked: request::Usage, reply: Reply<Box<report::Usage>>) {
        let interface = &self.config.interface.tun_name;
        match &mut self.ledger {
            Some(ledger) => ledger.tell(interface, &asked, reply, &self.device, &self.peers),
            None => reply.outcome(Err(format!(
                "{interface} was made by its name, without a configuration: what its peers move \
                 isn't kept"
            )
            .into())),
        }
    }

    fn inside(&mut self) -> Inside {
        self.known_inside()
    }

    fn fleet_status(&mut self, _: request::FleetStatus) -> Result<Box<FleetStatus>, Refused> {
        match &self.fleet {
            Some(fleet) => {
                let mut status = fleet.status();
                self.fill_fleet_status(&mut status);
                let odd = self.origin.overrides.fleet.odd();
                status.problems.extend(odd.into_iter().take(MOST_ODD_PEERS));
                Ok(Box::new(status))
            }
            None => Err(self.in_no_fleet()),
        }
    }

    fn fleet_key_rotate(&mut self, asked: request::FleetKeyRotate, reply: Reply<Done>) {
        match &self.fleet {
            Some(fleet) => fleet.rotate(asked, reply),
            None => reply.outcome(Err(self.in_no_fleet())),
        }
    }

    fn fleet_hub_remove(&mut self, asked: request::FleetHubRemove, reply: Reply<Done>) {
        match &self.fleet {
            Some(fleet) => fleet.remove_hub(asked, reply),
            None => reply.outcome(Err(self.in_no_fleet())),
        }
    }

    fn web_token(&mut self, asked: request::WebToken) -> Result<NewWebToken, Refused> {
        Ok(self.web()?.token(&asked)?)
    }

    fn web_tokens(&mut self, _: request::WebTokens) -> Result<Vec<report::WebToken>, Refused> {
        Ok(self.web()?.tokens())
    }

    fn fleet_drain(&mut self, asked: request::FleetDrain) -> Result<Done, Refused> {
        let count = self.drain(asked.leaving)?;
        Ok(Done(if asked.leaving {
            format!(
                "this hub gives up its {}; `taltun fleet hub drain --undo` has it take peers again",
                words::count(usize::try_from(count).unwrap_or(usize::MAX), "peer")
            )
        } else {
            "this hub takes peers again".to_owned()
        }))
    }

    fn web_revoke(&mut self, asked: request::WebRevoke) -> Result<Done, Refused> {
        Ok(self.web()?.revoke(&asked)?)
    }

    fn export(&mut self, _: request::Export) -> Result<SecretText, Refused> {
        Ok(export(self.live(), &self.config, &self.data_plane))
    }
}
