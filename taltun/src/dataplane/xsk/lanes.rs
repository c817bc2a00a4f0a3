//! Keeps an AF_XDP lane on every queue that should have one.
//!
//! Interfaces come and go, get more queues and another MTU. Rather than hear of each of
//! these, this looks once a second at what is there and makes the lanes what they should be.
//! Until then, and wherever a lane can't be, messages go the ordinary way, through the UDP
//! socket: the program passes what finds no lane.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use taltun_common::drops::DropReason;
use tracing::{debug, info, warn};

use super::lane::{Lane, LaneParts};
use crate::dataplane::counters::Counters;
use crate::dataplane::redirect::{Redirect, XdpInterface};
use crate::dataplane::sys::xsk::{Queue, Statistics, Xsk};
use crate::dataplane::tap::{Place, Subject};
use crate::dataplane::worker_set::WorkerSet;
use crate::report::{AfXdpSocket, AfXdpStatus};
use crate::verbs::Trouble;

/// Why a queue that is there because of XDP has no lane.
const OF_XDP: &str = "the driver has this queue for XDP, and a socket on it would outlive it";

/// Which queues are to have a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanePolicy {
    /// None.
    Off,
    /// Those whose driver does zero copy.
    ZeroCopy,
    /// Others, too: the kernel copies there.
    CopyToo,
}

/// The lanes, and why there are no others.
pub struct Lanes {
    policy: LanePolicy,
    running: BTreeMap<Queue, Running>,
    refused: BTreeMap<Queue, Refusal>,
    /// The interfaces as they were last seen.
    interfaces: Vec<XdpInterface>,
    /// Whether other ports than the one that we listen on lead to us.
    has_range: bool,
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
    pub(in crate::dataplane) fn new(policy: LanePolicy) -> Self {
        Self {
            policy,
            running: BTreeMap::new(),
            refused: BTreeMap::new(),
            interfaces: Vec::new(),
            has_range: false,
        }
    }

    /// Has all of them send by the socket from now on, as when datagrams have to bear a mark;
    /// or not any more.
    pub(in crate::dataplane) fn leave_by_socket(&self, yes: bool) {
        for running in self.running.values() {
            running.lane.leave_by_socket(yes);
        }
    }

    /// Whether other ports than the one that we listen on lead to us: then a datagram leaves from
    /// the one that its receiver sent to.
    pub(in crate::dataplane) fn set_has_range(&mut self, yes: bool) {
        self.has_range = yes;
        for running in self.running.values() {
            running.lane.set_has_range(yes);
        }
    }

    /// Makes the lanes what they should be, as the interfaces are now.
    pub(in crate::dataplane) fn follow(
        &mut self,
        programs: &mut dyn Redirect,
        workers: &WorkerSet,
        counters: &Counters,
    ) {
        if self.policy == LanePolicy::Off {
            return;
        }
        let before = std::mem::replace(&mut self.interfaces, programs.interfaces());
        self.tell_losses(counters);
        self.end_misfits(programs, workers);
        self.leave_by_socket(workers.mark() != 0);
        let interfaces = &self.interfaces;
        // Another MTU, or other queues, may be answered otherwise.
        self.refused.retain(|queue, _| {
            find(interfaces, *queue).is_some_and(|interface| before.contains(interface))
        });
        for interface in self.interfaces.clone() {
            for number in 0..interface.queues {
                let queue = Queue {
                    interface: interface.index,
                    number,
                };
                let refused = self.refused.get(&queue);
                if !self.running.contains_key(&queue) && refused.is_none_or(|it| it.passing) {
                    self.try_start(queue, &interface, programs, workers);
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
    pub(in crate::dataplane) fn end(
        &mut self,
        programs: &mut dyn Redirect,
        workers: &WorkerSet,
        counters: &Counters,
    ) {
        self.tell_losses(counters);
        workers.queues().set(Vec::new());
        for queue in self.running.keys() {
            programs.disconnect(queue.interface, queue.number);
        }
        self.running.clear();
    }

    /// What each queue has, or why it has nothing.
    pub(in crate::dataplane) fn status(&self, programs: &dyn Redirect) -> Vec<AfXdpStatus> {
        if self.policy == LanePolicy::Off {
            return vec![off("", None, "switched off by accel.af_xdp")];
        }
        if self.interfaces.is_empty() {
            let reason = if programs.interfaces().is_empty() {
                "no XDP program is attached that could hand frames over"
            } else {
                "starting"
            };
            return vec![off("", None, reason)];
        }
        let mut lines = Vec::new();
        for interface in &self.interfaces {
            for number in 0..interface.queues {
                let queue = Queue {
                    interface: interface.index,
                    number,
                };
                lines.push(self.status_of(queue, &interface.name));
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
            let lost_now = lost.saturating_sub(running.told);
            let lost_ones = Subject::Unknown(Place::Arrived);
            counters.drop_packets(DropReason::RingFull, lost_now, lost_ones);
            running.told = lost;
        }
    }

    /// Ends lanes that have no queue any more, or whose frames are too small for what the
    /// interface has come to carry.
    fn end_misfits(&mut self, programs: &mut dyn Redirect, workers: &WorkerSet) {
        let interfaces = &self.interfaces;
        let misfits: Vec<Queue> = self
            .running
            .iter()
            .filter(|(queue, running)| {
                let fits = find(interfaces, **queue)
                    .is_some_and(|interface| running.lane.room() >= Xsk::room_for(interface.mtu));
                !fits || running.lane.has_ended()
            })
            .map(|(queue, _)| *queue)
            .collect();
        for queue in &misfits {
            programs.disconnect(queue.interface, queue.number);
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
        interface: &XdpInterface,
        programs: &mut dyn Redirect,
        workers: &WorkerSet,
    ) {
        match self.start(queue, interface, programs, workers) {
            Ok(running) => {
                let zero_copy = running.lane.is_zero_copy();
                info!(
                    interface = interface.name,
                    queue = queue.number,
                    zero_copy,
                    "AF_XDP"
                );
                self.refused.remove(&queue);
                self.running.insert(queue, running);
                self.open_queues(workers);
            }
            Err(refusal) => {
                let (interface, reason) = (&interface.name, &refusal.reason);
                match self.policy {
                    _ if refusal.passing => {
                        debug!(interface, queue = queue.number, reason, "AF_XDP");
                    }
                    LanePolicy::CopyToo => {
                        warn!(interface, queue = queue.number, reason, "no AF_XDP");
                    }
                    _ => info!(interface, queue = queue.number, reason, "no AF_XDP"),
                }
                self.refused.insert(queue, refusal);
            }
        }
    }

    fn start(
        &self,
        queue: Queue,
        interface: &XdpInterface,
        programs: &mut dyn Redirect,
        workers: &WorkerSet,
    ) -> Result<Running, Refusal> {
        let refuse = |reason: &str| Refusal {
            reason: reason.into(),
            passing: false,
        };
        let forced = self.policy == LanePolicy::CopyToo;
        if !forced && !interface.driver {
            return Err(refuse("XDP isn't in driver mode, so there is no zero copy"));
        }
        // They go with the program, and whoever has a socket there then keeps it: virtio-net on
        // Linux 7.3 can't take a socket without copies from a queue that is gone, and the next
        // program that is attached, as after SIGKILL, has it use memory that is gone, too.
        if interface.queues_of_xdp.contains(&queue.number) {
            return Err(refuse(OF_XDP));
        }
        // Measured: for one bulk flow the kernel's merging is as good as copies, and packets
        // that go past the network stack also go past the firewall. So `auto` doesn't copy.
        let xsk =
            Xsk::bind(queue, interface.mtu, forced).map_err(|error| explain(&error, forced))?;
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
        let parts = parts(workers, queue.number).map_err(|error| passing(&error))?;
        let lane = Lane::start(parts, xsk, queue).map_err(|error| passing(&error))?;
        lane.leave_by_socket(workers.mark() != 0);
        lane.set_has_range(self.has_range);
        let socket = lane.handle().socket();
        let socket = socket.ok_or_else(|| passing(&"the lane ended"))?;
        programs
            .connect(queue.interface, queue.number, socket.as_fd(), room)
            .map_err(|reason| passing(&reason))?;
        Ok(Running {
            lane,
            reason,
            told: 0,
        })
    }
}

/// What the lane of this queue works with. It must end before the sockets change.
fn parts(workers: &WorkerSet, queue: u32) -> io::Result<LaneParts> {
    let worker = queue as usize % workers.sockets().len();
    Ok(LaneParts {
        shared: Arc::clone(workers.shared()?),
        socket: Arc::clone(&workers.sockets()[worker]),
        tun: workers.tuns()[worker].try_clone()?,
    })
}

fn find(interfaces: &[XdpInterface], queue: Queue) -> Option<&XdpInterface> {
    interfaces
        .iter()
        .find(|interface| interface.index == queue.interface && queue.number < interface.queues)
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
    if let Some(trouble) = Trouble::of(error) {
        return Refusal {
            reason: trouble.to_string(),
            passing: true,
        };
    }
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
    use std::net::SocketAddr;
    use std::os::fd::BorrowedFd;

    use super::*;
    use crate::report::SteeringStatus;

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
    fn what_the_privileged_process_lacks_is_no_fault_of_the_driver_and_passes() {
        for trouble in [Trouble::NoAnswer, Trouble::Ended] {
            let refusal = explain(&trouble.into(), false);
            assert!(refusal.passing);
            assert_eq!(refusal.reason, trouble.to_string());
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

    /// Programs on one interface of two queues, or on none.
    struct Programs(Vec<XdpInterface>);

    impl Redirect for Programs {
        fn steer(&mut self, _: &[BorrowedFd<'_>]) {}

        fn steering_status(&self) -> SteeringStatus {
            SteeringStatus::none()
        }

        fn rebind(&mut self, _: SocketAddr) {}

        fn interfaces(&self) -> Vec<XdpInterface> {
            self.0.clone()
        }

        fn connect(&mut self, _: u32, _: u32, _: BorrowedFd<'_>, _: usize) -> Result<(), String> {
            Ok(())
        }

        fn disconnect(&mut self, _: u32, _: u32) {}
    }

    fn programs() -> Programs {
        Programs(vec![XdpInterface {
            index: 3,
            name: "up".into(),
            driver: false,
            queues: 2,
            queues_of_xdp: 0..0,
            mtu: 1500,
        }])
    }

    #[test]
    fn off_is_one_line_with_its_reason() {
        for programs in [programs(), Programs(Vec::new())] {
            let lines = Lanes::new(LanePolicy::Off).status(&programs);
            let [line] = &lines[..] else {
                panic!("{lines:?}")
            };
            assert_eq!((line.mode, line.queue), (AfXdpSocket::Off, None));
            assert!(line.reason.contains("accel.af_xdp"), "{}", line.reason);
        }
    }

    #[test]
    fn without_programs_that_is_the_reason() {
        let mut lanes = Lanes::new(LanePolicy::CopyToo);
        let reason = |lanes: &Lanes, programs| lanes.status(&programs)[0].reason.clone();
        assert_eq!(reason(&lanes, programs()), "starting");
        let without = reason(&lanes, Programs(Vec::new()));
        assert!(without.contains("no XDP program"), "{without}");
        // Once looked at, each queue has a line.
        lanes.interfaces = programs().interfaces();
        let queues = lanes.status(&programs());
        let queues: Vec<_> = queues.iter().map(|line| line.queue).collect();
        assert_eq!(queues, [Some(0), Some(1)]);
    }
}
