//! `taltun trace`

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::human;
use super::output;
use super::target::Target;
use crate::control::{MOST_LINES, request};
use crate::report::{TraceMessage, TracePlace, TraceVerdict, TracedPacket};

/// Show what happens to packets, as it happens.
///
/// A line a packet: when (UTC), from whom to whom, its addresses and ports inside the tunnel, its
/// length, and what became of it: with the reason by which `taltun stats` counts a drop, and the
/// rule that decided. A datagram that was dropped before it was opened has its sender's address
/// outside. What XDP and TC drop has a line some times a second, with its number. It ends with
/// Ctrl-C.
#[derive(Args)]
pub(super) struct Trace {
    /// The only peer to show, by its name or public key: what comes from it and what goes to it.
    peer: Option<String>,

    /// Show only what is dropped.
    #[arg(long)]
    drops: bool,

    /// Most lines a second; how many packets are left out is told.
    #[arg(long, value_name = "LINES", default_value_t = MOST_LINES, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Print JSON, an object a line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Trace {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (_, mut stream) = self.target.open(request::Trace {
            peer: self.peer,
            drops: self.drops,
            rate: self.rate,
        })?;
        let unlimited = stream.get_ref().set_read_timeout(None);
        unlimited.map_err(|error| Failure::Other(error.to_string()))?;
        let mut out = io::stdout().lock();
        let mut line = Vec::new();
        loop {
            if stream.buffer().is_empty() && !output::written(out.flush())? {
                return Ok(());
            }
            line.clear();
            let read = stream.read_until(b'\n', &mut line);
            let read = read.map_err(|error| lost(&error.to_string()))?;
            // What the tunnel gave up in the middle of is no line.
            if read == 0 || line.last() != Some(&b'\n') {
                return Err(lost(
                    "it was killed, or this command read nothing for 10 seconds",
                ));
            }
            let message = serde_json::from_slice(&line).map_err(|error| {
                Failure::Other(format!(
                    "the tunnel sent no line of a trace; is it of another version? ({error})"
                ))
            })?;
            let text = match message {
                TraceMessage::Packet(packet) if self.json => output::json_line(&packet)?,
                TraceMessage::Packet(packet) => render(&packet),
                TraceMessage::End(why) => {
                    output::written(out.flush())?;
                    return Err(Failure::Other(format!("the trace is over: {why}")));
                }
            };
            if !output::written(out.write_all(text.as_bytes()))? {
                return Ok(());
            }
        }
    }
}

fn lost(why: &str) -> Failure {
    Failure::Other(format!("the tunnel ended the trace: {why}"))
}

/// A line for people.
fn render(packet: &TracedPacket) -> String {
    let mut line = time(packet.timestamp.seconds());
    if packet.verdict == TraceVerdict::LeftOut {
        let packets = human::counted(packet.packets, "packet");
        let _ = writeln!(line, "  {packets} left out");
        return line;
    }
    let _ = write!(line, "  {}", way(packet));
    if let (Some(source), Some(destination)) = (packet.source, packet.destination) {
        let protocol = packet.protocol.as_deref().unwrap_or("ip");
        let source = end(source, packet.source_port);
        let destination = end(destination, packet.destination_port);
        let _ = write!(line, "  {protocol} {source} > {destination}");
    }
    if let Some(bytes) = packet.bytes {
        let _ = write!(line, "  {bytes} B");
    }
    if packet.packets > 1 {
        let _ = write!(line, "  {}", human::counted(packet.packets, "packet"));
    }
    let _ = write!(line, "  {}", packet.verdict);
    if let Some(reason) = packet.reason {
        let _ = write!(line, ": {}", reason.label());
    }
    if let Some(rule) = &packet.rule {
        let _ = write!(line, " ({rule})");
    }
    line.push('\n');
    line
}

/// From whom to whom.
fn way(packet: &TracedPacket) -> String {
    let known = |peer: &Option<String>| peer.clone().unwrap_or_else(|| "?".to_owned());
    let from = known(&packet.from);
    let outer = packet.outer.as_deref().unwrap_or("?");
    match packet.place {
        Some(TracePlace::Arrived) if packet.from.is_some() => {
            format!("datagram from {from}, {outer}")
        }
        Some(TracePlace::Arrived) => format!("datagram from {outer}"),
        Some(TracePlace::Leaves) => format!("datagram to {outer}"),
        Some(TracePlace::ToHost) => format!("{from} > hub"),
        Some(TracePlace::FromHost) => format!("hub > {}", known(&packet.to)),
        Some(TracePlace::Relayed) => format!("{from} > {}", known(&packet.to)),
        Some(TracePlace::Xdp) => match &packet.outer {
            Some(outer) => format!("XDP: from {outer}"),
            None => "XDP".to_owned(),
        },
        Some(TracePlace::Tc) => match packet.source {
            Some(source) => format!("TC: from {source}"),
            None => "TC".to_owned(),
        },
        None => "?".to_owned(),
    }
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

/// The time of the day, UTC, with milliseconds.
fn time(seconds: f64) -> String {
    let millis = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let millis = (millis + Duration::from_micros(500)).as_millis() as u64;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> String {
        let defaults = r#"{"version":1,"timestamp":1795909552.123,"verdict":"passed","reason":null,
            "rule":null,"place":null,"from":null,"to":null,"outer":null,"protocol":null,
            "source":null,"source_port":null,"destination":null,"destination_port":null,
            "packets":1,"bytes":null}"#;
        let mut packet: serde_json::Value = serde_json::from_str(defaults).unwrap();
        let given: serde_json::Value = serde_json::from_str(json).unwrap();
        for (key, value) in given.as_object().unwrap() {
            assert!(packet.get(key).is_some(), "{key}");
            packet[key] = value.clone();
        }
        render(&serde_json::from_value(packet).unwrap())
    }

    #[test]
    fn a_packet_is_a_line() {
        for (json, expected) in [
            (
                r#"{"place":"relayed","from":"ana","to":"berta","protocol":"tcp","source":"10.0.0.2",
                    "source_port":1234,"destination":"10.0.0.3","destination_port":80,"bytes":60,
                    "verdict":"dropped","reason":"rule","rule":"hub.toml:12"}"#,
                "ana > berta  tcp 10.0.0.2:1234 > 10.0.0.3:80  60 B  dropped: rule (hub.toml:12)",
            ),
            (
                r#"{"place":"to_host","from":"ana","protocol":"icmp","source":"fd00::2",
                    "destination":"fd00::1","bytes":84}"#,
                "ana > hub  icmp fd00::2 > fd00::1  84 B  passed",
            ),
            (
                r#"{"place":"from_host","protocol":"udp","source":"10.0.0.1","source_port":9,
                    "destination":"fd00::9","destination_port":53,"verdict":"dropped",
                    "reason":"no_peer","bytes":30}"#,
                "hub > ?  udp 10.0.0.1:9 > [fd00::9]:53  30 B  dropped: no_peer",
            ),
            (
                r#"{"place":"arrived","outer":"192.0.2.7:4000","bytes":148,"verdict":"dropped",
                    "reason":"mac1"}"#,
                "datagram from 192.0.2.7:4000  148 B  dropped: mac1",
            ),
            (
                r#"{"place":"xdp","outer":"192.0.2.7","packets":12,"verdict":"dropped",
                    "reason":"denied"}"#,
                "XDP: from 192.0.2.7  12 packets  dropped: denied",
            ),
            (
                r#"{"place":"tc","verdict":"dropped","reason":"no_peer"}"#,
                "TC  dropped: no_peer",
            ),
            (r#"{"verdict":"left_out","packets":1}"#, "1 packet left out"),
        ] {
            assert_eq!(line(json), format!("23:45:52.123  {expected}\n"));
        }
    }
}
