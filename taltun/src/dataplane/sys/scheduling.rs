//! How the kernel shares out its cores: a thread's policy, niceness and slice, and the CPU time that
//! it took.

use std::io;
use std::time::Duration;

use crate::os::check;

/// A thread of this process, by its number. It may be another one's once the thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread(libc::pid_t);

/// By what the kernel chooses who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In turn with all others (`SCHED_OTHER`).
    Fair {
        /// From -20 to 19: the lower, the larger a share.
        nice: i32,
        /// For how long it runs at a time. Who asks for little runs sooner after it woke. Kernels
        /// before 6.12 don't know it.
        slice: Duration,
    },
    /// Before all others, in turn with those of the same priority (`SCHED_RR`).
    RealTime {
        /// From 1 to 99: the higher, the sooner.
        priority: u32,
    },
}

impl Thread {
    /// The one that calls this.
    pub fn current() -> Self {
        // SAFETY: the call takes nothing and can't fail.
        Self(unsafe { libc::gettid() })
    }

    /// Gives it another policy.
    ///
    /// # Errors
    /// `EPERM` for more than it has without `CAP_SYS_NICE` or a limit that allows it, or where a
    /// filter of system calls forbids it.
    pub fn set_policy(self, policy: Policy) -> io::Result<()> {
        let mut attributes = nothing();
        match policy {
            Policy::Fair { nice, slice } => {
                attributes.sched_policy = libc::SCHED_OTHER.cast_unsigned();
                attributes.sched_nice = nice;
                attributes.sched_runtime = slice.as_nanos() as u64;
            }
            Policy::RealTime { priority } => {
                attributes.sched_policy = libc::SCHED_RR.cast_unsigned();
                attributes.sched_priority = priority;
            }
        }
        // SAFETY: the pointer is to attributes that say their size and outlive the call.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_setattr, self.0, &raw const attributes, 0) };
        check(result as libc::c_int).map(drop)
    }

    /// Its policy now. A kernel that knows no slices says none.
    pub fn policy(self) -> io::Result<Policy> {
        let mut attributes = nothing();
        let size = attributes.size;
        // SAFETY: the kernel writes `size` bytes at most to attributes that are as long.
        let result = unsafe {
            libc::syscall(
                libc::SYS_sched_getattr,
                self.0,
                &raw mut attributes,
                size,
                0,
            )
        };
        check(result as libc::c_int)?;
        Ok(match attributes.sched_priority {
            0 => Policy::Fair {
                nice: attributes.sched_nice,
                slice: Duration::from_nanos(attributes.sched_runtime),
            },
            priority => Policy::RealTime { priority },
        })
    }

    /// CPU time that it took so far.
    ///
    /// # Errors
    /// `EINVAL` when it has ended.
    pub fn cpu_time(self) -> io::Result<Duration> {
        /// `CPUCLOCK_PERTHREAD_MASK` and `CPUCLOCK_SCHED` of the kernel: the clock of a thread
        /// is made of its number.
        const OF_A_THREAD: libc::clockid_t = 4 | 2;
        let clock = (!self.0 << 3) | OF_A_THREAD;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a valid timespec that outlives the call.
        check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
        Ok(Duration::new(
            time.tv_sec.cast_unsigned(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        ))
    }
}

fn nothing() -> libc::sched_attr {
    libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_becomes_nicer_and_its_time_goes_on() {
        let thread = std::thread::spawn(|| {
            let thread = Thread::current();
            let before = thread.cpu_time().unwrap();
            let fair = |nice| Policy::Fair {
                nice,
                slice: Duration::from_micros(500),
            };
            thread.set_policy(fair(19)).unwrap();
            let policy = thread.policy().unwrap();
            assert!(
                matches!(policy, Policy::Fair { nice: 19, .. }),
                "{policy:?}"
            );
            while thread.cpu_time().unwrap() <= before {}
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_there_is_not_is_an_error() {
        // Beyond the most that a kernel numbers.
        let none = Thread(1 << 23);
        assert!(none.cpu_time().is_err());
        assert!(none.policy().is_err());
        assert!(none.set_policy(Policy::RealTime { priority: 1 }).is_err());
    }
}
