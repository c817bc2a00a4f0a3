//! What the threads that handle packets may do: read, write, wait, and nothing else.
//!
//! They read what anybody sends. So each gives up its rights before it sees the first byte: it has no
//! capability, can get none, and may make only the system calls that packets need. What takes more is
//! made by the controller: sockets, queues of the TUN, AF_XDP sockets, events. The eBPF maps are the
//! controller's alone. Threads share the memory of their process, so this is no wall between them and
//! the controller; it keeps a fault in them from reaching files, programs and the kernel's other doors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::thread::CapabilitySet;

use crate::os::capabilities;
use crate::os::seccomp::{Filter, RefusedCalls, refused_calls};
use crate::report::PacketThreads;

/// What packets need. None of it opens anything.
const CALLS: &[libc::c_long] = &[
    // Packets, events and the log.
    libc::SYS_read,
    libc::SYS_writev,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    // Waiting.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    // Of its priority a thread without CAP_SYS_NICE can only lower its own.
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setscheduler,
];

/// What they may do, and who of them may do more.
#[derive(Debug, Default)]
pub struct PacketRights {
    threads: AtomicU64,
    /// Capabilities that any of them kept, as bits.
    kept: AtomicU64,
    /// Why one of them may do more than it should.
    fault: Mutex<Option<String>>,
    /// Refused calls that were told.
    told: AtomicU64,
}

/// A thread without rights; dropped at its end.
#[derive(Debug)]
pub struct Confined(Arc<PacketRights>);

impl PacketRights {
    /// Takes from this thread what it doesn't need. Where that can't be, it is told, and the thread
    /// works on: the tunnel is as safe as it would be without this.
    pub fn give_up(self: &Arc<Self>) -> Confined {
        self.threads.fetch_add(1, Ordering::Relaxed);
        if let Err(reason) = self.try_to() {
            let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            if fault.is_none() {
                tracing::warn!("threads that handle packets keep rights: {reason}");
                *fault = Some(reason);
            }
        }
        Confined(Arc::clone(self))
    }

    fn try_to(&self) -> Result<(), String> {
        let gave_up = capabilities::give_up().map_err(|error| format!("capabilities: {error}"));
        let kept = capabilities::held().unwrap_or(CapabilitySet::all());
        self.kept.fetch_or(kept.bits(), Ordering::Relaxed);
        gave_up?;
        let filter = filter()?;
        filter
            .restrict()
            .map_err(|error| format!("seccomp: {error}"))
    }

    /// For `taltun status`.
    pub fn status(&self) -> PacketThreads {
        let kept = CapabilitySet::from_bits_retain(self.kept.load(Ordering::Relaxed));
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        PacketThreads {
            count: self.threads.load(Ordering::Relaxed),
            capabilities: capabilities::names(kept),
            seccomp: fault.is_none(),
            reason: fault.clone(),
            refused_calls: refused_calls().count,
        }
    }

    /// Tells of calls that were refused since this was last called.
    pub fn tell_refused(&self) {
        let RefusedCalls { count, last } = refused_calls();
        if count > self.told.swap(count, Ordering::Relaxed) {
            tracing::warn!(
                "a thread that handles packets was refused a system call (number {last}, {count} in \
                 all) and went on without it. Please report this line"
            );
        }
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The same for all threads, made once.
fn filter() -> Result<&'static Filter, String> {
    static FILTER: OnceLock<Result<Filter, String>> = OnceLock::new();
    let filter =
        FILTER.get_or_init(|| Filter::new(CALLS, &[]).map_err(|error| format!("seccomp: {error}")));
    filter.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io;
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::dataplane::sys::{StopSignal, wait_readable};

    #[test]
    fn who_has_no_rights_moves_packets_and_opens_nothing() {
        let rights = Arc::<PacketRights>::default();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        let stop = StopSignal::new().unwrap();
        let of_thread = Arc::clone(&rights);
        let thread = std::thread::spawn(move || {
            use std::os::fd::AsFd;
            let held = of_thread.give_up();
            socket.send(b"packet").unwrap();
            wait_readable(socket.as_fd(), None, &stop, Duration::ZERO).unwrap();
            let received = socket.recv(&mut [0; 8]).unwrap();
            // What isn't asked of the kernel every time.
            let memory: Vec<u8> = vec![1; 64 << 20];
            let table: HashMap<usize, usize> = (0..received).map(|it| (it, it)).collect();
            std::thread::sleep(Duration::from_millis(1));
            let opened = UdpSocket::bind("127.0.0.1:0").map(drop);
            drop(held);
            (memory.len() + table.len(), opened)
        });
        let (sum, opened) = thread.join().unwrap();
        assert_eq!(sum, (64 << 20) + 6);
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let status = rights.status();
        assert!(
            status.seccomp && status.capabilities.is_empty(),
            "{status:?}"
        );
        assert_eq!(status.count, 0);
        assert!(status.refused_calls > 0);
    }
}
