//! What the host has: its name servers, and how many files may be open.
//!
//! The name servers change while the gateway runs, so they are read again, at most every two
//! seconds. A client asks one of them, until a question of its own has no answer for a second and
//! nobody else's question has one from there meanwhile either; then it asks the next one. What one
//! client finds out that way moves no other client: its question may be one that no name server
//! answers. Who begins asks the first one that isn't known to be dead: one that can't be sent to,
//! as the kernel says, or that two clients have left, each for want of an answer. That holds for
//! half a minute, or until an answer comes from there.
//!
//! An answer that only says that there is none is no answer here, as for the C library.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

/// How long what was read is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// A name server that leaves a question without an answer for so long doesn't answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// A name server that is known to be dead is tried again after so long.
const DEAD_FOR: Duration = Duration::from_secs(30);
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
    /// How often they have changed.
    version: u64,
    servers: Vec<Server>,
    /// How many clients have asked.
    clients: u64,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// When it answered last.
    answered: Option<Instant>,
    /// The client that has left it since, for want of an answer.
    left_by: Option<u64>,
    /// Since when it is known to be dead.
    dead: Option<Instant>,
}

/// Which name server a client asks, for all of its ids.
#[derive(Debug, Default)]
pub(crate) struct Asker(Cell<Option<Asked>>);

#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The version of the name servers that this is about.
    version: u64,
    /// Whose choice it is.
    client: u64,
    /// Which of them is asked; after the last one comes the first one again.
    which: usize,
    /// Since when that owes this client an answer.
    owes: Option<Instant>,
}

impl Asker {
    /// The name server of `/etc/resolv.conf` to ask now.
    pub(crate) fn name_server(&self, host: &Host, now: Instant) -> Option<SocketAddr> {
        self.name_server_of(host, now, || start_of(RESOLV_CONF))
    }

    fn name_server_of(
        &self,
        host: &Host,
        now: Instant,
        read: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> Option<SocketAddr> {
        let mut state = host.0.borrow_mut();
        state.refresh(now, read);
        let mut asked = self.of(&mut state, now);
        let is_late = |since: &Instant| now.saturating_duration_since(*since) > PATIENCE;
        if let Some(since) = asked.owes.filter(is_late) {
            let server = state.get(asked.which);
            // Others have answers from there: the questions are to blame.
            let is_there = server.is_some_and(|it| it.answered.is_some_and(|at| at > since));
            asked = if is_there {
                Asked {
                    owes: None,
                    ..asked
                }
            } else {
                state.left(asked, now);
                asked.next()
            };
        }
        self.0.set(Some(asked));
        state.get(asked.which).map(|server| server.address)
    }

    /// A question was sent to `server`.
    pub(crate) fn asked(&self, host: &Host, server: SocketAddr, now: Instant) {
        let mut state = host.0.borrow_mut();
        let asked = self.of(&mut state, now);
        if asked.owes.is_none() && state.is(asked.which, server) {
            self.0.set(Some(Asked {
                owes: Some(now),
                ..asked
            }));
        }
    }

    /// `server` has answered.
    pub(crate) fn answered(&self, host: &Host, server: SocketAddr, now: Instant) {
        let mut state = host.0.borrow_mut();
        let asked = self.of(&mut state, now);
        if state.is(asked.which, server) {
            self.0.set(Some(Asked {
                owes: None,
                ..asked
            }));
        }
        state.answered(server, now);
    }

    /// Nobody is there at `server`, or it can't be sent to.
    pub(crate) fn refused(&self, host: &Host, server: SocketAddr, now: Instant) {
        let mut state = host.0.borrow_mut();
        let asked = self.of(&mut state, now);
        if state.is(asked.which, server) {
            self.0.set(Some(asked.next()));
        }
        for it in state.servers.iter_mut().filter(|it| it.address == server) {
            it.dead = Some(now);
        }
    }

    /// What is asked of the name servers that there are now.
    fn of(&self, state: &mut State, now: Instant) -> Asked {
        let known = self.0.get();
        if let Some(known) = known.filter(|it| it.version == state.version) {
            return known;
        }
        let client = if let Some(known) = known {
            known.client
        } else {
            state.clients = state.clients.wrapping_add(1);
            state.clients
        };
        let asked = Asked {
            version: state.version,
            client,
            which: state.first(now),
            owes: None,
        };
        self.0.set(Some(asked));
        asked
    }
}

impl Host {
    /// How many name servers there are.
    pub(crate) fn name_servers(&self) -> usize {
        self.0.borrow().servers.len()
    }
}

impl Asked {
    fn next(self) -> Self {
        Self {
            which: self.which.wrapping_add(1),
            owes: None,
            ..self
        }
    }
}

impl State {
    fn refresh(&mut self, now: Instant, read: impl FnOnce() -> io::Result<Vec<u8>>) {
        let is_good = |then| now.saturating_duration_since(then) <= GOOD_FOR;
        if self.read.is_some_and(is_good) {
            return;
        }
        self.read = Some(now);
        match read() {
            Ok(bytes) => self.take(&name_servers(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.take(&[]),
            // Such as for want of files: what was read before still holds.
            Err(_) => {}
        }
    }

    fn take(&mut self, addresses: &[SocketAddr]) {
        if !self.servers.iter().map(|it| &it.address).eq(addresses) {
            let servers = addresses.iter().map(|address| Server {
                address: *address,
                answered: None,
                left_by: None,
                dead: None,
            });
            self.servers = servers.collect();
            self.version = self.version.wrapping_add(1);
        }
    }

    fn answered(&mut self, server: SocketAddr, now: Instant) {
        for it in self.servers.iter_mut().filter(|it| it.address == server) {
            it.answered = Some(now);
            it.left_by = None;
            it.dead = None;
        }
    }

    /// A client leaves the one that it asks, for want of an answer.
    fn left(&mut self, asked: Asked, now: Instant) {
        let which = asked.which.checked_rem(self.servers.len());
        if let Some(server) = which.and_then(|which| self.servers.get_mut(which)) {
            match server.left_by {
                None => server.left_by = Some(asked.client),
                Some(other) if other != asked.client => server.dead = Some(now),
                Some(_) => {}
            }
        }
    }

    /// Which one who begins asks.
    fn first(&self, now: Instant) -> usize {
        let is_dead = |since: Instant| now.saturating_duration_since(since) < DEAD_FOR;
        let alive = |it: &Server| !it.dead.is_some_and(is_dead);
        self.servers.iter().position(alive).unwrap_or(0)
    }

    fn get(&self, which: usize) -> Option<&Server> {
        self.servers.get(which.checked_rem(self.servers.len())?)
    }

    fn is(&self, which: usize, address: SocketAddr) -> bool {
        self.get(which).is_some_and(|it| it.address == address)
    }
}

/// Whether this is an answer, and not one that says that there is none: `SERVFAIL`, `NOTIMP` or
/// `REFUSED` (RFC 1035, section 4.1.1).
pub(crate) fn is_answer(message: &[u8]) -> bool {
    const HEADER: usize = 12;
    match message {
        [_, _, flags, rest, ..] if message.len() >= HEADER => {
            flags & 0x80 != 0 && !matches!(rest & 0x0f, 2 | 4 | 5)
        }
        _ => false,
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
        let (host, asker) = (Host::default(), Asker::default());
        let mut now = Instant::now();
        let mut ask = |read: io::Result<&str>| {
            now += 2 * GOOD_FOR;
            let read = || read.map(|text| text.as_bytes().to_vec());
            let server = asker.name_server_of(&host, now, read);
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

    /// Two name servers, and clients that ask them at times in milliseconds.
    struct Scene {
        host: Host,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                host: Host::default(),
                start: Instant::now(),
            }
        }

        fn at(&self, milliseconds: u64) -> Instant {
            self.start + Duration::from_millis(milliseconds)
        }

        fn server(&self, client: &Asker, at: u64) -> SocketAddr {
            let two = "nameserver 1.1.1.1\nnameserver 2.2.2.2";
            let read = || Ok(two.as_bytes().to_vec());
            let server = client.name_server_of(&self.host, self.at(at), read);
            server.unwrap()
        }

        /// Sends a question, and tells where.
        fn ask(&self, client: &Asker, at: u64) -> String {
            let server = self.server(client, at);
            client.asked(&self.host, server, self.at(at));
            server.ip().to_string()
        }

        fn answer(&self, client: &Asker, server: &str, at: u64) {
            let server = format!("{server}:53").parse().unwrap();
            client.answered(&self.host, server, self.at(at));
        }

        fn refuse(&self, client: &Asker, server: &str, at: u64) {
            let server = format!("{server}:53").parse().unwrap();
            client.refused(&self.host, server, self.at(at));
        }
    }

    #[test]
    fn the_next_one_is_asked_once_one_does_not_answer() {
        let (scene, client) = (Scene::new(), Asker::default());
        assert_eq!(scene.ask(&client, 0), "1.1.1.1");
        assert_eq!(scene.ask(&client, 900), "1.1.1.1");
        scene.answer(&client, "1.1.1.1", 950);
        assert_eq!(scene.ask(&client, 1100), "1.1.1.1");
        assert_eq!(scene.ask(&client, 2000), "1.1.1.1");
        assert_eq!(scene.ask(&client, 2200), "2.2.2.2");
        // Too late, and the other one isn't heard of by it.
        scene.answer(&client, "1.1.1.1", 2250);
        assert_eq!(scene.ask(&client, 3300), "1.1.1.1");
        scene.refuse(&client, "2.2.2.2", 3300);
        assert_eq!(scene.ask(&client, 3301), "1.1.1.1");
        scene.refuse(&client, "1.1.1.1", 3301);
        assert_eq!(scene.ask(&client, 3302), "2.2.2.2");
        scene.answer(&client, "2.2.2.2", 3303);
        // Others are others.
        let other = || Ok(b"nameserver 3.3.3.3".to_vec());
        let other = client.name_server_of(&scene.host, scene.at(9000), other);
        assert_eq!(other.unwrap().ip().to_string(), "3.3.3.3");
        assert_eq!(scene.server(&client, 19_000).ip().to_string(), "1.1.1.1");
    }

    #[test]
    fn a_question_without_an_answer_moves_only_who_asked_it() {
        let scene = Scene::new();
        let (hostile, honest, late) = (Asker::default(), Asker::default(), Asker::default());
        assert_eq!(scene.ask(&honest, 0), "1.1.1.1");
        scene.answer(&honest, "1.1.1.1", 10);
        // Nonsense, ten times a second, to a good one and one that is dead.
        let mut asked = std::collections::BTreeSet::new();
        for at in (100..6000).step_by(100) {
            asked.insert(scene.ask(&hostile, at));
            assert_eq!(scene.server(&honest, at).ip().to_string(), "1.1.1.1");
        }
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert_eq!(scene.ask(&late, 6000), "1.1.1.1");
        // While others have answers from it, it stays with the one that is good.
        let busy = Asker::default();
        for at in (6000..12_000).step_by(100) {
            assert_eq!(scene.ask(&busy, at), "1.1.1.1");
            scene.answer(&honest, "1.1.1.1", at + 50);
        }
    }

    #[test]
    fn who_begins_asks_the_first_that_is_not_known_to_be_dead() {
        let (scene, first, second) = (Scene::new(), Asker::default(), Asker::default());
        let begin = |at| scene.ask(&Asker::default(), at);
        scene.ask(&first, 0);
        assert_eq!(scene.ask(&first, 1100), "2.2.2.2");
        scene.answer(&first, "2.2.2.2", 1120);
        // One client's word isn't enough.
        assert_eq!(begin(1130), "1.1.1.1");
        scene.ask(&second, 1200);
        assert_eq!(scene.ask(&second, 2300), "2.2.2.2");
        assert_eq!(begin(2310), "2.2.2.2");
        // Not for ever; and then one is enough to find out again.
        assert_eq!(begin(33_000), "1.1.1.1");
        let third = Asker::default();
        scene.ask(&third, 33_000);
        scene.ask(&third, 34_100);
        assert_eq!(begin(34_200), "2.2.2.2");
        // Until an answer comes from there.
        scene.answer(&Asker::default(), "1.1.1.1", 34_300);
        assert_eq!(begin(34_400), "1.1.1.1");
        // An answer of a later one says nothing of an earlier one.
        scene.answer(&first, "2.2.2.2", 34_500);
        assert_eq!(begin(34_600), "1.1.1.1");
    }

    #[test]
    fn one_client_alone_can_not_call_a_name_server_dead() {
        let (scene, hostile) = (Scene::new(), Asker::default());
        for at in (0..20_000).step_by(1500) {
            if scene.ask(&hostile, at) == "2.2.2.2" {
                scene.answer(&hostile, "2.2.2.2", at + 10);
                scene.refuse(&hostile, "9.9.9.9", at + 20);
            }
            assert_eq!(scene.ask(&Asker::default(), at + 100), "1.1.1.1");
        }
    }

    #[test]
    fn what_can_not_be_sent_to_is_dead_for_all() {
        let (scene, client) = (Scene::new(), Asker::default());
        assert_eq!(scene.ask(&client, 0), "1.1.1.1");
        scene.refuse(&client, "1.1.1.1", 1);
        assert_eq!(scene.ask(&client, 2), "2.2.2.2");
        assert_eq!(scene.ask(&Asker::default(), 3), "2.2.2.2");
        // If all are, the first one is as good as any.
        scene.refuse(&client, "2.2.2.2", 4);
        assert_eq!(scene.ask(&Asker::default(), 5), "1.1.1.1");
        assert_eq!(scene.host.name_servers(), 2);
    }

    #[test]
    fn what_says_that_there_is_no_answer_is_none() {
        let message = |flags: u8, code: u8| [&[1, 2, flags, code][..], &[0; 8]].concat();
        // Also of a name that doesn't exist, and whatever the flags beside.
        for code in [0, 1, 3, 0x80, 0xa3] {
            assert!(is_answer(&message(0x81, code)), "{code}");
        }
        for code in [2, 4, 5, 0x82, 0x85] {
            assert!(!is_answer(&message(0x81, code)), "{code}");
        }
        assert!(!is_answer(&message(0x01, 0)), "a question");
        assert!(!is_answer(&message(0x81, 0)[..11]));
        assert!(!is_answer(b""));
    }

    #[test]
    fn files_can_be_opened_as_far_as_allowed() {
        assert!(raise_file_limit(64) >= 64);
    }
}
