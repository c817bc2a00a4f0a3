//! The eBPF programs, seen from user space: loads and attaches them, fills their maps and
//! reads their counters.
//!
//! Any failure here means "run without", never "don't run": a [`Shield`] always comes to
//! be, and says in its [status](Shield::status) what it does on each interface and why.
//! Without the `ebpf` feature there is the same [`Shield`], which does nothing.
//!
//! | file | concern |
//! |---|---|
//! | `programs` | the loaded programs and their maps |
//! | `attach` | which mode on which interface, and undoing it |
//! | `choose` | which interfaces |
//! | `netlink` | asking the kernel for links and addresses |
//! | `offload` | switching GRO, which driver mode on veth needs |

#[cfg(feature = "ebpf")]
mod attach;
#[cfg(feature = "ebpf")]
mod choose;
#[cfg(feature = "ebpf")]
mod netlink;
#[cfg(feature = "ebpf")]
mod offload;
#[cfg(feature = "ebpf")]
mod programs;
#[cfg(not(feature = "ebpf"))]
#[path = "absent.rs"]
mod programs;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::config::XdpMode;
use crate::report::{Source, XdpStatus};

use programs::Programs;

/// The compiled eBPF programs: an ELF object, aligned as its readers want it.
#[cfg(feature = "ebpf")]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/taltun-ebpf"));

/// What a [`Shield`] is to do.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Interfaces to attach to; empty for: find them.
    pub interfaces: &'a [String],
    /// Where the UDP sockets listen, with the port they really have.
    pub listen: SocketAddr,
    /// How to attach.
    pub mode: XdpMode,
    /// Outer sources to drop from the start.
    pub deny: &'a [IpNet],
    /// The tunnel's own interface, never attached to.
    pub tun_name: &'a str,
}

/// The XDP programs in front of our UDP port. Dropping it detaches them.
pub struct Shield {
    status: Vec<XdpStatus>,
    /// `None` where no program is attached anywhere.
    programs: Option<Programs>,
}

impl Shield {
    /// Attaches what can be attached. Never fails: whatever goes wrong ends as mode `off`
    /// and a reason.
    pub fn start(request: &Request<'_>) -> Self {
        let (status, programs) = if request.mode == XdpMode::Off {
            (vec![off("", "switched off by accel.xdp")], None)
        } else {
            Programs::start(request)
        };
        for XdpStatus {
            interface,
            mode,
            reason,
        } in &status
        {
            tracing::info!(interface, mode, reason, "XDP");
        }
        Self { status, programs }
    }

    /// The mode on each interface and why it is so; one entry without an interface where
    /// the reason concerns all.
    pub fn status(&self) -> Vec<XdpStatus> {
        self.status.clone()
    }

    /// Lets messages to this receiver index through. Call it *before* sending the
    /// handshake message that gives the index out.
    pub fn allow_index(&mut self, index: u32) {
        if let Some(programs) = &mut self.programs {
            programs.allow_index(index);
        }
    }

    /// From now on, messages to this receiver index are dropped.
    pub fn forget_index(&mut self, index: u32) {
        if let Some(programs) = &mut self.programs {
            programs.forget_index(index);
        }
    }

    /// Drops whatever comes from these outer addresses to our port. The error is a
    /// sentence for people.
    pub fn ban(&mut self, net: IpNet) -> Result<(), String> {
        self.attached()?.ban(net)
    }

    /// Takes back a [`ban`](Self::ban) of exactly this network.
    pub fn unban(&mut self, net: IpNet) -> Result<(), String> {
        self.attached()?.unban(net)
    }

    /// Who sent to our port: at most `most`, those with most packets first.
    pub fn sources(&self, most: usize) -> Vec<Source> {
        let mut sources = self
            .programs
            .as_ref()
            .map_or_else(Vec::new, Programs::sources);
        sources.sort_by_key(|source| (std::cmp::Reverse(source.packets), source.addr));
        sources.truncate(most);
        sources
    }

    /// Dropped packets by the [label](taltun_common::drops::DropReason::label) of their
    /// reason; only reasons that occurred.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.programs
            .as_ref()
            .map_or_else(BTreeMap::new, Programs::drops)
    }

    /// The sockets listen elsewhere now. The interfaces stay those of the start.
    pub fn rebind(&mut self, listen: SocketAddr) {
        if let Some(programs) = &mut self.programs {
            programs.rebind(listen);
        }
    }

    fn attached(&mut self) -> Result<&mut Programs, String> {
        self.programs
            .as_mut()
            .ok_or_else(|| "no XDP program is attached to drop it (see `taltun status`)".into())
    }
}

fn off(interface: &str, reason: impl Into<String>) -> XdpStatus {
    XdpStatus {
        interface: interface.into(),
        mode: "off".into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(mode: XdpMode) -> Request<'static> {
        Request {
            interfaces: &[],
            listen: SocketAddr::from(([192, 0, 2, 1], 9000)),
            mode,
            deny: &[],
            tun_name: "taltun0",
        }
    }

    #[test]
    fn a_shield_can_move_between_threads() {
        fn is_send<T: Send>() {}
        is_send::<Shield>();
    }

    #[test]
    fn without_programs_everything_is_answered_and_nothing_banned() {
        let mut shield = Shield::start(&request(XdpMode::Off));
        let status = shield.status();
        assert_eq!(status.len(), 1);
        assert_eq!(status[0].mode, "off");
        shield.allow_index(1);
        shield.forget_index(1);
        shield.rebind(SocketAddr::from(([192, 0, 2, 1], 9001)));
        assert!(shield.ban("198.51.100.0/24".parse().unwrap()).is_err());
        assert!(shield.sources(10).is_empty());
        assert!(shield.drops().is_empty());
    }

    #[test]
    fn an_address_that_nobody_has_is_a_reason_not_an_error() {
        let shield = Shield::start(&request(XdpMode::Auto));
        let status = shield.status();
        assert_eq!(status.len(), 1);
        assert_eq!(status[0].mode, "off");
        assert!(!status[0].reason.is_empty());
    }
}
