//! How the tunnel is: asked once a second for all who look, and not at all while nobody does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::asked::{Reply, Report, Verb};
use super::hub::{Browser, Hub};
use crate::report::{PeerStatus, per_second};

/// A report is as good as new for so long.
const FRESH: Duration = Duration::from_millis(950);
/// Rates are told of reports that are no further apart: an older one says nothing of now.
const APART: Duration = Duration::from_secs(10);

/// The last report.
#[derive(Debug, Default)]
pub(super) struct Reports {
    last: Mutex<Option<Arc<Seen>>>,
    /// Whether something was changed since then.
    is_old: AtomicBool,
}

/// A report, and what was gained since the one before.
#[derive(Debug)]
pub(super) struct Seen {
    at: Instant,
    pub(super) report: Box<Report>,
    /// By public key; empty where there was none before.
    rates: HashMap<String, PeerRate>,
}

/// Bytes that a peer moved in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PeerRate {
    /// From the peer.
    pub(super) rx: u64,
    /// To the peer.
    pub(super) tx: u64,
}

/// Why there is no report.
#[derive(Debug)]
pub(super) enum Nothing {
    /// The browser isn't logged in.
    NoSession,
    /// The tunnel says why.
    Refused(String),
    /// The tunnel is gone.
    Gone,
}

impl Reports {
    /// Something was changed: who looks next is to see it.
    pub(super) fn forget(&self) {
        self.is_old.store(true, Ordering::Relaxed);
    }

    /// The report to show now.
    pub(super) async fn get(&self, hub: &Hub, browser: &Browser) -> Result<Arc<Seen>, Nothing> {
        // Who comes meanwhile waits here, and gets the same.
        let mut last = self.last.lock().await;
        let is_old = self.is_old.swap(false, Ordering::Relaxed);
        let fresh = |seen: &&Arc<Seen>| !is_old && seen.at.elapsed() < FRESH;
        if let Some(seen) = last.as_ref().filter(fresh) {
            return Ok(Arc::clone(seen));
        }
        let report = match hub.ask(browser, Verb::Report).await {
            Some(Reply::Report(report)) => report,
            Some(Reply::NoSession) => return Err(Nothing::NoSession),
            Some(Reply::Refused(reason)) => return Err(Nothing::Refused(reason)),
            Some(_) | None => return Err(Nothing::Gone),
        };
        let at = Instant::now();
        let before = last.as_ref().filter(|seen| seen.at.elapsed() < APART);
        let rates = before.map(|before| rates(&before.report, &report, at - before.at));
        let rates = rates.unwrap_or_default();
        let seen = Arc::new(Seen { at, report, rates });
        *last = Some(Arc::clone(&seen));
        Ok(seen)
    }
}

impl Seen {
    /// How fast a peer is, where that is known.
    pub(super) fn rate(&self, peer: &PeerStatus) -> Option<PeerRate> {
        self.rates.get(&peer.public_key).copied()
    }

    /// A report without anything before it.
    #[cfg(test)]
    pub(super) fn alone(report: Report) -> Self {
        Self {
            at: Instant::now(),
            report: Box::new(report),
            rates: HashMap::new(),
        }
    }
}

fn rates(before: &Report, now: &Report, over: Duration) -> HashMap<String, PeerRate> {
    let old = before.status.peers.iter();
    let old: HashMap<&str, &PeerStatus> = old.map(|peer| (&*peer.public_key, peer)).collect();
    let peers = now.status.peers.iter();
    let known = peers.filter_map(|peer| {
        let before = old.get(&*peer.public_key)?;
        let rate = PeerRate {
            rx: per_second(before.rx_bytes, peer.rx_bytes, over),
            tx: per_second(before.tx_bytes, peer.tx_bytes, over),
        };
        Some((peer.public_key.clone(), rate))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tokio::time::sleep;

    use super::*;
    use crate::report::schema;

    #[tokio::test(start_paused = true)]
    async fn many_who_look_cost_one_report_a_second_and_nobody_costs_none() {
        let (hub, mut questions) = Hub::new();
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                let (mut status, stats) = schema::full();
                status.peers[0].rx_bytes = number * 5000;
                let report = Report {
                    status,
                    stats,
                    moments: Vec::new(),
                };
                let (_, reply) = question.parts();
                let _ = reply.send(Reply::Report(Box::new(report)));
            }
        });
        let browser = Browser {
            session: None,
            source: "10.0.0.2".parse().unwrap(),
        };
        let reports = Arc::new(Reports::default());
        for second in 0..5 {
            let looks = (0..100).map(|_| {
                let (reports, hub, browser) = (Arc::clone(&reports), hub.clone(), browser.clone());
                tokio::spawn(async move { reports.get(&hub, &browser).await.unwrap() })
            });
            let looks: Vec<_> = looks.collect();
            for look in looks {
                let seen = look.await.unwrap();
                let rate = seen.rate(&seen.report.status.peers[0]);
                assert_eq!(rate.map(|rate| rate.rx), (second > 0).then_some(5000));
            }
            assert_eq!(asked.load(Ordering::Relaxed), second + 1);
            sleep(Duration::from_secs(1)).await;
        }
        // But for who looks after a change.
        reports.get(&hub, &browser).await.unwrap();
        reports.forget();
        reports.get(&hub, &browser).await.unwrap();
        reports.get(&hub, &browser).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 7);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 7);
        // What was long ago says nothing of now.
        let seen = reports.get(&hub, &browser).await.unwrap();
        assert_eq!(seen.rate(&seen.report.status.peers[0]), None);
    }
}
