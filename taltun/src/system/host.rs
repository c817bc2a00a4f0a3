//! All changes of the host for one tunnel, in an order in which nothing leaks, and their undoing.
//!
//! The firewall comes first and goes last, so that a kill switch covers every moment between.
//! Changes that outlive the process go into a journal before they are made.
//!
//! A kill switch opens at an orderly end only. At any other end its rules and the journal stay, as
//! if the process had been killed. A start that finds a predecessor's kill switch
//! changes neither rules nor journal for good until all else of it has worked
//! ([`Host::commit`]), so one that fails leaves both as they were.

mod forwards;
mod sources;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::OwnedMutexGuard;
use tracing::{info, warn};

use super::journal::Journal;
use super::keep::{Keeper, Made};
use super::kept::Kept;
use super::network::{self, Network, Wanted};
use super::predecessor::{Left, Predecessor, as_first_found, both};
use super::sysctl::Settings;
use super::undo::{remove_rules, take_back};
use super::{
    Redirect, SystemError, conntrack, dns, firewall, hop_ports, marks, reserved_ports, routes,
    sysctl,
};
use crate::config::{Config, Dns, Endpoint, Interface, Peer};

/// Where endpoints given by name are, by `HOST:PORT`.
pub type Endpoints = BTreeMap<String, SocketAddr>;

/// What was done to the host, so that it can be undone.
#[derive(Debug)]
pub struct Host {
    /// `None` once it was undone.
    network: Option<Network>,
    /// What an orderly end undoes.
    journal: Journal,
    /// Whether somebody removed its file, and it couldn't be written since.
    journal_is_lost: bool,
    directory: PathBuf,
    rules: firewall::Rules,
    /// What `rules` are made with, if there are any.
    firewall: Option<firewall::FirewallTool>,
    /// Whose kill switch stands until [`commit`](Self::commit).
    predecessor: Option<Predecessor>,
    /// Whether a kill switch of ours was made.
    armed: bool,
    mark: Option<u32>,
    index: u32,
    /// Settings that are to be so, and what the resolver is to be told.
    settings: Settings,
    dns: Dns,
    /// How much the resolver shows of what it was told.
    resolver: dns::Shown,
    vip: Vec<IpNet>,
    /// Puts back what others take away: firewall rules as soon as they are made, all else from
    /// [`commit`](Self::commit) on.
    keeper: Option<Keeper>,
    kept: Kept,
}

impl Host {
    /// Sets the host up for `config`, whose interface must exist. What was done is undone if
    /// a part of it fails, but for a kill switch. `names` are the endpoints that were looked
    /// up, `directory` is where to remember what is to be undone, `start` the command that
    /// starts this tunnel.
    ///
    /// What an earlier process for the same interface left is replaced or undone, its kill
    /// switch not before [`commit`](Self::commit).
    pub async fn configure(
        config: &Config,
        names: &Endpoints,
        directory: &Path,
        start: String,
    ) -> Result<Self, SystemError> {
        let name = config.interface.tun_name.as_str();
        let endpoints = endpoints(config, names);
        let left = Left::find(directory, name).await?;
        let before = left.journal.as_ref().and_then(|journal| journal.mark);
        let mark = mark(config, &endpoints, before).await?;
        let policy = config.routes_around(&endpoints).next().is_some();
        let rules = firewall::Rules::of(config, mark, policy);

        // What could be missing is found out before anything is touched.
        let firewall = firewall::choose(config, &rules)?;
        let resolver = dns::choose(&config.host.dns)?;
        let Left { journal, more } = left;
        let (held, left) = match journal {
            Some(left) if left.kill_switch => (Some(left), None),
            left => (None, left),
        };
        if let Some(left) = left {
            info!("undoing what an earlier {name} left on this host");
            take_back(left, directory, None, firewall).await;
            more.remove(name, firewall).await?;
        }

        let settings = sysctl::wanted(config, policy);
        let now = sysctl::before(&settings);
        let before = match &held {
            Some(held) => as_first_found(&now, &held.settings),
            None => now.clone(),
        };
        let mut host = Self {
            network: None,
            journal: Journal {
                mark: mark.filter(|_| policy),
                firewall,
                kill_switch: rules.kill_switch() && firewall.is_some(),
                dns: resolver,
                settings: before,
                endpoints: names.clone(),
                start,
                ..Journal::new(name)
            },
            journal_is_lost: false,
            directory: directory.to_owned(),
            rules,
            firewall,
            predecessor: held.map(|journal| Predecessor {
                journal,
                more,
                settings: now,
            }),
            armed: false,
            mark,
            index: 0,
            settings,
            dns: config.host.dns.clone(),
            resolver: dns::Shown::default(),
            vip: config.interface.vip.clone(),
            keeper: None,
            kept: Kept::default(),
        };
        match host.apply(config, &endpoints).await {
            Ok(()) => Ok(host),
            Err(error) => {
                host.leave().await;
                Err(error)
            }
        }
    }

    /// The number of the interface.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The mark that our datagrams have to have.
    pub fn mark(&self) -> Option<u32> {
        self.mark
    }

    /// Whether a kill switch of ours stands.
    pub fn is_closed(&self) -> bool {
        self.armed
    }

    /// What others took away and was put back, for as long as anybody asks.
    pub fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// Makes the routes those of `new` instead of `old`.
    ///
    /// # Errors
    /// All is as it was.
    pub async fn change_routes(
        &mut self,
        old: &[IpNet],
        new: &Interface,
        endpoints: &[IpAddr],
    ) -> Result<(), SystemError> {
        let mark = self.journal.mark;
        self.hold_keeper();
        let outcome = match &mut self.network {
            Some(network) => network.change_routes(old, new, endpoints, mark).await,
            None => Ok(()),
        };
        self.tell_keeper();
        outcome
    }

    /// Leads one more network into the tunnel.
    pub async fn lead(&mut self, net: IpNet) -> Result<(), SystemError> {
        match &mut self.network {
            Some(network) => network.lead(&net).await?,
            None => return Ok(()),
        }
        self.tell_keeper();
        Ok(())
    }

    /// Takes back what [`lead`](Self::lead) did.
    pub async fn release(&mut self, net: IpNet) {
        self.hold_keeper();
        if let Some(network) = &mut self.network {
            network.release(&net).await;
        }
        self.tell_keeper();
    }

    /// While routes are taken back on purpose, none is put back.
    fn hold_keeper(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.change(|made| {
                made.routes.clear();
                made.connected.clear();
            });
        }
    }

    /// Tells who puts things back what there is to be by now.
    fn tell_keeper(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.change(|made| *made = self.made());
        }
    }

    /// What there is before the network is set up.
    fn made_first(&self) -> Made {
        Made {
            name: self.rules.interface().to_owned(),
            firewall: self.firewall.map(|kind| (kind, self.rules.clone())),
            ..Made::default()
        }
    }

    fn made(&self) -> Made {
        let mut made = Made {
            settings: self.settings.clone(),
            dns: self
                .journal
                .dns
                .map(|kind| (kind, self.dns.clone(), self.journal.mark.is_some())),
            resolver: self.resolver,
            ..self.made_first()
        };
        if let Some(network) = &self.network {
            made.index = Some(self.index);
            let (addresses, routes, rules) = network.made();
            made.addresses = addresses.to_vec();
            made.routes = routes.to_vec();
            made.rules = rules.to_vec();
            // Where IPv6 is off, its addresses aren't among those that were made.
            let vips = self.vip.iter().filter(|vip| network.has(&vip.addr()));
            let nets = vips.filter(|vip| vip.prefix_len() < vip.max_prefix_len());
            made.connected = nets.map(|vip| routes::connected(vip, self.index)).collect();
        }
        made
    }

    /// All else of the start has worked: firewall rules of ours take the place of a
    /// predecessor's, and what else it left is undone.
    ///
    /// # Errors
    /// The predecessor's rules still stand.
    pub async fn commit(&mut self) -> Result<(), SystemError> {
        self.replace_predecessor().await?;
        match &self.keeper {
            Some(_) => self.tell_keeper(),
            None => self.keeper = Some(Keeper::start(self.made(), self.kept())),
        }
        Ok(())
    }

    async fn replace_predecessor(&mut self) -> Result<(), SystemError> {
        let Some(Predecessor {
            journal: left,
            more,
            ..
        }) = &self.predecessor
        else {
            return Ok(());
        };
        if let Some(kind) = self.firewall {
            firewall::apply(kind, &self.rules).await?;
        }
        let name = &left.interface;
        if let Some(kind) = left.firewall
            && self.firewall != Some(kind)
        {
            firewall::remove(kind, name).await?;
        }
        more.remove(name, self.firewall).await?;
        if let Some(kind) = left.dns
            && self.journal.dns != Some(kind)
        {
            dns::unset(kind, name).await;
        }
        if left.mark != self.journal.mark {
            remove_rules(left.mark).await;
        }
        let mut unwanted = Journal {
            settings: left.settings.clone(),
            ..Journal::new(name)
        };
        let wanted = &self.journal.settings;
        unwanted
            .settings
            .retain(|name, _| !wanted.contains_key(name));
        unwanted.hand_over(&self.directory);
        sysctl::restore(&unwanted.settings);
        self.predecessor = None;
        self.armed = self.journal.kill_switch;
        self.remember()
    }

    /// Closes or opens the kill switch as `config` wants it by now. Says whether anything
    /// changed.
    ///
    /// # Errors
    /// All is as it was.
    pub async fn follow(&mut self, config: &Config) -> Result<Option<&'static str>, SystemError> {
        let wanted = config.host.kill_switch;
        if wanted == self.rules.kill_switch() || self.predecessor.is_some() {
            return Ok(None);
        }
        let rules = self.rules.with_kill_switch(wanted);
        let rules = rules.ok_or_else(|| {
            SystemError::Firewall("without a default route there is no mark to let pass".into())
        })?;
        let before = self.journal.clone();
        let _held = self.hold_firewall().await;
        if wanted {
            let chosen = firewall::choose(config, &rules)?;
            self.journal.firewall = chosen;
            self.journal.kill_switch = true;
            self.remember()?;
            if let Some(kind) = chosen
                && let Err(error) = firewall::apply(kind, &rules).await
            {
                self.journal = before;
                self.remember()?;
                return Err(error);
            }
        } else if let Some(kind) = self.firewall {
            if rules.is_empty() {
                firewall::remove(kind, &config.interface.tun_name).await?;
                self.journal.firewall = None;
            } else {
                firewall::apply(kind, &rules).await?;
            }
            self.journal.kill_switch = false;
            self.remember()?;
        }
        self.firewall = self.journal.firewall;
        self.armed = wanted;
        self.rules = rules;
        self.tell_keeper();
        Ok(Some(if wanted {
            "the kill switch is on"
        } else {
            "the kill switch is off"
        }))
    }

    /// Has the ports of the range that `config` wants by now lead to ours: kept from others, and
    /// where there is a `redirect`, by firewall rules. Says what tool those are made with.
    ///
    /// # Errors
    /// Rules are as they were. The reason is a sentence.
    pub async fn lead_ports(
        &mut self,
        config: &Config,
        redirect: Option<Redirect>,
    ) -> Result<Option<&'static str>, String> {
        let hop = hop_ports(config).map(|ports| firewall::Hop { ports, redirect });
        let redirects = hop.as_ref().is_some_and(|hop| hop.redirect.is_some());
        let rules = self.rules.with_hop(hop);
        if rules != self.rules {
            if self.predecessor.is_some() {
                return Err("an earlier process's kill switch isn't replaced yet".into());
            }
            self.reserve_ports(config);
            self.change_rules(config, rules).await?;
        }
        let tool = self.firewall.filter(|_| redirects);
        Ok(tool.map(firewall::FirewallTool::word))
    }

    /// Keeps the ports of the range, and of no other, from programs that ask for any port.
    fn reserve_ports(&mut self, config: &Config) {
        let is_list = |name: &String| name == reserved_ports::LIST;
        let of_list = |mut settings: Settings| {
            settings.retain(|name, _| is_list(name));
            settings
        };
        let wanted = of_list(sysctl::wanted(config, false));
        if wanted == of_list(self.settings.clone()) {
            return;
        }
        sysctl::restore(&of_list(self.journal.settings.clone()));
        for settings in [&mut self.settings, &mut self.journal.settings] {
            settings.retain(|name, _| !is_list(name));
        }
        let before = sysctl::before(&wanted);
        self.journal.settings.extend(before.clone());
        self.settings.extend(wanted.clone());
        let outcome = self.remember().and_then(|()| sysctl::set(&wanted, &before));
        if let Err(error) = outcome {
            warn!("{error}");
        }
        self.tell_keeper();
    }

    /// Keeps what keeps the firewall's rules up from looking at them meanwhile.
    async fn hold_firewall(&self) -> Option<OwnedMutexGuard<()>> {
        let keeper = self.keeper.as_ref()?;
        Some(Arc::clone(&keeper.firewall).lock_owned().await)
    }

    /// Makes `rules` in place of those that there are.
    async fn change_rules(
        &mut self,
        config: &Config,
        rules: firewall::Rules,
    ) -> Result<(), String> {
        let _held = self.hold_firewall().await;
        let before = self.journal.clone();
        let led = self.rules.led_ports();
        match (self.firewall, rules.is_empty()) {
            (None, true) => {}
            (Some(kind), true) => {
                let removed = firewall::remove(kind, rules.interface()).await;
                removed.map_err(|error| error.to_string())?;
                self.journal.firewall = None;
            }
            (kind, false) => {
                let kind = match kind {
                    Some(kind) => kind,
                    None => firewall::choose_late(config)?,
                };
                self.journal.firewall = Some(kind);
                self.remember().map_err(|error| error.to_string())?;
                if let Err(error) = firewall::apply(kind, &rules).await {
                    self.journal = before;
                    let _ = self.remember();
                    return Err(error.to_string());
                }
            }
        }
        self.remember().map_err(|error| error.to_string())?;
        if led != rules.led_ports() {
            conntrack::forget_misled(rules.led_ports(), led).await;
        }
        self.firewall = self.journal.firewall;
        self.rules = rules;
        self.tell_keeper();
        Ok(())
    }

    /// The orderly end: takes everything back. What has gone already, with the interface
    /// perhaps, is no matter.
    pub async fn undo(mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.stop().await;
        }
        let network = self.network.take();
        if let Some(left) = self.predecessor.take() {
            self.withdraw(left, network).await;
        } else {
            let journal = std::mem::take(&mut self.journal);
            take_back(journal, &self.directory, network, None).await;
        }
    }

    /// Any other end. With a kill switch all stays as if the process had been killed, so that
    /// nothing leaves until the tunnel runs again or `taltun undo` releases it. Without one
    /// this is [`undo`](Self::undo).
    pub async fn leave(mut self) {
        if self.armed {
            // Dropping what has no journal undoes nothing.
            self.journal = Journal::default();
        } else {
            self.undo().await;
        }
    }

    /// Takes back what a start did that found a kill switch, and leaves that as it was found.
    async fn withdraw(&mut self, left: Predecessor, network: Option<Network>) {
        let journal = std::mem::take(&mut self.journal);
        let Predecessor {
            journal: left,
            settings,
            ..
        } = left;
        if let Some(network) = network {
            network.undo().await;
        }
        if let Some(kind) = journal.dns
            && left.dns != Some(kind)
        {
            dns::unset(kind, &left.interface).await;
        }
        sysctl::restore(&settings);
        if let Err(error) = left.write(&self.directory) {
            warn!(
                "cannot write what an earlier {} left: {error}",
                left.interface
            );
        }
    }

    /// Writes the journal again where somebody removed it; call it now and then. It is told once
    /// each time.
    pub fn keep_journal(&mut self) {
        if self.journal.is_empty() || self.predecessor.is_some() {
            return;
        }
        let journal = &self.journal;
        let path = Journal::path(&self.directory, &journal.interface, journal.namespace);
        if path.exists() {
            self.journal_is_lost = false;
            return;
        }
        let is_known = std::mem::replace(&mut self.journal_is_lost, true);
        match journal.write(&self.directory) {
            Ok(()) => warn!("somebody removed {}; it is written again", path.display()),
            Err(error) if !is_known => warn!(
                "somebody removed {}, and it can't be written again: {error}; after a bad end \
                 nobody knows then what to undo",
                path.display()
            ),
            Err(_) => {}
        }
    }

    /// Writes the journal, or removes it where there is nothing to undo.
    fn remember(&self) -> Result<(), SystemError> {
        if self.journal.is_empty() {
            self.journal.remove(&self.directory);
            return Ok(());
        }
        self.write(&self.journal)
    }

    fn write(&self, journal: &Journal) -> Result<(), SystemError> {
        let mut journal = journal.clone();
        journal.take_over(&self.directory);
        journal
            .write(&self.directory)
            .map_err(|reason| SystemError::Refused {
                action: format!(
                    "write {}",
                    Journal::path(&self.directory, &journal.interface, journal.namespace).display()
                ),
                reason,
            })
    }

    async fn apply(&mut self, config: &Config, endpoints: &[IpAddr]) -> Result<(), SystemError> {
        let interface = &config.interface;
        if let Some(left) = &self.predecessor {
            // Until its rules are replaced the journal is about both.
            self.write(&both(&left.journal, &self.journal))?;
        } else {
            self.remember()?;
            if let Some(kind) = self.firewall {
                firewall::apply(kind, &self.rules).await?;
                self.armed = self.journal.kill_switch;
                self.keeper = Some(Keeper::start(self.made_first(), self.kept()));
            }
        }
        firewall::warn_of_others(config).await;
        let network = Network::configure(Wanted {
            tun_name: &interface.tun_name,
            mtu: interface.mtu,
            vip: &interface.vip,
            routes: &interface.routes,
            endpoints,
            // A mark that was only asked for is for rules of others.
            mark: self.journal.mark,
        })
        .await?;
        self.index = network.index();
        self.network = Some(network);
        sysctl::set(&self.settings, &self.journal.settings)?;
        if let Some(kind) = self.journal.dns {
            let everything = self.journal.mark.is_some();
            let dns = &config.host.dns;
            dns::set(kind, &interface.tun_name, dns, everything).await?;
            self.resolver = dns::shown(kind, &interface.tun_name, dns, everything).await;
        }
        Ok(())
    }
}

/// For the ways out that an error takes: there is no waiting in a destructor, so a thread of
/// its own takes back what doesn't vanish with the interface.
impl Drop for Host {
    fn drop(&mut self) {
        self.keeper = None;
        // An error's way out is no orderly end.
        if self.armed || self.journal.is_empty() && self.predecessor.is_none() {
            return;
        }
        let host = Self {
            network: None,
            journal: std::mem::take(&mut self.journal),
            directory: std::mem::take(&mut self.directory),
            rules: self.rules.clone(),
            predecessor: self.predecessor.take(),
            settings: std::mem::take(&mut self.settings),
            dns: std::mem::take(&mut self.dns),
            vip: std::mem::take(&mut self.vip),
            keeper: None,
            kept: self.kept(),
            ..*self
        };
        let undone = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(host.undo());
            std::io::Result::Ok(())
        })
        .join();
        if !matches!(undone, Ok(Ok(()))) {
            warn!("the host may not be as it was; the next start cleans up");
        }
    }
}

/// Where endpoints given by name were when the tunnel was last set up, if its end was no
/// orderly one: with a kill switch left behind no name can be looked up.
pub fn remembered_endpoints(directory: &Path, interface: &str) -> Endpoints {
    Journal::left_behind(directory, interface)
        .map(|journal| journal.endpoints)
        .unwrap_or_default()
}

/// The mark that our datagrams are to have: one that nobody else uses, unless the file says which.
pub(super) async fn mark(
    config: &Config,
    endpoints: &[IpAddr],
    before: Option<u32>,
) -> Result<Option<u32>, SystemError> {
    let mark = config.mark(endpoints);
    if mark.is_none() || config.host.fwmark.is_some() {
        return Ok(mark);
    }
    let name = &config.interface.tun_name;
    let (connection, handle) = network::connect()?;
    let unused = marks::unused(&handle, name, before).await;
    connection.abort();
    Ok(unused?.or(mark))
}

/// The addresses of all endpoints that are known.
fn endpoints(config: &Config, names: &Endpoints) -> Vec<IpAddr> {
    let said = config.peers.iter().flat_map(Peer::all_endpoints);
    let literal = said.filter_map(|endpoint| match endpoint {
        Endpoint::Address(address) => Some(address.ip()),
        Endpoint::Name(..) => None,
    });
    literal.chain(names.values().map(SocketAddr::ip)).collect()
}
