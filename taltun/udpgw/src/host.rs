//! What the host has: its name servers, and how many files may be open.
//!
//! The name servers change while the gateway runs, so they are read again, at most every two
//! seconds. One of them is asked, until a question has no answer for a second and nobody else's
//! question has one meanwhile either; then the next one is. All clients of a worker share what is
//! known of that: one that begins doesn't have to find it out again.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

/// How long what was read is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// A name server that answers nobody for so long doesn't answer.
const PATIENCE: Duration = Duration::from_secs(1);
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What is longer is read so far.
const LONGEST: usize = 64 << 10;

/// The name servers.
#[derive(Debug, Default)]
pub(crate) struct Host(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// When they were read.
    read: Option<Instant>,
    servers: Vec<SocketAddr>,
    /// Which of them is asked; after the last one comes the first one again.
    which: usize,
    /// Since when that owes an answer.
    owes: Option<Instant>,
}

impl Host {
    /// The name server of `/etc/resolv.conf` to ask now.
    pub(crate) fn name_server(&self, now: Instant) -> Option<SocketAddr> {
        self.name_server_of(now, || start_of(RESOLV_CONF))
    }

    fn name_server_of(
        &self,
        now: Instant,
        read: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> Option<SocketAddr> {
        let mut state = self.0.borrow_mut();
        let is_past = |then: Instant, limit| now.saturating_duration_since(then) > limit;
        if state.read.is_none_or(|then| is_past(then, GOOD_FOR)) {
            state.read = Some(now);
            match read() {
                Ok(bytes) => state.take(name_servers(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => state.take(Vec::new()),
                // Such as for want of files: what was read before still holds.
                Err(_) => {}
            }
        }
        if state.owes.is_some_and(|then| is_past(then, PATIENCE)) {
            state.go_on();
        }
        state.current()
    }

    /// A question was sent to `server`.
    pub(crate) fn asked(&self, server: SocketAddr, now: Instant) {
        let mut state = self.0.borrow_mut();
        if state.current() == Some(server) && state.owes.is_none() {
            state.owes = Some(now);
        }
    }

    /// `server` has answered.
    pub(crate) fn answered(&self, server: SocketAddr) {
        let mut state = self.0.borrow_mut();
        if state.current() == Some(server) {
            state.owes = None;
        }
    }

    /// Nobody is there at `server`, or nobody who answers.
    pub(crate) fn refused(&self, server: SocketAddr) {
        let mut state = self.0.borrow_mut();
        if state.current() == Some(server) {
            state.go_on();
        }
    }
}

impl State {
    fn take(&mut self, servers: Vec<SocketAddr>) {
        if self.servers != servers {
            *self = Self {
                read: self.read,
                servers,
                ..Self::default()
            };
        }
    }

    fn go_on(&mut self) {
        self.which = self.which.wrapping_add(1);
        self.owes = None;
    }

    fn current(&self) -> Option<SocketAddr> {
        let which = self.which.checked_rem(self.servers.len())?;
        self.servers.get(which).copied()
    }
}

/// The lines of a file, as far as it is read.
fn start_of(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = File::open(path)?
        .take(LONGEST as u64)
        .read_to_end(&mut bytes)?;
    if length == LONGEST {
        // Without a line that may go on.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(whole.unwrap_or_default());
    }
    Ok(bytes)
}

/// The `nameserver` lines that have an address. Without a scope that is a number, a link-local
/// address can't be sent to. What isn't UTF-8 is no harm, as comments are in any encoding.
fn name_servers(bytes: &[u8]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(bytes);
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
            assert_eq!(name_servers(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_as_before() {
        let host = Host::default();
        let mut now = Instant::now();
        let mut ask = |read: io::Result<&str>| {
            now += 2 * GOOD_FOR;
            let server = host.name_server_of(now, || read.map(|text| text.as_bytes().to_vec()));
            server.map(|server| server.ip().to_string())
        };
        let failed = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(ask(failed()), None);
        assert_eq!(ask(Ok("nameserver 1.1.1.1")).as_deref(), Some("1.1.1.1"));
        assert_eq!(ask(failed()).as_deref(), Some("1.1.1.1"));
        assert_eq!(ask(Err(io::ErrorKind::NotFound.into())), None);
        assert_eq!(ask(failed()), None);
    }

    #[test]
    fn other_encodings_and_long_files_are_no_harm() {
        let found = name_servers(b"# B\xfcro\nnameserver 1.1.1.1 # \xff\nnameserver \xff");
        assert_eq!(found, ["1.1.1.1:53".parse().unwrap()]);
        let path = std::env::temp_dir().join(format!("taltun-resolv-{}", std::process::id()));
        let mut text = "nameserver 1.1.1.1\n".to_owned();
        // The limit cuts this one's address short.
        text.push_str(&" ".repeat(LONGEST - text.len() - 18));
        text.push_str("nameserver 2.2.2.22\n");
        assert!(text[..LONGEST].ends_with("nameserver 2.2.2.2"));
        text.push_str(&"x".repeat(LONGEST));
        fs::write(&path, text).unwrap();
        let read = start_of(path.to_str().unwrap());
        fs::remove_file(&path).unwrap();
        let read = read.unwrap();
        assert!(read.len() < LONGEST);
        assert_eq!(name_servers(&read), ["1.1.1.1:53".parse().unwrap()]);
    }

    #[test]
    fn the_next_one_is_asked_once_one_answers_nobody() {
        let host = Host::default();
        let start = Instant::now();
        let two = "nameserver 1.1.1.1\nnameserver 2.2.2.2";
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let server = |now| {
            let server = host.name_server_of(now, || Ok(two.as_bytes().to_vec()));
            server.unwrap()
        };
        let ask = |now| {
            let server = server(now);
            host.asked(server, now);
            server.ip().to_string()
        };
        let first = server(at(0));
        assert_eq!(ask(at(0)), "1.1.1.1");
        assert_eq!(ask(at(900)), "1.1.1.1");
        // Somebody else has an answer, and so it is there.
        host.answered(first);
        assert_eq!(ask(at(1100)), "1.1.1.1");
        assert_eq!(ask(at(2000)), "1.1.1.1");
        assert_eq!(ask(at(2200)), "2.2.2.2");
        let second = server(at(2200));
        // Too late, and the other one isn't heard of by it.
        host.answered(first);
        assert_eq!(ask(at(3300)), "1.1.1.1");
        host.refused(second);
        assert_eq!(ask(at(3301)), "1.1.1.1");
        host.refused(first);
        assert_eq!(ask(at(3302)), "2.2.2.2");
        host.answered(second);
        // Others are others.
        let other = host.name_server_of(at(9000), || Ok(b"nameserver 3.3.3.3".to_vec()));
        assert_eq!(other.unwrap().ip().to_string(), "3.3.3.3");
        assert_eq!(server(at(19_000)), first);
    }

    #[test]
    fn files_can_be_opened_as_far_as_allowed() {
        assert!(raise_file_limit(64) >= 64);
    }
}
