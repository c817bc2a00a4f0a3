//! How busy the process is: the processor time of its threads, and what waits in the kernel's queues
//! before the workers. The kernel counts all of it; asking costs the workers nothing.

use std::collections::BTreeMap;
use std::fs;

use crate::report::ThreadLoad;

/// The threads by name, those of one name together: what they ran, and what they waited for a
/// processor.
pub(super) fn threads() -> Vec<ThreadLoad> {
    let mut all: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    for task in tasks.flatten() {
        // One that has ended meanwhile is gone with its counts.
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        let (Some(name), Some(counts)) = (read("comm"), read("schedstat")) else {
            continue;
        };
        let Some((ran, waited)) = nanoseconds(&counts) else {
            continue;
        };
        let sum = all.entry(name.trim_end().to_owned()).or_default();
        sum.0 += ran;
        sum.1 += waited;
    }
    let all = all.into_iter();
    all.map(|(name, (ran, waited))| ThreadLoad {
        name,
        cpu_seconds: ran / 1e9,
        waited_seconds: waited / 1e9,
    })
    .collect()
}

/// The first two numbers of a `schedstat`.
fn nanoseconds(counts: &str) -> Option<(f64, f64)> {
    let mut numbers = counts.split_ascii_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Packets that found no room in the queue of the interface `name`, for the workers to read.
pub(super) fn no_room_in(name: &str) -> Option<u64> {
    no_room_of(&fs::read_to_string("/proc/thread-self/net/dev").ok()?, name)
}

/// From the table of `/proc/net/dev`: the twelfth number, what the interface dropped of what was to
/// be sent.
fn no_room_of(table: &str, name: &str) -> Option<u64> {
    let lines = table
        .lines()
        .filter_map(|line| line.trim_start().split_once(':'));
    let (_, numbers) = lines
        .into_iter()
        .find(|(interface, _)| *interface == name)?;
    numbers.split_ascii_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_found_by_its_name() {
        let ran = || {
            let found = threads().into_iter().find(|it| it.name == "busy-one");
            found.map_or(0.0, |it| it.cpu_seconds)
        };
        let busy = std::thread::Builder::new().name("busy-one".into());
        let busy = busy.spawn(move || {
            let start = std::time::Instant::now();
            while ran() < 0.02 {
                assert!(start.elapsed().as_secs() < 30, "it ran {} s", ran());
            }
        });
        busy.unwrap().join().unwrap();
    }

    #[test]
    fn the_tables_of_the_kernel_are_read() {
        assert_eq!(nanoseconds("1500 20 3\n"), Some((1500.0, 20.0)));
        assert_eq!(nanoseconds("1500\n"), None);
        let table = "Inter-|   Receive       |  Transmit\n face |bytes    packets errs drop fifo \
                     frame compressed multicast|bytes packets errs drop fifo colls carrier \
                     compressed\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  hub0: 0 0 0 0 0 0 0 \
                     0 0 0 0 77 0 0 0 0\n";
        assert_eq!(no_room_of(table, "hub0"), Some(77));
        assert_eq!(no_room_of(table, "lo"), Some(12));
        assert_eq!(no_room_of(table, "hub"), None);
        assert_eq!(no_room_in("lo"), Some(0));
    }
}
