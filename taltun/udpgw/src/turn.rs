//! How much a task does before it is somebody else's turn.
//!
//! A task that isn't done gives its turn back to the runtime ([`tokio::task::yield_now`]), which
//! asks the kernel for news before it goes on with the task. A task that woke itself would have
//! sixty more turns before anybody else is heard of.

/// A datagram of so many bytes is as much work as two empty ones.
const BYTES: usize = 1500;
/// A read of so many bytes is as much work as two empty ones.
const BYTES_READ: usize = 8192;

/// The work that a turn has left; that of an empty datagram is 1.
#[derive(Debug)]
pub(crate) struct Turn {
    left: usize,
}

impl Turn {
    pub(crate) fn new(work: usize) -> Self {
        Self { left: work }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Takes off a datagram, by its size: a large one is sent and received in pieces.
    pub(crate) fn datagram(&mut self, bytes: usize) {
        self.work(1 + bytes / BYTES);
    }

    /// Takes off a read, however little it brought.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.work(1 + bytes / BYTES_READ);
    }

    /// Takes off what is as much work as so many empty datagrams.
    pub(crate) fn work(&mut self, amount: usize) {
        self.left = self.left.saturating_sub(amount);
    }
}

/// What became of a task's turn.
#[derive(Debug)]
pub(crate) enum Done<T> {
    /// It is over, and there may be more to do.
    Turn,
    /// All is over.
    All(T),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_datagrams_are_as_much_work_as_many_small_ones() {
        let datagrams = |bytes: usize| {
            let mut turn = Turn::new(128);
            let mut count = 0;
            while !turn.is_over() {
                turn.datagram(bytes);
                count += 1;
            }
            count
        };
        assert_eq!(datagrams(0), 128);
        assert_eq!(datagrams(1499), 128);
        assert_eq!(datagrams(1500), 64);
        assert_eq!(datagrams(65_507), 3);
    }
}
