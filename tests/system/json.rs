//! What programs read: the JSON of `status` and `stats`. The manual's page on it is held by a
//! test of the crate; this looks at what a running tunnel fills in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::{Options, Role};
use taltun_tests::report::Stats;

use crate::support::{Case, ensure_answers, eventually, lab, take_down};

/// How far the clocks of two processes that look one after the other may be apart.
const APART: f64 = 10.0;
/// Within this a rate follows what is sent.
const SOON: Duration = Duration::from_secs(20);

pub const CASES: &[Case] = &[Case {
    name: "the JSON has a version, a time, every reason, rates and the ends of bans",
    programs: &[],
    run: json,
}];

fn json() -> Result<()> {
    let lab = lab(Options::default())?;
    let status = lab.hub.status()?;
    let stats = lab.hub.stats()?;
    ensure!((status.version, stats.version) == (1, 1));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    for timestamp in [status.timestamp, stats.timestamp] {
        ensure!((now - timestamp).abs() < APART, "{timestamp} at {now}");
    }
    ensure!(stats.interface == status.interface);
    ensure!(
        stats.drops.get("tun_write") == Some(&0),
        "{:?}",
        stats.drops
    );

    // A second with traffic has a rate, and one without has none.
    let rate = |stats: Stats| stats.rates.map(|rates| rates.traffic.rx_packets);
    let is_moving = || {
        ensure_answers(&lab.net.a, Role::Hub.v4())?;
        Ok(rate(lab.hub.stats()?).is_some_and(|rate| rate > 0))
    };
    eventually("a rate where there is traffic", SOON, is_moving)?;
    let is_still = || Ok(rate(lab.hub.stats()?) == Some(0));
    eventually("no rate where there is none", SOON, is_still)?;
    let rates = lab.hub.stats()?.rates.context("no rates any more")?;
    ensure!(rates.over_seconds > 0.5, "{rates:?}");
    ensure!(rates.drops.len() == stats.drops.len(), "{rates:?}");

    lab.hub.tell(&["ban", "198.51.100.7", "--for", "1h"])?;
    lab.hub.tell(&["ban", "198.51.100.8"])?;
    let stats = lab.hub.stats()?;
    let ban = |net| stats.bans.iter().find(|ban| ban.net == net).context(net);
    let (hour, forever) = (ban("198.51.100.7/32")?, ban("198.51.100.8/32")?);
    let lasts = hour.ends_at.context("no end")? - stats.timestamp;
    ensure!((lasts - 3600.0).abs() < APART, "ends in {lasts} s");
    ensure!(hour.seconds_left.is_some_and(|left| left <= 3600));
    ensure!((forever.ends_at, forever.seconds_left) == (None, None));
    take_down(lab)
}
