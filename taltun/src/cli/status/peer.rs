//! A peer in the long form of `status`.

use std::fmt::Write;
use std::net::IpAddr;

use super::words::line;
use crate::cli::human;
use crate::cli::peers::{banned, limits, moves, problem};
use crate::cli::width::printable;
use crate::report::{PathStatus, PathUse, PeerStatus, whole_seconds};

/// Peers alone, with what went wrong with them before.
pub(in crate::cli) fn alone(peers: &[PeerStatus]) -> String {
    let mut text = String::new();
    for peer in peers {
        render(&mut text, peer);
        if let Some(problem) = &peer.last_problem {
            let ago = human::span(whole_seconds(problem.seconds_ago));
            let told = format!("{} ({ago} ago, over)", problem.message);
            line(&mut text, "last problem", &told);
        }
    }
    text.trim_start().to_owned()
}

pub(super) fn render(text: &mut String, peer: &PeerStatus) {
    let title = printable(peer.label());
    // Writing to a String can't fail.
    let _ = writeln!(text, "\npeer: {title}");
    if peer.name.is_some() {
        line(text, "public key", &peer.public_key);
    }
    if let Some(endpoint) = peer.endpoint {
        let unreachable = peer.unreachable.as_ref();
        let unreachable = unreachable.map_or_else(String::new, |reason| format!(" ({reason})"));
        line(text, "endpoint", &format!("{endpoint}{unreachable}"));
    } else if let Some(name) = &peer.endpoint_name {
        line(text, "endpoint", &format!("{name} (not resolved)"));
    }
    if let Some(told) = moves(peer) {
        line(text, "warning", &told);
    }
    for path in &peer.paths {
        line(text, "path", &render_path(path));
    }
    let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    let allowed = if allowed.is_empty() {
        "(none)".into()
    } else {
        allowed.join(", ")
    };
    line(text, "allowed ips", &allowed);
    if let Some(seconds) = peer.seen_seconds {
        line(text, "last heard", &human::ago(seconds));
    }
    let handshake = match peer.latest_handshake_seconds {
        Some(seconds) => human::ago(seconds),
        None => "never".into(),
    };
    line(text, "latest handshake", &handshake);
    if let Some(problem) = &peer.problem {
        line(text, "problem", &self::problem(problem));
    }
    for ban in &peer.banned {
        line(text, "banned", &banned(ban));
    }
    for told in limits(peer) {
        line(text, "limit", &told);
    }
    let mut moved = format!(
        "{} received, {} sent",
        human::bytes(peer.rx_bytes),
        human::bytes(peer.tx_bytes)
    );
    if let Some(rates) = peer
        .rates
        .filter(|rates| rates.rx_bytes + rates.tx_bytes > 0)
    {
        // Writing to a String can't fail.
        let _ = write!(
            moved,
            "; now {} received, {} sent",
            human::rate(rates.rx_bytes),
            human::rate(rates.tx_bytes)
        );
    }
    line(text, "transfer", &moved);
    if let Some(seconds) = peer.persistent_keepalive {
        line(
            text,
            "keepalive",
            &format!("every {}", human::span(u64::from(seconds))),
        );
    }
}

fn render_path(path: &PathStatus) -> String {
    let mut text = match path.address {
        IpAddr::V4(address) => format!("{address}:{}", path.first_port),
        IpAddr::V6(address) => format!("[{address}]:{}", path.first_port),
    };
    // Writing to a String can't fail.
    if path.last_port != path.first_port {
        let _ = write!(text, "-{}", path.last_port);
    }
    text.push_str(match path.state {
        PathUse::Used => ", in use",
        PathUse::Ready => ", ready",
        PathUse::SetAside => ", set aside",
        PathUse::Silent => ", no answer",
        PathUse::Unknown => ", not probed",
    });
    if let Some(seconds) = path.delay_seconds {
        let _ = write!(text, ", {:.1} ms", seconds * 1e3);
    }
    if let Some(loss) = path.loss_percent {
        let _ = write!(text, ", {loss} % lost");
    }
    text
}
