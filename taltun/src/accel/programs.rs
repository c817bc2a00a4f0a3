//! The loaded programs, and where they are attached.
//!
//! The maps are filled before a program is attached, so that no frame meets half of them.
//! Interfaces come and go: [`Programs::refresh`] looks again whenever the kernel reports a change.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::thread;

use aya::{Ebpf, EbpfLoader};

use super::attach::{Attachment, attach};
use super::choose::{choose, own_addresses};
use super::explain::explain_and_save;
use super::maps::Maps;
use super::named::program;
use super::netlink::{self, Link, Watch};
use super::reply_port::ReplyPorts;
use super::samples::{self, Samples};
use super::steering::Steering;
use super::tc::Filter;
use super::tunnel;
use super::xsk::{self, Sockets};
use super::{OBJECT, ShieldSettings, Turning, Wanted, off};
use crate::config::keys;
use crate::dataplane::redirect::XdpInterface;
use crate::layer::Layer;
use crate::os::capabilities;
use crate::report::{SteeringStatus, TcStatus, XdpAttachment, XdpStatus};

/// The programs, their maps, and what they are attached to.
pub(super) struct Programs {
    /// Before `ebpf`: a link refers to its program. By index, because names change hands.
    attached: BTreeMap<u32, (XdpStatus, Attachment)>,
    tunnel: (TcStatus, Option<Filter>),
    steering: (SteeringStatus, Steering),
    reply_ports: ReplyPorts,
    /// Where the range is turned, or why not; `None` where none is wanted.
    turning: Option<Result<Turning, String>>,
    /// `None` where nobody asked for them.
    samples: Option<Samples>,
    /// Why not on others.
    refused: Vec<XdpStatus>,
    pub(super) maps: Maps,
    pub(super) sockets: Sockets,
    ebpf: Ebpf,
    wanted: Wanted,
    /// Whether to look again although the kernel tells of no change: somebody else's program
    /// is where ours should be, of whose end it doesn't tell, or ours is to be attached anew.
    look_again: bool,
    /// `None` if the kernel won't tell of changes: then there are only those of the start.
    watch: Option<Watch>,
}

impl Programs {
    /// Loads the programs and attaches them wherever it is wanted and possible. The error is
    /// a sentence.
    pub(super) fn start(request: &ShieldSettings<'_>) -> Result<Self, String> {
        let wanted = Wanted::from(request);
        // Before the interfaces are listed, so that no change falls between.
        let watch = Watch::start()
            .inspect_err(|error| tracing::debug!(%error, "changes of interfaces go unnoticed"))
            .ok();
        let (mut ebpf, maps, steering, sockets) = load(request.debug).map_err(|error| {
            format!(
                "the programs can't be loaded: {}",
                explain_and_save(&*error, request.verifier_log)
            )
        })?;
        let mut maps = maps;
        maps.set_mac1_key(request.mac1_key);
        maps.set_initiations_per_second(request.handshakes_per_second);
        maps.add_routes(request.routes);
        let denied = [
            (Layer::Outer, request.deny),
            (Layer::Inner, request.deny_inner),
        ];
        for (layer, nets) in denied {
            for net in nets {
                if let Err(error) = maps.ban(layer, *net) {
                    tracing::warn!("{}: {error}", keys::accel::deny(layer).full_name());
                }
            }
        }
        maps.set_listen(request.listen);
        let samples = request.debug.then(|| Samples::take(&mut ebpf));
        let samples = samples.transpose().unwrap_or_else(|error| {
            tracing::debug!(%error, "no samples of dropped packets");
            None
        });
        let reply_ports = ReplyPorts::load(&mut ebpf);
        let tunnel = tunnel::attach(&mut ebpf, request.tun_name);
        tracing::info!(mode = tunnel.0.mode.word(), reason = tunnel.0.reason, "TC");
        let mut programs = Self {
            attached: BTreeMap::new(),
            tunnel,
            steering: (SteeringStatus::none(), steering),
            reply_ports,
            turning: None,
            samples,
            refused: Vec::new(),
            maps,
            sockets,
            ebpf,
            wanted,
            look_again: false,
            watch,
        };
        programs.look();
        Ok(programs)
    }

    /// Attaches to interfaces that have appeared, and lets go of those that are gone.
    pub(super) fn refresh(&mut self) {
        if let Some(samples) = &mut self.samples {
            samples.log();
        }
        let changed = self.watch.as_mut().is_some_and(Watch::changed);
        let before = self.attached.len();
        self.attached.retain(|_, (status, attachment)| {
            let stays = !attachment.misses_queues(&status.interface);
            if !stays {
                tracing::info!(interface = status.interface, "XDP: there are more queues");
            }
            stays
        });
        // What was let go is attached anew.
        if changed || self.look_again || self.attached.len() < before {
            self.look();
        }
    }

    /// Steers datagrams to the workers' sockets.
    pub(super) fn steer(&mut self, sockets: &[BorrowedFd<'_>]) {
        let (status, steering) = &mut self.steering;
        self.maps.set_workers(sockets.len());
        let new = steering.attach(&mut self.ebpf, sockets);
        if new != *status {
            tracing::info!(mode = new.mode.word(), reason = new.reason, "steering");
            *status = new;
        }
    }

    pub(super) fn steering_status(&self) -> SteeringStatus {
        self.steering.0.clone()
    }

    /// Turns datagrams to these ports into datagrams to the listen port, from now on; the last
    /// port included.
    pub(super) fn set_port_range(&mut self, range: Option<(u16, u16)>) {
        if self.wanted.port_range != range {
            self.wanted.port_range = range;
            self.look();
        }
    }

    /// Whether who has no capability can do all but load programs, as since Linux 5.19.
    pub(super) fn needs_none(&self) -> bool {
        thread::scope(|scope| {
            let tried = scope.spawn(|| capabilities::give_up().is_ok() && self.maps.can_be_read());
            tried.join().unwrap_or(false)
        })
    }

    /// Where a range of ports is turned, or why not; `None` where none is wanted.
    pub(super) fn turning(&self) -> Option<Result<Turning, String>> {
        self.turning.clone()
    }

    pub(super) fn rebind(&mut self, listen: SocketAddr) {
        self.wanted.listen = listen;
        self.look();
        self.maps.set_listen(listen);
    }

    pub(super) fn status(&self) -> Vec<XdpStatus> {
        let attached = self.attached.values().map(|(status, _)| status);
        attached.chain(&self.refused).cloned().collect()
    }

    pub(super) fn tunnel_status(&self) -> TcStatus {
        self.tunnel.0.clone()
    }

    /// Whether anything judges what comes from outside.
    pub(super) fn guards_outside(&self) -> bool {
        !self.attached.is_empty()
    }

    /// Whether anything judges what comes out of the tunnel.
    pub(super) fn guards_inside(&self) -> bool {
        self.tunnel.1.is_some()
    }

    /// The interfaces whose program can hand frames to AF_XDP sockets, as they are now.
    pub(super) fn interfaces(&self) -> Vec<XdpInterface> {
        let look = |(index, (status, attachment)): (&u32, &(XdpStatus, Attachment))| {
            let driver = status.mode == XdpAttachment::Driver;
            // One that is on its way out has none of this any more.
            xsk::interface(*index, &status.interface, driver, attachment.own_queues()).ok()
        };
        self.attached.iter().filter_map(look).collect()
    }

    /// Makes the attachments what they should be, as the interfaces are now.
    fn look(&mut self) {
        let links = match netlink::links(self.wanted.mark) {
            Ok(links) => links,
            Err(error) => {
                tracing::warn!(%error, "the interfaces can't be listed");
                if self.attached.is_empty() {
                    let reason = format!("the interfaces can't be listed: {error}");
                    self.refused = vec![off("", reason)];
                }
                return;
            }
        };
        self.maps
            .set_own_addresses(own_addresses(self.wanted.listen, &links));
        let with_program: BTreeMap<u32, bool> = links
            .iter()
            .map(|link| (link.index, link.program.is_some()))
            .collect();
        let mut replaced = BTreeSet::new();
        self.attached.retain(|index, (status, _)| {
            let stays = with_program.get(index);
            if stays != Some(&true) {
                tracing::info!(interface = status.interface, "XDP: the interface is gone");
            }
            // Another one has its number, as one that came from another namespace may.
            if stays == Some(&false) {
                replaced.insert(*index);
            }
            stays == Some(&true)
        });
        for link in &links {
            if let Some((status, _)) = self.attached.get_mut(&link.index) {
                status.interface.clone_from(&link.name);
            }
        }
        let mut refused = Vec::new();
        self.look_again = false;
        let all = links.clone();
        for choice in choose(&self.wanted, links) {
            match choice {
                Ok(link) => {
                    if self.attached.contains_key(&link.index) {
                        continue;
                    }
                    if replaced.contains(&link.index) {
                        // Only at the next look, so that whoever has to do with the one that
                        // is gone sees that it is.
                        self.look_again = true;
                        let reason = "another interface had its number".to_owned();
                        refused.push(off(&link.name, reason));
                        continue;
                    }
                    self.look_again |= link.program.is_some();
                    let (status, attachment) = attach(&mut self.ebpf, &link, &self.wanted);
                    match attachment {
                        Some(attachment) => {
                            announce(&status);
                            self.attached.insert(link.index, (status, attachment));
                        }
                        None => refused.push(status),
                    }
                }
                Err(status) => refused.push(status),
            }
        }
        // One that is attached stays so, down, without an address or without the default route: to
        // detach resets some network cards, too.
        let attached: Vec<&XdpStatus> = self.attached.values().map(|(status, _)| status).collect();
        leave_out_attached(&mut refused, &attached);
        for status in &refused {
            if !self.refused.contains(status) {
                announce(status);
            }
        }
        self.refused = refused;
        self.turn(&all);
    }

    /// Has the range turned if that can be, as the interfaces are now: answers must leave from the
    /// port that was used, so this is first.
    fn turn(&mut self, links: &[Link]) {
        let turning = self.wanted.port_range.map(|_| {
            if self.attached.is_empty() {
                return Err("no XDP program is attached".to_owned());
            }
            self.reply_ports
                .attach(&mut self.ebpf, links, &self.wanted.tun_name)?;
            Ok(self.places(links))
        });
        let range = self.wanted.port_range;
        let is_on = matches!(turning, Some(Ok(_)));
        self.maps.set_port_range(range.filter(|_| is_on));
        if !is_on {
            self.reply_ports.detach();
        }
        if turning != self.turning {
            match (&turning, range) {
                (Some(Ok(turning)), Some((first, last))) => tracing::info!(
                    interfaces = turning.on.join(", "),
                    "XDP turns the ports {first}-{last} into the listen port"
                ),
                (Some(Err(reason)), _) => tracing::info!(reason, "XDP turns no ports"),
                _ => {}
            }
            self.turning = turning;
        }
    }

    /// Which interfaces have the program, and on which others datagrams for us may come in: tunnels of
    /// others, too, as what comes in by those was wrapped when XDP saw it.
    fn places(&self, links: &[Link]) -> Turning {
        let own = own_addresses(self.wanted.listen, links);
        let is_open = |link: &&Link| {
            !link.loopback
                && link.up
                && link.name != self.wanted.tun_name
                && !self.attached.contains_key(&link.index)
                && link.addresses.iter().any(|address| own.contains(address))
        };
        let sorted = |names: Vec<&String>| {
            let mut names: Vec<String> = names.into_iter().cloned().collect();
            names.sort_unstable();
            names
        };
        let attached = self.attached.values().map(|(status, _)| &status.interface);
        Turning {
            on: sorted(attached.collect()),
            elsewhere: sorted(
                links
                    .iter()
                    .filter(is_open)
                    .map(|link| &link.name)
                    .collect(),
            ),
        }
    }
}

/// Takes out why nothing is attached where something is; and what concerns all interfaces, if any has
/// a program.
fn leave_out_attached(refused: &mut Vec<XdpStatus>, attached: &[&XdpStatus]) {
    refused.retain(|refused| {
        let name = &refused.interface;
        let is_attached = attached.iter().any(|status| status.interface == *name);
        !is_attached && (attached.is_empty() || !name.is_empty())
    });
}

/// The programs, and those who know their maps.
type Loaded = (Ebpf, Maps, Steering, Sockets);

fn load(debug: bool) -> Result<Loaded, Box<dyn Error>> {
    if OBJECT.is_empty() {
        return Err("built from a packaged crate, which has no eBPF programs".into());
    }
    let mut ebpf = EbpfLoader::new()
        .override_global(samples::SWITCH, &u8::from(debug), true)
        .load(OBJECT)?;
    for name in ["taltun_xdp", "taltun_xdp_skb"] {
        program(&mut ebpf, name)?.load()?;
    }
    let maps = Maps::take(&mut ebpf)?;
    let steering = Steering::take(&mut ebpf)?;
    let sockets = Sockets::take(&mut ebpf)?;
    Ok((ebpf, maps, steering, sockets))
}

fn announce(status: &XdpStatus) {
    let XdpStatus {
        interface,
        mode,
        reason,
    } = status;
    tracing::info!(interface, mode = mode.word(), reason, "XDP");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interface_is_both_attached_and_refused() {
        let reasons = || vec![off("", "no"), off("eth0", "no"), off("eth1", "no")];
        let mut refused = reasons();
        leave_out_attached(&mut refused, &[]);
        assert_eq!(refused, reasons());
        let attached = XdpStatus {
            mode: XdpAttachment::Generic,
            ..off("eth0", "")
        };
        leave_out_attached(&mut refused, &[&attached]);
        assert_eq!(refused, [off("eth1", "no")]);
    }
}
