//! Groups sealed datagrams into runs that one system call can send as segments.
//!
//! The kernel cuts one large payload into datagrams of equal size (`UDP_SEGMENT`), of which
//! only the last may be shorter. Datagrams that lie one behind the other in an arena, go to
//! the same endpoint and have the same size are therefore one run.

use crate::protocol::batch::Sealed;
use crate::protocol::peer::Endpoint;

/// Most segments the kernel takes in one send (`UDP_MAX_SEGMENTS` of older kernels).
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes in one send: below 65,535 less IPv6 and UDP headers.
pub const MAX_RUN_BYTES: usize = 65_000;

/// Datagrams for one endpoint, one behind the other in an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramRun {
    /// Where the first one starts in the arena.
    pub start: usize,
    /// Bytes of all of them.
    pub len: usize,
    /// Bytes of each but the last, which may have fewer.
    pub segment: usize,
    /// Where they go.
    pub endpoint: Endpoint,
    /// The hop limit they leave with; `None` for the usual one.
    pub hop_limit: Option<u8>,
    /// The traffic class of their headers.
    pub class: u8,
}

impl DatagramRun {
    /// A single datagram, with the usual header.
    pub fn of_one(start: usize, len: usize, endpoint: Endpoint) -> Self {
        Self {
            start,
            len,
            segment: len,
            endpoint,
            hop_limit: None,
            class: 0,
        }
    }

    /// A datagram that was sealed at `start`.
    pub fn sealed(start: usize, sealed: &Sealed) -> Self {
        Self {
            hop_limit: sealed.hop_limit,
            class: sealed.class,
            ..Self::of_one(start, sealed.len, sealed.endpoint)
        }
    }

    /// How many datagrams it holds.
    pub fn segments(&self) -> usize {
        self.len.div_ceil(self.segment)
    }

    /// Whether it holds several datagrams and all of them have the same size.
    pub fn is_even(&self) -> bool {
        self.len > self.segment && self.len.is_multiple_of(self.segment)
    }

    /// The same datagrams, each on its own.
    pub fn split(self) -> impl Iterator<Item = DatagramRun> {
        (0..self.segments()).map(move |at| {
            let offset = at * self.segment;
            let len = self.segment.min(self.len - offset);
            DatagramRun {
                start: self.start + offset,
                len,
                segment: len,
                ..self
            }
        })
    }

    /// Whether a datagram can be one more segment.
    fn takes(&self, next: &Self) -> bool {
        self.start + self.len == next.start
            && next.len <= self.segment
            && self.len.is_multiple_of(self.segment)
            && self.len + next.len <= MAX_RUN_BYTES
            && self.segments() < MAX_SEGMENTS
            && self.endpoint == next.endpoint
            && self.hop_limit == next.hop_limit
            && self.class == next.class
    }
}

/// Runs waiting to be sent from one arena, in order.
#[derive(Debug, Default)]
pub struct DatagramRuns {
    runs: Vec<DatagramRun>,
}

impl DatagramRuns {
    /// Room for `capacity` runs without allocating again.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            runs: Vec::with_capacity(capacity),
        }
    }

    /// Adds a datagram, to the last run if `merge` and it fits.
    pub fn push(&mut self, next: DatagramRun, merge: bool) {
        match self.runs.last_mut() {
            Some(last) if merge && last.takes(&next) => last.len += next.len,
            _ => self.runs.push(next),
        }
    }

    /// Adds a run as it is.
    pub fn push_run(&mut self, run: DatagramRun) {
        self.runs.push(run);
    }

    /// The runs in order.
    pub fn as_slice(&self) -> &[DatagramRun] {
        &self.runs
    }

    /// Forgets all runs, keeping the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::from(std::net::SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn equal_neighbours_are_one_run_and_a_shorter_one_ends_it() {
        let mut runs = DatagramRuns::default();
        for (start, len) in [(0, 100), (100, 100), (200, 40), (240, 100)] {
            runs.push(DatagramRun::of_one(start, len, endpoint(1)), true);
        }
        let lens: Vec<_> = runs.as_slice().iter().map(|run| run.len).collect();
        assert_eq!(lens, [240, 100]);
        let parts: Vec<_> = runs.as_slice()[0]
            .split()
            .map(|r| (r.start, r.len))
            .collect();
        assert_eq!(parts, [(0, 100), (100, 100), (200, 40)]);
    }

    #[test]
    fn gaps_larger_segments_and_other_endpoints_start_anew() {
        let mut runs = DatagramRuns::default();
        runs.push(DatagramRun::of_one(0, 100, endpoint(1)), true);
        runs.push(DatagramRun::of_one(101, 100, endpoint(1)), true);
        runs.push(DatagramRun::of_one(201, 101, endpoint(1)), true);
        runs.push(DatagramRun::of_one(302, 101, endpoint(2)), true);
        assert_eq!(runs.as_slice().len(), 4);
        runs.push(DatagramRun::of_one(403, 101, endpoint(2)), false);
        assert_eq!(runs.as_slice().len(), 5);
        for start in [504, 605] {
            let limited = DatagramRun {
                hop_limit: Some(255),
                ..DatagramRun::of_one(start, 101, endpoint(2))
            };
            runs.push(limited, true);
        }
        assert_eq!(runs.as_slice().len(), 6);
        assert!(
            runs.as_slice()[5]
                .split()
                .all(|run| run.hop_limit == Some(255))
        );
    }

    #[test]
    fn a_run_stays_within_what_the_kernel_takes() {
        let mut runs = DatagramRuns::default();
        for at in 0..200 {
            runs.push(DatagramRun::of_one(at * 80, 80, endpoint(1)), true);
        }
        assert!(
            runs.as_slice()
                .iter()
                .all(|run| run.segments() <= MAX_SEGMENTS)
        );
        runs.clear();
        for at in 0..100 {
            runs.push(DatagramRun::of_one(at * 1452, 1452, endpoint(1)), true);
        }
        assert!(runs.as_slice().iter().all(|run| run.len <= MAX_RUN_BYTES));
        let total: usize = runs.as_slice().iter().map(DatagramRun::segments).sum();
        assert_eq!(total, 100);
    }

    /// All segments of a run have one header.
    #[test]
    fn another_traffic_class_starts_anew() {
        let mut runs = DatagramRuns::default();
        for (at, class) in [0, 0, 2, 2, 1, 0].into_iter().enumerate() {
            let run = DatagramRun {
                class,
                ..DatagramRun::of_one(at * 100, 100, endpoint(1))
            };
            runs.push(run, true);
        }
        let said = runs
            .as_slice()
            .iter()
            .map(|run| (run.class, run.segments()));
        assert!(said.eq([(0, 2), (2, 2), (1, 1), (0, 1)]));
    }
}
