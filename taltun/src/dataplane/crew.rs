//! The crew: the threads of all workers, and helpers that share the cipher work of a large
//! batch with them, so that one flow can use more than one core.
//!
//! All are threads of one pool of `rayon-core`, in which each worker's loop is one endless
//! job. A worker that has a large batch in hand offers half of the work and starts with the
//! other half; an idle helper takes what is offered and may offer half of that in turn; what
//! nobody took, the worker takes back and does itself. Nothing is allocated for it, and
//! there is no lock but the one that wakes a helper which sleeps.
//!
//! What makes a pool of endless jobs sound:
//!
//! * Each loop is given to one thread of the pool by its number, before there is any other
//!   work. A thread that waits for what was taken from it looks for other work meanwhile; it
//!   can find pieces of other batches, each of which ends, but never another loop.
//! * A piece of a batch takes no lock and waits for nothing but its own halves. So a worker
//!   that waits is held up by one piece of each other worker's batch, at the most.
//! * A thread outside of the pool, such as a lane's, does its work alone: to hand it
//!   over whole and to sleep meanwhile, which is all it could do, costs more than it brings.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rayon_core::{ThreadPool, ThreadPoolBuilder};

use crate::protocol::plan::CipherWork;

/// The most helpers that a machine gets by itself.
const MAX_HELPERS: usize = 8;
/// Cores that helpers leave alone: one for the flow's worker, one for the kernel's share of
/// it, or for the way back.
const OTHER_CORES: usize = 2;
/// Bytes from which on a batch is shared. To seal or open as much takes some 8 µs, and a
/// helper that sleeps needs about half of that to wake: with less there is nothing left to
/// share when it comes.
const WORTH_SHARING: usize = 16 << 10;
/// The smallest part that is offered: some 4 µs of work, and to offer it costs 50 ns.
const SMALLEST_PART: usize = 8 << 10;
/// Parts for each thread that might help. More than one, so that a helper that comes late
/// still finds something and none waits long for the last.
const PARTS_A_THREAD: usize = 2;

/// How many helpers a machine of `cores` gets: none where there are two.
pub fn default_helpers(cores: usize) -> usize {
    cores.saturating_sub(OTHER_CORES).min(MAX_HELPERS)
}

/// What workers know of their helpers.
#[derive(Debug)]
pub struct Crew {
    helpers: usize,
    cores: usize,
    /// Threads of workers that have something in hand. Only a hint: it guards nothing.
    at_work: AtomicUsize,
}

impl Crew {
    /// For so many helpers on a machine of so many cores; `None` for no helpers.
    pub fn new(helpers: usize, cores: usize) -> Option<Self> {
        (helpers > 0).then(|| Self {
            helpers,
            cores,
            at_work: AtomicUsize::new(0),
        })
    }

    /// How many helpers there are.
    pub fn helpers(&self) -> usize {
        self.helpers
    }

    /// A worker's thread has something to do.
    pub fn resume(&self) {
        self.at_work.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker's thread waits, after [`Self::resume`].
    pub fn rest(&self) {
        self.at_work.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a batch of so many bytes should be shared: if it is large enough, and workers
    /// don't keep all cores busy themselves.
    pub fn shares(&self, bytes: usize) -> bool {
        bytes >= WORTH_SHARING && self.at_work.load(Ordering::Relaxed) < self.cores
    }

    /// Does the work, alone or with who is idle. True when it was done by more than one
    /// thread. Only for jobs of [`Threads`].
    pub fn carry(&self, work: CipherWork<'_>) -> bool {
        debug_assert!(rayon_core::current_thread_index().is_some());
        let parts = PARTS_A_THREAD * (self.helpers + 1);
        let part = (work.weight() / parts).max(SMALLEST_PART);
        share(work, part)
    }
}

/// Does the work, with the crew's help if there is a crew. True when it was done by more than one
/// thread.
pub fn carry(crew: Option<&Crew>, work: CipherWork<'_>) -> bool {
    let Some(crew) = crew else {
        work.run();
        return false;
    };
    crew.carry(work)
}

/// Does the work in parts of `part` or somewhat more; true when others did some of it.
fn share(work: CipherWork<'_>, part: usize) -> bool {
    if work.weight() < 2 * part {
        work.run();
        return false;
    }
    match work.halves() {
        Ok((first, second)) => {
            let (a, b) = rayon_core::join_context(
                |_| share(first, part),
                |context| share(second, part) || context.migrated(),
            );
            a || b
        }
        Err(single) => {
            single.run();
            false
        }
    }
}

/// What a thread does until it ends.
pub type Job = Box<dyn FnOnce() + Send>;

/// Running threads: one a job, and helpers.
#[derive(Debug, Default)]
pub struct Threads {
    pool: Option<ThreadPool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts a thread of that name for each job, and so many helpers. Without helpers they
    /// are plain threads, and jobs must not call [`Crew::carry`]. Each thread does `begin` first,
    /// and keeps what that returns until its end.
    ///
    /// # Errors
    /// When a thread can't be started. Those that were remain, and end with their jobs.
    pub fn start<B>(
        &mut self,
        jobs: Vec<(String, Job)>,
        helpers: usize,
        begin: impl Fn() -> B + Clone + Send + 'static,
    ) -> io::Result<()> {
        if helpers > 0 {
            return self.start_pool(jobs, helpers, &begin);
        }
        for (name, job) in jobs {
            let begin = begin.clone();
            let thread = thread::Builder::new().name(name).spawn(move || {
                let _kept = begin();
                job();
            })?;
            self.handles.push(thread);
        }
        Ok(())
    }

    fn start_pool<B>(
        &mut self,
        jobs: Vec<(String, Job)>,
        helpers: usize,
        begin: &(impl Fn() -> B + Clone + Send + 'static),
    ) -> io::Result<()> {
        let (names, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        let name = move |number: usize| match number.checked_sub(names.len()) {
            None => names[number].clone(),
            Some(helper) => format!("taltun-crypt-{helper}"),
        };
        let pool = ThreadPoolBuilder::new()
            .num_threads(jobs.len() + helpers)
            .thread_name(name)
            .spawn_handler(|thread| {
                let builder = thread::Builder::new();
                let builder = match thread.name() {
                    Some(name) => builder.name(name.to_owned()),
                    None => builder,
                };
                let begin = begin.clone();
                self.handles.push(builder.spawn(move || {
                    let _kept = begin();
                    thread.run();
                })?);
                Ok(())
            })
            .build()
            .map_err(io::Error::other)?;
        let jobs: Vec<_> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
        // Each thread gets this once, and does the job of its own number.
        pool.spawn_broadcast(move |context| {
            let job = jobs.get(context.index()).and_then(|job| {
                let mut job = job.lock().unwrap_or_else(PoisonError::into_inner);
                job.take()
            });
            if let Some(job) = job {
                job();
            }
        });
        self.pool = Some(pool);
        Ok(())
    }

    /// Whether any thread has ended.
    pub fn any_ended(&self) -> bool {
        self.handles.iter().any(JoinHandle::is_finished)
    }

    /// Lets them run without waiting for them ever.
    pub fn abandon(mut self) {
        self.handles.clear();
    }
}

impl Drop for Threads {
    /// Waits until all jobs have ended.
    fn drop(&mut self) {
        // The pool's threads end once they have nothing left to do.
        self.pool = None;
        for thread in self.handles.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
