//! Workers: the threads that move packets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::crew::{Crew, Job, Threads};
use super::shared::Shared;
use super::sparse::SparseQueues;
use super::transmit::Transmitter;
use super::tun::Tun;
use super::udp::{Sender, Socket};
use super::{inbound, outbound, release, shaping};

/// The running threads of all workers.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    threads: Threads,
}

/// Cores that we may run on.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// How many workers a machine of `cores` gets. One saturates two cores, having a thread a
/// direction; more only pay where there are cores for their peers' traffic.
pub fn default_count(cores: usize) -> usize {
    (cores / 2).clamp(1, 8)
}

impl Workers {
    /// Starts a worker for each pair of socket and TUN queue, with a sparse queue where there is one,
    /// and helpers if the threads have a crew.
    pub fn start(
        shared: Arc<Shared>,
        sockets: &[Arc<Socket>],
        tuns: Vec<Tun>,
        sparse: Option<&SparseQueues>,
    ) -> io::Result<Self> {
        let mut workers = Self {
            shared,
            threads: Threads::default(),
        };
        let mut jobs = Vec::new();
        let shaped_tun = tuns.first().map(Tun::try_clone).transpose()?;
        for (number, (socket, tun)) in (0..).zip(sockets.iter().zip(tuns)) {
            let out_tun = tun.try_clone()?;
            let counters = &workers.shared.inputs.counters;
            let new_sender = || Sender::new(Arc::clone(socket), Arc::clone(counters));
            let queues = &workers.shared.queues;
            let transmitter = |batch| Transmitter::new(queues, number as usize, batch);
            let new_way = || (new_sender(), transmitter(outbound::BATCH));
            // All that opens a descriptor is made here: the threads may not.
            let way = new_way();
            let sparse = match sparse {
                Some(queues) => queues.of_worker(number as usize)?,
                None => None,
            };
            let sparse = sparse.map(|queue| (queue, new_way()));
            let mut relay_sender = new_sender();
            let socket = Arc::clone(socket);
            let mut relay_transmitter = transmitter(inbound::BATCH);
            jobs.push(workers.job(format!("taltun-out-{number}"), move |shared| {
                outbound::run(&out_tun, sparse, way, shared)
            }));
            jobs.push(workers.job(format!("taltun-in-{number}"), move |shared| {
                let transmitter = &mut relay_transmitter;
                inbound::run(
                    &socket,
                    &tun,
                    &mut relay_sender,
                    transmitter,
                    number,
                    shared,
                )
            }));
        }
        // What waits for its turn isn't any worker's, so one thread releases it.
        if let Some((socket, tun)) = sockets.first().zip(shaped_tun) {
            let counters = &workers.shared.inputs.counters;
            let mut sender = Sender::new(Arc::clone(socket), Arc::clone(counters));
            let mut transmitter = Transmitter::new(&workers.shared.queues, 0, shaping::BATCH);
            jobs.push(workers.job("taltun-shaper".into(), move |shared| {
                release::run(&tun, &mut sender, &mut transmitter, shared)
            }));
        }
        let helpers = workers.shared.crew.as_ref().map_or(0, Crew::helpers);
        let inputs = &workers.shared.inputs;
        let (scheduling, rights) = (Arc::clone(&inputs.scheduling), Arc::clone(&inputs.rights));
        // In this order: a place takes a right.
        let begin = move || (scheduling.enter(), rights.give_up());
        workers.threads.start(jobs, helpers, begin)?;
        Ok(workers)
    }

    /// What a thread of this name does, from its start to its end.
    fn job(
        &self,
        name: String,
        body: impl FnOnce(&Shared) -> io::Result<()> + Send + 'static,
    ) -> (String, Job) {
        let shared = Arc::clone(&self.shared);
        let said = name.clone();
        let job = move || {
            if let Some(crew) = &shared.crew {
                crew.resume();
            }
            let ended = body(&shared);
            if let Some(crew) = &shared.crew {
                crew.rest();
            }
            if let Err(error) = ended {
                tracing::warn!("a worker stopped ({said}): {error}");
                shared.ended.store(true, Ordering::Release);
                shared.inputs.wake.notify_one();
            }
        };
        (name, Box::new(job))
    }

    /// What the threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether any thread has ended, which none does by itself but for an error.
    pub fn any_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire) || self.threads.any_ended()
    }
}

impl Drop for Workers {
    /// Tells all threads to end; dropping them waits for it. What they have in hand is
    /// carried through.
    fn drop(&mut self) {
        if let Err(error) = self.shared.stop.stop() {
            tracing::error!("can't stop the workers: {error}");
            std::mem::take(&mut self.threads).abandon();
        }
    }
}
