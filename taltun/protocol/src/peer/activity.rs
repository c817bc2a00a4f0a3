//! When packets of a peer came and went, and how many: what timers and people ask for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::time::Time;

/// Points in time and byte counts, in nanoseconds of [`Time`], zero for "never".
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// First data sent since anything authenticated was received.
    unanswered_since: AtomicU64,
    /// First data received since anything authenticated was sent.
    unacknowledged_since: AtomicU64,
    /// Last authenticated packet either way.
    last_traversal: AtomicU64,
    /// Last packet that came, empty or not.
    last_received: AtomicU64,
    /// Last packet that wasn't empty, either way.
    last_data: AtomicU64,
    /// The controller wants to hear of the next that isn't empty.
    awaits_data: AtomicBool,
    pub(super) last_handshake: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) rx_bytes: AtomicU64,
    /// Those of them that are handshake messages.
    pub(super) rx_handshake_bytes: AtomicU64,
    pub(super) tx_bytes: AtomicU64,
    pub(super) rx_packets: AtomicU64,
    pub(super) tx_packets: AtomicU64,
}

/// Authenticated messages: how many, and how long together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    /// One message.
    pub(crate) fn one(bytes: u64) -> Self {
        Self { packets: 1, bytes }
    }

    /// One more message of so many bytes.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes += bytes;
    }
}

impl Activity {
    /// Authenticated messages were sent.
    pub(crate) fn sent(&self, now: Time, amount: Amount, data: bool) {
        self.count_sent(amount);
        self.last_traversal.store(now.as_nanos(), Ordering::Relaxed);
        self.unacknowledged_since.store(0, Ordering::Relaxed);
        if data {
            self.last_data.store(now.as_nanos(), Ordering::Relaxed);
            start(&self.unanswered_since, now);
        }
    }

    /// Packets were received.
    pub(crate) fn received(&self, now: Time, amount: Amount, data: bool) {
        self.heard(now, amount);
        self.last_received.store(now.as_nanos(), Ordering::Relaxed);
        if data {
            self.last_data.store(now.as_nanos(), Ordering::Relaxed);
            start(&self.unacknowledged_since, now);
        }
    }

    /// The controller wants to hear of the next data. It may miss what passes at this very moment.
    pub(crate) fn await_data(&self) {
        self.awaits_data.store(true, Ordering::Relaxed);
    }

    /// Data has passed; whether the controller waited for it.
    pub(crate) fn was_awaited(&self) -> bool {
        // Read first: in a busy flow nobody does.
        self.awaits_data.load(Ordering::Relaxed) && self.awaits_data.swap(false, Ordering::Relaxed)
    }

    /// A control message of `bytes` was sent: no timer counts it.
    pub(crate) fn sent_control(&self, bytes: u64) {
        self.count_sent(Amount::one(bytes));
    }

    /// A control message of `bytes` was received: no timer counts it.
    pub(crate) fn received_control(&self, bytes: u64) {
        self.count_received(Amount::one(bytes));
    }

    fn count_sent(&self, amount: Amount) {
        self.tx_bytes.fetch_add(amount.bytes, Ordering::Relaxed);
        self.tx_packets.fetch_add(amount.packets, Ordering::Relaxed);
    }

    fn count_received(&self, amount: Amount) {
        self.rx_bytes.fetch_add(amount.bytes, Ordering::Relaxed);
        self.rx_packets.fetch_add(amount.packets, Ordering::Relaxed);
    }

    /// An authenticated handshake message of `bytes` was received.
    pub(crate) fn received_handshake(&self, now: Time, bytes: u64) {
        self.rx_handshake_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.heard(now, Amount::one(bytes));
    }

    /// Something authenticated was received.
    fn heard(&self, now: Time, amount: Amount) {
        self.count_received(amount);
        self.last_traversal.store(now.as_nanos(), Ordering::Relaxed);
        self.unanswered_since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn unanswered_since(&self) -> Option<Time> {
        read_time(&self.unanswered_since)
    }

    pub(crate) fn forget_unanswered(&self) {
        self.unanswered_since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn unacknowledged_since(&self) -> Option<Time> {
        read_time(&self.unacknowledged_since)
    }

    pub(crate) fn forget_unacknowledged(&self) {
        self.unacknowledged_since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn last_traversal(&self) -> Option<Time> {
        read_time(&self.last_traversal)
    }

    pub(crate) fn last_received(&self) -> Option<Time> {
        read_time(&self.last_received)
    }

    pub(crate) fn last_data(&self) -> Option<Time> {
        read_time(&self.last_data)
    }

    pub(crate) fn handshake_completed(&self, now: Time) {
        self.last_handshake.store(now.as_nanos(), Ordering::Relaxed);
        self.handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// The last handshake tells nothing any more of whether the peer is there.
    pub(crate) fn forget_handshake(&self) {
        self.last_handshake.store(0, Ordering::Relaxed);
    }
}

fn start(since: &AtomicU64, now: Time) {
    // Read first: in a busy flow it is nearly always set already.
    if since.load(Ordering::Relaxed) == 0 {
        let _ = since.compare_exchange(0, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed);
    }
}

pub(super) fn read_time(time: &AtomicU64) -> Option<Time> {
    match time.load(Ordering::Relaxed) {
        0 => None,
        nanos => Some(Time::from_nanos(nanos)),
    }
}
