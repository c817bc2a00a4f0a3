//! The bans of a running tunnel: the list, what user space and the eBPF programs drop because
//! of it, and the sentences about it.
//!
//! | file | concern |
//! |---|---|
//! | [`list`] | who is denied, by whom and until when; pure |
//! | [`owners`] | whose addresses a ban hits |
//! | [`question`] | what is asked back before a ban that may be a mistake |
//! | [`report`] | bans in `status` and `stats` |

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

mod list;
mod owners;
mod question;
mod report;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::list::{BanError, BanList, Removed};
use self::owners::is_huge;
use super::peers::Peers;
use super::words;
use crate::accel::Shield;
use crate::config::{Accel, keys};
use crate::dataplane::filter::Filter;
use crate::layer::Layer;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::Device;
use crate::protocol::peer::Peer;
use crate::report::{BanStatus, Refused, Why};

pub(super) use self::owners::Owners;

/// How long a ban lasts, and whether anything is asked back before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BanOptions {
    /// Nothing is asked back.
    pub force: bool,
    /// For how long; `None` until unbanned or stopped.
    pub seconds: Option<u64>,
}

/// The bans, and where they are in force.
#[derive(Debug)]
pub(super) struct Bans {
    list: BanList,
    /// What the workers drop.
    filter: Arc<Filter>,
    /// The configuration's file, which sentences name.
    file: Option<PathBuf>,
}

impl Bans {
    /// What the configuration denies: the workers drop it from the start. The eBPF programs
    /// are started with it.
    pub(super) fn new(accel: &Accel, file: Option<PathBuf>) -> Self {
        let mut bans = Self {
            list: BanList::default(),
            filter: Arc::default(),
            file,
        };
        bans.list.configure(&accel.deny, &accel.deny_inner);
        bans.set_filter();
        bans
    }

    /// What the workers drop by.
    pub(super) fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// How many networks are denied now, outside and inside.
    pub(super) fn count(&self) -> usize {
        self.list.count()
    }

    /// The networks denied now.
    pub(super) fn nets(&self, layer: Layer) -> Vec<IpNet> {
        self.list.nets(layer)
    }

    /// When to call [`Self::expire`].
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.list.next_end()
    }

    /// Bans a network for a time, or until it is unbanned. Without a layer it is one outside
    /// that doesn't look like one inside.
    pub(super) fn ban(
        &mut self,
        net: IpNet,
        layer: Option<Layer>,
        options: BanOptions,
        owners: &mut Owners<'_>,
        shield: &mut Shield,
    ) -> Result<String, Refused> {
        let net = canonical(net);
        if !options.force
            && let Some(question) = question::about(net, layer, owners)
        {
            return Err(question);
        }
        let layer = layer.unwrap_or_default();
        let done = self.ban_each(&[net], layer, options.seconds, owners, shield);
        done.map_err(|error| error.to_string().into())
    }

    /// Bans a peer, by its name or key: its addresses inside the tunnel, or the one outside
    /// that it was last heard from.
    pub(super) fn ban_peer(
        &mut self,
        peer: &str,
        layer: Layer,
        options: BanOptions,
        owners: &mut Owners<'_>,
        shield: &mut Shield,
    ) -> Result<String, Refused> {
        let (key, nets) = owners.nets_of(peer, layer)?;
        if !options.force
            && let Some(net) = nets.iter().find(|net| is_huge(**net))
        {
            return Err(Refused::because(
                Why::TooWide,
                format!(
                    "{} owns {net}: banning it would drop what comes through it from everybody; \
                     add --force if that is meant",
                    owners.peers.label(&key)
                ),
            ));
        }
        let done = self.ban_each(&nets, layer, options.seconds, owners, shield);
        done.map_err(|error| error.to_string().into())
    }

    /// Takes back the ban of exactly this network.
    pub(super) fn unban(
        &mut self,
        net: IpNet,
        layer: Layer,
        shield: &mut Shield,
    ) -> Result<String, Refused> {
        let net = canonical(net);
        let file = self.deny_key(layer);
        let done = match self.list.remove(net, layer) {
            Removed::Nothing => {
                let text = self.not_banned(net, layer);
                return Err(Refused::because(Why::NotBanned, text));
            }
            Removed::StillConfigured => format!(
                "took back the ban of {net}; {file} still denies it: take it out of there and \
                 reload, or unban it once more to let it through until the next reload"
            ),
            Removed::UntilReload => format!(
                "unbanned {net} until the next reload or start: {file} denies it; take it out of \
                 there to keep it unbanned"
            ),
            Removed::All => match self.list.around(net, layer) {
                Some(around) => {
                    format!("unbanned {net}; it is still dropped, as {around} is banned")
                }
                None => format!("unbanned {net}"),
            },
        };
        if !self.list.has(net, layer) {
            self.enforce(&[], &[(net, layer)], shield);
        }
        info!("{done}");
        Ok(done)
    }

    /// Takes back all bans of a peer's addresses.
    pub(super) fn unban_peer(
        &mut self,
        peer: &str,
        layer: Layer,
        owners: &mut Owners<'_>,
        shield: &mut Shield,
    ) -> Result<String, Refused> {
        let (key, nets) = owners.nets_of(peer, layer)?;
        let mut done = Vec::new();
        for net in nets {
            if self.list.has(net, layer)
                && let Ok(text) = self.unban(net, layer, shield)
            {
                done.push(text);
            }
        }
        if done.is_empty() {
            let which = match layer {
                Layer::Outer => "address outside",
                Layer::Inner => "addresses inside the tunnel",
            };
            return Err(Refused::because(
                Why::NotBanned,
                format!(
                    "nothing of {} is banned by its {which}; `taltun stats` lists what is",
                    owners.peers.label(&key)
                ),
            ));
        }
        Ok(done.join("\n"))
    }

    /// Carries out bans of others, each with its seconds, and ends such of them. A ban that an operator
    /// made here without an end stays.
    pub(super) fn share(
        &mut self,
        new: &[(IpNet, Layer, u64)],
        lifted: &[(IpNet, Layer)],
        shield: &mut Shield,
    ) {
        let before = self.banned();
        for (net, layer, seconds) in new {
            let lasting = Duration::from_secs(*seconds);
            if let Err(error) = self.list.add_shared(*net, *layer, lasting) {
                warn!("{net} isn't banned here, as it is in the fleet: {error}");
            }
        }
        for (net, layer) in lifted {
            self.list.remove_shared(*net, *layer);
        }
        self.enforce_since(&before, shield);
    }

    /// Ends the bans whose time is over.
    pub(super) fn expire(&mut self, shield: &mut Shield) {
        let before = self.banned();
        if self.list.expire() {
            self.enforce_since(&before, shield);
        }
    }

    /// Replaces what the configuration denied by what it denies. Returns what both deny and an
    /// operator had taken back until now.
    pub(super) fn configure(
        &mut self,
        denied: &Accel,
        denies: &Accel,
        shield: &mut Shield,
    ) -> Vec<IpNet> {
        let before = self.banned();
        self.list.configure(&denies.deny, &denies.deny_inner);
        self.enforce_since(&before, shield);
        let was_denied = |(net, layer): &(IpNet, Layer)| {
            let nets = match layer {
                Layer::Outer => &denied.deny,
                Layer::Inner => &denied.deny_inner,
            };
            nets.iter().any(|denied| canonical(*denied) == *net)
        };
        let after = self.banned();
        let new = after.difference(&before).filter(|ban| was_denied(ban));
        new.map(|(net, _)| *net).collect()
    }

    /// What drops packets of a peer that owns these networks.
    pub(super) fn of_peer(&self, peer: &Peer, owned: &[IpNet], peers: &Peers) -> Vec<BanStatus> {
        let deny_key = |layer| self.deny_key(layer);
        report::of_peer(&self.list, peer, owned, peers, deny_key)
    }

    /// What denies an address, if anything does: the narrowest network.
    pub(super) fn of_address(&self, address: IpAddr, layer: Layer) -> Option<BanStatus> {
        report::of_address(&self.list, address, layer, &self.deny_key(layer))
    }

    /// All that is denied, with the peers that are in it.
    pub(super) fn with_peers(&self, device: &Device, peers: &Peers) -> Vec<BanStatus> {
        let deny_key = |layer| self.deny_key(layer);
        report::with_peers(&self.list, device, peers, deny_key)
    }

    /// Bans several networks at once, or none.
    fn ban_each(
        &mut self,
        nets: &[IpNet],
        layer: Layer,
        seconds: Option<u64>,
        owners: &mut Owners<'_>,
        shield: &mut Shield,
    ) -> Result<String, BanError> {
        let new = nets.iter().filter(|net| !self.list.has(**net, layer));
        if new.count() > self.list.room() {
            return Err(BanError::Full);
        }
        let lasting = seconds.map(Duration::from_secs);
        for net in nets {
            self.list.add(*net, layer, lasting)?;
        }
        let added: Vec<(IpNet, Layer)> = nets.iter().map(|net| (*net, layer)).collect();
        let place = self.enforce(&added, &[], shield);
        let names: Vec<String> = nets.iter().map(ToString::to_string).collect();
        let inside = match layer {
            Layer::Outer => "",
            Layer::Inner => " inside the tunnel",
        };
        let lasting = seconds.map_or_else(
            || " until it is unbanned or the tunnel stops".into(),
            |seconds| format!(" for {}", words::span(seconds)),
        );
        let mut done = format!("banned {}{inside}{lasting}", words::list(&names));
        let _ = write!(done, ", dropped in {place}");
        let peers = owners.peers_in(nets, layer);
        if !peers.is_empty() {
            let _ = write!(done, "; this cuts off {}", words::list(&peers));
        }
        if nets.iter().all(|net| self.list.is_configured(*net, layer)) {
            let file = self.deny_key(layer);
            let _ = write!(
                done,
                "; {file} denies it too, and goes on when the ban ends"
            );
        }
        info!("{done}");
        Ok(done)
    }

    fn not_banned(&self, net: IpNet, layer: Layer) -> String {
        let elsewhere = match layer {
            _ if !self.list.has(net, layer.other()) => "",
            Layer::Inner => " inside the tunnel, but outside it is: leave out --inner",
            Layer::Outer => " outside, but inside the tunnel it is: add --inner",
        };
        match self.list.around(net, layer) {
            Some(around) => format!(
                "{net} is not banned by itself, but {around} is; unban that, exactly as it was \
                 banned"
            ),
            None => format!("{net} is not banned{elsewhere}"),
        }
    }

    /// What to call the list of the configuration that denies.
    fn deny_key(&self, layer: Layer) -> String {
        let key = keys::accel::deny(layer).full_name();
        match &self.file {
            Some(path) => format!("{key} in {}", path.display()),
            None => key,
        }
    }

    /// All that is banned.
    fn banned(&self) -> BTreeSet<(IpNet, Layer)> {
        let denied = self.list.denied();
        denied.map(|denied| (denied.net, denied.layer)).collect()
    }

    /// Puts into force what the list has by now and hadn't `before`, or the other way round.
    fn enforce_since(&self, before: &BTreeSet<(IpNet, Layer)>, shield: &mut Shield) {
        let after = self.banned();
        let added: Vec<_> = after.difference(before).copied().collect();
        let removed: Vec<_> = before.difference(&after).copied().collect();
        for (net, _) in &removed {
            info!("{net} is no longer banned");
        }
        self.enforce(&added, &removed, shield);
    }

    /// Puts the list into force, of which these are new and those are gone. New bans come
    /// first, so that no packet passes between two states of the list. Returns where packets
    /// of the last new one are dropped.
    fn enforce(
        &self,
        added: &[(IpNet, Layer)],
        removed: &[(IpNet, Layer)],
        shield: &mut Shield,
    ) -> &'static str {
        self.set_filter();
        let mut dropped_in = "user space";
        for &(net, layer) in added {
            let place = match layer {
                Layer::Outer => "XDP",
                Layer::Inner => "TC",
            };
            dropped_in = match shield.ban(layer, net) {
                Ok(()) => place,
                Err(reason) => {
                    debug!("ban {net} in {place}: {reason}");
                    "user space"
                }
            };
        }
        for &(net, layer) in removed {
            if let Err(reason) = shield.unban(layer, net) {
                debug!("unban {net} in eBPF: {reason}");
            }
        }
        dropped_in
    }

    fn set_filter(&self) {
        self.filter
            .set(&self.nets(Layer::Outer), &self.nets(Layer::Inner));
    }
}

#[cfg(test)]
mod tests;
