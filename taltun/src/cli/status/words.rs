//! What of a tunnel is told in one line each, in the short form of `status` and in the long one.

use std::fmt::Write;

use crate::cli::human;
use crate::report::{
    AfXdpStatus, AuditStatus, ForwardStatus, ForwardedBy, MemoryStatus, NameAround, PacketThreads,
    PolicyStatus, PortRangeStatus, PriorityStatus, ProcessRights, RightsStatus, SourceSeen,
    SparseQueueStatus, Status, Stood, UdpgwStatus, Ways,
};

pub(super) fn af_xdp(queue: &AfXdpStatus) -> String {
    let mut text = String::new();
    if !queue.interface.is_empty() {
        text = format!("{}: ", queue.interface);
    }
    if let Some(number) = queue.queue {
        text = format!("{} queue {number}: ", queue.interface);
    }
    let _ = write!(text, "{} ({})", queue.mode, queue.reason);
    if queue.received > 0 {
        let received = human::count(queue.received);
        let _ = write!(
            text,
            ", {received} frames in, {} out",
            human::count(queue.sent)
        );
    }
    let lost = queue.ring_full + queue.dropped;
    if lost > 0 {
        let _ = write!(text, ", {} lost", human::count(lost));
    }
    text
}

pub(super) fn sparse_queue(queue: &SparseQueueStatus) -> String {
    let is_on = if queue.on { "on" } else { "off" };
    format!("{is_on} ({})", queue.reason)
}

pub(super) fn priority(priority: &PriorityStatus) -> String {
    let PriorityStatus {
        wanted,
        mode,
        reason,
        demotions,
    } = priority;
    let mut text = mode.to_string();
    if mode != wanted {
        let _ = write!(text, " instead of {wanted}");
    }
    let _ = write!(text, " ({reason})");
    if *demotions > 0 {
        let times = human::counted(*demotions, "time");
        let _ = write!(text, ", lost realtime {times}");
    }
    text
}

/// How long packets stood by each way that they took; `None` if there were none.
pub(super) fn standing(standing: &Ways<Option<Stood>>) -> Option<String> {
    let Ways {
        tun_to_udp,
        udp_to_tun,
        udp_to_udp,
    } = standing;
    let ways = [
        ("to peers", tun_to_udp),
        ("from peers", udp_to_tun),
        ("relayed", udp_to_udp),
    ];
    let told = ways.into_iter().filter_map(|(way, stood)| {
        let stood = stood.as_ref()?;
        let (median, p99) = (
            short_span(stood.median_seconds),
            short_span(stood.p99_seconds),
        );
        Some(format!("{way} {median} (99 %: {p99})"))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| format!("at most {} in the last minute", told.join(", ")))
}

/// A duration of a class, in the unit that it is some of.
fn short_span(seconds: f64) -> String {
    let micros = seconds * 1e6;
    if micros < 1000.0 {
        format!("{micros:.0} µs")
    } else if micros < 1e6 {
        format!("{:.0} ms", micros / 1e3)
    } else {
        format!("{seconds:.0} s")
    }
}

pub(super) fn port_range(range: &PortRangeStatus) -> String {
    let by = match range.elsewhere {
        Some(elsewhere) => format!(
            "{} on {}, {elsewhere} elsewhere",
            range.by,
            range.interfaces.join(", ")
        ),
        None => range.by.to_string(),
    };
    let mut text = format!("{}-{}: {by} ({})", range.first, range.last, range.reason);
    if !range.left.is_empty() {
        let left: Vec<String> = range.left.iter().map(u16::to_string).collect();
        let _ = write!(text, ", left to other programs: {}", left.join(", "));
    }
    text
}

pub(super) fn forward(forward: &ForwardStatus) -> String {
    let ForwardStatus { listen, to, by, .. } = forward;
    let mut text = format!("{listen} -> {to}");
    match (by, &forward.reason) {
        (ForwardedBy::None, Some(reason)) => {
            let _ = write!(text, ", not open: {reason}");
        }
        (_, reason) => {
            let _ = write!(text, " ({by})");
            if forward.source == SourceSeen::Keep {
                text.push_str(", the sender's address is kept");
            }
            if let Some(reason) = reason {
                let _ = write!(text, ", {reason}");
            }
        }
    }
    if !forward.taken.is_empty() {
        let taken: Vec<String> = forward.taken.iter().map(u16::to_string).collect();
        let _ = write!(text, ", kept from other programs: {}", taken.join(", "));
    }
    text
}

pub(super) fn policy(policy: &PolicyStatus) -> String {
    let denied: u64 = policy.rules.iter().map(|rule| rule.denied).sum();
    let mut text = format!(
        "{}, default {}: {} of {} flows, {} packets denied",
        human::count(policy.rules.len() as u64),
        policy.default,
        human::count(policy.flows),
        human::count(policy.flows_max),
        human::count(denied + policy.by_default.denied + policy.denied_by_tc),
    );
    if policy.flows_displaced > 0 {
        let _ = write!(
            text,
            ", {} flows made room for others",
            human::count(policy.flows_displaced)
        );
    }
    text
}

/// Where a process beside the tunnel serves, and why it doesn't.
pub(super) fn served(listen: &[String], ended: Option<&str>) -> String {
    let listen = listen.join(", ");
    match ended {
        Some(reason) => format!("{listen}: doesn't answer: {reason}"),
        None => listen,
    }
}

/// The resolver; nothing while it answers.
pub(super) fn resolver(status: &Status) -> Option<String> {
    let ended = status.resolver.as_ref()?.ended.as_ref()?;
    Some(format!("doesn't answer: {ended}"))
}

/// What isn't kept as it should be: its subject, and why.
pub(super) fn not_kept(status: &Status) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(reason) = status.usage.iter().find_map(|it| it.reason.as_ref()) {
        all.push(("usage", format!("in memory only: {reason}")));
    }
    if let Some(trouble) = status.usage.iter().find_map(|it| it.clock.as_ref()) {
        all.push(("day", format!("NOT THE CLOCK'S: {trouble}")));
    }
    all.extend(
        status
            .audit
            .as_ref()
            .and_then(audit)
            .map(|told| ("audit", told)),
    );
    all
}

/// What the kernel lets the tunnel do: who, and what.
pub(super) fn rights(rights: &RightsStatus) -> Vec<(&str, String)> {
    // A hub of an older version says nothing.
    if *rights == RightsStatus::default() {
        return Vec::new();
    }
    let threads = packet_threads(&rights.packet_threads);
    let mut all = vec![
        ("controller", capabilities(&rights.capabilities)),
        ("packet threads", threads),
        ("memory", memory(&rights.memory)),
    ];
    let processes = rights.privileged.iter().chain(&rights.processes);
    all.extend(processes.map(|process| (process.name.as_str(), process_rights(process))));
    all.extend(privileged(rights).map(|told| ("rights", told)));
    all
}

/// What is the matter with the privileged process; nothing while it is there and answers.
pub(super) fn privileged(rights: &RightsStatus) -> Option<String> {
    let problem = rights.privileged_problem.as_ref()?;
    Some(format!("NOT AS THEY SHOULD BE: taltun-verbs {problem}"))
}

/// Who has more capabilities is told how many.
const FEW: usize = 12;

/// What somebody has of them.
fn capabilities(names: &[String]) -> String {
    match names.len() {
        0 => "no capability".to_owned(),
        1..=FEW => names.join(", "),
        many => format!("{many} capabilities"),
    }
}

/// What the threads that handle packets may do.
fn packet_threads(threads: &PacketThreads) -> String {
    let mut text = format!("{}: {}", threads.count, capabilities(&threads.capabilities));
    let _ = write!(text, ", {}", held(threads.seccomp, "seccomp"));
    if let Some(reason) = &threads.reason {
        let _ = write!(text, " ({reason})");
    }
    if threads.refused_calls > 0 {
        let refused = human::counted(threads.refused_calls, "system call");
        let _ = write!(text, ", {refused} refused");
    }
    text
}

/// Whether keys in memory may get to a disk.
fn memory(memory: &MemoryStatus) -> String {
    match &memory.reason {
        _ if memory.locked => "locked: never swapped, in no core file".to_owned(),
        Some(reason) => format!("may be swapped ({reason})"),
        None => "may be swapped".to_owned(),
    }
}

fn process_rights(process: &ProcessRights) -> String {
    let mut text = format!(
        "{}, {}, {}",
        capabilities(&process.capabilities),
        held(process.seccomp, "seccomp"),
        held(process.landlock, "landlock")
    );
    if let Some(reason) = &process.reason {
        let _ = write!(text, " ({reason})");
    }
    let _ = write!(text, ", user {}", process.user);
    text
}

fn held(yes: bool, what: &str) -> String {
    if yes {
        what.to_owned()
    } else {
        format!("no {what}")
    }
}

/// What goes around a full tunnel.
pub(super) fn around(status: &Status) -> Vec<String> {
    let routes = status.routes_around.iter().map(|route| {
        if route.refused {
            format!("{route}, refused by the kill switch")
        } else {
            route.to_string()
        }
    });
    let names = status.names_around.iter();
    let names = names.map(|NameAround { address, reason }| format!("{address}: {reason}"));
    routes.chain(names).collect()
}

/// The trail of changes; nothing while each is written down.
fn audit(audit: &AuditStatus) -> Option<String> {
    let reason = audit.reason.as_ref();
    let lost = (audit.lost > 0).then(|| format!("{} lost", human::counted(audit.lost, "change")));
    let reason = reason.map(|reason| format!("in memory only: {reason}"));
    let told: Vec<String> = reason.into_iter().chain(lost).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

pub(super) fn udpgw(gateway: &UdpgwStatus) -> String {
    let listen: Vec<String> = gateway.listen.iter().map(ToString::to_string).collect();
    let listen = listen.join(", ");
    match &gateway.ended {
        Some(reason) => format!("{listen}: doesn't run: {reason}"),
        None => format!(
            "{listen}: {} of at most {} clients, {} {}",
            human::count(gateway.clients),
            human::count(gateway.max_clients),
            human::count(gateway.connections),
            if gateway.connections == 1 {
                "connection"
            } else {
                "connections"
            }
        ),
    }
}

/// A subject with what is said of it, in the long form.
pub(super) fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {:<17} {value}", format!("{name}:"));
}
