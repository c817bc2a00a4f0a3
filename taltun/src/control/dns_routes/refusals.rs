//! Addresses that aren't led into the tunnel, in the log, without filling it.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// Refusals are told no more often than this.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// The same one of the same address no more often than this.
const SAME_TOLD_EVERY: Duration = Duration::from_secs(60);

/// What was told of them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Option<Instant>,
    /// What was told then.
    last: Option<(IpAddr, String)>,
    untold: u64,
}

impl Refusals {
    /// An address isn't led, for `reason`, and so `consequence`.
    pub(super) fn tell(&mut self, address: IpAddr, consequence: &str, reason: &str, now: Instant) {
        let is_same = |(last, why): &(IpAddr, String)| *last == address && why == reason;
        let pause = if self.last.as_ref().is_some_and(is_same) {
            SAME_TOLD_EVERY
        } else {
            TOLD_EVERY
        };
        if self.told.is_some_and(|told| now - told < pause) {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.told = Some(now);
        self.last = Some((address, reason.to_owned()));
        let others = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            untold => format!(" (and {untold} more refused before)"),
        };
        warn!(
            "dns_routes: {address} isn't led into the tunnel, and {consequence}: {reason}{others}"
        );
    }
}
