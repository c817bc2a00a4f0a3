//! The lab as one sees it: a table redrawn every second on a terminal, a line a second
//! elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use anyhow::Result;
use taltun_tests::lab::Role;
use taltun_tests::report::{Peer, Stats, Status};

use super::ping_watch::Ping;
use super::report::{Check, Report};

/// How many sources are shown.
const SOURCES: usize = 6;
/// Cursor home, clear all below.
const REDRAW: &str = "\x1b[H\x1b[J";

/// One second of the lab.
pub struct Frame {
    /// Since the traffic began.
    pub elapsed: Duration,
    /// What each node says of itself.
    pub statuses: [(Role, Result<Status>); 3],
    /// What the hub has counted.
    pub stats: Result<Stats>,
    /// Gbit/s by stream.
    pub rates: Vec<(&'static str, f64)>,
    /// The last ping from a to the hub.
    pub ping: Option<Ping>,
    /// Whether a is banned now.
    pub banned: bool,
}

/// Where frames go.
pub enum View {
    /// Redrawn on stdout.
    Table,
    /// A line each on stdout.
    Lines,
    /// A line each on stderr, as stdout is for the result.
    Progress,
}

impl View {
    /// The view that suits stdout, or a bare progress if that is for JSON.
    pub fn new(json: bool) -> Self {
        match (json, io::stdout().is_terminal()) {
            (true, _) => Self::Progress,
            (false, true) => Self::Table,
            (false, false) => Self::Lines,
        }
    }

    /// Shows `frame`. A terminal that is gone is no reason to stop: the lab still has to be
    /// taken down.
    pub fn show(&mut self, frame: &Frame) {
        let _ = match self {
            Self::Table => {
                write!(io::stdout(), "{REDRAW}{}", table(frame)).and_then(|()| io::stdout().flush())
            }
            Self::Lines => writeln!(io::stdout(), "{}", line(frame)),
            Self::Progress => writeln!(io::stderr(), "{}", line(frame)),
        };
    }
}

/// Prints the result for people.
pub fn print_report(report: &Report) {
    let mut text = String::from("\n");
    for check in &report.checks {
        text.push_str(&check_line(check));
    }
    let failed = report.checks.iter().filter(|check| !check.ok).count();
    let _ = match failed {
        0 => writeln!(text, "\nAll {} checks are ok.", report.checks.len()),
        _ => writeln!(text, "\n{failed} of {} checks failed.", report.checks.len()),
    };
    say(&text);
}

/// A check and its verdict.
pub fn check_line(check: &Check) -> String {
    let verdict = if check.ok { "ok    " } else { "FAILED" };
    format!("{verdict}  {:<20} {}\n", check.name, check.detail)
}

/// Writes `text` to stdout.
pub fn say(text: &str) {
    // Not `print!`, which panics when nobody reads any more.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn line(frame: &Frame) -> String {
    let mut line = format!("{:>3} s", frame.elapsed.as_secs());
    for (name, rate) in &frame.rates {
        let _ = write!(line, "  {name} {rate:.2} Gbit/s");
    }
    let _ = write!(line, "  ping {}", ping(frame.ping));
    if let Ok(stats) = &frame.stats {
        let _ = write!(line, "  {} dropped", stats.drops.values().sum::<u64>());
    }
    if frame.banned {
        line += "  a is banned";
    }
    line
}

fn table(frame: &Frame) -> String {
    let mut text = format!(
        "Taltun lab, {} s: hub {}, a {}, b {}. Ctrl-C ends it.\n\n",
        frame.elapsed.as_secs(),
        Role::Hub.v4(),
        Role::A.v4(),
        Role::B.v4()
    );
    text += "node  peer  endpoint               handshake    received        sent\n";
    for (role, status) in &frame.statuses {
        match status {
            Ok(status) => {
                for peer in &status.peers {
                    text += &peer_line(*role, peer);
                }
            }
            Err(error) => {
                let _ = writeln!(text, "{role:<6}{error:#}");
            }
        }
    }
    text.push('\n');
    for (name, rate) in &frame.rates {
        let _ = writeln!(text, "{name:<18}{rate:>6.2} Gbit/s");
    }
    let _ = writeln!(text, "{:<18}{:>13}", "ping a→hub", ping(frame.ping));
    if frame.banned {
        text += "a's underlay address is banned on the hub\n";
    }
    text.push('\n');
    for (role, status) in &frame.statuses {
        for xdp in status.iter().flat_map(|status| &status.xdp) {
            let _ = writeln!(
                text,
                "xdp   {role:<4} {:<8} {:<8} {}",
                xdp.interface, xdp.mode, xdp.reason
            );
        }
    }
    match &frame.stats {
        Ok(stats) => text += &stats_lines(stats),
        Err(error) => {
            let _ = writeln!(text, "{error:#}");
        }
    }
    text
}

fn peer_line(role: Role, peer: &Peer) -> String {
    let name = peer.name.as_deref().unwrap_or(&peer.public_key);
    let endpoint = peer
        .endpoint
        .map_or_else(|| "not known".to_owned(), |endpoint| endpoint.to_string());
    let handshake = peer
        .latest_handshake_seconds
        .map_or_else(|| "never".to_owned(), |age| format!("{age:.0} s ago"));
    format!(
        "{:<6}{name:<6}{endpoint:<22}{handshake:>10}{:>12}{:>12}\n",
        role.to_string(),
        bytes(peer.rx_bytes),
        bytes(peer.tx_bytes)
    )
}

fn stats_lines(stats: &Stats) -> String {
    let mut text = String::from("\nsource on the hub        packets       bytes     dropped\n");
    for source in stats.sources.iter().take(SOURCES) {
        let _ = writeln!(
            text,
            "{:<20}{:>12}{:>12}{:>12}",
            source.addr.to_string(),
            source.packets,
            bytes(source.bytes),
            source.drops
        );
    }
    text += "\ndropped by the hub\n";
    for (reason, count) in stats.drops.iter().filter(|(_, count)| **count > 0) {
        let _ = writeln!(text, "{reason:<20}{count:>12}");
    }
    text
}

fn ping(ping: Option<Ping>) -> String {
    match ping.map(|ping| ping.answer) {
        None => "-".to_owned(),
        Some(None) => "no answer".to_owned(),
        Some(Some(time)) => format!("{:.2} ms", time.as_secs_f64() * 1e3),
    }
}

/// Four digits at most.
fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    for unit in ["kB", "MB", "GB"] {
        // What would be rounded to 1000.0 belongs to the next unit.
        if value < 999.95 {
            return format!("{value:.1} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_shown_in_the_unit_that_suits_them() {
        for (count, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (7_000_000_000_000_000, "7000.0 TB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }
}
