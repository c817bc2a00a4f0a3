//! What the host has: its own addresses, its name servers, how many files may be open.
//!
//! Addresses and name servers change while the gateway runs, so they are read again, at most
//! every two seconds.

use std::cell::RefCell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;
use std::time::{Duration, Instant};

/// How long what was read is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What was read last, and when.
#[derive(Debug, Default)]
pub(crate) struct Host {
    addresses: RefCell<Option<(Instant, Vec<IpAddr>)>>,
    resolver: RefCell<Option<(Instant, Option<SocketAddr>)>>,
}

impl Host {
    /// Whether `ip` is one of the host's own addresses. If they can't be read, all are taken
    /// for such.
    pub(crate) fn owns(&self, ip: IpAddr, now: Instant) -> bool {
        let mut read = self.addresses.borrow_mut();
        if is_old(read.as_ref().map(|(then, _)| *then), now) {
            *read = own_addresses().map(|addresses| (now, addresses));
        }
        let ip = ip.to_canonical();
        read.as_ref().is_none_or(|(_, own)| own.contains(&ip))
    }

    /// The first name server of `/etc/resolv.conf`.
    pub(crate) fn resolver(&self, now: Instant) -> Option<SocketAddr> {
        let mut read = self.resolver.borrow_mut();
        if is_old(read.as_ref().map(|(then, _)| *then), now) {
            let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
            *read = Some((now, first_name_server(&text)));
        }
        read.as_ref().and_then(|(_, resolver)| *resolver)
    }
}

fn is_old(then: Option<Instant>, now: Instant) -> bool {
    then.is_none_or(|then| now.saturating_duration_since(then) > GOOD_FOR)
}

/// The first `nameserver` line that has an address. Without a scope that is a number, a
/// link-local address can't be sent to.
fn first_name_server(text: &str) -> Option<SocketAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next()? != "nameserver" {
            return None;
        }
        let (ip, scope) = match words.next()?.split_once('%') {
            Some((ip, scope)) => (ip.to_owned(), Some(interface_index(scope)?)),
            None => (line.split_ascii_whitespace().nth(1)?.to_owned(), None),
        };
        match ip.parse().ok()? {
            IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, 53, 0, scope.unwrap_or(0)).into()),
            ip @ IpAddr::V4(_) => Some(SocketAddr::new(ip, 53)),
        }
    })
}

fn interface_index(name: &str) -> Option<u32> {
    let known = name.parse().ok();
    known.or_else(|| {
        let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
        index.trim().parse().ok()
    })
}

/// The addresses of all interfaces.
fn own_addresses() -> Option<Vec<IpAddr>> {
    let mut first = ptr::null_mut();
    // SAFETY: the kernel's answer is written to `first`, which lives as long as the call.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return None;
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: `next` is an element of the list, or null at its end, until `freeifaddrs`.
    while let Some(element) = unsafe { next.as_ref() } {
        next = element.ifa_next;
        let address = element.ifa_addr;
        // SAFETY: an address is null or begins with its family.
        let family = unsafe { address.as_ref() }.map(|address| i32::from(address.sa_family));
        match family {
            Some(libc::AF_INET) => {
                // SAFETY: one of this family is a `sockaddr_in`, which may not be aligned.
                let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                addresses.push(ip.into());
            }
            Some(libc::AF_INET6) => {
                // SAFETY: one of this family is a `sockaddr_in6`, which may not be aligned.
                let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
                addresses.push(Ipv6Addr::from(address.sin6_addr.s6_addr).into());
            }
            _ => {}
        }
    }
    // SAFETY: `first` is what `getifaddrs` gave, freed once and not used any more.
    unsafe { libc::freeifaddrs(first) };
    Some(addresses)
}

/// Lets this process open `wanted` files, as far as it may, and returns how many it can.
pub fn raise_file_limit(wanted: usize) -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is written to `limit`, which lives as long as the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return wanted;
    }
    let wanted = wanted as libc::rlim_t;
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit {
            rlim_cur: wanted.min(limit.rlim_max),
            rlim_max: limit.rlim_max,
        };
        // SAFETY: the limit is read from `raised`, which lives as long as the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_owns_its_loopback_and_nothing_else() {
        let host = Host::default();
        let now = Instant::now();
        assert!(host.owns(Ipv4Addr::LOCALHOST.into(), now));
        assert!(host.owns("::ffff:127.0.0.1".parse().unwrap(), now));
        assert!(!host.owns("192.0.2.1".parse().unwrap(), now));
    }

    #[test]
    fn the_first_name_server_is_found() {
        for (text, expected) in [
            ("", None),
            ("# nameserver 1.1.1.1\nsearch a\n", None),
            ("nameserver 1.1.1.1\nnameserver 2.2.2.2", Some("1.1.1.1:53")),
            ("nameserver x\nnameserver\t::1 \n", Some("[::1]:53")),
            ("nameserver fe80::1%lo", Some("[fe80::1%1]:53")),
            ("nameserver fe80::1%7", Some("[fe80::1%7]:53")),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(first_name_server(text), expected, "{text}");
        }
    }

    #[test]
    fn files_can_be_opened_as_far_as_allowed() {
        assert!(raise_file_limit(64) >= 64);
    }
}
