//! Bans of a running tunnel: in the list, in user space, and in the eBPF programs where there
//! are any.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use tracing::{debug, info};

use super::Response;
use super::engine::Engine;
use crate::config::MAX_BANS;

impl Engine {
    /// Bans a network, outside or inside the tunnel, for a time or until it is taken back.
    pub(super) fn ban(&mut self, net: IpNet, inner: bool, lasting: Option<Duration>) -> Response {
        if !self.bans.add(net, inner, lasting) {
            return Response::Error(format!("there are {MAX_BANS} bans, which is the most"));
        }
        self.apply_bans();
        let place = self.enforce(net.trunc(), inner);
        let lasting = lasting.map_or_else(String::new, |lasting| {
            format!(" for {} seconds", lasting.as_secs())
        });
        Response::Done(format!("{net} is banned{lasting}, dropped in {place}"))
    }

    /// Takes back the ban of exactly this network.
    pub(super) fn take_back_ban(&mut self, net: IpNet, inner: bool) -> Response {
        if !self.bans.remove(net, inner) {
            return Response::Error(format!("{net} is not banned"));
        }
        self.apply_bans();
        self.unban(net.trunc(), inner);
        Response::Done(format!("{net} may send again"))
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
            info!("{net} may send again");
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
