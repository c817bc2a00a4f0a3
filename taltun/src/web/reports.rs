//! How the tunnel is: asked once a second for all who look, and not at all while nobody does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::asked::{Reply, Report, Verb};
use super::hub::{Browser, Hub, Nothing};
use crate::layer::Layer;
use crate::report::{Source, Stats, per_second};

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
    /// By layer and address; empty where there was no report before.
    sources: HashMap<(Layer, IpAddr), SourceRate>,
}

/// What a source sends in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SourceRate {
    /// Packets.
    pub(super) packets: u64,
    /// Those that are dropped.
    pub(super) drops: u64,
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
        let Reply::Report(report) = hub.ask(browser, Verb::Report).await? else {
            return Err(Nothing::Gone);
        };
        let at = Instant::now();
        let before = last.as_ref().filter(|seen| seen.at.elapsed() < APART);
        let sources =
            before.map(|before| rates(&before.report.stats, &report.stats, at - before.at));
        let seen = Arc::new(Seen {
            at,
            report,
            sources: sources.unwrap_or_default(),
        });
        *last = Some(Arc::clone(&seen));
        Ok(seen)
    }
}

impl Seen {
    /// How much a source sends, where that is known.
    pub(super) fn source(&self, layer: Layer, address: IpAddr) -> Option<SourceRate> {
        self.sources.get(&(layer, address)).copied()
    }

    /// A report without anything before it.
    #[cfg(test)]
    pub(super) fn alone(report: Report) -> Self {
        Self {
            at: Instant::now(),
            report: Box::new(report),
            sources: HashMap::new(),
        }
    }
}

/// The sources of a layer.
pub(super) fn of_layer(stats: &Stats, layer: Layer) -> &[Source] {
    match layer {
        Layer::Outer => &stats.sources,
        Layer::Inner => &stats.sources_inner,
    }
}

fn rates(before: &Stats, now: &Stats, over: Duration) -> HashMap<(Layer, IpAddr), SourceRate> {
    let mut known = HashMap::new();
    for layer in [Layer::Outer, Layer::Inner] {
        let old = of_layer(before, layer).iter();
        let old: HashMap<IpAddr, &Source> = old.map(|source| (source.addr, source)).collect();
        for source in of_layer(now, layer) {
            let Some(before) = old.get(&source.addr) else {
                continue;
            };
            let rate = SourceRate {
                packets: per_second(before.packets, source.packets, over),
                drops: per_second(before.drops, source.drops, over),
            };
            known.insert((layer, source.addr), rate);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tokio::time::sleep;

    use super::*;
    use crate::report::schema;

    fn rate_of(seen: &Seen) -> Option<u64> {
        let source = &seen.report.stats.sources[0];
        let rate = seen.source(Layer::Outer, source.addr)?;
        Some(rate.packets)
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_look_cost_one_report_a_second_and_nobody_costs_none() {
        let (hub, mut questions) = Hub::new();
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                let (status, mut stats) = schema::full();
                stats.sources[0].packets = number * 5000;
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
                assert_eq!(rate_of(&seen), (second > 0).then_some(5000));
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
        assert_eq!(rate_of(&seen), None);
    }
}
