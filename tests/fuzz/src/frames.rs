//! Frames from a card's queue: a plain UDP datagram is found where IP and UDP say, and nothing else is
//! taken for one.

use std::net::{IpAddr, Ipv6Addr};

use taltun::dataplane::xsk::frame;

use crate::checksums::checksum;

/// The interface that frames come in on here.
const INTERFACE: u32 = 5;

/// Sender, receiver, payload and traffic class of a plain datagram, byte by byte.
#[allow(clippy::type_complexity, reason = "it is compared as a whole")]
fn naive(frame: &[u8]) -> Option<((IpAddr, u16), (IpAddr, u16), std::ops::Range<usize>, u8)> {
    let word =
        |at: usize| Some(usize::from(*frame.get(at)?) * 256 + usize::from(*frame.get(at + 1)?));
    let (udp, end, addresses, class) = match word(12)? {
        0x0800 => {
            let header = frame.get(14..34)?;
            let is_plain = header[0] == 0x45
                && header[9] == 17
                && word(20)? % 0x4000 == 0
                && matches!(checksum(header, 0), 0);
            is_plain.then_some(())?;
            let address =
                |at: usize| IpAddr::from(<[u8; 4]>::try_from(&header[at..at + 4]).unwrap());
            (34, 14 + word(16)?, (address(12), address(16)), header[1])
        }
        0x86dd => {
            let header = frame.get(14..54)?;
            (header[0] >> 4 == 6 && header[6] == 17).then_some(())?;
            let address = |at: usize| {
                let address = Ipv6Addr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap());
                address
                    .to_ipv4_mapped()
                    .map_or(IpAddr::from(address), IpAddr::from)
            };
            let class = header[0] << 4 | header[1] >> 4;
            (54, 54 + word(18)?, (address(8), address(24)), class)
        }
        _ => return None,
    };
    let fits = end <= frame.len() && end >= udp + 8 && word(udp + 4)? == end - udp;
    fits.then_some(())?;
    let (from, to) = (word(udp)? as u16, word(udp + 2)? as u16);
    Some(((addresses.0, from), (addresses.1, to), udp + 8..end, class))
}

pub(crate) fn run(bytes: &[u8]) {
    check(bytes);
    // Most bytes are no frame; with these headers before them they nearly are.
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let mut made = vec![2; 12];
    if first & 1 == 0 {
        made.extend([0x08, 0, 0x45, *first, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0]);
        made.extend([192, 0, 2, 7, 192, 0, 2, 1]);
    } else {
        made.extend([
            0x86,
            0xdd,
            0x60 | first >> 4,
            first << 4,
            0,
            0,
            0,
            0,
            17,
            64,
        ]);
        made.extend(&rest[..rest.len().min(32)]);
        made.resize(54, 0);
    }
    let udp = made.len();
    made.extend(rest);
    // Lengths are mostly right.
    let len = (made.len() - udp) as u16;
    if let Some(field) = made.get_mut(udp + 4..udp + 6)
        && first & 2 == 0
    {
        field.copy_from_slice(&len.to_be_bytes());
    }
    if first & 1 == 0 {
        made[16..18].copy_from_slice(&len.wrapping_add(20).to_be_bytes());
        let sum = checksum(&made[14..34], 0);
        made[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        made[18..20].copy_from_slice(&len.to_be_bytes());
    }
    made.extend(vec![0; usize::from(first >> 6)]);
    check(&made);
}

fn check(bytes: &[u8]) {
    let found = frame::parse(bytes, INTERFACE).map(|datagram| {
        let local = datagram
            .from
            .local
            .expect("it came to one of our addresses");
        assert_eq!(local.interface, INTERFACE);
        let remote = datagram.from.remote;
        let port = datagram.from.local_port.map_or(0, std::num::NonZero::get);
        (
            (remote.ip(), remote.port()),
            (local.address, port),
            datagram.payload,
            datagram.class,
        )
    });
    assert_eq!(found, naive(bytes));
}
