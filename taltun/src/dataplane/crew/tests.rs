use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, mpsc};
use std::time::{Duration, Instant};

use super::*;
use crate::protocol::tests::steps;

/// Cores enough for whoever there is.
const MANY: usize = 1000;

/// Runs `jobs` as workers' loops beside so many helpers, until they end.
fn run(helpers: usize, jobs: Vec<Job>) {
    let mut threads = Threads::default();
    let named = jobs
        .into_iter()
        .enumerate()
        .map(|(number, job)| (format!("taltun-test-{number}"), job));
    threads.start(named.collect(), helpers, || ()).unwrap();
}

/// Waits for what other threads have to do, which may take long on a busy machine.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_machine_of_two_cores_gets_no_helpers() {
    let helpers: Vec<_> = [1, 2, 3, 4, 8, 10, 64]
        .into_iter()
        .map(default_helpers)
        .collect();
    assert_eq!(helpers, [0, 0, 1, 2, 6, 8, 8]);
    assert!(Crew::new(0, 2).is_none());
}

#[test]
fn only_large_batches_are_shared_and_only_while_a_core_idles() {
    let crew = Crew::new(2, 2).unwrap();
    crew.resume();
    assert!(crew.shares(WORTH_SHARING));
    assert!(!crew.shares(WORTH_SHARING - 1));
    crew.resume();
    assert!(!crew.shares(WORTH_SHARING));
    crew.rest();
    assert!(crew.shares(WORTH_SHARING));
}

/// Whatever number of helpers there is, and however many workers share them.
#[test]
fn a_shared_batch_comes_out_as_packet_by_packet() {
    for (helpers, workers) in [(1, 1), (3, 1), (1, 3), (3, 3)] {
        let crew = Arc::new(Crew::new(helpers, MANY).unwrap());
        let shared = Arc::new(AtomicUsize::new(0));
        let jobs = (0..workers).map(|worker| {
            let (crew, shared) = (Arc::clone(&crew), Arc::clone(&shared));
            let job = move || {
                let carry = |work: CipherWork<'_>| {
                    shared.fetch_add(usize::from(crew.carry(work)), Ordering::Relaxed);
                };
                for seed in 0..8 {
                    let seed = worker * 100 + seed;
                    steps::the_way_in_is_the_same(seed, 200, &carry);
                    steps::the_way_out_is_the_same(seed, 200, 1 << 60, &carry);
                    steps::the_way_out_is_the_same(seed, 200, 37, &carry);
                }
            };
            Box::new(job) as Job
        });
        run(helpers, jobs.collect());
        println!(
            "{helpers} helpers of {workers} workers: {} batches were shared",
            shared.load(Ordering::Relaxed)
        );
    }
}

/// An idle helper takes its share: within many batches at least one is done by two threads.
#[test]
fn a_helper_does_help() {
    let helped = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&helped);
    let job = move || {
        let crew = Crew::new(1, MANY).unwrap();
        wait_until("no helper ever helped", || {
            steps::the_way_out_is_the_same(1, 200, 1 << 60, &|work| {
                if crew.carry(work) {
                    said.store(true, Ordering::Relaxed);
                }
            });
            said.load(Ordering::Relaxed)
        });
    };
    run(1, vec![Box::new(job)]);
    assert!(helped.load(Ordering::Relaxed));
}

/// Each loop has a thread of its own, which no other loop, no helper and no piece of a batch
/// ever blocks: while one sleeps in the kernel, the others go on and share.
#[test]
fn every_loop_runs_at_once_on_a_thread_of_its_own() {
    const LOOPS: usize = 6;
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let (tell, told) = mpsc::channel();
    let jobs = (0..LOOPS).map(|_| {
        let (gate, tell) = (Arc::clone(&gate), tell.clone());
        let crew = Crew::new(2, MANY).unwrap();
        let job = move || {
            // Ends only once all are here, so each has a thread.
            let (arrived, all) = &*gate;
            let mut arrived = arrived.lock().unwrap();
            *arrived += 1;
            all.notify_all();
            let limit = Duration::from_secs(60);
            let (arrived, timeout) = all
                .wait_timeout_while(arrived, limit, |arrived| *arrived < LOOPS)
                .unwrap();
            assert!(!timeout.timed_out(), "a loop has no thread");
            drop(arrived);
            for seed in 0..4 {
                steps::the_way_in_is_the_same(seed, 100, &|work| {
                    crew.carry(work);
                });
            }
            tell.send(thread::current().name().unwrap().to_owned())
                .unwrap();
        };
        Box::new(job) as Job
    });
    run(2, jobs.collect());
    let names: HashSet<String> = told.try_iter().collect();
    let expected = (0..LOOPS).map(|number| format!("taltun-test-{number}"));
    assert_eq!(names, expected.collect());
}

#[test]
fn without_helpers_there_is_no_pool() {
    let (tell, told) = mpsc::channel();
    run(
        0,
        vec![Box::new(move || {
            tell.send(rayon_core::current_thread_index()).unwrap();
        })],
    );
    assert_eq!(told.recv().unwrap(), None);
}
