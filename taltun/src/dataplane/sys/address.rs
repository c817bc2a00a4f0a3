//! Socket addresses between Rust and C.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Writes `address` for a socket of the given family: on an IPv6 socket an IPv4 address is
/// written in its mapped form.
pub(super) fn encode(
    address: SocketAddr,
    v6_socket: bool,
) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = if v6_socket {
        let (ip, scope, flow) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0, 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id(), v6.flowinfo()),
        };
        let v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: flow,
            sin6_addr: libc::in6_addr {
                s6_addr: ip.octets(),
            },
            sin6_scope_id: scope,
        };
        // SAFETY: sockaddr_storage is large enough and aligned for every socket address.
        unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(v6) };
        size_of::<libc::sockaddr_in6>()
    } else {
        let ip = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip,
            // Nothing but an error can come of sending to IPv6 from an IPv4 socket; the
            // unspecified address makes the kernel give one.
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let v4 = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: address.port().to_be(),
            sin_addr: v4_addr(ip),
            sin_zero: [0; 8],
        };
        // SAFETY: as above.
        unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(v4) };
        size_of::<libc::sockaddr_in>()
    };
    (storage, len as libc::socklen_t)
}

/// Reads an address that the kernel wrote; mapped IPv4 comes out as IPv4.
pub(super) fn decode(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let at = std::ptr::from_ref(storage);
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in, which fits and is aligned.
            let v4 = unsafe { &*at.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6, which fits and is aligned.
            let v6 = unsafe { &*at.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddrV4::new(v4, port).into(),
                None => SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

/// An IPv4 address as C holds it.
pub(super) fn v4_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_c_and_back() {
        for text in ["192.0.2.1:51820", "[2001:db8::1]:9000", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let (storage, _) = encode(address, true);
            assert_eq!(decode(&storage), Some(address));
        }
        let v4: SocketAddr = "192.0.2.1:51820".parse().unwrap();
        let (storage, _) = encode(v4, false);
        assert_eq!(decode(&storage), Some(v4));
    }
}
