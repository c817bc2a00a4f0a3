//! The policy's small things.

use std::net::IpAddr;

use taltun_policy::Service;
use taltun_policy::packet::Ports;
use taltun_policy::tuple::Tuple;
use taltun_tests::random::Random;

#[test]
fn each_port_is_a_service_and_is_read_as_it_is_written() {
    for port in 0..=u32::from(u16::MAX) + 10 {
        for (text, made) in [
            (
                format!("tcp/{port}"),
                Service::Tcp as fn(u16, u16) -> Service,
            ),
            (format!("udp/{port}"), Service::Udp),
        ] {
            let expected = u16::try_from(port).ok().filter(|port| *port > 0);
            let read: Option<Service> = text.parse().ok();
            assert_eq!(read, expected.map(|port| made(port, port)), "{text}");
            if let Some(read) = read {
                assert_eq!(read.to_string(), text);
            }
        }
    }
}

#[test]
fn a_range_of_ports_is_read_exactly_if_it_goes_up() {
    let edges = [1, 2, 79, 80, 443, 1024, 8080, 65_534, 65_535];
    for first in edges {
        for last in edges {
            let text = format!("udp/{first}-{last}");
            let read: Option<Service> = text.parse().ok();
            let expected = (first <= last).then_some(Service::Udp(first, last));
            assert_eq!(read, expected, "{text}");
        }
    }
}

#[test]
fn each_protocol_has_its_number_and_no_other() {
    for number in 0..=300_u32 {
        let read: Option<Service> = format!("ip/{number}").parse().ok();
        assert_eq!(read.is_some(), number <= 255, "{number}");
        if let Some(read) = read {
            let again: Service = read.to_string().parse().unwrap();
            assert_eq!(again, read);
        }
    }
}

#[test]
fn an_answer_goes_the_other_way_and_its_answer_is_the_packet() {
    let mut random = Random::new(9);
    for _ in 0..1_000_000 {
        let [a, b] = [(); 2].map(|()| random.next_u64());
        let address = |bits: u64| match a & 1 {
            0 => IpAddr::from((bits as u32).to_be_bytes()),
            _ => IpAddr::from((u128::from(bits) << 64 | u128::from(!bits)).to_be_bytes()),
        };
        let ports = Ports {
            source: (a >> 16) as u16,
            destination: (b >> 16) as u16,
        };
        let tuple = Tuple::new(address(a >> 32), address(b >> 32), 17, ports);
        let answer = tuple.reversed();
        assert_eq!(answer.reversed(), tuple);
        assert!(tuple == answer || tuple.is_downwards() != answer.is_downwards());
    }
}
