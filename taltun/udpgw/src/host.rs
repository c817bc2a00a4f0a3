//! What the host has: its name servers, and how many files may be open.
//!
//! The name servers change while the gateway runs, so they are read again, at most every two
//! seconds.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

/// How long what was read is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What was read last, and when.
#[derive(Debug, Default)]
pub(crate) struct Host {
    servers: RefCell<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Host {
    /// A name server of `/etc/resolv.conf`; after the last one comes the first one again.
    pub(crate) fn name_server(&self, which: usize, now: Instant) -> Option<SocketAddr> {
        self.name_server_of(which, now, || fs::read_to_string(RESOLV_CONF))
    }

    fn name_server_of(
        &self,
        which: usize,
        now: Instant,
        read: impl FnOnce() -> io::Result<String>,
    ) -> Option<SocketAddr> {
        let mut last = self.servers.borrow_mut();
        let then = last.as_ref().map(|(then, _)| *then);
        if then.is_none_or(|then| now.saturating_duration_since(then) > GOOD_FOR) {
            match read() {
                Ok(text) => *last = Some((now, name_servers(&text))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    *last = Some((now, Vec::new()));
                }
                // Such as for want of files: what was read before still holds.
                Err(_) => {}
            }
        }
        let (_, servers) = last.as_ref()?;
        let which = which.checked_rem(servers.len())?;
        servers.get(which).copied()
    }
}

/// The `nameserver` lines that have an address. Without a scope that is a number, a link-local
/// address can't be sent to.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines().filter_map(name_server).collect()
}

fn name_server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    let address = words.next()?;
    let (ip, scope) = match address.split_once('%') {
        Some((ip, scope)) => (ip, Some(interface_index(scope)?)),
        None => (address, None),
    };
    match ip.parse().ok()? {
        IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, 53, 0, scope.unwrap_or(0)).into()),
        ip @ IpAddr::V4(_) => Some(SocketAddr::new(ip, 53)),
    }
}

fn interface_index(name: &str) -> Option<u32> {
    let known = name.parse().ok();
    known.or_else(|| {
        let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
        index.trim().parse().ok()
    })
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
    fn name_servers_are_found() {
        for (text, expected) in [
            ("", &[][..]),
            ("# nameserver 1.1.1.1\nsearch a\n", &[]),
            (
                "nameserver 1.1.1.1\nnameserver 2.2.2.2",
                &["1.1.1.1:53", "2.2.2.2:53"],
            ),
            ("nameserver x\nnameserver\t::1 \nnameserver", &["[::1]:53"]),
            ("nameserver fe80::1%lo", &["[fe80::1%1]:53"]),
            ("nameserver fe80::1%7", &["[fe80::1%7]:53"]),
        ] {
            let expected: Vec<SocketAddr> =
                expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(name_servers(text), expected, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_as_before() {
        let host = Host::default();
        let mut now = Instant::now();
        let mut ask = |which, read: io::Result<&str>| {
            now += 2 * GOOD_FOR;
            let server = host.name_server_of(which, now, || read.map(str::to_owned));
            server.map(|server| server.ip().to_string())
        };
        let failed = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(ask(0, failed()), None);
        let two = "nameserver 1.1.1.1\nnameserver 2.2.2.2";
        assert_eq!(ask(0, Ok(two)).as_deref(), Some("1.1.1.1"));
        assert_eq!(ask(1, failed()).as_deref(), Some("2.2.2.2"));
        assert_eq!(ask(2, failed()).as_deref(), Some("1.1.1.1"));
        assert_eq!(ask(0, Err(io::ErrorKind::NotFound.into())), None);
        assert_eq!(ask(0, failed()), None);
    }

    #[test]
    fn files_can_be_opened_as_far_as_allowed() {
        assert!(raise_file_limit(64) >= 64);
    }
}
