//! ICMP "host unreachable" for packets that nobody will ever get, so that programs fail at
//! once instead of waiting (RFC 792, RFC 4443 §3.1).
//!
//! The message comes from the address that couldn't be reached, though `ping` then looks as if
//! that had answered. Our own vip would say better who speaks, but Linux takes an IPv4 packet
//! that comes in with one of its own addresses as source for a martian and drops it, whatever
//! `rp_filter` says; only `accept_local` lets it in, and then what peers send in our name as
//! well. The address that couldn't be reached is the one that is certain to be routed into the
//! tunnel, so that no reverse path filter objects to its coming out of there.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::io::IoSlice;

use taltun_common::bucket::Rate;
use taltun_common::headers::{ICMP_LEN, IPV4_LEN, IPV6_LEN, Icmp, Ipv4, Ipv6, protocol};
use taltun_common::wire::OWN_ERROR_TRAILER;
use zerocopy::{FromBytes, IntoBytes};

use super::offload::checksum::Sum;
use super::offload::vnet::VnetHeader;
use super::tun::Tun;
use crate::protocol::time::Time;

/// Messages that may leave: a hundred a second, so many at once.
const RATE: Rate = Rate::with_burst(100, 32);
/// What an IPv4 message may measure (RFC 1812, §4.3.2.3).
const MAX_V4: usize = 576;
/// What an IPv6 message may measure (RFC 4443, §2.4c).
const MAX_V6: usize = 1280;
const HOPS: u8 = 64;
/// A flag in the fragment's place.
const DONT_FRAGMENT: u16 = 0x4000;
/// Kind and code of "destination unreachable: host".
const HOST_UNREACHABLE_V4: (u8, u8) = (3, 1);
/// Kind and code of "destination unreachable: address".
const ADDRESS_UNREACHABLE_V6: (u8, u8) = (1, 3);

/// Makes and writes such messages, at a bounded rate. Each thread has its own.
#[derive(Debug)]
pub struct Unreachable {
    /// When the bucket of [`RATE`] is full again, in nanoseconds.
    full_at: u64,
    message: Vec<u8>,
}

impl Default for Unreachable {
    fn default() -> Self {
        Self {
            full_at: 0,
            message: Vec::with_capacity(MAX_V6),
        }
    }
}

impl Unreachable {
    /// Tells the sender of `packet`, which must be a whole IP packet from the TUN, that its
    /// destination is out of reach; unless that would answer an error, a group, or too many.
    pub fn tell(&mut self, packet: &[u8], now: Time, tun: &Tun) {
        if self.may_send(now) && write(packet, &mut self.message).is_some() {
            // A TUN that doesn't take it loses no more than a courtesy.
            let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
            let header = VnetHeader::default().encode(is_v6);
            let _ = tun.write(&[
                IoSlice::new(&header),
                IoSlice::new(&self.message),
                IoSlice::new(&OWN_ERROR_TRAILER),
            ]);
        }
    }

    fn may_send(&mut self, now: Time) -> bool {
        RATE.take(&mut self.full_at, now.as_nanos())
    }
}

/// Writes the message about `packet`; `None` when there must be none.
fn write(packet: &[u8], message: &mut Vec<u8>) -> Option<()> {
    message.clear();
    match packet.first()? >> 4 {
        4 => write_v4(packet, message),
        6 => write_v6(packet, message),
        _ => None,
    }
}

fn write_v4(packet: &[u8], message: &mut Vec<u8>) -> Option<()> {
    let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
    // Queries may be answered, errors may not.
    let is_error = header.protocol == protocol::ICMP
        && matches!(packet.get(header.header_len())?, 3 | 4 | 5 | 11 | 12);
    if header.is_later_fragment()
        || is_error
        || !is_one_host_v4(header.source)
        || !is_one_host_v4(header.destination)
    {
        return None;
    }
    let quoted = first(packet, MAX_V4 - IPV4_LEN - ICMP_LEN);
    let length = (IPV4_LEN + ICMP_LEN).saturating_add(quoted.len());
    let mut answer = Ipv4 {
        version_and_length: Ipv4::PLAIN,
        class: 0,
        total_length: (length as u16).into(),
        identification: 0.into(),
        fragment: DONT_FRAGMENT.into(),
        hop_limit: HOPS,
        protocol: protocol::ICMP,
        checksum: [0; 2],
        source: header.destination,
        destination: header.source,
    };
    answer.checksum = Sum::default().with(answer.as_bytes()).finish();
    message.extend(answer.as_bytes());
    add_error(HOST_UNREACHABLE_V4, Sum::default(), quoted, message);
    Some(())
}

fn write_v6(packet: &[u8], message: &mut Vec<u8>) -> Option<()> {
    let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
    let is_group = |address: &[u8; 16]| address.first() == Some(&0xff);
    let is_error = header.next_header == protocol::ICMPV6 && *packet.get(IPV6_LEN)? < 128;
    if is_error
        || header.source == [0; 16]
        || is_group(&header.source)
        || is_group(&header.destination)
    {
        return None;
    }
    let quoted = first(packet, MAX_V6 - IPV6_LEN - ICMP_LEN);
    let len = ICMP_LEN.saturating_add(quoted.len()) as u16;
    let answer = Ipv6 {
        version_class_label: [0x60, 0, 0, 0],
        payload_length: len.into(),
        next_header: protocol::ICMPV6,
        hop_limit: HOPS,
        source: header.destination,
        destination: header.source,
    };
    message.extend(answer.as_bytes());
    // The sum covers addresses, length and protocol besides.
    let pseudo = Sum::default()
        .with(&answer.source)
        .with(&answer.destination)
        .with_u16(len)
        .with_u16(u16::from(protocol::ICMPV6));
    add_error(ADDRESS_UNREACHABLE_V6, pseudo, quoted, message);
    Some(())
}

/// So many bytes of a packet, or all that it has.
fn first(packet: &[u8], most: usize) -> &[u8] {
    packet.get(..most).unwrap_or(packet)
}

/// Adds an ICMP error about `quoted` to a message; its checksum goes on from `sum`.
fn add_error((kind, code): (u8, u8), sum: Sum, quoted: &[u8], message: &mut Vec<u8>) {
    let mut header = Icmp {
        kind,
        code,
        checksum: [0; 2],
        rest: [0; 4],
    };
    header.checksum = sum.with(header.as_bytes()).with(quoted).finish();
    message.extend(header.as_bytes());
    message.extend(quoted);
}

/// Not a group, nor everybody, nor nobody.
fn is_one_host_v4(address: [u8; 4]) -> bool {
    (1..224).contains(&address[0])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The Internet checksum word by word, starting from `sum`.
    fn checksum(sum: u32, bytes: &[u8]) -> u16 {
        let word = |pair: &[u8]| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        };
        let mut sum = bytes.chunks(2).map(word).sum::<u32>() + sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn v4(protocol: u8, first: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 9, first, 0, 0, 0, 0, 0, 0, 0]);
        packet
    }

    fn v6(next: u8, first: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, next, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfc; 16]);
        packet.extend([first, 0, 0, 0, 0, 0, 0, 0]);
        packet
    }

    fn message_about(packet: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![1];
        write(packet, &mut message).map(|()| message)
    }

    #[test]
    fn a_v4_sender_hears_from_the_host_it_wanted() {
        let packet = v4(17, 0);
        let message = message_about(&packet).unwrap();
        assert_eq!(message.len(), 28 + packet.len());
        assert_eq!(message[12..20], [10, 0, 0, 9, 10, 0, 0, 1]);
        assert_eq!(message[20..22], [3, 1]);
        assert_eq!(message[28..], packet);
        assert_eq!(checksum(0, &message[..20]), 0);
        assert_eq!(checksum(0, &message[20..]), 0);
    }

    #[test]
    fn a_v6_sender_hears_from_the_host_it_wanted() {
        let packet = v6(17, 0);
        let message = message_about(&packet).unwrap();
        assert_eq!(message[8..24], [0xfc; 16]);
        assert_eq!(message[24..40], [0xfd; 16]);
        assert_eq!(message[40..42], [1, 3]);
        assert_eq!(message[48..], packet);
        let pseudo = (message.len() - 40) as u32 + 58;
        assert_eq!(checksum(pseudo, &message[8..]), 0);
    }

    #[test]
    fn long_packets_are_quoted_in_part() {
        let mut packet = v4(17, 0);
        packet.resize(1400, 0);
        assert_eq!(message_about(&packet).unwrap().len(), MAX_V4);
        let mut packet = v6(17, 0);
        packet.resize(9000, 0);
        assert_eq!(message_about(&packet).unwrap().len(), MAX_V6);
    }

    #[test]
    fn errors_groups_and_later_fragments_are_not_answered() {
        assert!(message_about(&v4(1, 8)).is_some(), "a ping is answered");
        assert!(message_about(&v6(58, 128)).is_some(), "a ping is answered");
        for kind in [3, 4, 5, 11, 12] {
            assert_eq!(message_about(&v4(1, kind)), None);
        }
        assert_eq!(message_about(&v6(58, 1)), None);
        for (at, value) in [(16, 224), (16, 255), (12, 0), (12, 239), (7, 1)] {
            let mut packet = v4(17, 0);
            packet[at] = value;
            assert_eq!(message_about(&packet), None);
        }
        for at in [8, 24] {
            let mut packet = v6(17, 0);
            packet[at] = 0xff;
            assert_eq!(message_about(&packet), None);
        }
        for len in 0..20 {
            assert_eq!(message_about(&v4(17, 0)[..len]), None);
        }
    }

    #[test]
    fn a_flood_is_answered_a_hundred_times_a_second() {
        let mut unreachable = Unreachable::default();
        let start = Time::START + Duration::from_secs(60);
        let allowed = (0..10_000)
            .filter(|n| unreachable.may_send(start + Duration::from_micros(n * 100)))
            .count();
        assert!((130..=133).contains(&allowed), "{allowed}");
    }
}
