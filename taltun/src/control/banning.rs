//! Bans of a running tunnel: in the list, in user space, and in the eBPF programs where there
//! are any. What would cut off more than an operator is likely to mean asks back first.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use ipnet::IpNet;
use tracing::{debug, info};

use super::Response;
use super::bans::{BanError, Removed, canonical};
use super::engine::Engine;
use super::words;
use crate::crypto::PublicKey;

/// Networks with shorter prefixes are larger than anybody bans by intent: IPv4, IPv6.
const SHORTEST: (u8, u8) = (8, 16);

/// How a ban is meant.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command of its own"
)]
pub(super) struct Ban {
    /// It is one inside the tunnel.
    pub(super) inner: bool,
    /// It is one outside, even if the address looks like one inside.
    pub(super) outer: bool,
    /// Nothing is asked back.
    pub(super) force: bool,
    /// For how long; `None` until unbanned or stopped.
    pub(super) seconds: Option<u64>,
}

impl Engine {
    /// Bans a network, outside or inside the tunnel, for a time or until it is taken back.
    pub(super) fn ban(&mut self, net: IpNet, ban: Ban) -> Response {
        let net = canonical(net);
        if !ban.force
            && let Some(question) = self.doubt(net, ban)
        {
            return Response::Error(question);
        }
        match self.ban_each(&[net], ban) {
            Ok(done) => Response::Done(done),
            Err(error) => Response::Error(error.to_string()),
        }
    }

    /// Bans a peer, by its name or key: its addresses inside the tunnel, or the one outside
    /// that it was last heard from.
    pub(super) fn ban_peer(&mut self, peer: &str, ban: Ban) -> Response {
        let (key, nets) = match self.peers_nets(peer, ban.outer) {
            Ok(found) => found,
            Err(reason) => return Response::Error(reason),
        };
        if !ban.force
            && let Some(net) = nets.iter().find(|net| is_huge(**net))
        {
            return Response::Error(format!(
                "{} owns {net}: banning it would drop what comes through it from everybody; add \
                 --force if that is meant",
                self.label(&key)
            ));
        }
        match self.ban_each(&nets, ban) {
            Ok(done) => Response::Done(done),
            Err(error) => Response::Error(error.to_string()),
        }
    }

    /// Takes back the ban of exactly this network.
    pub(super) fn take_back_ban(&mut self, net: IpNet, inner: bool) -> Response {
        let net = canonical(net);
        let file = self.deny_key(inner);
        let done = match self.bans.remove(net, inner) {
            Removed::Nothing => return Response::Error(self.not_banned(net, inner)),
            Removed::StillConfigured => format!(
                "took back the ban of {net}; {file} still denies it: take it out of there and \
                 reload, or unban it once more to let it through until the next reload"
            ),
            Removed::UntilReload => format!(
                "unbanned {net} until the next reload or start: {file} denies it; take it out of \
                 there to keep it unbanned"
            ),
            Removed::All => match self.bans.around(net, inner) {
                Some(around) => {
                    format!("unbanned {net}; it is still dropped, as {around} is banned")
                }
                None => format!("unbanned {net}"),
            },
        };
        if !self.bans.has(net, inner) {
            self.apply_bans();
            self.unban(net, inner);
        }
        info!("{done}");
        Response::Done(done)
    }

    /// Takes back all bans of a peer's addresses.
    pub(super) fn take_back_peers_bans(&mut self, peer: &str, outer: bool) -> Response {
        let (key, nets) = match self.peers_nets(peer, outer) {
            Ok(found) => found,
            Err(reason) => return Response::Error(reason),
        };
        let mut done = Vec::new();
        for net in nets {
            if self.bans.has(net, !outer)
                && let Response::Done(text) = self.take_back_ban(net, !outer)
            {
                done.push(text);
            }
        }
        if done.is_empty() {
            let which = if outer {
                "address outside"
            } else {
                "addresses inside the tunnel"
            };
            return Response::Error(format!(
                "nothing of {} is banned by its {which}; `taltun stats` lists what is",
                self.label(&key)
            ));
        }
        Response::Done(done.join("\n"))
    }

    /// Ends the bans whose time is over.
    pub(super) fn expire_bans(&mut self) {
        let before = self.banned();
        if !self.bans.expire() {
            return;
        }
        self.unban_all_but(&before, &self.banned());
        self.apply_bans();
    }

    /// Replaces what the configuration denies.
    pub(super) fn configure_bans(&mut self, outer: &[IpNet], inner: &[IpNet]) {
        let before = self.banned();
        self.bans.configure(outer, inner);
        let after = self.banned();
        // New bans first, so that no packet passes between two states of the list.
        self.apply_bans();
        for &(net, inner) in after.difference(&before) {
            self.enforce(net, inner);
        }
        self.unban_all_but(&before, &after);
    }

    /// Bans several networks at once, or none.
    fn ban_each(&mut self, nets: &[IpNet], ban: Ban) -> Result<String, BanError> {
        let new = nets.iter().filter(|net| !self.bans.has(**net, ban.inner));
        if new.count() > self.bans.room() {
            return Err(BanError::Full);
        }
        let lasting = ban.seconds.map(Duration::from_secs);
        for net in nets {
            self.bans.add(*net, ban.inner, lasting)?;
        }
        self.apply_bans();
        let mut place = "user space";
        for net in nets {
            place = self.enforce(*net, ban.inner);
        }
        let names: Vec<String> = nets.iter().map(ToString::to_string).collect();
        let inside = if ban.inner { " inside the tunnel" } else { "" };
        let lasting = ban.seconds.map_or_else(
            || " until it is unbanned or the tunnel stops".into(),
            |seconds| format!(" for {}", words::span(seconds)),
        );
        let mut done = format!("banned {}{inside}{lasting}", words::list(&names));
        let _ = write!(done, ", dropped in {place}");
        let peers = self.peers_in(nets, ban.inner);
        if !peers.is_empty() {
            let _ = write!(done, "; this cuts off {}", words::list(&peers));
        }
        if nets
            .iter()
            .all(|net| self.bans.is_configured(*net, ban.inner))
        {
            let file = self.deny_key(ban.inner);
            let _ = write!(
                done,
                "; {file} denies it too, and goes on when the ban ends"
            );
        }
        info!("{done}");
        Ok(done)
    }

    /// What to ask before a ban that may mean something else than it does.
    fn doubt(&mut self, net: IpNet, ban: Ban) -> Option<String> {
        if is_huge(net) {
            let whose = if ban.inner {
                "from inside the tunnel"
            } else {
                "that peers send"
            };
            return Some(format!(
                "{net} would drop nearly everything {whose}; add --force if that is meant"
            ));
        }
        let mut vips = self.config.interface.vip.iter().map(IpNet::addr);
        let own = vips.find(|vip| net.contains(vip));
        // A network that this machine is in may well be meant; this machine alone hardly. The
        // tunnel's own network is asked about below.
        let address = net.addr();
        let is_alone = net.prefix_len() == net.max_prefix_len();
        let is_ours = self.own_addresses.contains(&address) || address.is_loopback();
        let mut networks = self.config.interface.vip.iter();
        if !ban.inner && is_alone && is_ours && !networks.any(|vip| vip.contains(&address)) {
            return Some(format!(
                "{address} is this machine's own address; add --force if it is to be banned"
            ));
        }
        if ban.inner {
            return own.map(|vip| {
                if is_alone {
                    return format!(
                        "{address} is this machine's own address; add --force if it is to be banned"
                    );
                }
                format!(
                    "{net} has this machine's own address {vip} in it; add --force if all of it \
                     is to be banned"
                )
            });
        }
        if ban.outer {
            return None;
        }
        // Where a peer is heard from, it is an address outside, whatever else it is.
        if !self.peers_in(&[net], false).is_empty() {
            return None;
        }
        let (address, whose) = if let Some(vip) = own {
            (vip.to_string(), "this machine's own address".to_owned())
        } else {
            // Whoever owns nearly everything doesn't count.
            let (owned, key) = self.device.owner_of(net, |owned| !is_huge(owned))?;
            let whose = format!("an address of {}", self.label(&key));
            (owned.to_string(), whose)
        };
        Some(format!(
            "{address} is {whose} inside the tunnel: add --inner to ban {net} there, or --outer \
             to drop datagrams that come from {net} outside"
        ))
    }

    /// What peers are called that some networks cut off: those that are heard from there, or
    /// that own an address inside.
    fn peers_in(&mut self, nets: &[IpNet], inner: bool) -> Vec<String> {
        const NAMED: usize = 3;
        let mut keys = BTreeSet::new();
        for net in nets {
            if inner {
                keys.extend(self.device.owners_within(*net));
            } else {
                let peers = self.device.peers_at(*net);
                keys.extend(peers.iter().map(|peer| *peer.public_key()));
            }
        }
        let mut names: Vec<String> = keys.iter().map(|key| self.label(key)).collect();
        names.sort();
        if names.len() > NAMED {
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            names.push(format!("{} more", words::count(more, "peer")));
        }
        names
    }

    /// The peer with this name or key, and what it owns inside, or where it is outside.
    fn peers_nets(&self, peer: &str, outer: bool) -> Result<(PublicKey, Vec<IpNet>), String> {
        let by_key = peer.parse::<PublicKey>().ok();
        let named = self.known.iter().filter(|(_, known)| {
            // A key is never taken for a name.
            by_key.is_none() && known.name.as_deref() == Some(peer)
        });
        let keys = by_key.iter().chain(named.map(|(key, _)| key));
        let mut meant = keys.filter_map(|key| self.device.peer(key));
        let (Some(found), more) = (meant.next(), meant.next()) else {
            return Err(format!(
                "{peer:?} is neither a network nor a peer's name or key; `taltun status` lists \
                 the peers"
            ));
        };
        if more.is_some() {
            return Err(format!(
                "several peers are called {peer:?}; give the public key of one"
            ));
        }
        let key = *found.public_key();
        if outer {
            let endpoint = found.endpoint().ok_or_else(|| {
                format!("{peer} wasn't heard from yet, so there is no address to ban")
            })?;
            return Ok((key, vec![canonical(endpoint.remote.ip().into())]));
        }
        let nets: Vec<IpNet> = self.device.allowed_ips_of(found.id()).collect();
        if nets.is_empty() {
            return Err(format!("{peer} has no address inside the tunnel"));
        }
        Ok((key, nets))
    }

    fn not_banned(&self, net: IpNet, inner: bool) -> String {
        let elsewhere = if self.bans.has(net, !inner) {
            if inner {
                " inside the tunnel, but outside it is: leave out --inner"
            } else {
                " outside, but inside the tunnel it is: add --inner"
            }
        } else {
            ""
        };
        match self.bans.around(net, inner) {
            Some(around) => format!(
                "{net} is not banned by itself, but {around} is; unban that, exactly as it was \
                 banned"
            ),
            None => format!("{net} is not banned{elsewhere}"),
        }
    }

    /// What to call the list of the configuration that denies.
    pub(super) fn deny_key(&self, inner: bool) -> String {
        let key = if inner {
            "accel.deny_inner"
        } else {
            "accel.deny"
        };
        match &self.origin.path {
            Some(path) => format!("{key} in {}", path.display()),
            None => key.to_owned(),
        }
    }

    /// What is banned, and whether that is inside.
    fn banned(&self) -> BTreeSet<(IpNet, bool)> {
        [false, true]
            .into_iter()
            .flat_map(|inner| {
                self.bans
                    .nets(inner)
                    .into_iter()
                    .map(move |net| (net, inner))
            })
            .collect()
    }

    /// Puts a ban into the programs; where packets are dropped by it.
    fn enforce(&mut self, net: IpNet, inner: bool) -> &'static str {
        let (place, banned) = if inner {
            ("TC", self.shield.ban_inner(net))
        } else {
            ("XDP", self.shield.ban(net))
        };
        match banned {
            Ok(()) => place,
            Err(reason) => {
                debug!("ban {net} in {place}: {reason}");
                "user space"
            }
        }
    }

    /// Takes those of `before` off the programs' lists that are not in `after`.
    fn unban_all_but(&mut self, before: &BTreeSet<(IpNet, bool)>, after: &BTreeSet<(IpNet, bool)>) {
        for &(net, inner) in before.difference(after) {
            info!("{net} is no longer banned");
            self.unban(net, inner);
        }
    }

    fn unban(&mut self, net: IpNet, inner: bool) {
        let unbanned = if inner {
            self.shield.unban_inner(net)
        } else {
            self.shield.unban(net)
        };
        if let Err(reason) = unbanned {
            debug!("unban {net} in eBPF: {reason}");
        }
    }

    fn apply_bans(&self) {
        self.filter
            .set(&self.bans.nets(false), &self.bans.nets(true));
    }
}

/// Whether a network is larger than anybody bans by intent.
pub(super) fn is_huge(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() < SHORTEST.0,
        IpNet::V6(net) => net.prefix_len() < SHORTEST.1,
    }
}
