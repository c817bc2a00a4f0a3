//! How the threads that move packets compete with all others for the cores.
//!
//! Where two cores do everything, a queue stands where its producer has taken its consumer's core:
//! iperf3 or the network stack fills the TUN or the socket, and the worker that should empty it
//! waits for its turn. So these threads ask for short slices, by which the kernel lets them run
//! soon after they woke, and, as far as the file says and the process may, for more weight
//! or for realtime. A guard (`guard.rs`) sees to it that realtime leaves others
//! something.

use std::fmt::Write;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sys::{Policy, Thread};
use crate::report::{Priority, PriorityStatus};

/// How long a thread runs at a time. Most batches take less.
const SLICE: Duration = Duration::from_micros(100);
/// How nice threads are, and their session: three times as much weight as others have, as the
/// packaged unit's `CPUWeight` says.
const NORMAL_NICE: i32 = -5;
/// The same with a high priority: 28 times as much.
const HIGH_NICE: i32 = -15;
/// Above those that ask for no more than realtime, below what the kernel runs there itself.
const REAL_TIME: u32 = 5;

/// What a thread of the guard has.
pub(super) const GUARDS: Policy = Policy::RealTime {
    priority: REAL_TIME + 1,
};

/// The threads that move packets, and how they are scheduled.
#[derive(Debug)]
pub struct Scheduling {
    wanted: Priority,
    /// Whether they have realtime now.
    is_real_time: AtomicBool,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    /// With what each has unless it has realtime.
    threads: Vec<(Thread, Policy)>,
    /// Whether the kernel keeps to our slices.
    has_slices: bool,
    /// Whether our session has more weight.
    has_session: bool,
    /// Why threads have no more weight.
    nice_refused: Option<String>,
    /// Why there is no realtime.
    real_time_refused: Option<String>,
    demotions: u64,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self::new(Priority::Normal)
    }
}

impl Scheduling {
    /// As the file says; nothing is asked of the kernel yet.
    pub fn new(wanted: Priority) -> Self {
        Self {
            wanted,
            is_real_time: AtomicBool::new(false),
            all: Mutex::default(),
        }
    }

    /// Gives this process more weight among the sessions of users, if it is one by itself:
    /// otherwise that would be the shell's, too. Inside of a control group with a weight it
    /// has no effect.
    pub fn raise_session(&self) {
        let nice = self.nice();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        self.lock().has_session =
            leads_session(&stat) && fs::write("/proc/self/autogroup", nice.to_string()).is_ok();
    }

    /// The thread that calls this moves packets from now on, until what this returns is dropped.
    /// It asks the kernel for what takes a right, so it comes before such rights are given up.
    pub fn enter(self: &Arc<Self>) -> Entered {
        let thread = Thread::current();
        let mut all = self.lock();
        let own = match thread.policy() {
            Ok(Policy::Fair { nice, .. }) => nice,
            _ => 0,
        };
        let fair = |nice| Policy::Fair { nice, slice: SLICE };
        let mut policy = fair(self.nice().min(own));
        if let Err(error) = thread.set_policy(policy) {
            all.nice_refused = Some(refused(&error));
            // At least the slice.
            policy = fair(own);
            let _ = thread.set_policy(policy);
        }
        all.has_slices = thread.policy().is_ok_and(|it| it == policy);
        all.threads.push((thread, policy));
        if self.is_real_time()
            && let Err(error) = thread.set_policy(REAL_TIME_POLICY)
        {
            all.real_time_refused = Some(refused(&error));
        }
        Entered {
            scheduling: Arc::clone(self),
            thread,
        }
    }

    /// Whether the threads have realtime, so that each should let the others run after a batch.
    #[inline]
    pub fn is_real_time(&self) -> bool {
        self.is_real_time.load(Ordering::Relaxed)
    }

    /// Whether the file asks for realtime.
    pub(super) fn wants_real_time(&self) -> bool {
        self.wanted == Priority::Realtime
    }

    /// Gives all threads realtime, those that enter later, too.
    pub(super) fn promote(&self) {
        let mut all = self.lock();
        self.is_real_time.store(true, Ordering::Relaxed);
        let refusal = all
            .threads
            .iter()
            .find_map(|(thread, _)| thread.set_policy(REAL_TIME_POLICY).err());
        all.real_time_refused = refusal.as_ref().map(refused);
    }

    /// Takes realtime from all threads.
    pub(super) fn demote(&self) {
        let mut all = self.lock();
        self.is_real_time.store(false, Ordering::Relaxed);
        all.demotions += 1;
        for (thread, fair) in &all.threads {
            // A thread may always come back to what it had.
            if let Err(error) = thread.set_policy(*fair) {
                tracing::error!("can't take realtime from a thread: {error}");
            }
        }
    }

    /// Says why there is no realtime.
    pub(super) fn refuse_real_time(&self, error: &io::Error) {
        self.lock().real_time_refused = Some(refused(error));
    }

    /// CPU time that the running threads took so far.
    pub(super) fn cpu_time(&self) -> Duration {
        let all = self.lock();
        let times = all.threads.iter().filter_map(|(it, _)| it.cpu_time().ok());
        times.sum()
    }

    /// What holds, and why.
    pub fn status(&self) -> PriorityStatus {
        let all = self.lock();
        let nice = self.nice();
        let mut fair = match &all.nice_refused {
            None => format!("nice {nice}, "),
            Some(why) => format!("nice {nice} is refused: {why}; "),
        };
        if all.has_slices {
            let _ = write!(fair, "slices of {} µs", SLICE.as_micros());
        } else {
            fair.push_str("no slices of their own, which Linux 6.12 has");
        }
        if all.has_session {
            let _ = write!(fair, ", session at nice {nice}");
        }
        let without = match all.nice_refused {
            None => self.wanted.min(Priority::High),
            Some(_) => Priority::Normal,
        };
        let (mode, reason) = match &all.real_time_refused {
            _ if self.wanted != Priority::Realtime => (without, fair),
            Some(why) => (without, format!("realtime is refused: {why}; {fair}")),
            None if self.is_real_time() => (self.wanted, format!("SCHED_RR {REAL_TIME}")),
            None => {
                let told = "they left other programs no CPU time, and try realtime again later";
                (without, format!("{told}; {fair}"))
            }
        };
        PriorityStatus {
            wanted: self.wanted,
            mode,
            reason,
            demotions: all.demotions,
        }
    }

    /// How nice threads are without realtime, where they may be.
    fn nice(&self) -> i32 {
        match self.wanted {
            Priority::Normal => NORMAL_NICE,
            Priority::High | Priority::Realtime => HIGH_NICE,
        }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const REAL_TIME_POLICY: Policy = Policy::RealTime {
    priority: REAL_TIME,
};

/// A thread that moves packets. Dropped, by the thread itself, it is none of them any more.
#[derive(Debug)]
pub struct Entered {
    scheduling: Arc<Scheduling>,
    thread: Thread,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut all = self.scheduling.lock();
        all.threads.retain(|(it, _)| *it != self.thread);
    }
}

/// Whether a process leads a session, by its `/proc/PID/stat`. Where the session began outside of its
/// PID namespace, as in some containers, or with the kernel, its number is 0.
fn leads_session(stat: &str) -> bool {
    // The second field is the program's name in parentheses, with whatever is in it.
    let session = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(3));
    session.is_some() && session == stat.split_whitespace().next()
}

/// Why the kernel refuses a policy, with what it takes.
fn refused(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "it takes CAP_SYS_NICE, or a unit that allows it (the manual's page on tuning has one)"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_led_by_whom_it_is_called_after_and_some_have_no_number() {
        assert!(leads_session("42 (taltun) S 1 42 42 0 -1 4194560"));
        assert!(leads_session("42 (a ) 7 (b) S 1 42 42 0 -1"));
        for stat in [
            "42 (taltun) S 1 42 41 0 -1",
            "42 (taltun) S 0 0 0 0",
            "42 (x",
            "",
        ] {
            assert!(!leads_session(stat), "{stat:?}");
        }
    }
}
