//! Which worker a session belongs to: its receiver index says so.
//!
//! Workers share a port. If a session's messages came to several workers, its packets would
//! overtake each other. So the lowest bits of an index, as many as number the workers, are the
//! worker's number. The other bits are random, so others learn no more than the number of
//! workers.

/// Most workers.
pub const MAX_WORKERS: usize = 64;

/// The bits of an index that number one of so many workers.
#[inline(always)]
const fn mask(workers: u32) -> u32 {
    workers.next_power_of_two() - 1
}

/// The index that belongs to this worker, one of so many, and is random otherwise.
#[must_use]
pub const fn index_of(worker: u32, workers: u32, random: u32) -> u32 {
    random & !mask(workers) | worker & mask(workers)
}

/// The worker that this index belongs to, out of so many; `None` if there is no such worker.
#[inline(always)]
#[must_use]
pub const fn worker_of(index: u32, workers: u32) -> Option<u32> {
    let worker = index & mask(workers);
    if worker < workers { Some(worker) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_leads_to_its_worker_and_is_random_otherwise() {
        for workers in 1..=MAX_WORKERS as u32 {
            for worker in 0..workers {
                for random in [0, 1, 0x5a5a_5a5a, u32::MAX] {
                    let index = index_of(worker, workers, random);
                    assert_eq!(worker_of(index, workers), Some(worker));
                    let kept = !(workers.next_power_of_two() - 1);
                    assert_eq!(index & kept, random & kept);
                }
            }
        }
    }

    #[test]
    fn one_worker_has_all_indices() {
        assert_eq!(index_of(0, 1, 0xdead_beef), 0xdead_beef);
        assert_eq!(worker_of(0xdead_beef, 1), Some(0));
    }

    #[test]
    fn a_number_that_no_worker_has_is_nobodys() {
        assert_eq!(worker_of(2, 3), Some(2));
        assert_eq!(worker_of(3, 3), None);
    }
}
