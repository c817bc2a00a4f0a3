//! How deep WireGuard datagrams may be nested.
//!
//! A tunnel through a tunnel is fine. But if the routes of two tunnels lead into each other, each
//! datagram of one becomes a longer one of the other, for ever, and several once it is
//! fragmented. The inside is encrypted by then, and the other tunnel may be another process's. So
//! a datagram that carries another one shows the depth in its hop limit, which anybody can read: an encapsulation limit as in RFC 2473,
//! §4.1.1, with its default of four.
//!
//! The values are at the upper end, as far from what systems start with (64, 128) as from
//! limiting how far a datagram gets.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use super::ip;

/// The hop limit of a datagram that carries one which carries none.
const FIRST: u8 = 255;
/// That of a datagram which may not be carried any more.
const LAST: u8 = 252;

/// What a packet is that is about to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    /// Not a datagram of WireGuard's.
    None,
    /// One of WireGuard's; what carries it has to leave with this hop limit.
    Carried(u8),
    /// One that lies too deep: its route goes round in circles.
    TooDeep,
}

impl Nesting {
    /// Judges an IP packet that [`ip::parse`] accepted.
    ///
    /// A later fragment can't be told from other packets. It starts anew, but is what is
    /// left of a datagram that was just a little too long, and so becomes one that isn't
    /// fragmented again before it is too deep.
    pub(super) fn of(packet: &[u8]) -> Self {
        if !ip::udp_payload(packet).is_some_and(is_wireguard) {
            return Self::None;
        }
        match ip::hop_limit(packet) {
            LAST => Self::TooDeep,
            limit if limit > LAST => Self::Carried(limit.saturating_sub(1)),
            _ => Self::Carried(FIRST),
        }
    }
}

/// Whether it begins with a type and the three zeros that follow it (§5.4).
fn is_wireguard(payload: &[u8]) -> bool {
    matches!(payload, [1..=4, 0, 0, 0, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(hops: u8, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let len = (28 + payload.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([hops, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0; 8]);
        packet.extend(payload);
        packet
    }

    fn v6(hops: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((8 + payload.len() as u16).to_be_bytes());
        packet.extend([17, hops]);
        packet.resize(48, 0);
        packet.extend(payload);
        packet
    }

    const DATA: [u8; 32] = {
        let mut message = [7; 32];
        (message[0], message[1], message[2], message[3]) = (4, 0, 0, 0);
        message
    };

    #[test]
    fn a_datagram_is_carried_four_times_at_most_over_either_version() {
        for packet in [|hops| v4(hops, 17, 0, &DATA), |hops| v6(hops, &DATA)] {
            let mut hops = 64;
            let mut carried = 0;
            while let Nesting::Carried(next) = Nesting::of(&packet(hops)) {
                carried += 1;
                hops = next;
            }
            assert_eq!(Nesting::of(&packet(hops)), Nesting::TooDeep);
            assert_eq!(carried, 4);
        }
    }

    #[test]
    fn a_first_fragment_counts_and_a_later_one_is_like_any_packet() {
        let more = 0x2000;
        assert_eq!(Nesting::of(&v4(64, 17, more, &DATA)), Nesting::Carried(255));
        assert_eq!(Nesting::of(&v4(252, 17, 1, &DATA)), Nesting::None);

        let mut packet = v6(252, &DATA);
        packet[6] = 44;
        packet.splice(40..40, [17, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(Nesting::of(&packet), Nesting::TooDeep);
        packet[43] = 1 << 3;
        assert_eq!(Nesting::of(&packet), Nesting::None);
        packet[43] = 0;
        packet[40] = 6;
        assert_eq!(Nesting::of(&packet), Nesting::None);
        packet.truncate(45);
        assert_eq!(Nesting::of(&packet), Nesting::None);
    }

    #[test]
    fn other_packets_are_carried_whatever_their_hop_limit_is() {
        for hops in [1, 64, 252, 255] {
            assert_eq!(Nesting::of(&v4(hops, 6, 0, &DATA)), Nesting::None);
            assert_eq!(Nesting::of(&v4(hops, 17, 0, b"")), Nesting::None);
            for other in [[0, 0, 0, 0], [5, 0, 0, 0], [4, 0, 0, 1], [1, 1, 0, 0]] {
                assert_eq!(Nesting::of(&v4(hops, 17, 0, &other)), Nesting::None);
                assert_eq!(Nesting::of(&v6(hops, &other)), Nesting::None);
            }
        }
    }

    #[test]
    fn what_has_lost_hops_on_a_way_between_still_comes_to_an_end() {
        let mut hops = 64;
        let mut carried = 0;
        while let Nesting::Carried(next) = Nesting::of(&v4(hops, 17, 0, &DATA)) {
            carried += 1;
            // A router between the two tunnels.
            hops = next - 1;
        }
        assert!(carried <= 4, "{carried}");
    }
}
