//! The eBPF programs from user space: loads and attaches them, fills their maps and reads their
//! counters.
//!
//! Any failure here means "run without", never "don't run": there is always a [`Shield`], whose
//! [status](Shield::status) says what it does on each interface and why.
//! Without the `ebpf` feature there is the same [`Shield`], which does nothing.
//!
//! | file | concern |
//! |---|---|
//! | `programs` | the loaded programs, and where they are attached |
//! | `maps` | their settings, lists and counters |
//! | `under_load` | their state while too many handshakes come |
//! | `keys` | addresses and networks as the maps have them |
//! | `attach` | which XDP mode on which interface, and undoing it |
//! | `choose` | which interfaces |
//! | `routes` | what peers own, and what of it the map has no room for |
//! | `samples` | dropped packets in the log |
//! | `redirect` | what the data plane asks of them |
//! | `steering` | which worker's socket a datagram goes to |
//! | `tc` | attaching TC programs |
//! | `tunnel` | TC on the tunnel interface |
//! | `reply_port` | TC on the underlay, for replies to a range of ports |
//! | `netlink` | asking the kernel for links and addresses, and hearing of changes |
//! | `offload` | switching GRO, which driver mode on veth needs |
//! | `tun_queue` | which of a TUN's queues a packet takes |
//! | `xsk` | AF_XDP sockets in the maps, and which interfaces may have some |
//! | `explain` | errors as sentences |

#[cfg(feature = "ebpf")]
mod attach;
#[cfg(feature = "ebpf")]
mod choose;
#[cfg(feature = "ebpf")]
mod explain;
#[cfg(all(feature = "ebpf", feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(feature = "ebpf")]
mod keys;
#[cfg(feature = "ebpf")]
mod maps;
#[cfg(feature = "ebpf")]
mod named;
#[cfg(feature = "ebpf")]
mod netlink;
#[cfg(feature = "ebpf")]
mod offload;
#[cfg(feature = "ebpf")]
mod programs;
#[cfg(not(feature = "ebpf"))]
#[path = "absent.rs"]
mod programs;
mod redirect;
#[cfg(feature = "ebpf")]
mod reply_port;
#[cfg(feature = "ebpf")]
mod routes;
#[cfg(feature = "ebpf")]
mod samples;
#[cfg(feature = "ebpf")]
mod steering;
#[cfg(feature = "ebpf")]
mod tc;
#[cfg(feature = "ebpf")]
pub mod tun_queue;
#[cfg(not(feature = "ebpf"))]
#[path = "absent_tun_queue.rs"]
pub mod tun_queue;
#[cfg(feature = "ebpf")]
mod tunnel;
#[cfg(feature = "ebpf")]
mod under_load;
#[cfg(feature = "ebpf")]
mod xsk;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::XdpMode;
use crate::layer::Layer;
use crate::report::{Drops, Source, TcAttachment, TcStatus, XdpAttachment, XdpStatus};

use programs::Programs;

/// The compiled eBPF programs: an ELF object, aligned as its readers want it.
#[cfg(feature = "ebpf")]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/taltun-ebpf"));

/// The program that chooses a TUN queue, an object of its own.
#[cfg(feature = "ebpf")]
pub static TUN_QUEUE_OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/taltun-tun-queue"));

/// Where the XDP program turns a range of ports, by the interfaces' names in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turning {
    /// The interfaces that have the program.
    pub on: Vec<String>,
    /// Others on which datagrams for us may come in.
    pub elsewhere: Vec<String>,
}

/// What a [`Shield`] is to do.
#[derive(Debug, Clone, Copy)]
pub struct ShieldSettings<'a> {
    /// Interfaces to attach to; empty for: find them.
    pub interfaces: &'a [String],
    /// Where the UDP sockets listen, with the port they really have.
    pub listen: SocketAddr,
    /// The mark on our datagrams; 0 for none.
    pub mark: u32,
    /// How to attach.
    pub mode: XdpMode,
    /// Whether driver mode is the better one everywhere, as where sockets are to have frames
    /// from the program.
    pub prefer_driver: bool,
    /// Outer sources to drop from the start.
    pub deny: &'a [IpNet],
    /// Inner sources to drop from the start.
    pub deny_inner: &'a [IpNet],
    /// What the peers own, from the start.
    pub routes: &'a [IpNet],
    /// The key of mac1 in handshake messages to us.
    pub mac1_key: &'a [u8; 32],
    /// Initiations that one source may send in a second; 0 for any number.
    pub handshakes_per_second: u32,
    /// The tunnel's own interface, which is guarded from the inside.
    pub tun_name: &'a str,
    /// Whether to write samples of dropped packets into the log.
    pub debug: bool,
    /// Where to leave what the verifier says should it refuse a program.
    pub verifier_log: &'a Path,
}

#[cfg(test)]
impl ShieldSettings<'static> {
    /// One for a tunnel that isn't there.
    pub(crate) fn of(mode: XdpMode) -> Self {
        Self {
            interfaces: &[],
            listen: SocketAddr::from(([192, 0, 2, 1], 9000)),
            mark: 0,
            mode,
            prefer_driver: false,
            deny: &[],
            deny_inner: &[],
            routes: &[],
            mac1_key: &[0; 32],
            handshakes_per_second: 20,
            tun_name: "no-such-tun",
            debug: false,
            verifier_log: Path::new("/dev/null"),
        }
    }
}

/// Of a [`ShieldSettings`], what decides again whenever interfaces change.
#[cfg(feature = "ebpf")]
#[derive(Debug, Clone)]
struct Wanted {
    interfaces: Vec<String>,
    listen: SocketAddr,
    mark: u32,
    mode: XdpMode,
    prefer_driver: bool,
    tun_name: String,
    /// The ports to be turned into the listen port, the last one included.
    port_range: Option<(u16, u16)>,
}

#[cfg(feature = "ebpf")]
impl From<&ShieldSettings<'_>> for Wanted {
    fn from(request: &ShieldSettings<'_>) -> Self {
        Self {
            interfaces: request.interfaces.to_vec(),
            listen: request.listen,
            mark: request.mark,
            mode: request.mode,
            prefer_driver: request.prefer_driver,
            tun_name: request.tun_name.into(),
            port_range: None,
        }
    }
}

/// The programs in front of our UDP port and around the tunnel interface. Dropping it
/// detaches them.
pub struct Shield {
    /// The programs, or why there are none.
    programs: Result<Programs, String>,
}

impl Shield {
    /// Attaches what can be attached. Never fails: whatever goes wrong ends as mode `off`
    /// and a reason.
    pub fn start(request: &ShieldSettings<'_>) -> Self {
        let programs = if request.mode == XdpMode::Off {
            Err("switched off by accel.xdp".into())
        } else {
            Programs::start(request)
        };
        if let Err(reason) = &programs {
            tracing::info!(reason, "no eBPF program");
        }
        Self { programs }
    }

    /// The mode on each underlay interface and why it is so; one entry without an interface
    /// where the reason concerns all.
    pub fn status(&self) -> Vec<XdpStatus> {
        match &self.programs {
            Ok(programs) => programs.status(),
            Err(reason) => vec![off("", reason)],
        }
    }

    /// How TC guards the tunnel interface, or why it doesn't.
    pub fn tunnel_status(&self) -> TcStatus {
        match &self.programs {
            Ok(programs) => programs.tunnel_status(),
            Err(reason) => TcStatus {
                mode: TcAttachment::Off,
                reason: reason.clone(),
            },
        }
    }

    /// Whether it works on without a capability to load programs: all are loaded, and the kernel lets who has none of
    /// these use their maps.
    pub fn needs_no_loading(&self) -> bool {
        self.programs.as_ref().map_or(true, Programs::needs_none)
    }

    /// Attaches to interfaces that have appeared since, and lets go of those that are gone;
    /// where samples are wanted, writes into the log what was dropped.
    /// Usually costs one system call when nothing has changed; call it once a second.
    pub fn refresh(&mut self) {
        if let Ok(programs) = &mut self.programs {
            programs.refresh();
        }
    }

    /// Turns datagrams of ours to these ports into datagrams to the listen port, and has replies
    /// leave from the port that was used. The last port is included; `None` for no others.
    pub fn set_port_range(&mut self, range: Option<(u16, u16)>) {
        if let Ok(programs) = &mut self.programs {
            programs.set_port_range(range);
        }
    }

    /// Where the range is turned; else the error says why not. `None` where none is wanted.
    pub fn turning(&self) -> Option<Result<Turning, String>> {
        match &self.programs {
            Ok(programs) => programs.turning(),
            Err(reason) => Some(Err(reason.clone())),
        }
    }

    /// Lets messages to this receiver index through. Call it *before* sending the
    /// handshake message that gives the index out.
    pub fn allow_index(&mut self, index: u32) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.allow_index(index);
        }
    }

    /// Whether some data a second to receiver indices that we never gave out passes, where it comes from the address of a
    /// peer, as it may be for another hub.
    pub fn set_expects_misrouted(&mut self, expects: bool) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.set_expects_misrouted(expects);
        }
    }

    /// Whether all data to receiver indices that we never gave out passes, as it may be for another hub.
    pub fn set_passes_misrouted(&mut self, passes: bool) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.set_passes_misrouted(passes);
        }
    }

    /// What we send to the peer's index belongs to the session of this index of ours.
    pub fn note_session(&mut self, local: u32, remote: u32) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.note_session(local, remote);
        }
    }

    /// From now on, messages to this receiver index are dropped.
    pub fn forget_index(&mut self, index: u32) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.forget_index(index);
        }
    }

    /// We have another key pair now, and this is its key of mac1.
    pub fn set_mac1_key(&mut self, key: &[u8; 32]) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.set_mac1_key(key);
        }
    }

    /// How many initiations one source may send in a second; 0 for any number.
    pub fn set_handshakes_per_second(&mut self, most: u32) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.set_initiations_per_second(most);
        }
    }

    /// For so long from now on, initiations without a cookie are not taken; only so many as
    /// can be answered with one get through.
    pub fn set_under_load(&mut self, lasting: Duration) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.under_load.set_under_load(lasting);
        }
    }

    /// This source gets a cookie, which is made of `secret` and honoured for so long. Call it
    /// *before* sending the cookie.
    pub fn give_cookie(&mut self, source: IpAddr, secret: &[u8; 32], lasting: Duration) {
        if let Ok(programs) = &mut self.programs {
            programs
                .maps
                .under_load
                .give_cookie(source, secret, lasting);
        }
    }

    /// Peers were last heard at these addresses: what is limited for all strangers together
    /// isn't for them.
    pub fn set_endpoints(&mut self, endpoints: impl Iterator<Item = IpAddr>) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.under_load.set_endpoints(endpoints);
        }
    }

    /// These inner networks belong to peers, too. Call it *before* a peer gets them.
    pub fn add_routes(&mut self, routes: &[IpNet]) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.add_routes(routes);
        }
    }

    /// These inner networks belong to nobody any more. Call it *after* peers have lost them.
    pub fn remove_routes(&mut self, routes: &[IpNet]) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.remove_routes(routes);
        }
    }

    /// Rules, or what peers own, are about to change: nothing is dropped by rules here until
    /// [`close`](Self::close). Call it *before* any such change.
    pub fn open_all(&mut self) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.open_all();
        }
    }

    /// Whether it isn't known here which networks rules close, and would be of use.
    pub fn has_open_all(&self) -> bool {
        let Ok(programs) = &self.programs else {
            return false;
        };
        programs.guards_inside() && programs.maps.has_open_all()
    }

    /// These networks of peers are closed: rules let nobody on this host or behind it start a TCP
    /// connection with them. Call it when no change is under way.
    pub fn close(&mut self, closed: BTreeSet<IpNet>) {
        if let Ok(programs) = &mut self.programs {
            programs.maps.close(closed);
        }
    }

    /// Drops whatever comes from these addresses: outside to our port, on interfaces that
    /// appear later, too; inside, out of the tunnel. The error is a sentence for people:
    /// nothing drops it here now.
    pub fn ban(&mut self, layer: Layer, net: IpNet) -> Result<(), String> {
        let programs = self.programs.as_mut().map_err(|_| nothing_attached())?;
        programs.maps.ban(layer, net)?;
        let guards = match layer {
            Layer::Outer => programs.guards_outside(),
            Layer::Inner => programs.guards_inside(),
        };
        guards.then_some(()).ok_or_else(nothing_attached)
    }

    /// Takes back a [`ban`](Self::ban) of exactly this network.
    pub fn unban(&mut self, layer: Layer, net: IpNet) -> Result<(), String> {
        let programs = self.programs.as_mut().map_err(|_| nothing_attached())?;
        programs.maps.unban(layer, net)
    }

    /// Who sent: outside to our port, inside out of the tunnel into this host (what goes from
    /// peer to peer isn't seen here). At most `most`, those with most packets first. The
    /// unspecified address stands for all that came faster than they can be told apart.
    pub fn sources(&self, layer: Layer, most: usize) -> Vec<Source> {
        let programs = self.programs.as_ref();
        top(programs.map(|programs| programs.maps.sources(layer)), most)
    }

    /// Some of those who sent, as [`sources`](Self::sources) has them: not more than `most` are
    /// looked at, so that it takes no time under a flood.
    pub fn some_sources(&self, layer: Layer, most: usize) -> Vec<Source> {
        let programs = self.programs.as_ref();
        programs.map_or_else(|_| Vec::new(), |it| it.maps.some_sources(layer, most))
    }

    /// Dropped packets by the [label](taltun_common::drops::DropReason::label) of their
    /// reason; only reasons that occurred.
    pub fn drops(&self) -> Drops {
        self.programs
            .as_ref()
            .map_or_else(|_| Drops::default(), |programs| programs.maps.drops())
    }
}

fn top<E>(sources: Result<Vec<Source>, E>, most: usize) -> Vec<Source> {
    let mut sources = sources.unwrap_or_default();
    sources.sort_by_key(|source| (std::cmp::Reverse(source.packets), source.addr));
    sources.truncate(most);
    sources
}

fn nothing_attached() -> String {
    "no eBPF program is attached to drop it (see `taltun status`)".into()
}

fn off(interface: &str, reason: impl Into<String>) -> XdpStatus {
    XdpStatus {
        interface: interface.into(),
        mode: XdpAttachment::Off,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::redirect::Redirect as _;

    #[test]
    fn a_shield_can_move_between_threads() {
        fn is_send<T: Send>() {}
        is_send::<Shield>();
    }

    #[test]
    fn without_programs_everything_is_answered_and_nothing_banned() {
        let mut shield = Shield::start(&ShieldSettings::of(XdpMode::Off));
        let status = shield.status();
        assert_eq!(status.len(), 1);
        assert_eq!(status[0].mode, XdpAttachment::Off);
        shield.allow_index(1);
        shield.note_session(1, 2);
        shield.forget_index(1);
        shield.add_routes(&["10.0.0.2/32".parse().unwrap()]);
        shield.remove_routes(&["10.0.0.2/32".parse().unwrap()]);
        shield.refresh();
        shield.rebind(SocketAddr::from(([192, 0, 2, 1], 9001)));
        assert!(
            shield
                .ban(Layer::Outer, "198.51.100.0/24".parse().unwrap())
                .is_err()
        );
        assert!(
            shield
                .ban(Layer::Inner, "10.0.0.2/32".parse().unwrap())
                .is_err()
        );
        assert_eq!(shield.tunnel_status().mode, TcAttachment::Off);
        assert!(shield.sources(Layer::Outer, 10).is_empty());
        assert!(shield.sources(Layer::Inner, 10).is_empty());
        assert_eq!(shield.drops(), Drops::default());
        assert!(shield.needs_no_loading());
    }

    #[test]
    fn an_address_that_nobody_has_is_a_reason_not_an_error() {
        let shield = Shield::start(&ShieldSettings::of(XdpMode::Auto));
        let status = shield.status();
        assert_eq!(status.len(), 1);
        assert_eq!(status[0].mode, XdpAttachment::Off);
        assert!(!status[0].reason.is_empty());
    }
}
