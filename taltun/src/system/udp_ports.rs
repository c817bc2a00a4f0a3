//! The UDP ports that sockets of this host have.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;

/// The ports of `range` that a socket in the network namespace of the calling thread has, in order.
pub fn udp_ports(range: RangeInclusive<u16>) -> Vec<u16> {
    // A kernel without IPv6 has no second list.
    let lists = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
    let text: String = lists
        .iter()
        .filter_map(|list| fs::read_to_string(list).ok())
        .collect();
    let ports: BTreeSet<u16> = text.lines().filter_map(local_port).collect();
    ports.range(range).copied().collect()
}

/// The local port in a line of such a list: `  37: 0100007F:14E9 00000000:0000 07 …`.
fn local_port(line: &str) -> Option<u16> {
    let local = line.split_whitespace().nth(1)?;
    let (_, port) = local.rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_of_either_family_has_its_port() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let Ok(socket) = UdpSocket::bind(address) else {
                continue;
            };
            let port = socket.local_addr().unwrap().port();
            assert_eq!(udp_ports(port..=port), [port]);
            drop(socket);
            assert!(udp_ports(port..=port).is_empty());
        }
    }

    #[test]
    fn a_heading_has_no_port() {
        assert_eq!(local_port("  sl  local_address rem_address   st"), None);
        let line = "  37: 0100007F:14E9 00000000:0000 07 00000000:00000000";
        assert_eq!(local_port(line), Some(5353));
    }
}
