//! Attaching a program to an interface: in driver mode, in generic mode, or not at all, and why.
//!
//! A link belongs to this process, by its file descriptor: when the process ends, however
//! it ends, the kernel detaches the program. Kernels before 5.9 have no such links for XDP;
//! there aya attaches by netlink, and only an orderly end detaches.

use std::ops::Range;

use aya::Ebpf;
use aya::programs::xdp::{XdpLink, XdpMode as Flag};
use aya::programs::{ProgramError, Xdp, loaded_programs};

use super::Wanted;
use super::explain::{explain, os_error};
use super::named::program;
use super::netlink::Link;
use super::off;
use super::offload::{self, Gro};
use crate::config::XdpMode;
use crate::report::{XdpAttachment, XdpStatus};

/// A program on an interface. The link goes first, then GRO, which it needed.
#[derive(Debug)]
pub(super) struct Attachment {
    _link: XdpLink,
    _gro: Option<Gro>,
    /// How many queues there were, where the program runs on no more than these.
    queues: Option<u32>,
    /// Queues that the driver has made for the program, and that go with it.
    own_queues: Range<u32>,
}

impl Attachment {
    /// Queues that the interface receives on only while the program is attached. virtio-net has
    /// one for each processor, to send by, and is given packets by them as by the others.
    pub(super) fn own_queues(&self) -> Range<u32> {
        self.own_queues.clone()
    }

    /// Whether there are queues by now on which the program doesn't run: a veth has it run in
    /// driver mode on those that it had when it was attached.
    pub(super) fn misses_queues(&self, interface: &str) -> bool {
        self.queues.is_some_and(|queues| {
            offload::receive_queues(interface).is_ok_and(|there| there > queues)
        })
    }
}

/// A mode to attach in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttachMode {
    /// In the driver, before there is a packet buffer.
    Driver,
    /// In the network stack, behind it.
    Generic,
}

impl AttachMode {
    fn word(self) -> XdpAttachment {
        match self {
            Self::Driver => XdpAttachment::Driver,
            Self::Generic => XdpAttachment::Generic,
        }
    }

    fn flag(self) -> Flag {
        match self {
            Self::Driver => Flag::Driver,
            Self::Generic => Flag::Skb,
        }
    }

    /// The program that fits: see `Frames` in `taltun-ebpf`.
    fn program(self) -> &'static str {
        match self {
            Self::Driver => "taltun_xdp",
            Self::Generic => "taltun_xdp_skb",
        }
    }
}

/// Attaches to one interface, if that is possible and wanted.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    link: &Link,
    wanted: &Wanted,
) -> (XdpStatus, Option<Attachment>) {
    if let Some(id) = link.program {
        // One interface has one program; theirs was first.
        let reason = format!("another XDP program is attached: {}", describe(id));
        return (off(&link.name, reason), None);
    }
    let veth = link.kind == "veth";
    let mode = wanted.mode;
    let mut refusals = Vec::new();
    // Before it is attached, that none is missed.
    let queues_before = offload::receive_queues(&link.name).ok();
    for &attach_mode in attach_modes(mode, veth && !wanted.prefer_driver) {
        match attach_as(ebpf, link.index, attach_mode) {
            Ok(xdp_link) => {
                let mut reasons = vec![advantage(attach_mode, mode, veth).to_owned()];
                reasons.append(&mut refusals);
                let (mut gro, mut queues) = (None, None);
                if veth && attach_mode == AttachMode::Driver {
                    queues = queues_before;
                    match Gro::switch_on(&link.name, link.index) {
                        Ok(switched) => gro = switched,
                        Err(error) => reasons.push(format!("GRO can't be switched on: {error}")),
                    }
                }
                let status = XdpStatus {
                    interface: link.name.clone(),
                    mode: attach_mode.word(),
                    reason: reasons.join("; "),
                };
                let queues_now = offload::receive_queues(&link.name).ok();
                let attachment = Attachment {
                    _link: xdp_link,
                    _gro: gro,
                    queues,
                    own_queues: added(queues_before, queues_now),
                };
                return (status, Some(attachment));
            }
            Err(error) => {
                let refusal = refusal(attach_mode, &error);
                if !refusals.contains(&refusal) {
                    refusals.push(refusal);
                }
            }
        }
    }
    (off(&link.name, refusals.join("; ")), None)
}

/// Why the kernel refuses a mode. Of an interface and the bridge or bond that it is a port of, one may
/// have a program.
fn refusal(attach_mode: AttachMode, error: &ProgramError) -> String {
    if os_error(error) == Some(libc::EEXIST) {
        return "its bridge or bond has a program, which judges what comes in here".to_owned();
    }
    format!("{} mode refused: {}", attach_mode.word(), explain(error))
}

/// The queues that came with a program; none where that isn't known.
fn added(before: Option<u32>, now: Option<u32>) -> Range<u32> {
    before
        .zip(now)
        .map_or(0..0, |(before, now)| before..now.max(before))
}

/// What to try, in this order; driver mode last where it costs something.
fn attach_modes(mode: XdpMode, costly: bool) -> &'static [AttachMode] {
    match mode {
        XdpMode::Auto if costly => &[AttachMode::Generic, AttachMode::Driver],
        XdpMode::Auto => &[AttachMode::Driver, AttachMode::Generic],
        XdpMode::Driver => &[AttachMode::Driver],
        XdpMode::Generic => &[AttachMode::Generic],
        XdpMode::Off => &[],
    }
}

/// Why this mode, had it been the only one tried.
fn advantage(attach_mode: AttachMode, mode: XdpMode, veth: bool) -> &'static str {
    match (attach_mode, mode) {
        (AttachMode::Driver, XdpMode::Auto) if veth => {
            "AF_XDP asks for it; on veth it switches off the peer's UDP segmentation"
        }
        (AttachMode::Driver, XdpMode::Driver) if veth => {
            "asked for by accel.xdp; on veth it switches off the peer's UDP segmentation"
        }
        (_, XdpMode::Driver | XdpMode::Generic) => "asked for by accel.xdp",
        (AttachMode::Generic, _) if veth => {
            "on veth, driver mode would switch off the peer's UDP segmentation"
        }
        (AttachMode::Driver, _) => "frames are judged before the kernel makes packets of them",
        (AttachMode::Generic, _) => "packets are judged when the kernel has made them",
    }
}

fn attach_as(
    ebpf: &mut Ebpf,
    index: u32,
    attach_mode: AttachMode,
) -> Result<XdpLink, ProgramError> {
    let program: &mut Xdp = program(ebpf, attach_mode.program())?;
    let id = program.attach_to_if_index(index, attach_mode.flag())?;
    program.take_link(id)
}

/// A program that isn't ours, as `bpftool prog` shows it.
fn describe(id: u32) -> String {
    loaded_programs()
        .flatten()
        .find(|program| program.id() == id)
        .and_then(|program| {
            program
                .name_as_str()
                .map(|name| format!("id {id} `{name}`"))
        })
        .unwrap_or_else(|| format!("id {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_mode_is_never_replaced_by_the_other() {
        for veth in [false, true] {
            assert_eq!(attach_modes(XdpMode::Driver, veth), [AttachMode::Driver]);
            assert_eq!(attach_modes(XdpMode::Generic, veth), [AttachMode::Generic]);
            assert!(attach_modes(XdpMode::Off, veth).is_empty());
        }
    }

    #[test]
    fn auto_prefers_the_driver_but_on_veth() {
        assert_eq!(
            attach_modes(XdpMode::Auto, false),
            [AttachMode::Driver, AttachMode::Generic]
        );
        assert_eq!(
            attach_modes(XdpMode::Auto, true),
            [AttachMode::Generic, AttachMode::Driver]
        );
    }

    #[test]
    fn only_queues_that_came_with_the_program_go_with_it() {
        assert_eq!(added(Some(2), Some(4)), 2..4);
        for (before, now) in [
            (Some(2), Some(2)),
            (Some(4), Some(2)),
            (None, Some(4)),
            (Some(2), None),
        ] {
            assert!(added(before, now).is_empty(), "{before:?}, {now:?}");
        }
    }
}
