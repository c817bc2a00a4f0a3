//! What routers and hosts say of datagrams that didn't arrive, which anybody may make up: a message says
//! so exactly if it is "destination unreachable" about a UDP datagram whose ports are in it, by the
//! pictures of RFC 792 and 4443; and it is about the ports and the address that are there.

use std::net::{IpAddr, SocketAddr};

use taltun::control::fuzzing::{Undelivered, undelivered_v4, undelivered_v6};

fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) * 256 + usize::from(bytes[at + 1])
}

/// Behind an IPv4 header, as long as its second half byte says in words of four.
fn behind_v4(packet: &[u8]) -> Option<&[u8]> {
    let words = usize::from(packet.first()? % 16);
    let is_header = packet[0] / 16 == 4 && words >= 5 && packet.len() >= 4 * words;
    is_header.then(|| &packet[4 * words..])
}

fn found(to: IpAddr, udp: &[u8], why: Option<&'static str>) -> Option<Undelivered> {
    // The rest of the header may be missing.
    let is_there = udp.len() >= 4;
    is_there.then(|| {
        let to = SocketAddr::new(to.to_canonical(), word(udp, 2) as u16);
        (to, word(udp, 0) as u16, why)
    })
}

fn naive_v4(packet: &[u8]) -> Option<Undelivered> {
    let message = behind_v4(packet)?;
    let quoted = message.get(8..)?;
    let udp = behind_v4(quoted)?;
    // Destination unreachable; UDP; no fragment but the first.
    let is_later = !word(quoted, 6).is_multiple_of(8192);
    if message[0] != 3 || quoted[9] != 17 || is_later {
        return None;
    }
    let why = match message[1] {
        3 => None,
        4 => return None,
        0 | 6 | 11 => Some("network unreachable"),
        9 | 10 | 13 => Some("administratively prohibited"),
        _ => Some("host unreachable"),
    };
    let to: [u8; 4] = quoted[16..20].try_into().unwrap();
    found(to.into(), udp, why)
}

fn naive_v6(message: &[u8]) -> Option<Undelivered> {
    let quoted = message.get(8..)?;
    if quoted.len() < 40 || message[0] != 1 || quoted[0] / 16 != 6 || quoted[6] != 17 {
        return None;
    }
    let why = match message[1] {
        4 => None,
        0 => Some("no route"),
        1 | 5 | 6 => Some("administratively prohibited"),
        _ => Some("address unreachable"),
    };
    let to: [u8; 16] = quoted[24..40].try_into().unwrap();
    found(to.into(), &quoted[40..], why)
}

pub(crate) fn run(message: &[u8]) {
    assert_eq!(undelivered_v4(message), naive_v4(message));
    assert_eq!(undelivered_v6(message), naive_v6(message));
}
