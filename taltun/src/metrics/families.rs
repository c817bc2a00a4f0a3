//! Every metric that there is, in one table: its name, what it means, and where it comes from.
//!
//! The names of the first three are those that dashboards for WireGuard know. All counters count
//! since the tunnel's start, and go on over a reload.

use std::borrow::Cow;
use std::fmt;
use std::iter;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::seen::{Peers, Seen};
use crate::layer::Layer;
use crate::report::{
    AfXdpStatus, AuditKept, CLASSES, PathStatus, RateStatus, SocketLoad, StandingCounts,
    ThreadLoad, UsageKept, most_seconds,
};

/// A metric with all of its samples.
pub(super) struct Family {
    /// Its name; a counter's samples have `_total` behind it.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    of: fn(&Seen, &mut Samples<'_>) -> fmt::Result,
}

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    /// Counters by classes of what is counted.
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

macro_rules! families {
    ($($kind:ident $name:literal, $help:literal, |$seen:ident, $to:ident| $of:expr;)*) => {
        /// All of them.
        pub(super) static FAMILIES: &[Family] = &[$(Family {
            name: $name,
            help: $help,
            kind: $kind,
            of: |$seen, $to| $of,
        }),*];
    };
}

families! {
    Counter "wireguard_sent_bytes", "Bytes sent to the peer, handshakes and keepalives included",
        |seen, to| counters(to, &seen.peers.tx_bytes);
    Counter "wireguard_received_bytes",
        "Bytes received from the peer, handshakes and keepalives included",
        |seen, to| counters(to, &seen.peers.rx_bytes);
    Gauge "wireguard_latest_handshake_seconds",
        "When the last handshake with the peer was, in Unix seconds; 0 before the first",
        |seen, to| {
            let mut all = seen.peers.latest_handshake.iter().enumerate();
            all.try_for_each(|(peer, at)| to.add_of(peer, &[], *at as f64))
        };
    Counter "taltun_handshakes", "Handshakes completed with the peer",
        |seen, to| counters(to, &seen.peers.handshakes);
    Gauge "taltun_peer_problem", "1 while something keeps the peer from a handshake, by cause",
        |seen, to| problems(seen, to);
    Gauge "taltun_peer_quota_bytes", "Bytes that the peer may move in its period, where it has a quota",
        |seen, to| quotas(seen, to, |[bytes, _]| bytes);
    Gauge "taltun_peer_quota_used_bytes", "Bytes of these that it has moved in this period",
        |seen, to| quotas(seen, to, |[_, used]| used);
    Gauge "taltun_peer_refused", "1 while the peer is refused for its quota or its last day, by reason",
        |seen, to| refused(seen, to);
    Gauge "taltun_peer_rate_bits_per_second",
        "How fast the peer may be, from it (`up`) and to it (`down`), where it has a rate",
        |seen, to| rates(seen, to, |rate| rate.bits_per_second.map(|bits| bits as f64));
    Gauge "taltun_peer_waiting_packets", "Packets that wait for their turn by a rate or the uplink",
        |seen, to| rates(seen, to, |rate| Some(rate.waiting_packets as f64));
    Gauge "taltun_peer_waiting_bytes", "Their bytes",
        |seen, to| rates(seen, to, |rate| Some(rate.waiting_bytes as f64));
    Counter "taltun_peer_shaped_packets",
        "Packets dropped since the peer is limited, so that who sends them slows down",
        |seen, to| rates(seen, to, |rate| Some(rate.dropped_packets));
    Gauge "taltun_uplink_bits_per_second", "How fast all that leaves for peers may go together",
        |seen, to| {
            let mut uplink = seen.status.uplink_bits_per_second.iter();
            uplink.try_for_each(|bits| to.add(&[], *bits as f64))
        };
    Gauge "taltun_peer_path", "1 for the state of each path to the peer",
        |seen, to| path_states(seen, to);
    Gauge "taltun_peer_path_delay_seconds", "Seconds from a probe of the path to its answer, smoothed",
        |seen, to| paths(seen, to, |path| path.delay_seconds);
    Gauge "taltun_peer_path_loss_ratio", "Of the last 20 probes of the path, the part that was lost",
        |seen, to| paths(seen, to, |path| Some(f64::from(path.loss_percent?) / 100.0));
    Gauge "taltun_usage_kept", "1 while what peers move is kept on disk, 0 while only in memory",
        |seen, to| {
            let usage = seen.status.usage.iter();
            let kept = |kept| if kept == UsageKept::Disk { 1.0 } else { 0.0 };
            usage.map(|usage| kept(usage.kept)).try_for_each(|kept: f64| to.add(&[], kept))
        };
    Gauge "taltun_audit_kept", "1 while changes are written down on disk, 0 while they can't be",
        |seen, to| {
            let audit = seen.status.audit.iter().filter(|audit| audit.kept != AuditKept::Off);
            let kept = |kept| if kept == AuditKept::Disk { 1.0 } else { 0.0 };
            audit.map(|audit| kept(audit.kept)).try_for_each(|kept: f64| to.add(&[], kept))
        };
    Counter "taltun_audit_lost", "Changes that the trail had no room for",
        |seen, to| {
            let mut audit = seen.status.audit.iter();
            audit.try_for_each(|audit| to.add(&[], audit.lost))
        };
    Gauge "taltun_privileged_process_answers",
        "1 while the process answers that does what takes rights, 0 while it doesn't or isn't there",
        |seen, to| {
            let is_well = seen.status.rights.privileged_problem.is_none();
            to.add(&[], if is_well { 1.0 } else { 0.0 })
        };
    Gauge "taltun_peers", "Peers that there are",
        |seen, to| to.add(&[], seen.peers.count() as f64);
    Gauge "taltun_peers_with_session", "Peers whose last handshake is less than 180 s ago",
        |seen, to| to.add(&[], seen.peers.with_session as f64);
    Gauge "taltun_start_time_seconds", "When the tunnel started, in Unix seconds",
        |seen, to| to.add(&[], seen.status.started_at.seconds());
    Gauge "taltun_time_seconds", "This host's clock, in Unix seconds",
        |seen, to| to.add(&[], seen.status.timestamp.seconds());
    Gauge "taltun_info", "Always 1; the labels tell the version and how the tunnel works",
        |seen, to| info(seen, to);
    Counter "taltun_inner_packets",
        "Packets inside the tunnel: received into this host, sent from it, relayed between peers",
        |seen, to| {
            let traffic = &seen.stats.traffic;
            directions(to, [traffic.rx_packets, traffic.tx_packets, traffic.relayed_packets])
        };
    Counter "taltun_inner_bytes", "Their bytes",
        |seen, to| {
            let traffic = &seen.stats.traffic;
            directions(to, [traffic.rx_bytes, traffic.tx_bytes, traffic.relayed_bytes])
        };
    Counter "taltun_drops", "Packets dropped, by reason",
        |seen, to| {
            let mut drops = seen.stats.drops.iter();
            drops.try_for_each(|(reason, count)| to.add(&[("reason", reason.label())], count))
        };
    Counter "taltun_fallbacks", "What didn't go the best way; no packet is lost by it",
        |seen, to| {
            let fallbacks = &seen.stats.fallbacks;
            to.add(&[("kind", "udp_gso")], fallbacks.udp_gso)?;
            to.add(&[("kind", "tun_offload")], fallbacks.tun_offload)?;
            to.add(&[("kind", "strayed")], fallbacks.strayed)
        };
    Counter "taltun_thread_cpu_seconds", "Seconds that threads of a name ran on a processor",
        |seen, to| threads(seen, to, |thread| thread.cpu_seconds);
    Counter "taltun_thread_waited_seconds",
        "Seconds that they were ready and waited for a processor",
        |seen, to| threads(seen, to, |thread| thread.waited_seconds);
    Gauge "taltun_socket_queue_bytes",
        "Memory of the datagrams that wait in the socket of a worker",
        |seen, to| sockets(seen, to, |socket| socket.queued_bytes as f64);
    Counter "taltun_socket_queue_drops", "Datagrams that found no room in the socket of a worker",
        |seen, to| sockets(seen, to, |socket| socket.drops);
    Counter "taltun_tunnel_queue_drops",
        "Packets of this host that found no room in the queue of the tunnel interface",
        |seen, to| seen.stats.load.tunnel_queue_drops.iter().try_for_each(|it| to.add(&[], *it));
    Counter "taltun_parallel_batches", "Batches that more than one thread sealed or opened",
        |seen, to| to.add(&[], seen.stats.parallel_batches);
    Histogram "taltun_standing_seconds",
        "How long packets stood in the tunnel's process: from being read to being written",
        |seen, to| {
            let mut ways = seen.stats.standing.named().into_iter();
            ways.try_for_each(|(way, counts)| to.add(&[("way", way)], counts))
        };
    Gauge "taltun_xdp", "1 for the mode in which the XDP program runs on an interface",
        |seen, to| {
            let mut all = seen.status.xdp.iter();
            all.try_for_each(|xdp| {
                to.add(&[("underlay", &xdp.interface), ("mode", &xdp.mode.to_string())], 1.0)
            })
        };
    Gauge "taltun_tc", "1 for how the TC programs hang on the tunnel interface",
        |seen, to| to.add(&[("mode", &seen.status.tc.mode.to_string())], 1.0);
    Gauge "taltun_steering", "1 for how datagrams find their worker",
        |seen, to| to.add(&[("mode", &seen.status.steering.mode.to_string())], 1.0);
    Counter "taltun_af_xdp_frames", "Frames that went through the AF_XDP socket of a queue",
        |seen, to| lanes(seen, to, |lane| [
            (Some(("direction", "received")), lane.received),
            (Some(("direction", "sent")), lane.sent),
        ]);
    Counter "taltun_af_xdp_lost_frames", "Frames that the AF_XDP socket of a queue lost, by reason",
        |seen, to| lanes(seen, to, |lane| [
            (Some(("reason", "ring_full")), lane.ring_full),
            (Some(("reason", "no_memory")), lane.dropped),
        ]);
    Counter "taltun_af_xdp_fill_empty", "How often the kernel found no free memory for a queue",
        |seen, to| lanes(seen, to, |lane| [(None, lane.fill_empty)]);
    Gauge "taltun_sources", "Senders that are counted one by one, at most 1024",
        |seen, to| layers(to, seen.sources);
    Gauge "taltun_denied_networks", "Networks that are denied, by the configuration or a ban",
        |seen, to| layers(to, seen.denied);
    Gauge "taltun_unknown_keys", "Unknown keys that tried lately, at most 16",
        |seen, to| to.add(&[], seen.status.unknown_keys.len() as f64);
    Gauge "taltun_kill_switch", "1 where nothing leaves but through the tunnel",
        |seen, to| {
            let host = seen.status.host.as_ref();
            host.map_or(Ok(()), |host| to.add(&[], f64::from(u8::from(host.kill_switch))))
        };
    Counter "taltun_host_put_back", "What others took away of the host's set-up and was put back",
        |seen, to| {
            let mut all = seen.status.host.iter().flat_map(|host| &host.put_back);
            all.try_for_each(|it| to.add(&[("what", &it.what.to_string())], it.times))
        };
    Gauge "taltun_host_missing", "1 for what others took away and can't be put back",
        |seen, to| {
            let mut all = seen.status.host.iter().flat_map(|host| &host.missing);
            all.try_for_each(|it| to.add(&[("what", &it.what.to_string())], 1.0))
        };
    Gauge "taltun_udpgw_up", "1 while the UDP gateway runs",
        |seen, to| {
            let gateway = seen.status.udpgw.as_ref();
            gateway.map_or(Ok(()), |it| to.add(&[], f64::from(u8::from(it.ended.is_none()))))
        };
    Gauge "taltun_udpgw_clients", "Clients of the UDP gateway",
        |seen, to| seen.status.udpgw.iter().try_for_each(|it| to.add(&[], it.clients as f64));
    Gauge "taltun_udpgw_max_clients", "How many clients of the UDP gateway there may be",
        |seen, to| seen.status.udpgw.iter().try_for_each(|it| to.add(&[], it.max_clients as f64));
    Gauge "taltun_udpgw_connections", "UDP connections of these clients",
        |seen, to| seen.status.udpgw.iter().try_for_each(|it| to.add(&[], it.connections as f64));
}

/// The samples of one metric on their way out.
pub(super) struct Samples<'a> {
    encoder: MetricEncoder<'a>,
    interface: &'a str,
    /// The labels of each peer, as [`labels_of`] puts them together.
    peers: &'a [String],
}

impl Samples<'_> {
    /// One sample, with labels beside that of the tunnel's interface.
    fn add(&mut self, labels: &[(&str, &str)], value: impl Value) -> fmt::Result {
        self.write(escape(self.interface), labels, value)
    }

    /// One sample of the peer at this place, with labels beside its own.
    fn add_of(&mut self, peer: usize, labels: &[(&str, &str)], value: impl Value) -> fmt::Result {
        match self.peers.get(peer) {
            Some(own) => self.write(own.into(), labels, value),
            None => Ok(()),
        }
    }

    fn write(
        &mut self,
        interface: Cow<'_, str>,
        labels: &[(&str, &str)],
        value: impl Value,
    ) -> fmt::Result {
        let own = ("interface", interface);
        if labels.is_empty() {
            // Most are such, and this takes no memory.
            return value.encode(self.encoder.encode_family(&[own])?);
        }
        let more = labels.iter().map(|(name, value)| (*name, escape(value)));
        let all: Vec<(&str, Cow<'_, str>)> = iter::once(own).chain(more).collect();
        value.encode(self.encoder.encode_family(&all)?)
    }
}

/// The labels of each peer, as dashboards for WireGuard know them, behind that of the interface. The
/// encoder writes the value of a label as it is: so the labels that all samples of a peer have are
/// put together once, as if they were the value of the first.
fn labels_of(interface: &str, peers: &Peers) -> Vec<String> {
    let interface = escape(interface);
    let all = peers.public_key.iter().zip(&peers.allowed_ips);
    let all = all.zip(&peers.name).map(|((key, nets), name)| {
        let (key, nets, name) = (escape(key), escape(nets), escape(name));
        format!("{interface}\",public_key=\"{key}\",allowed_ips=\"{nets}\",friendly_name=\"{name}")
    });
    all.collect()
}

/// A number as its metric's kind has it.
trait Value {
    fn encode(self, sample: MetricEncoder<'_>) -> fmt::Result;
}

/// A counter's.
impl Value for u64 {
    fn encode(self, mut sample: MetricEncoder<'_>) -> fmt::Result {
        sample.encode_counter::<NoLabelSet, _, f64>(&self, None)
    }
}

/// A counter's of time.
struct Seconds(f64);

impl Value for Seconds {
    fn encode(self, mut sample: MetricEncoder<'_>) -> fmt::Result {
        sample.encode_counter::<NoLabelSet, _, f64>(&self.0, None)
    }
}

/// A gauge's.
impl Value for f64 {
    fn encode(self, mut sample: MetricEncoder<'_>) -> fmt::Result {
        sample.encode_gauge(&self)
    }
}

/// A histogram's.
impl Value for &StandingCounts {
    fn encode(self, mut sample: MetricEncoder<'_>) -> fmt::Result {
        let last = CLASSES - 1;
        let most = |class| {
            if class == last {
                // As the encoder calls the class that has all others.
                f64::MAX
            } else {
                most_seconds(class)
            }
        };
        let buckets: [(f64, u64); CLASSES] =
            std::array::from_fn(|class| (most(class), self.packets[class]));
        let count = self.packets.iter().sum();
        sample.encode_histogram::<NoLabelSet>(self.total_seconds, count, &buckets, None)
    }
}

/// What the encoder reads at each scrape.
#[derive(Debug)]
pub(super) struct Exposed(pub Arc<Seen>);

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let peers = labels_of(&self.0.status.interface, &self.0.peers);
        for family in FAMILIES {
            let kind = match family.kind {
                Counter => MetricType::Counter,
                Gauge => MetricType::Gauge,
                Histogram => MetricType::Histogram,
            };
            let mut samples = Samples {
                encoder: encoder.encode_descriptor(family.name, family.help, None, kind)?,
                interface: &self.0.status.interface,
                peers: &peers,
            };
            (family.of)(&self.0, &mut samples)?;
        }
        self.gateway_counters(&mut encoder)
    }
}

impl Exposed {
    /// The gateway's counters, whose names are its own: a metric each.
    fn gateway_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, count) in self.0.stats.udpgw.iter().flat_map(|it| &it.counters) {
            let (name, help) = (
                format!("taltun_udpgw_{name}"),
                format!("{name} of the UDP gateway's counters"),
            );
            let mut samples = Samples {
                encoder: encoder.encode_descriptor(&name, &help, None, MetricType::Counter)?,
                interface: &self.0.status.interface,
                peers: &[],
            };
            samples.add(&[], *count)?;
        }
        Ok(())
    }
}

/// A sample for each peer, of a counter.
fn counters(to: &mut Samples<'_>, counts: &[u64]) -> fmt::Result {
    let mut counts = counts.iter().enumerate();
    counts.try_for_each(|(peer, count)| to.add_of(peer, &[], *count))
}

fn problems(seen: &Seen, to: &mut Samples<'_>) -> fmt::Result {
    let mut all = seen.peers.problems.iter();
    all.try_for_each(|(peer, cause)| to.add_of(*peer, &[("cause", &cause.to_string())], 1.0))
}

/// A sample for each path to a peer, where there is a choice.
fn paths(
    seen: &Seen,
    to: &mut Samples<'_>,
    value: impl Fn(&PathStatus) -> Option<f64>,
) -> fmt::Result {
    each_path(seen, |peer, path, number| {
        value(path).map_or(Ok(()), |value| to.add_of(peer, &[("path", number)], value))
    })
}

fn path_states(seen: &Seen, to: &mut Samples<'_>) -> fmt::Result {
    each_path(seen, |peer, path, number| {
        let labels = [("path", number), ("state", path.state.word())];
        to.add_of(peer, &labels, 1.0)
    })
}

/// By its place in the list, as its addresses may come and go.
fn each_path(
    seen: &Seen,
    mut sample: impl FnMut(usize, &PathStatus, &str) -> fmt::Result,
) -> fmt::Result {
    for (peer, paths) in &seen.peers.paths {
        for (at, path) in paths.iter().enumerate() {
            sample(*peer, path, &(at + 1).to_string())?;
        }
    }
    Ok(())
}

/// A sample for each peer with a quota.
fn quotas(seen: &Seen, to: &mut Samples<'_>, value: impl Fn([u64; 2]) -> u64) -> fmt::Result {
    let mut all = seen.peers.quotas.iter();
    all.try_for_each(|(peer, quota)| to.add_of(*peer, &[], value(*quota) as f64))
}

/// A sample for each direction in which a peer is limited.
fn rates<V: Value>(
    seen: &Seen,
    to: &mut Samples<'_>,
    value: impl Fn(&RateStatus) -> Option<V>,
) -> fmt::Result {
    for (peer, rates) in &seen.peers.rates {
        for (direction, rate) in ["up", "down"].into_iter().zip(rates) {
            if let Some(value) = rate.as_ref().and_then(&value) {
                to.add_of(*peer, &[("direction", direction)], value)?;
            }
        }
    }
    Ok(())
}

fn refused(seen: &Seen, to: &mut Samples<'_>) -> fmt::Result {
    let mut all = seen.peers.refused.iter();
    all.try_for_each(|(peer, reason)| to.add_of(*peer, &[("reason", reason.word())], 1.0))
}

fn info(seen: &Seen, to: &mut Samples<'_>) -> fmt::Result {
    let status = &seen.status;
    let (mode, aead) = (status.mode.to_string(), status.aead.to_string());
    to.add(
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("mode", &mode),
            ("aead", &aead),
            ("public_key", &status.public_key),
        ],
        1.0,
    )
}

fn threads(seen: &Seen, to: &mut Samples<'_>, seconds: impl Fn(&ThreadLoad) -> f64) -> fmt::Result {
    let mut all = seen.stats.load.threads.iter();
    all.try_for_each(|it| to.add(&[("thread", &it.name)], Seconds(seconds(it))))
}

fn sockets<V: Value>(
    seen: &Seen,
    to: &mut Samples<'_>,
    value: impl Fn(&SocketLoad) -> V,
) -> fmt::Result {
    let mut all = seen.stats.load.sockets.iter();
    all.try_for_each(|it| to.add(&[("worker", &it.worker.to_string())], value(it)))
}

fn directions(to: &mut Samples<'_>, counts: [u64; 3]) -> fmt::Result {
    let words = ["received", "sent", "relayed"];
    let mut all = words.into_iter().zip(counts);
    all.try_for_each(|(word, count)| to.add(&[("direction", word)], count))
}

fn layers(to: &mut Samples<'_>, [outer, inner]: [usize; 2]) -> fmt::Result {
    let all = [(Layer::Outer, outer), (Layer::Inner, inner)];
    all.into_iter().try_for_each(|(layer, count)| {
        let layer = if layer == Layer::Inner {
            "inner"
        } else {
            "outer"
        };
        to.add(&[("layer", layer)], count as f64)
    })
}

/// What the AF_XDP socket of each queue counted, each with a label.
fn lanes<const N: usize>(
    seen: &Seen,
    to: &mut Samples<'_>,
    counted: impl Fn(&AfXdpStatus) -> [(Option<(&'static str, &'static str)>, u64); N],
) -> fmt::Result {
    for lane in &seen.status.af_xdp {
        let Some(queue) = lane.queue else { continue };
        let queue = queue.to_string();
        for (label, count) in counted(lane) {
            let mut labels = vec![("underlay", lane.interface.as_str()), ("queue", &queue)];
            labels.extend(label);
            to.add(&labels, count)?;
        }
    }
    Ok(())
}

/// As both formats want the text of a label: the encoder leaves that to us.
fn escape(value: &str) -> Cow<'_, str> {
    // There are many, so bytes are looked at and not characters.
    let is_special = |byte| matches!(byte, b'\\' | b'"' | b'\n');
    if !value.bytes().any(is_special) {
        return value.into();
    }
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    escaped.replace('\n', "\\n").into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::metrics::accept::Format;
    use crate::metrics::seen::example;
    use crate::metrics::texts::expose;

    /// A hub with one of everything, whose peer has a name that needs care.
    fn seen() -> Arc<Seen> {
        let mut seen = example::seen();
        seen.status.interface = "hub".into();
        seen.peers.name[0] = "a\\b\"c".into();
        Arc::new(seen)
    }

    const PEER: &str = "{interface=\"hub\",public_key=\"KEY=\",allowed_ips=\"10.0.0.2/32,fd00::/64\",\
                        friendly_name=\"a\\\\b\\\"c\"}";

    #[test]
    fn the_names_that_dashboards_know_are_there_in_both_formats() {
        let classic = expose(seen(), Format::Classic, 0);
        let open = expose(seen(), Format::OpenMetrics, 0);
        for line in [
            format!("wireguard_sent_bytes_total{PEER} 1099511627776"),
            format!("wireguard_latest_handshake_seconds{PEER} 1795909550.0"),
            "taltun_drops_total{interface=\"hub\",reason=\"mac1\"} 0".into(),
            "taltun_start_time_seconds{interface=\"hub\"} 1795909552.125".into(),
            "taltun_udpgw_to_udp_total{interface=\"hub\"} 1".into(),
            format!(
                "taltun_peer_path{},path=\"1\",state=\"used\"}} 1.0",
                &PEER[..PEER.len() - 1]
            ),
            format!(
                "taltun_peer_path_delay_seconds{},path=\"1\"}} 1.5",
                &PEER[..PEER.len() - 1]
            ),
            format!(
                "taltun_peer_waiting_bytes{},direction=\"up\"}} 1.0",
                &PEER[..PEER.len() - 1]
            ),
            format!(
                "taltun_peer_shaped_packets_total{},direction=\"down\"}} 1",
                &PEER[..PEER.len() - 1]
            ),
            format!(
                "taltun_peer_path_loss_ratio{},path=\"1\"}} 0.01",
                &PEER[..PEER.len() - 1]
            ),
        ] {
            assert!(classic.lines().any(|it| it == line), "{line} in {classic}");
            assert!(open.lines().any(|it| it == line), "{line} in {open}");
        }
        assert!(classic.contains("# TYPE wireguard_sent_bytes_total counter\n"));
        assert!(open.contains("# TYPE wireguard_sent_bytes counter\n"));
        assert!(open.ends_with("# EOF\n") && !classic.contains("# EOF"));
    }

    #[test]
    fn each_metric_has_a_sample_where_there_is_all() {
        let text = expose(seen(), Format::Classic, 0);
        for family in FAMILIES {
            let (name, of) = (full_name(family), format!("{}{{", full_name(family)));
            assert!(
                text.lines().any(|line| line.starts_with(&of)),
                "{name} in {text}"
            );
        }
        let names: std::collections::BTreeSet<&str> = FAMILIES.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), FAMILIES.len(), "a name twice");
    }

    #[test]
    fn the_manual_has_each_metric() {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual");
        let read = |page: &str| std::fs::read_to_string(manual.join(page)).unwrap();
        let (english, spanish) = (read("metrics.md"), read("es/metrics.md"));
        for family in FAMILIES {
            let name = full_name(family);
            let row = format!("| `{name}` | {} |", family.help);
            assert!(english.contains(&row), "{row}");
            assert!(spanish.contains(&format!("| `{name}` |")), "{name}");
        }
        let rows = |page: &str| {
            let metrics = ["| `wireguard_", "| `taltun_"];
            page.lines()
                .filter(|line| metrics.iter().any(|it| line.starts_with(it)))
                .count()
        };
        // The last row is that of the gateway's counters.
        let all = FAMILIES.len() + 1;
        assert_eq!((rows(&english), rows(&spanish)), (all, all));
        for page in [english, spanish] {
            assert!(page.contains("| `taltun_udpgw_COUNTER_total` |"), "{page}");
        }
    }

    /// What looks like a metric of ours in a file of `dist`.
    fn named(file: &str) -> std::collections::BTreeSet<String> {
        let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
        let text = std::fs::read_to_string(dist.join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words.filter(|it| it.starts_with("taltun_") || it.starts_with("wireguard_"));
        ours.map(str::to_owned).collect()
    }

    #[test]
    fn each_metric_of_the_dashboard_and_the_alerts_is_there() {
        let text = expose(seen(), Format::Classic, 0);
        let counters = taltun_udpgw::Snapshot::default();
        let of_gateway: Vec<String> = counters
            .named()
            .map(|(name, _)| format!("taltun_udpgw_{name}_total"))
            .collect();
        for (file, least) in [("grafana-dashboard.json", 20), ("alerts.yml", 10)] {
            let named = named(file);
            assert!(named.len() >= least, "{file} has {named:?}");
            for name in named {
                let is_there = text.contains(&format!("\n{name}{{")) || of_gateway.contains(&name);
                assert!(is_there, "{file}: there is no {name}");
            }
        }
        let dashboard = include_str!("../../dist/grafana-dashboard.json");
        let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        assert!(dashboard["panels"].as_array().unwrap().len() >= 12);
    }

    /// As its samples have it.
    fn full_name(family: &Family) -> String {
        match family.kind {
            Counter => format!("{}_total", family.name),
            Gauge => family.name.to_owned(),
            Histogram => format!("{}_bucket", family.name),
        }
    }
}
