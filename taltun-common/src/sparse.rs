//! Which packets into the tunnel take the sparse queue, which is read before the bulk one.
//!
//! A flow that sends little (a ping, a game, a call, a shell) shouldn't wait behind a download. The
//! program that chooses a TUN queue for each packet keeps a budget of bytes for each flow:
//! while it lasts, the flow's packets take the sparse queue; then they take the bulk queue. No packet
//! may overtake another of its flow, and this is why none does:
//!
//! * **From sparse to bulk**, at any time: user space reads what is in the sparse queue before it
//!   goes on with what it has read from the bulk queue.
//! * **From bulk to sparse**, only when all that the flow put into the bulk queue has left it: user
//!   space says until when it has [`drained`](Moments::drained) that queue, in a map that it writes
//!   like memory, and the program knows when each flow last used it. A queue that never runs empty
//!   keeps its flows.
//!
//! Flows share slots by a hash. Who shares one is judged as one flow, which keeps the order
//! of both. Where ports aren't to be seen (fragments, extension headers), a packet takes the bulk
//! queue, and until that is drained so does all else between its two addresses.
//!
//! Many flows that each send little are a flood, too: a budget for all of them together keeps the
//! bulk queue from starving.

use crate::bucket::Rate;

/// Slots for flows, and as many for pairs of addresses.
pub const SLOTS: usize = 8192;

/// Bytes that each packet counts more than it has: to handle it costs about that much.
pub const PACKET: u64 = 256;

/// What one flow may send in a second, with [`PACKET`] for each packet, and at once.
pub const FLOW: Budget = Budget::new(128 << 10, 16 << 10);

/// The same for all flows of a worker together.
pub const ALL: Budget = Budget::new(32 << 20, 256 << 10);

/// The time in nanoseconds that a packet may take from the choice of its queue until it is
/// in it: mostly less than one thousandth of it.
pub const ON_THE_WAY: u64 = 5_000_000;

/// A token bucket of bytes: see [`bucket`](crate::bucket), whose arithmetic this is for many
/// tokens at once.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    byte: Rate,
}

impl Budget {
    const fn new(bytes_a_second: u32, at_once: u32) -> Self {
        Self {
            byte: Rate::with_burst(bytes_a_second, at_once),
        }
    }

    /// Whether a bucket that is full at `full_at` holds so many bytes at `now`.
    #[inline(always)]
    const fn allows(&self, full_at: u64, bytes: u64, now: u64) -> bool {
        full_at.saturating_sub(now) + bytes * self.byte.token <= self.byte.bucket
    }

    /// When it is full after they are taken.
    #[inline(always)]
    const fn taken(&self, full_at: u64, bytes: u64, now: u64) -> u64 {
        (if full_at > now { full_at } else { now }) + bytes * self.byte.token
    }
}

/// What is known of a slot's flows, in nanoseconds of the kernel's clock.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// When a packet last took the bulk queue.
    pub bulk_at: u64,
    /// When their budget is full again.
    pub full_at: u64,
}

/// What else decides.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// Now.
    pub now: u64,
    /// What was put into the bulk queue before that has left it, and was sent on.
    pub drained: u64,
    /// When a packet between the same addresses took the bulk queue that can't be told from
    /// this flow's; 0 for never.
    pub pair_at: u64,
}

impl Moments {
    /// Whether what took the bulk queue at this moment, or before, has left it for sure.
    #[inline(always)]
    const fn is_through(&self, bulk_at: u64) -> bool {
        bulk_at + ON_THE_WAY < self.drained
    }
}

/// Whether a packet of `bytes` takes the sparse queue. Takes them from the flow's budget and from
/// that of all, which is full at `all_full_at`.
///
/// Of the flow nothing changes that another packet of its slot may change at the same time on
/// another CPU, but to the same effect: a packet that takes the bulk queue writes down both words,
/// one that doesn't the budget alone.
#[inline(always)]
#[must_use]
pub const fn is_sparse(
    flow: &mut Flow,
    all_full_at: &mut u64,
    bytes: u64,
    moments: &Moments,
) -> bool {
    let bytes = bytes + PACKET;
    let now = moments.now;
    let sparse = moments.is_through(flow.bulk_at)
        && moments.is_through(moments.pair_at)
        && FLOW.allows(flow.full_at, bytes, now)
        && ALL.allows(*all_full_at, bytes, now);
    if sparse {
        flow.full_at = FLOW.taken(flow.full_at, bytes, now);
        *all_full_at = ALL.taken(*all_full_at, bytes, now);
    } else {
        flow.bulk_at = now;
        // Whoever sends more than its budget has none left.
        flow.full_at = now + FLOW.byte.bucket;
    }
    sparse
}

/// A number that every bit of each word has changed half of: the finaliser of `MurmurHash3`,
/// which is public domain, a word after the other.
#[inline(always)]
#[must_use]
pub const fn mix(hash: u64, word: u64) -> u64 {
    let mut hash = hash.rotate_left(23) ^ word;
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The slot of a flow or of a pair of addresses, by its hash's lower bits.
#[inline(always)]
#[must_use]
pub const fn slot(hash: u64) -> u32 {
    (hash % SLOTS as u64) as u32
}

/// The worker of a flow, one of so many, by its hash's higher bits.
#[inline(always)]
#[must_use]
pub const fn worker(hash: u64, workers: u32) -> u32 {
    (((hash >> 32) * workers as u64) >> 32) as u32
}

/// The number of a worker's TUN queue, of as many as there are workers or twice as many: first the
/// bulk queues, then the sparse ones. So that where the latter are missing, the kernel, which divides
/// by the number of queues, comes to the former.
#[inline(always)]
#[must_use]
pub const fn queue(worker: u32, workers: u32, sparse: bool) -> u32 {
    if sparse { workers + worker } else { worker }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::{BTreeSet, VecDeque};
    use std::vec::Vec;

    use super::*;

    const MS: u64 = 1_000_000;
    const START: u64 = 1_000_000 * MS;

    fn moments(now: u64, drained: u64) -> Moments {
        Moments {
            now,
            drained,
            pair_at: 0,
        }
    }

    #[test]
    fn a_ping_a_call_and_a_game_stay_sparse_for_ever() {
        for (bytes, every) in [(84, 10 * MS), (200, 20 * MS), (150, 8 * MS)] {
            let (mut flow, mut all) = (Flow::default(), 0);
            for number in 0..100_000 {
                let now = START + number * every;
                assert!(is_sparse(&mut flow, &mut all, bytes, &moments(now, START)));
            }
        }
    }

    #[test]
    fn a_download_is_bulk_after_its_budget_and_a_large_piece_at_once() {
        let (mut flow, mut all) = (Flow::default(), 0);
        let mut sparse = 0;
        while is_sparse(&mut flow, &mut all, 1420, &moments(START, START)) {
            sparse += 1;
        }
        assert_eq!(sparse, (16 << 10) / (1420 + PACKET));
        let (mut flow, mut all) = (Flow::default(), 0);
        assert!(!is_sparse(
            &mut flow,
            &mut all,
            65_000,
            &moments(START, START)
        ));
        // A small packet goes behind it.
        assert!(!is_sparse(
            &mut flow,
            &mut all,
            60,
            &moments(START + 1, START)
        ));
    }

    #[test]
    fn before_user_space_has_said_anything_everything_is_bulk() {
        let (mut flow, mut all) = (Flow::default(), 0);
        assert!(!is_sparse(&mut flow, &mut all, 60, &moments(START, 0)));
    }

    #[test]
    fn a_flow_comes_back_only_once_its_packets_have_left_the_queue() {
        let (mut flow, mut all) = (Flow::default(), 0);
        assert!(!is_sparse(
            &mut flow,
            &mut all,
            65_000,
            &moments(START, START)
        ));
        let bulk = flow.bulk_at;
        let long = START + 1_000_000 * MS;
        // However long its pause was.
        for drained in [0, START, bulk, bulk + ON_THE_WAY] {
            let mut flow = flow;
            assert!(!is_sparse(&mut flow, &mut all, 60, &moments(long, drained)));
            assert_eq!(flow.bulk_at, long);
        }
        let through = moments(long, bulk + ON_THE_WAY + 1);
        assert!(is_sparse(&mut flow, &mut all, 60, &through));
    }

    #[test]
    fn what_cannot_be_told_apart_keeps_a_pair_of_addresses_in_the_bulk_queue() {
        let (mut flow, mut all) = (Flow::default(), 0);
        let fragment = Moments {
            pair_at: START,
            ..moments(START + MS, START)
        };
        assert!(!is_sparse(&mut flow, &mut all, 60, &fragment));
        let later = Moments {
            drained: START + 2 * MS + ON_THE_WAY,
            now: START + 100 * MS,
            ..fragment
        };
        assert!(is_sparse(&mut flow, &mut all, 60, &later));
    }

    #[test]
    fn many_flows_that_send_little_leave_the_bulk_queue_its_part() {
        let mut all = 0;
        let mut sparse = 0;
        for number in 0..1_000_000_u64 {
            // A million packets in a second, each of another flow.
            let now = START + number * 1000;
            let mut flow = Flow::default();
            sparse += u64::from(is_sparse(&mut flow, &mut all, 60, &moments(now, START)));
        }
        let most = (ALL.byte.bucket / ALL.byte.token + (32 << 20)) / (60 + PACKET);
        assert!(sparse.abs_diff(most) < most / 20, "{sparse} of {most}");
    }

    /// As many as by chance: 8192 × (1 − e^(−10000/8192)) = 5776.
    #[test]
    fn flows_spread_over_the_slots_as_by_chance() {
        let ports = |n: u64| mix(mix(0x0a00_0001_0a00_0002, n), 6);
        let addresses = |n: u64| mix(mix(0x0a00_0001_0a00_0000 + n, 443), 6);
        let both = |n: u64| mix(mix(0xc0a8_0000_0a00_0000 + (n << 32), n << 16), 17);
        for hash in [ports as fn(u64) -> u64, addresses, both] {
            let slots: BTreeSet<u32> = (0..10_000).map(|n| slot(hash(n))).collect();
            assert!(
                slots.len() > 5_690 && slots.len() < 5_860,
                "{}",
                slots.len()
            );
            let of_three = (0..9_000).map(|n| worker(hash(n), 3));
            let mut count = [0_u32; 3];
            of_three.for_each(|worker| count[worker as usize] += 1);
            assert!(
                count.iter().all(|count| count.abs_diff(3_000) < 200),
                "{count:?}"
            );
        }
    }

    #[test]
    fn a_queue_that_is_missing_is_the_workers_bulk_queue_to_the_kernel() {
        for workers in 1..=64 {
            for worker in 0..workers {
                assert_eq!(queue(worker, workers, false), worker);
                let sparse = queue(worker, workers, true);
                assert!(sparse >= workers && sparse < 2 * workers);
                assert_eq!(sparse % workers, worker);
            }
        }
    }

    /// A small generator, so that the crate needs none.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = mix(self.0, 0x9e37_79b9_7f4a_7c15);
            self.0 % limit
        }
    }

    /// What user space does with the two queues, a step at a time.
    #[derive(Default)]
    struct Reader {
        /// What it has read from the bulk queue and not sent on.
        batch: Vec<Packet>,
        /// When it began to read, if it has found the queue empty since.
        began: Option<u64>,
        drained: u64,
        sent: Vec<Packet>,
    }

    /// Its flow, and its number in it.
    type Packet = (usize, u64);

    const FLOWS: usize = 4;

    /// Any number of packets of flows that share slots, of any size and at any pace, that take a
    /// while until they are in their queue, beside a reader that may be anywhere meanwhile.
    #[test]
    fn no_packet_overtakes_another_of_its_flow() {
        let mut random = Random(7);
        let (mut took, mut returned) = ([0_u64; 2], 0_u64);
        for _ in 0..400 {
            let mut queues: [VecDeque<Packet>; 2] = Default::default();
            let mut slots = [Flow::default(); FLOWS / 2];
            let mut all = 0;
            let mut was_sparse = [true; FLOWS];
            let mut numbers = [0_u64; FLOWS];
            // When a flow's packet will be in which queue: until then its sender sends no other.
            let mut on_the_way: [Option<(u64, usize, Packet)>; FLOWS] = [None; FLOWS];
            let mut reader = Reader::default();
            let mut now = START;
            let pace = 1 << (16 + random.below(11));
            for _ in 0..2_000 {
                now += random.below(pace);
                let flow = random.below(FLOWS as u64) as usize;
                if let Some((due, ..)) = on_the_way[flow] {
                    now = now.max(due);
                }
                // The order between flows doesn't matter.
                for packet in &mut on_the_way {
                    if let Some((_, queue, it)) = packet.take_if(|(due, ..)| *due <= now) {
                        queues[queue].push_back(it);
                    }
                }
                match random.below(6) {
                    0..3 => {
                        let bytes = [60, 60, 60, 600, 30_000][random.below(5) as usize];
                        let moments = moments(now, reader.drained);
                        let sparse = is_sparse(&mut slots[flow % 2], &mut all, bytes, &moments);
                        took[usize::from(sparse)] += 1;
                        returned += u64::from(sparse && !was_sparse[flow]);
                        was_sparse[flow] = sparse;
                        let due = now + random.below(ON_THE_WAY);
                        on_the_way[flow] = Some((due, sparse.into(), (flow, numbers[flow])));
                        numbers[flow] += 1;
                    }
                    3 if reader.batch.is_empty() => {
                        let room = 1 + random.below(16) as usize;
                        let there = queues[0].len();
                        reader.batch.extend(queues[0].drain(..there.min(room)));
                        reader.began = (there < room).then_some(now);
                    }
                    4 => {
                        let Reader { batch, sent, .. } = &mut reader;
                        sent.extend(queues[1].drain(..));
                        sent.append(batch);
                        reader.drained = reader.began.take().unwrap_or(reader.drained);
                    }
                    _ => reader.sent.extend(queues[1].drain(..)),
                }
            }
            let mut late: Vec<_> = on_the_way.into_iter().flatten().collect();
            late.sort_unstable();
            for (_, queue, packet) in late {
                queues[queue].push_back(packet);
            }
            let [bulk, sparse] = queues;
            let Reader { batch, sent, .. } = reader;
            let mut next = [0; FLOWS];
            for (flow, number) in sent.into_iter().chain(sparse).chain(batch).chain(bulk) {
                assert_eq!(number, next[flow], "flow {flow}");
                next[flow] += 1;
            }
            assert_eq!(next, numbers);
        }
        assert!(
            took[0].min(took[1]) > 10_000 && returned > 1_000,
            "{took:?} {returned}"
        );
    }
}
