//! What peers are held to: rates, a quota and a last day.

use crate::cli::human;
use crate::config::Rate;
use crate::report::{PeerStatus, RateStatus, RefusedBy};

/// How fast a peer may be, what it may move and until when it may come, in a line each, with what
/// waits for it and whether it is refused.
pub(in crate::cli) fn of_peer(peer: &PeerStatus) -> Vec<String> {
    let refused = |by| match peer.refused {
        Some(reason) if reason == by => "; REFUSED",
        _ => "",
    };
    let quota = peer.quota.as_ref().map(|quota| {
        let unread = match peer.refused {
            Some(RefusedBy::Unread) => "; REFUSED until it is read what was moved before",
            _ => "",
        };
        let period = match &*quota.period {
            "day" => "today".to_owned(),
            other => format!("this {other}"),
        };
        let left = match quota.bytes.checked_sub(quota.used_bytes) {
            Some(left) if left > 0 => format!(", {} left", human::bytes(left)),
            _ => String::new(),
        };
        format!(
            "{} of {} {period}{left}{}{unread}",
            human::bytes(quota.used_bytes),
            human::bytes(quota.bytes),
            refused(RefusedBy::Quota)
        )
    });
    let expires = peer.expires.as_ref().map(|day| {
        let refused = refused(RefusedBy::Expired);
        format!("to the end of {day} (UTC){refused}")
    });
    let up = peer.rate_up.as_ref().and_then(|up| rate(up, "from it"));
    let down = peer.rate_down.as_ref();
    let down = down.and_then(|down| rate(down, "to it"));
    let all = [up, down, quota, expires];
    all.into_iter().flatten().collect()
}

/// A rate with what waits for it. Where the uplink alone limits, only that is told.
fn rate(status: &RateStatus, direction: &str) -> Option<String> {
    let rate = status.bits_per_second.map(bits);
    let mut queued = Vec::new();
    if status.waiting_packets > 0 {
        let waiting = human::counted(status.waiting_packets, "packet");
        let bytes = human::bytes(status.waiting_bytes);
        queued.push(format!("{waiting} waiting ({bytes})"));
    }
    if status.dropped_packets > 0 {
        queued.push(format!("{} dropped", human::count(status.dropped_packets)));
    }
    let queued = queued.join(", ");
    match (rate, queued.is_empty()) {
        (Some(rate), true) => Some(format!("{rate} {direction}")),
        (Some(rate), false) => Some(format!("{rate} {direction}: {queued}")),
        (None, true) => None,
        (None, false) => Some(format!("uplink, {direction}: {queued}")),
    }
}

/// A rate, as the file has it.
pub(in crate::cli) fn bits(bits_per_second: u64) -> String {
    let rate = Rate::of_bits(bits_per_second);
    rate.map_or_else(|| "0 bit/s".to_owned(), |rate| rate.to_string())
}
