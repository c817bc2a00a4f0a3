//! Headers that are written before a datagram which leaves past the kernel's network stack: who
//! receives the frame finds the same datagram, with right checksums.

use std::net::{IpAddr, SocketAddr};

use taltun::dataplane::runs::DatagramRun;
use taltun::dataplane::transmit::headers::{self, NextHop};
use taltun::dataplane::xsk::frame;

use crate::checksums::{checksum, of_transport};
use crate::choices::Choices;

fn address(choices: &mut Choices<'_>) -> IpAddr {
    if choices.byte() & 1 == 0 {
        IpAddr::from(choices.array::<4>())
    } else {
        IpAddr::from(choices.array::<16>())
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (source, remote) = (address(&mut choices), address(&mut choices));
    let way = NextHop {
        interface: 7,
        own: choices.array(),
        next: choices.array(),
        source,
        mtu: usize::from(choices.word()),
    };
    let (port, remote) = (choices.word(), SocketAddr::new(remote, choices.word()));
    let hop_limit = choices.byte();
    let run = DatagramRun {
        hop_limit: (hop_limit > 0).then_some(hop_limit),
        class: choices.byte(),
        ..DatagramRun::of_one(0, 0, remote.into())
    };
    // Of an endpoint, IPv4 in its mapped form is IPv4.
    let remote = run.endpoint.remote;
    let payload = choices.rest();
    let at = headers::len(&remote.ip());
    let mut bytes = [&vec![0xee; at], payload].concat();
    let before = bytes.clone();
    let written = headers::write(&mut bytes, &way, port, &run);
    let fits = bytes.len() - 14 <= way.mtu && source.is_ipv4() == remote.is_ipv4();
    assert_eq!(written, fits);
    if !written {
        assert_eq!(bytes, before, "nothing is written");
        return;
    }
    assert_eq!(&bytes[at..], payload);
    assert_eq!([&bytes[..6], &bytes[6..12]], [&way.next[..], &way.own]);
    let packet = &bytes[14..];
    let (udp, limit) = if source.is_ipv4() {
        assert_eq!(checksum(&packet[..20], 0), 0);
        (20, packet[8])
    } else {
        (40, packet[7])
    };
    assert_eq!(limit, if hop_limit > 0 { hop_limit } else { 64 });
    assert_eq!(of_transport(packet, udp, 17), 0, "UDP's checksum");
    let found = frame::parse(&bytes, 7).expect("what is sent is a plain datagram");
    assert_eq!(found.payload, at..bytes.len());
    assert_eq!(found.class, run.class);
    let local = found.from.local.expect("it has a receiver");
    let canonical = |address: IpAddr| address.to_canonical();
    assert_eq!(found.from.remote.port(), port);
    assert_eq!(
        found.from.local_port.map_or(0, std::num::NonZero::get),
        remote.port()
    );
    assert_eq!(canonical(found.from.remote.ip()), canonical(source));
    assert_eq!(local.address, canonical(remote.ip()));
}
