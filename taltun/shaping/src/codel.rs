//! `CoDel` (RFC 8289): which packets of a queue that stays long are dropped or marked.

/// How much a queue may hold however long it takes: a full packet, bytes.
pub(crate) const FULL_PACKET: u32 = 1514;

/// How long packets may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delays {
    /// What is fine for good, nanoseconds.
    target: u64,
    /// For how long more is fine.
    interval: u64,
}

impl Delays {
    /// Where a full packet takes so many nanoseconds to leave.
    pub(crate) fn new(full_packet: u64) -> Self {
        // A queue can't be shorter than the packet that leaves and one behind it.
        let target = 5_000_000_u64.max(full_packet.saturating_mul(2));
        Self {
            target,
            interval: 100_000_000_u64.max(target.saturating_mul(4)),
        }
    }

    /// When to drop the next one after `count` drops.
    #[allow(clippy::cast_sign_loss, reason = "neither is negative")]
    fn after(&self, at: u64, count: u32) -> u64 {
        let wait = self.interval as f64 / f64::from(count.max(1)).sqrt();
        at.saturating_add(wait as u64)
    }
}

/// What to do with a packet at the head of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Mark,
    Drop,
}

/// The state of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Codel {
    /// When packets will have waited too long for an interval; 0 while they don't.
    above_at: u64,
    drop_at: u64,
    count: u32,
    last_count: u32,
    dropping: bool,
}

impl Codel {
    /// Decides on a packet that is taken out after `waited`, leaving `left` bytes; `capable` says
    /// whether it can be marked.
    pub(crate) fn judge(
        &mut self,
        now: u64,
        waited: u64,
        left: u32,
        capable: bool,
        delays: &Delays,
    ) -> Fate {
        let act = if capable { Fate::Mark } else { Fate::Drop };
        if !self.is_long(now, waited, left, delays) {
            self.dropping = false;
            return Fate::Pass;
        }
        if self.dropping {
            if now < self.drop_at {
                return Fate::Pass;
            }
            self.count = self.count.saturating_add(1);
            self.drop_at = delays.after(self.drop_at, self.count);
            return act;
        }
        self.dropping = true;
        // Soon after the last time: go on from about the rate that helped then.
        let gained = self.count.saturating_sub(self.last_count);
        let recent = now.saturating_sub(self.drop_at) < delays.interval.saturating_mul(16);
        self.count = if gained > 1 && recent { gained } else { 1 };
        self.last_count = self.count;
        self.drop_at = delays.after(now, self.count);
        act
    }

    /// The queue is empty.
    pub(crate) fn empty(&mut self) {
        self.above_at = 0;
        self.dropping = false;
    }

    /// Whether packets have waited too long for an interval.
    fn is_long(&mut self, now: u64, waited: u64, left: u32, delays: &Delays) -> bool {
        if waited < delays.target || left <= FULL_PACKET {
            self.above_at = 0;
            return false;
        }
        if self.above_at == 0 {
            self.above_at = now.saturating_add(delays.interval);
            return false;
        }
        now >= self.above_at
    }
}
