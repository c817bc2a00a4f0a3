//! What waits of a peer, for who wants to see it.

/// The queues of a peer in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queued {
    /// Packets that wait.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were dropped since the peer has a limit.
    pub dropped: u64,
}
