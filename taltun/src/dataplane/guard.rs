//! The guard: it takes realtime from the threads that move packets before they starve others.
//!
//! A thread with realtime runs before all others for as long as it has something to do. Under a flood
//! that may be for ever, and where such threads fill all cores, nothing else runs: no handshake, no
//! timer, no ssh. The kernel leaves others 5 % of each second then, at its end. The guard looks
//! 40 times a second: a thread that is scheduled as any other, the canary, has to answer. If it hasn't
//! run for a tenth of a second, while the threads used most of the cores, they lose their
//! realtime; they get it back after a second, and each time that this was too soon, after twice as long.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::scheduling::{GUARDS, Scheduling};
use super::sys::Thread;
use super::worker;
use crate::os::monotonic;

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(25);
/// How long others may get nothing.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long threads are without realtime, at first and at most.
const FIRST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_secs(64);
/// Realtime that lasted as long was not given back too soon.
const SETTLED: Duration = Duration::from_secs(10);

/// The running guard. Dropping it ends it; threads keep what they have.
#[derive(Debug)]
pub struct Guard {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Gives the threads realtime and starts to watch them, if the file asks for it. Where the
    /// kernel refuses it, [`Scheduling::status`] says so.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(scheduling: &Arc<Scheduling>) -> io::Result<Option<Self>> {
        if !scheduling.wants_real_time() {
            return Ok(None);
        }
        // It is started from here, where nothing has realtime that it would inherit.
        let canary = Canary::start()?;
        let (stop, stopped) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let scheduling = Arc::clone(scheduling);
        let thread = thread::Builder::new()
            .name("taltun-guard".into())
            .spawn(move || {
                if let Err(error) = Thread::current().set_policy(GUARDS) {
                    scheduling.refuse_real_time(&error);
                    return;
                }
                scheduling.promote();
                let _ = ready.send(());
                watch(&scheduling, &canary, &stopped);
            })?;
        // Threads that enter after that have realtime by themselves.
        let refused = is_ready.recv().is_err();
        let guard = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        Ok(Some(guard).filter(|_| !refused))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(scheduling: &Scheduling, canary: &Canary, stopped: &mpsc::Receiver<()>) {
    let mut judge = Judge::new(worker::cores());
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let sight = Sight {
            now: monotonic(),
            used: scheduling.cpu_time(),
            answered: canary.has_answered(),
        };
        match judge.look(&sight) {
            None => {}
            Some(Verdict::Demote { hold }) => {
                scheduling.demote();
                let hold = hold.as_secs();
                tracing::warn!("packets left other programs no CPU time: no realtime for {hold} s");
            }
            Some(Verdict::Promote) => scheduling.promote(),
        }
        if sight.answered {
            canary.ask(ANSWER);
        }
    }
}

/// A thread that is scheduled as any other, and says that it ran.
#[derive(Debug)]
struct Canary {
    state: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

/// What the canary is asked for: nothing, to answer by saying so, and to end.
const NOTHING: u8 = 0;
const ANSWER: u8 = 1;
const END: u8 = 2;

impl Canary {
    fn start() -> io::Result<Self> {
        let state = Arc::new(AtomicU8::new(NOTHING));
        let asked = Arc::clone(&state);
        let run = move || {
            let (taken, failed) = (Ordering::AcqRel, Ordering::Acquire);
            while asked.compare_exchange(ANSWER, NOTHING, taken, failed) != Err(END) {
                thread::park();
            }
        };
        let builder = thread::Builder::new().name("taltun-canary".into());
        Ok(Self {
            state,
            thread: Some(builder.spawn(run)?),
        })
    }

    fn ask(&self, what: u8) {
        self.state.store(what, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    fn has_answered(&self) -> bool {
        self.state.load(Ordering::Acquire) == NOTHING
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.ask(END);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the guard saw.
#[derive(Debug, Clone, Copy)]
struct Sight {
    now: Duration,
    /// CPU time of all threads that move packets, so far.
    used: Duration,
    /// Whether the canary ran since it was asked to.
    answered: bool,
}

/// What is to change.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// No more realtime, for so long.
    Demote { hold: Duration },
    /// Realtime again.
    Promote,
}

/// Decides by what was seen.
#[derive(Debug)]
struct Judge {
    cores: u32,
    /// When the canary was asked that hasn't answered yet, and the CPU time used until then.
    asked: Option<(Duration, Duration)>,
    /// When threads get realtime again that have none.
    until: Option<Duration>,
    /// How long they had none the last time, and when they got it back.
    hold: Duration,
    promoted: Duration,
}

impl Judge {
    fn new(cores: usize) -> Self {
        Self {
            cores: cores as u32,
            asked: None,
            until: None,
            hold: Duration::ZERO,
            promoted: Duration::ZERO,
        }
    }

    fn look(&mut self, sight: &Sight) -> Option<Verdict> {
        if let Some(until) = self.until {
            if sight.now < until {
                return None;
            }
            self.until = None;
            self.asked = None;
            self.promoted = sight.now;
            return Some(Verdict::Promote);
        }
        let (asked, used) = match self.asked {
            Some(asked) if !sight.answered => asked,
            // It is asked again now.
            _ => {
                self.asked = Some((sight.now, sight.used));
                return None;
            }
        };
        let waited = sight.now.saturating_sub(asked);
        let used = sight.used.saturating_sub(used);
        // Others may have kept it waiting, or the whole machine stood.
        if waited < PATIENCE || used < waited * self.cores / 2 {
            return None;
        }
        let settled = sight.now.saturating_sub(self.promoted) >= SETTLED;
        self.hold = if settled {
            FIRST_HOLD
        } else {
            (self.hold * 2).clamp(FIRST_HOLD, LONGEST_HOLD)
        };
        self.until = Some(sight.now + self.hold);
        Some(Verdict::Demote { hold: self.hold })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::report::Priority;

    const CORES: u32 = 2;

    /// Looks for so long, while threads use so many hundredths of all cores. The first verdict,
    /// with when it was.
    fn look(
        judge: &mut Judge,
        sight: &mut Sight,
        answered: bool,
        percent: u32,
        limit: Duration,
    ) -> Option<(Duration, Verdict)> {
        let end = sight.now + limit;
        while sight.now < end {
            sight.now += LOOK;
            sight.used += LOOK * CORES * percent / 100;
            sight.answered = answered;
            if let Some(verdict) = judge.look(sight) {
                return Some((sight.now, verdict));
            }
        }
        None
    }

    fn start() -> (Judge, Sight) {
        let sight = Sight {
            now: Duration::from_secs(1000),
            used: Duration::from_secs(7),
            answered: true,
        };
        (Judge::new(CORES as usize), sight)
    }

    const LONG: Duration = Duration::from_secs(1000);

    #[test]
    fn threads_keep_realtime_while_others_run_however_busy_they_are() {
        let (mut judge, mut sight) = start();
        assert_eq!(look(&mut judge, &mut sight, true, 100, LONG), None);
    }

    #[test]
    fn others_that_are_kept_waiting_by_others_are_no_reason() {
        let (mut judge, mut sight) = start();
        assert_eq!(look(&mut judge, &mut sight, false, 49, LONG), None);
    }

    #[test]
    fn threads_that_starve_others_lose_realtime_at_once_and_get_it_back() {
        let (mut judge, mut sight) = start();
        assert_eq!(look(&mut judge, &mut sight, true, 90, LONG), None);
        let begun = sight.now;
        let (when, verdict) = look(&mut judge, &mut sight, false, 100, LONG).unwrap();
        assert_eq!(verdict, Verdict::Demote { hold: FIRST_HOLD });
        // From the question that isn't answered, which was before that.
        assert_eq!(when, begun + PATIENCE);
        let (again, verdict) = look(&mut judge, &mut sight, true, 100, LONG).unwrap();
        assert_eq!((again, verdict), (when + FIRST_HOLD, Verdict::Promote));
    }

    #[test]
    fn a_flood_that_goes_on_makes_it_rarer_and_one_that_is_over_is_forgotten() {
        let (mut judge, mut sight) = start();
        let mut held = Vec::new();
        for _ in 0..9 {
            let starved = look(&mut judge, &mut sight, false, 100, LONG).unwrap().1;
            let Verdict::Demote { hold } = starved else {
                panic!("{starved:?}")
            };
            held.push(hold.as_secs());
            assert!(look(&mut judge, &mut sight, false, 100, LONG).is_some());
        }
        assert_eq!(held, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(look(&mut judge, &mut sight, true, 50, SETTLED), None);
        let (_, starved) = look(&mut judge, &mut sight, false, 100, LONG).unwrap();
        assert_eq!(starved, Verdict::Demote { hold: FIRST_HOLD });
    }

    /// As many as there are cores, which never wait for anything.
    #[test]
    fn threads_that_leave_nothing_are_demoted() {
        let scheduling = Arc::new(Scheduling::new(Priority::Realtime));
        let guard = Guard::start(&scheduling).unwrap();
        if guard.is_none() {
            let status = scheduling.status();
            assert!(status.reason.contains("refused"), "{status:?}");
            assert!(status.mode < Priority::Realtime, "{status:?}");
            return;
        }
        assert_eq!(scheduling.status().mode, Priority::Realtime);
        let limit = Instant::now() + Duration::from_secs(20);
        thread::scope(|scope| {
            for _ in 0..worker::cores() {
                scope.spawn(|| {
                    let _entered = scheduling.enter();
                    while scheduling.is_real_time() && Instant::now() < limit {
                        std::hint::spin_loop();
                    }
                });
            }
        });
        let status = scheduling.status();
        assert_eq!(status.demotions, 1, "{status:?}");
        assert_eq!(status.mode, Priority::High, "{status:?}");
        assert_eq!(scheduling.cpu_time(), Duration::ZERO);
    }
}
