//! Whether the hubs' clocks agree: each writes what its clock says into etcd, twice a minute, and the others compare
//! that with theirs when they hear of it.
//!
//! A client takes no handshake of a hub whose clock is behind that of the hub before, and tokens and bans end by the
//! clock. So clocks that disagree are told. Homes and records don't need them.

use std::collections::BTreeMap;

use taltun_fleet::Label;
use taltun_fleet::record::Live;

/// By how much clocks may differ, milliseconds: a write to etcd may take up to four seconds, and seems to be a clock
/// that is behind.
const MOST: i64 = 5000;

/// By how many milliseconds the clocks of the other hubs are ahead of this one's.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<Label, i64>);

impl Clocks {
    /// Takes what a hub says now.
    pub(super) fn hear(&mut self, hub: &Label, live: &Live, now: u64) {
        // One of an older version doesn't say it.
        if live.now > 0 {
            let ahead = i64::try_from(live.now).unwrap_or(i64::MAX);
            let ahead = ahead.saturating_sub_unsigned(now);
            self.0.insert(hub.clone(), ahead);
        }
    }

    /// A hub is away.
    pub(super) fn forget(&mut self, hub: &Label) {
        self.0.remove(hub);
    }

    /// By how many seconds the clock of a hub is ahead, if that is known.
    pub(super) fn ahead(&self, hub: &Label) -> Option<f64> {
        let ahead = self.0.get(hub)?;
        #[expect(clippy::cast_precision_loss, reason = "nobody needs more")]
        Some(*ahead as f64 / 1000.0)
    }

    /// What is wrong, a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let remedy =
            "set the clocks by NTP: clients take no handshake of a hub whose clock is behind";
        let by = |ahead: i64| {
            let seconds = ahead.unsigned_abs() / 1000;
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            format!("{seconds} s {side}")
        };
        let least = self.0.values().min().copied().unwrap_or_default();
        let most = self.0.values().max().copied().unwrap_or_default();
        // All others agree with each other.
        if self.0.len() > 1 && most - least <= MOST && (least > MOST || most < -MOST) {
            return vec![format!(
                "this hub's clock is {} those of the other hubs; {remedy}",
                by(least.saturating_neg())
            )];
        }
        let wrong = self.0.iter().filter(|(_, ahead)| ahead.abs() > MOST);
        wrong
            .map(|(hub, ahead)| {
                format!("the clock of {hub} is {} this hub's; {remedy}", by(*ahead))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taltun_fleet::record::Extra;

    #[test]
    fn a_clock_that_differs_is_told_of_the_hub_that_is_alone_with_it() {
        let mut clocks = Clocks::default();
        let mut hear = |hub: &str, ahead: i64| {
            let live = Live {
                taltun: String::new(),
                since: 0,
                now: 1_000_000_u64.saturating_add_signed(ahead),
                extra: Extra::new(),
            };
            clocks.hear(&hub.parse().unwrap(), &live, 1_000_000);
            clocks.problems().join("; ")
        };
        // A slow write is no wrong clock.
        assert_eq!(hear("paris", -4500), "");
        let told = hear("paris", -60_000);
        assert!(
            told.starts_with("the clock of paris is 60 s behind this hub's; set"),
            "{told}"
        );
        let told = hear("rome", 20);
        assert!(told.contains("paris") && !told.contains("rome"), "{told}");
        let told = hear("rome", -60_500);
        assert!(
            told.starts_with("this hub's clock is 60 s ahead of those of the other hubs"),
            "{told}"
        );
        assert_eq!(clocks.ahead(&"rome".parse().unwrap()), Some(-60.5));
        clocks.forget(&"rome".parse().unwrap());
        clocks.forget(&"paris".parse().unwrap());
        assert!(clocks.problems().is_empty());
    }
}
