//! The form that `taltun trace` gets: a line of JSON for each packet, and not more lines a second
//! than were asked for.

use std::net::IpAddr;
use std::time::Duration;

use taltun_common::drops::DropReason;
use taltun_common::headers::protocol;
use taltun_policy::Packet;
use taltun_policy::packet::Content;

use super::names::Names;
use super::stream::Stream;
use crate::dataplane::clock;
use crate::dataplane::tap::{Fate, Observed, Place, Wants};
use crate::protocol::time::Time;
use crate::report::{TraceMessage, TracePlace, TraceVerdict, TracedPacket, UnixTime, VERSION};

/// Most lines a second, where nothing else is asked for.
pub const MOST_LINES: u32 = 1000;
/// Bytes that are looked at of a packet: its headers.
const SNAP: usize = 192;
/// Bytes that may wait of each thread.
const ROOM: usize = 1 << 20;

/// What `taltun trace` prints, on its way.
#[derive(Debug)]
pub struct Trace {
    /// Where the clock of packets began.
    zero: Duration,
    most: u32,
    /// The second that lines are counted in, and how many there were.
    second: u64,
    lines: u32,
    /// Packets that had no line.
    unprinted: u64,
    /// What was told of packets that were left out.
    told: u64,
}

impl Trace {
    /// At most so many lines a second.
    pub fn new(most: u32) -> Self {
        Self {
            zero: clock::wall_clock_at_zero(),
            most,
            second: 0,
            lines: 0,
            unprinted: 0,
            told: 0,
        }
    }

    /// What it wants of a peer, or of all.
    pub fn wants(peer: Option<std::sync::Arc<crate::protocol::peer::Peer>>, drops: bool) -> Wants {
        Wants {
            peer,
            passed: !drops,
            inner: true,
            outer: false,
            lost: true,
            snap: SNAP,
            room: ROOM,
        }
    }

    /// Whether another line fits this second.
    fn has_room(&mut self, at: Time) -> bool {
        let second = at.as_nanos() / 1_000_000_000;
        if second != self.second {
            (self.second, self.lines) = (second, 0);
        }
        self.lines += 1;
        self.lines <= self.most
    }

    fn tell_left_out(&mut self, left_out: u64, to: &mut Vec<u8>) {
        let all = left_out + self.unprinted;
        if all > self.told {
            let mut line = empty(UnixTime::at(clock::wall()), None, TraceVerdict::LeftOut);
            line.packets = all - self.told;
            self.told = all;
            write(&TraceMessage::Packet(Box::new(line)), to);
        }
    }
}

impl Stream for Trace {
    fn packet(&mut self, observed: &Observed<'_>, names: &Names, to: &mut Vec<u8>) {
        if !self.has_room(observed.at) {
            self.unprinted += observed.packets;
            return;
        }
        let line = line(observed, names, self.zero);
        write(&TraceMessage::Packet(Box::new(line)), to);
    }

    fn beat(&mut self, left_out: u64, to: &mut Vec<u8>) {
        self.tell_left_out(left_out, to);
    }

    fn end(&mut self, why: Option<&str>, left_out: u64, to: &mut Vec<u8>) {
        self.tell_left_out(left_out, to);
        if let Some(why) = why {
            write(&TraceMessage::End(why.to_owned()), to);
        }
    }
}

fn write(message: &TraceMessage, to: &mut Vec<u8>) {
    // A vector takes all.
    if serde_json::to_writer(&mut *to, message).is_ok() {
        to.push(b'\n');
    }
}

/// A line without anything known.
fn empty(timestamp: UnixTime, place: Option<TracePlace>, verdict: TraceVerdict) -> TracedPacket {
    TracedPacket {
        version: VERSION,
        timestamp,
        verdict,
        reason: None,
        rule: None,
        place,
        from: None,
        to: None,
        outer: None,
        protocol: None,
        source: None,
        source_port: None,
        destination: None,
        destination_port: None,
        packets: 1,
        bytes: None,
    }
}

/// What is printed of a packet.
fn line(observed: &Observed<'_>, names: &Names, zero: Duration) -> TracedPacket {
    let at = UnixTime::at(zero + Duration::from_nanos(observed.at.as_nanos()));
    let (verdict, reason) = match observed.fate {
        Fate::Passed => (TraceVerdict::Passed, None),
        Fate::Waits => (TraceVerdict::Waits, None),
        Fate::Dropped(reason) => (TraceVerdict::Dropped, Some(reason)),
    };
    let place = match observed.place {
        Place::Arrived => TracePlace::Arrived,
        Place::Leaves => TracePlace::Leaves,
        Place::ToHost => TracePlace::ToHost,
        Place::FromHost => TracePlace::FromHost,
        Place::Relayed => TracePlace::Relayed,
        Place::Kernel if reason.is_some_and(is_of_tc) => TracePlace::Tc,
        Place::Kernel => TracePlace::Xdp,
    };
    let mut line = TracedPacket {
        reason,
        rule: observed.rule.map(|rule| names.rule(rule)),
        from: observed.from.map(|key| names.peer(&key)),
        to: observed.to.map(|key| names.peer(&key)),
        packets: observed.packets,
        bytes: (observed.len > 0).then_some(observed.len as u64),
        ..empty(at, Some(place), verdict)
    };
    match (place, observed.remote) {
        (TracePlace::Tc, remote) => line.source = remote.map(|remote| remote.ip()),
        (_, Some(remote)) if remote.port() == 0 => line.outer = Some(remote.ip().to_string()),
        (_, remote) => line.outer = remote.map(|remote| remote.to_string()),
    }
    let is_inner = matches!(
        place,
        TracePlace::ToHost | TracePlace::FromHost | TracePlace::Relayed
    );
    if is_inner && let Some(packet) = Packet::parse(observed.bytes) {
        describe(&packet, &mut line);
    }
    line
}

/// What its headers say.
fn describe(packet: &Packet, line: &mut TracedPacket) {
    let (source, destination): (IpAddr, IpAddr) = (packet.source, packet.destination);
    (line.source, line.destination) = (Some(source), Some(destination));
    line.protocol = Some(match packet.protocol {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMP | protocol::ICMPV6 => "icmp".to_owned(),
        other => format!("ip/{other}"),
    });
    if let Content::Tcp { ports, .. } | Content::Udp(ports) = packet.content {
        line.source_port = Some(ports.source);
        line.destination_port = Some(ports.destination);
    }
}

/// Whether the programs drop for this reason inside the tunnel.
fn is_of_tc(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::InnerDenied | DropReason::InnerSource | DropReason::NoPeer | DropReason::Rule
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_as_many_again() {
        let mut trace = Trace::new(10);
        for second in 3..6 {
            let at = Time::START + Duration::from_millis(second * 1000 + 5);
            assert_eq!((0..100).filter(|_| trace.has_room(at)).count(), 10);
        }
    }

    #[test]
    fn what_was_left_out_is_told_once() {
        let mut trace = Trace::new(10);
        trace.unprinted = 5;
        let mut to = Vec::new();
        trace.beat(2, &mut to);
        trace.beat(2, &mut to);
        trace.end(Some("the tunnel ends"), 3, &mut to);
        let lines: Vec<TraceMessage> = to
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let counts: Vec<u64> = lines
            .iter()
            .filter_map(|line| match line {
                TraceMessage::Packet(packet) => Some(packet.packets),
                TraceMessage::End(_) => None,
            })
            .collect();
        assert_eq!(counts, [7, 1]);
        assert!(matches!(lines.last(), Some(TraceMessage::End(why)) if why == "the tunnel ends"));
    }
}
