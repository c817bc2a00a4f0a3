//! What a service manager is told (`sd_notify(3)`): when the tunnel answers, what it does, that it
//! reloads and that it lives.
//!
//! Nobody waits for it. A manager that takes no datagrams for a while gets them later, the order
//! kept; that is why this isn't the `sd-notify` crate, whose sending waits.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::monotonic;

/// The longest status, bytes: more would be no line.
const LONGEST_STATUS: usize = 400;
/// What may wait for a manager that doesn't read, bytes. The beats of the watchdog never wait.
const LONGEST_QUEUE: usize = 16 << 10;

/// That of this process; one that tells nobody where there is none.
pub(crate) fn service_manager() -> &'static ServiceManager {
    static OURS: OnceLock<ServiceManager> = OnceLock::new();
    OURS.get_or_init(ServiceManager::of_this_process)
}

/// Who started this process and wants to hear of it.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that we live.
    beat: Option<Duration>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Datagrams that it didn't take yet, the oldest first.
    waiting: Vec<String>,
    /// The last status.
    status: String,
    /// Reloads that were asked for and have no result yet.
    reloads: usize,
    /// Why the last one failed, which each status repeats.
    refused: Option<String>,
}

impl ServiceManager {
    fn of_this_process() -> Self {
        let address = env::var_os("NOTIFY_SOCKET");
        let variable = |name| env::var(name).ok();
        let beat = watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Self::at(address.as_deref(), beat)
    }

    fn at(address: Option<&OsStr>, beat: Option<Duration>) -> Self {
        // One that can't be reached is as good as none: it notices by its own limits.
        let socket = address.and_then(|address| connected(address).ok());
        Self {
            beat: beat.filter(|_| socket.is_some()),
            socket,
            told: Mutex::default(),
        }
    }

    /// How often to call [`Self::live`], at the least.
    pub(crate) fn beat(&self) -> Option<Duration> {
        self.beat
    }

    /// The tunnel answers.
    pub(crate) fn ready(&self, status: &str) {
        let status = shortened(status);
        let mut told = self.told();
        self.send(&mut told, format!("READY=1\nSTATUS={status}"));
        told.status = status;
    }

    /// A line for people; the same one again is told once.
    pub(crate) fn status(&self, status: &str) {
        let mut told = self.told();
        let status = told.with_refusal(status);
        if told.status != status {
            self.send(&mut told, format!("STATUS={status}"));
            told.status = status;
        }
    }

    /// A reload begins. It ends with [`Self::reloaded`].
    pub(crate) fn reloading(&self) {
        let mut told = self.told();
        told.reloads += 1;
        let now = monotonic().as_micros();
        self.send(&mut told, format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// A reload has ended, with a line for people about what it did or why it did nothing.
    pub(crate) fn reloaded(&self, result: Result<&str, &str>) {
        let mut told = self.told();
        told.reloads = told.reloads.saturating_sub(1);
        told.refused = result.err().map(str::to_owned);
        let status = told.with_refusal(result.unwrap_or_default());
        // Until the last of them has ended, the manager is right to wait.
        let ready = if told.reloads == 0 { "READY=1\n" } else { "" };
        self.send(&mut told, format!("{ready}STATUS={status}"));
        told.status = status;
    }

    /// The end begins.
    pub(crate) fn stopping(&self) {
        let mut told = self.told();
        self.send(&mut told, "STOPPING=1\nSTATUS=going down".to_owned());
        "going down".clone_into(&mut told.status);
    }

    /// Who calls this lives; and what waits goes now, if it can.
    pub(crate) fn live(&self) {
        let mut told = self.told();
        self.flush(&mut told);
        if self.beat.is_some()
            && let Some(socket) = &self.socket
        {
            // The next one comes in time, too.
            let _ = socket.send(b"WATCHDOG=1");
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, told: &mut Told, text: String) {
        if self.socket.is_none() {
            return;
        }
        let waiting: usize = told.waiting.iter().map(String::len).sum();
        if waiting + text.len() > LONGEST_QUEUE {
            // Of a status, only the last one counts.
            told.waiting.retain(|text| !text.starts_with("STATUS="));
        }
        told.waiting.push(text);
        self.flush(told);
    }

    fn flush(&self, told: &mut Told) {
        let Some(socket) = &self.socket else { return };
        let mut sent = 0;
        for text in &told.waiting {
            match socket.send(text.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // One that is gone takes no more, now or later.
                _ => sent += 1,
            }
        }
        told.waiting.drain(..sent);
    }
}

impl Told {
    fn with_refusal(&self, status: &str) -> String {
        let refusal = self.refused.as_ref();
        let refusal = refusal.map(|reason| format!("not reloaded: {reason}"));
        let parts = [status].into_iter().chain(refusal.as_deref());
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        shortened(&parts.join("; "))
    }
}

/// A socket that leads to the manager and never waits.
fn connected(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let bytes = address.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// How often the manager wants to hear from process `own`: twice in its limit.
fn watchdog(limit: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    // A limit for another process isn't ours.
    if process.is_some_and(|process| process.parse() != Ok(own)) {
        return None;
    }
    let limit: u64 = limit?.parse().ok()?;
    (limit > 0).then(|| Duration::from_micros(limit / 2))
}

/// One line of text, not too long.
fn shortened(text: &str) -> String {
    let mut line = text.trim().replace('\n', "; ");
    if line.len() > LONGEST_STATUS {
        let end = (0..=LONGEST_STATUS).rev();
        let end = end.into_iter().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or_default());
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(beat: Option<Duration>) -> (ServiceManager, UnixDatagram, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let manager = ServiceManager::at(Some(path.as_os_str()), beat);
        (manager, receiver, dir)
    }

    fn heard(receiver: &UnixDatagram) -> Vec<String> {
        let mut heard = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(length) = receiver.recv(&mut bytes) {
            heard.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        heard
    }

    #[test]
    fn a_life_is_told_in_order() {
        let (manager, receiver, _dir) = pair(Some(Duration::from_secs(1)));
        manager.ready("up");
        manager.status("up");
        manager.status("1 of 2 peers online");
        manager.live();
        manager.stopping();
        assert_eq!(
            heard(&receiver),
            [
                "READY=1\nSTATUS=up",
                "STATUS=1 of 2 peers online",
                "WATCHDOG=1",
                "STOPPING=1\nSTATUS=going down"
            ]
        );
    }

    #[test]
    fn a_reload_is_over_when_the_last_one_is() {
        let (manager, receiver, _dir) = pair(None);
        manager.reloading();
        manager.reloading();
        manager.reloaded(Ok("nothing changed"));
        manager.reloaded(Err("hub.toml:3: no\nsecond"));
        manager.status("3 peers");
        manager.reloading();
        manager.reloaded(Ok("done"));
        manager.status("3 peers");
        let heard = heard(&receiver);
        let clock = |text: &String| {
            let (first, second) = text.split_once('\n').unwrap();
            assert_eq!(first, "RELOADING=1");
            let clock = second.strip_prefix("MONOTONIC_USEC=").unwrap();
            clock.parse::<u64>().unwrap()
        };
        assert!(clock(&heard[0]) > 0 && clock(&heard[0]) <= clock(&heard[1]));
        assert_eq!(heard[2], "STATUS=nothing changed");
        let refused = "not reloaded: hub.toml:3: no; second";
        assert_eq!(heard[3], format!("READY=1\nSTATUS={refused}"));
        assert_eq!(heard[4], format!("STATUS=3 peers; {refused}"));
        assert_eq!(heard[6], "READY=1\nSTATUS=done");
        assert_eq!(heard[7], "STATUS=3 peers");
    }

    #[test]
    fn what_a_busy_manager_does_not_take_comes_later_and_nobody_waits() {
        let (manager, receiver, _dir) = pair(Some(Duration::from_secs(1)));
        for number in 0..5_000 {
            manager.status(&format!("{number}"));
        }
        manager.reloading();
        manager.reloaded(Ok("done"));
        let waiting: usize = manager.told().waiting.iter().map(String::len).sum();
        assert!(waiting <= LONGEST_QUEUE + LONGEST_STATUS, "{waiting}");
        let mut all = Vec::new();
        while {
            let some = heard(&receiver);
            all.extend(some.iter().cloned());
            manager.live();
            !some.iter().all(|text| text == "WATCHDOG=1") || !manager.told().waiting.is_empty()
        } {}
        let told: Vec<_> = all.iter().filter(|text| *text != "WATCHDOG=1").collect();
        assert_eq!(told.last().unwrap().as_str(), "READY=1\nSTATUS=done");
        assert!(told[told.len() - 2].starts_with("RELOADING=1\n"));
    }

    #[test]
    fn without_a_manager_or_after_its_end_nothing_happens() {
        let manager = ServiceManager::at(None, Some(Duration::from_secs(1)));
        manager.ready("up");
        manager.live();
        assert_eq!(manager.beat(), None);
        assert!(manager.told().waiting.is_empty());
        let missing = ServiceManager::at(Some(OsStr::new("/no/such/socket")), None);
        missing.ready("up");
        assert!(missing.told().waiting.is_empty());
        let (manager, receiver, _dir) = pair(None);
        drop(receiver);
        manager.ready("up");
        assert!(manager.told().waiting.is_empty());
    }

    #[test]
    fn an_abstract_socket_is_found() {
        let name = format!("taltun-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let manager = ServiceManager::at(Some(OsStr::new(&format!("@{name}"))), None);
        manager.ready("up");
        assert_eq!(heard(&receiver), ["READY=1\nSTATUS=up"]);
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let half = Some(Duration::from_secs(15));
        assert_eq!(watchdog(Some("30000000"), None, 7), half);
        assert_eq!(watchdog(Some("30000000"), Some("7"), 7), half);
        assert_eq!(watchdog(Some("30000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        let long = shortened(&"ñ".repeat(1_000));
        assert!(long.len() <= LONGEST_STATUS + 3 && long.ends_with('…'));
        assert_eq!(shortened("a\nb\n"), "a; b");
    }
}
