//! Keeps an AF_XDP lane on every queue that should have one.
//!
//! Interfaces come and go, get more queues and another MTU. Rather than hear of each of
//! these, this looks once a second at what is there and makes the lanes what they should be.
//! Until then, and wherever a lane can't be, messages go the ordinary way, through the UDP
//! socket: the program passes what finds no lane.

use std::collections::BTreeMap;
use std::io;

use taltun_common::drops::DropReason;
use tracing::{debug, info, warn};

use super::worker_set::WorkerSet;
use crate::accel::{Shield, Underlay};
use crate::config::AfXdp;
use crate::dataplane::counters::Counters;
use crate::dataplane::sys::xsk::{Queue, Statistics, Xsk};
use crate::dataplane::xsk::Lane;
use crate::report::{AfXdpSocket, AfXdpStatus};

/// Why a queue that is there because of XDP has no lane.
const OF_XDP: &str = "the driver has this queue for XDP, and a socket on it would outlive it";

/// The lanes, and why there are no others.
pub(super) struct Lanes {
    mode: AfXdp,
    running: BTreeMap<Queue, Running>,
    refused: BTreeMap<Queue, Refusal>,
    /// The interfaces as they were last seen.
    underlays: Vec<Underlay>,
}

struct Running {
    lane: Lane,
    reason: String,
    /// What is in the counters of drops already.
    told: u64,
}

struct Refusal {
    reason: String,
    /// Whether it may be different in a second.
    passing: bool,
}

impl Lanes {
    pub(super) fn new(mode: AfXdp) -> Self {
        Self {
            mode,
            running: BTreeMap::new(),
            refused: BTreeMap::new(),
            underlays: Vec::new(),
        }
    }

    /// Has all of them send by the socket from now on, as when datagrams have to bear a mark;
    /// or not any more.
    pub(super) fn leave_by_socket(&self, yes: bool) {
        for running in self.running.values() {
            running.lane.leave_by_socket(yes);
        }
    }

    /// Makes the lanes what they should be, as the interfaces are now.
    pub(super) fn follow(&mut self, shield: &mut Shield, workers: &WorkerSet, counters: &Counters) {
        if self.mode == AfXdp::Off {
            return;
        }
        let before = std::mem::replace(&mut self.underlays, shield.underlays());
        self.tell_losses(counters);
        self.end_misfits(shield, workers);
        self.leave_by_socket(workers.mark() != 0);
        let underlays = &self.underlays;
        // Another MTU, or other queues, may be answered otherwise.
        self.refused.retain(|queue, _| {
            find(underlays, *queue).is_some_and(|underlay| before.contains(underlay))
        });
        for underlay in self.underlays.clone() {
            for number in 0..underlay.queues {
                let queue = Queue {
                    interface: underlay.index,
                    number,
                };
                let refused = self.refused.get(&queue);
                if !self.running.contains_key(&queue) && refused.is_none_or(|it| it.passing) {
                    self.try_start(queue, &underlay, shield, workers);
                }
            }
        }
    }

    /// Has others send by the lanes that there are.
    fn open_queues(&self, workers: &WorkerSet) {
        let lanes = self.running.values().map(|running| &running.lane);
        workers
            .queues()
            .set(lanes.map(Lane::transmit_queue).collect());
    }

    /// Ends all lanes: messages go the ordinary way from now on.
    pub(super) fn end(&mut self, shield: &mut Shield, workers: &WorkerSet, counters: &Counters) {
        self.tell_losses(counters);
        workers.queues().set(Vec::new());
        for queue in self.running.keys() {
            shield.disconnect(queue.interface, queue.number);
        }
        self.running.clear();
    }

    /// What each queue has, or why it has nothing.
    pub(super) fn status(&self, shield: &Shield) -> Vec<AfXdpStatus> {
        if self.mode == AfXdp::Off {
            return vec![off("", None, "switched off by accel.af_xdp")];
        }
        if self.underlays.is_empty() {
            let reason = if shield.underlays().is_empty() {
                "no XDP program is attached that could hand frames over"
            } else {
                "starting"
            };
            return vec![off("", None, reason)];
        }
        let mut lines = Vec::new();
        for underlay in &self.underlays {
            for number in 0..underlay.queues {
                let queue = Queue {
                    interface: underlay.index,
                    number,
                };
                lines.push(self.status_of(queue, &underlay.name));
            }
        }
        lines
    }

    fn status_of(&self, queue: Queue, interface: &str) -> AfXdpStatus {
        let Some(running) = self.running.get(&queue) else {
            let refusal = self.refused.get(&queue);
            let reason = refusal.map_or("starting", |refusal| &refusal.reason);
            return off(interface, Some(queue.number), reason);
        };
        let statistics = running.lane.statistics().unwrap_or_default();
        AfXdpStatus {
            interface: interface.into(),
            queue: Some(queue.number),
            mode: if running.lane.is_zero_copy() {
                AfXdpSocket::ZeroCopy
            } else {
                AfXdpSocket::Copy
            },
            reason: running.reason.clone(),
            received: running.lane.received(),
            sent: running.lane.sent(),
            ring_full: statistics.ring_full,
            dropped: statistics.dropped,
            fill_empty: statistics.fill_empty,
        }
    }

    /// Counts what the kernel threw away for want of room.
    fn tell_losses(&mut self, counters: &Counters) {
        for running in self.running.values_mut() {
            let lost = running.lane.statistics().as_ref().map(Statistics::lost);
            let lost = lost.unwrap_or(running.told);
            counters.drop_packets(DropReason::RingFull, lost.saturating_sub(running.told));
            running.told = lost;
        }
    }

    /// Ends lanes that have no queue any more, or whose frames are too small for what the
    /// interface has come to carry.
    fn end_misfits(&mut self, shield: &mut Shield, workers: &WorkerSet) {
        let underlays = &self.underlays;
        let misfits: Vec<Queue> = self
            .running
            .iter()
            .filter(|(queue, running)| {
                let fits = find(underlays, **queue)
                    .is_some_and(|underlay| running.lane.room() >= Xsk::room_for(underlay.mtu));
                !fits || running.lane.has_ended()
            })
            .map(|(queue, _)| *queue)
            .collect();
        for queue in &misfits {
            shield.disconnect(queue.interface, queue.number);
        }
        if misfits.is_empty() {
            return;
        }
        let ending: Vec<Running> = misfits
            .iter()
            .filter_map(|queue| self.running.remove(queue))
            .collect();
        self.open_queues(workers);
        // Behind the back of the program and of senders by now: what still comes in is taken
        // to its end.
        info!(queues = ?misfits, "AF_XDP: lanes end");
        drop(ending);
    }

    fn try_start(
        &mut self,
        queue: Queue,
        underlay: &Underlay,
        shield: &mut Shield,
        workers: &WorkerSet,
    ) {
        match self.start(queue, underlay, shield, workers) {
            Ok(running) => {
                let zero_copy = running.lane.is_zero_copy();
                info!(
                    interface = underlay.name,
                    queue = queue.number,
                    zero_copy,
                    "AF_XDP"
                );
                self.refused.remove(&queue);
                self.running.insert(queue, running);
                self.open_queues(workers);
            }
            Err(refusal) => {
                let (interface, reason) = (&underlay.name, &refusal.reason);
                match self.mode {
                    _ if refusal.passing => {
                        debug!(interface, queue = queue.number, reason, "AF_XDP");
                    }
                    AfXdp::On => warn!(interface, queue = queue.number, reason, "no AF_XDP"),
                    _ => info!(interface, queue = queue.number, reason, "no AF_XDP"),
                }
                self.refused.insert(queue, refusal);
            }
        }
    }

    fn start(
        &self,
        queue: Queue,
        underlay: &Underlay,
        shield: &mut Shield,
        workers: &WorkerSet,
    ) -> Result<Running, Refusal> {
        let refuse = |reason: &str| Refusal {
            reason: reason.into(),
            passing: false,
        };
        let forced = self.mode == AfXdp::On;
        if !forced && !underlay.driver {
            return Err(refuse("XDP isn't in driver mode, so there is no zero copy"));
        }
        // They go with the program, and whoever has a socket there then keeps it: virtio-net on
        // Linux 7.3 can't take a socket without copies from a queue that is gone, and the next
        // program that is attached, as after SIGKILL, has it use memory that is gone, too.
        if underlay.queues_of_xdp.contains(&queue.number) {
            return Err(refuse(OF_XDP));
        }
        // Measured: for one bulk flow the kernel's merging is as good as copies, and packets
        // that go past the network stack also go past the firewall. So `auto` doesn't copy.
        let xsk =
            Xsk::bind(queue, underlay.mtu, forced).map_err(|error| explain(&error, forced))?;
        let reason = match (xsk.why_copies(), forced) {
            (None, true) => "asked for by accel.af_xdp; the driver does zero copy".to_owned(),
            (None, false) => "the driver does zero copy".to_owned(),
            (Some(why), _) => {
                format!("asked for by accel.af_xdp; the driver has no zero copy here: {why}")
            }
        };
        let passing = |error: &dyn std::fmt::Display| Refusal {
            reason: error.to_string(),
            passing: true,
        };
        let room = xsk.room();
        let parts = workers
            .lane_parts(queue.number)
            .map_err(|error| passing(&error))?;
        let lane = Lane::start(parts, xsk, queue).map_err(|error| passing(&error))?;
        lane.leave_by_socket(workers.mark() != 0);
        let socket = lane.handle().socket();
        let socket = socket.ok_or_else(|| passing(&"the lane ended"))?;
        shield
            .connect(queue.interface, queue.number, &*socket, room)
            .map_err(|reason| passing(&reason))?;
        Ok(Running {
            lane,
            reason,
            told: 0,
        })
    }
}

fn find(underlays: &[Underlay], queue: Queue) -> Option<&Underlay> {
    underlays
        .iter()
        .find(|underlay| underlay.index == queue.interface && queue.number < underlay.queues)
}

fn off(interface: &str, queue: Option<u32>, reason: &str) -> AfXdpStatus {
    AfXdpStatus {
        interface: interface.into(),
        queue,
        mode: AfXdpSocket::Off,
        reason: reason.into(),
        received: 0,
        sent: 0,
        ring_full: 0,
        dropped: 0,
        fill_empty: 0,
    }
}

/// An error of binding, with copies allowed or not, as a sentence.
fn explain(error: &io::Error, may_copy: bool) -> Refusal {
    let (reason, passing) = match error.raw_os_error() {
        Some(libc::EBUSY) => ("another AF_XDP socket has this queue", true),
        Some(libc::ENODEV | libc::ENETDOWN) => ("the interface is gone", true),
        Some(libc::EPERM) => ("needs CAP_NET_RAW", false),
        Some(libc::EAFNOSUPPORT) => ("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)", false),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ERANGE) if may_copy => {
            ("the driver takes no AF_XDP socket on this queue", false)
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => (
            "no memory may be locked for it (LimitMEMLOCK, CAP_IPC_LOCK)",
            false,
        ),
        // From us, not from the kernel.
        None => ("needs Linux 5.9 or newer", false),
        _ if may_copy => ("binding failed", true),
        // Drivers have many words for it.
        _ => ("the driver has no zero copy here", false),
    };
    Refusal {
        reason: format!("{reason}: {error}"),
        passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel;
    use crate::config::XdpMode;

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_said_once() {
        let refusal = |number, may_copy| explain(&io::Error::from_raw_os_error(number), may_copy);
        for may_copy in [true, false] {
            for number in [libc::EBUSY, libc::ENODEV] {
                assert!(refusal(number, may_copy).passing);
            }
            for number in [libc::EPERM, libc::EINVAL, libc::EOPNOTSUPP, libc::ERANGE] {
                let refusal = refusal(number, may_copy);
                assert!(!refusal.passing);
                assert!(!refusal.reason.is_empty());
            }
        }
    }

    #[test]
    fn what_auto_was_refused_is_zero_copy() {
        let reason = |may_copy| {
            let refused = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            explain(&refused, may_copy).reason
        };
        assert!(reason(false).contains("zero copy"), "{}", reason(false));
        assert!(!reason(true).contains("zero copy"), "{}", reason(true));
    }

    #[test]
    fn off_is_one_line_with_its_reason() {
        let shield = Shield::start(&accel::ShieldSettings::of(XdpMode::Off));
        let lines = Lanes::new(AfXdp::Off).status(&shield);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].mode, AfXdpSocket::Off);
        assert_eq!(lines[0].queue, None);
        assert_eq!(
            Lanes::new(AfXdp::On).status(&shield)[0].mode,
            AfXdpSocket::Off
        );
    }
}
