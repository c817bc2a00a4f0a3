//! The UDP gateway of `[udpgw]`: its sockets, its process, and what that has counted.
//!
//! Its clients reach the Internet as this host does, and not what lies behind the peers: an
//! address that is a peer's at that moment, by whatever way it came to be, is refused unless the
//! file allows it. What is counted goes on over reloads, and over the ends of processes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use socket2::SockRef;
use taltun_udpgw::{Buffers, Destinations, Listen, Listening, Options, Snapshot, StartError};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::served::{Answers, Life, Listens, SILENCE, keep, log_arguments};
use super::{listening, lookups, words};
use crate::config::{Interface, Udpgw};
use crate::gateway::{self, Numbers, Said, Told, files, limits};
use crate::protocol::tunnel::Tunnel;
use crate::report::{ProcessRights, UdpgwStats, UdpgwStatus};
use crate::server_process::{read_line, write_line};

/// How long an end may take before it is no longer waited for.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The longest line that its process says, bytes.
const LINE_MAX: u64 = 64 << 10;
/// So many clients that wait are turned away at once while nobody is there.
const WAITING: usize = 1024;

/// The gateway, if there is one.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    settings: Option<Udpgw>,
    running: Option<Running>,
    counted: Arc<Counted>,
}

/// One that runs.
#[derive(Debug)]
struct Running {
    listening: Arc<Listening>,
    life: Arc<Mutex<Life>>,
    stage: watch::Sender<Stage>,
    /// Dropped with its process.
    keeper: JoinHandle<()>,
}

/// How far its end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// It is to end its clients.
    End,
    /// It ends so many.
    Ending(u64),
    /// It has ended so many.
    Ended(u64),
}

/// What was counted.
#[derive(Debug, Default)]
struct Counted(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    /// Of the process that there is.
    now: Numbers,
    /// Of those before.
    before: Vec<u64>,
}

/// Reads what a process tells.
#[derive(Debug, Clone)]
struct Reading {
    counted: Arc<Counted>,
    tunnel: Arc<Tunnel>,
    vip: Vec<IpNet>,
    stage: watch::Sender<Stage>,
}

impl Gateway {
    /// Starts what the file asks for.
    pub(super) fn start(
        settings: Option<Udpgw>,
        interface: &Interface,
        tunnel: &Arc<Tunnel>,
    ) -> Result<Self, String> {
        let mut gateway = Self::default();
        if let Some(settings) = settings {
            let listening = gateway.open(&settings, interface, &Listening::default())?;
            gateway.run(settings, listening, interface, tunnel)?;
        }
        Ok(gateway)
    }

    /// Where it listens.
    pub(super) fn listening(&self) -> Option<&Listening> {
        self.running.as_ref().map(|running| &*running.listening)
    }

    /// Makes it as `settings` say, and tells what that did; none if it is so already. After an
    /// error it is as before. `friends` may give up a place for it.
    pub(super) async fn follow(
        &mut self,
        settings: Option<&Udpgw>,
        interface: &Interface,
        tunnel: &Arc<Tunnel>,
        friends: &Listening,
    ) -> Result<Option<String>, String> {
        if self.settings.as_ref() == settings {
            return Ok(None);
        }
        let Some(settings) = settings else {
            let closed = self.stop_running().await;
            self.settings = None;
            return Ok(Some(format!("udpgw off{closed}")));
        };
        // All that may fail comes before anything ends.
        let listening = self
            .open(settings, interface, friends)
            .map_err(|reason| format!("{reason}; the gateway is as before"))?;
        let had = self.running.is_some();
        let closed = self.stop_running().await;
        self.run(settings.clone(), listening, interface, tunnel)?;
        let done = if had { "started anew" } else { "on" };
        Ok(Some(format!("udpgw {done}{closed}")))
    }

    /// Ends it; waits a second at the most.
    pub(super) async fn stop(&mut self) {
        self.stop_running().await;
    }

    /// Opens the sockets, beside those that are open.
    fn open(
        &self,
        settings: &Udpgw,
        interface: &Interface,
        friends: &Listening,
    ) -> Result<Listening, String> {
        let options = Options {
            listen: listen(settings, interface),
            ..limits(settings)
        };
        let wanted = files(&options);
        // Its process has the limit that this one has.
        let possible = taltun_udpgw::raise_file_limit(wanted);
        if possible < wanted {
            return Err(format!(
                "udpgw: all clients with all connections need {wanted} open files, and a process \
                 may have {possible}; lower max_clients or max_connections_for_client, or \
                 raise the limit (LimitNOFILE=, ulimit -Hn)"
            ));
        }
        let nothing = Listening::default();
        let earlier = self.listening().unwrap_or(&nothing);
        Listening::open(&options, earlier, friends).map_err(|error| explain(&error))
    }

    fn run(
        &mut self,
        settings: Udpgw,
        listening: Listening,
        interface: &Interface,
        tunnel: &Arc<Tunnel>,
    ) -> Result<(), String> {
        tell(&settings, interface);
        let told = serde_json::to_string(&settings);
        let told = told.map_err(|error| format!("udpgw: {error}"))?;
        let arguments = [told].into_iter().chain(log_arguments()).collect();
        let listening = Arc::new(listening);
        let life = Arc::<Mutex<Life>>::default();
        let stage = watch::Sender::new(Stage::Serving);
        let reading = Reading {
            counted: Arc::clone(&self.counted),
            tunnel: Arc::clone(tunnel),
            vip: interface.vip.clone(),
            stage: stage.clone(),
        };
        let keeper = keep(
            Arc::clone(&listening),
            arguments,
            reading,
            Arc::clone(&life),
        );
        self.running = Some(Running {
            listening,
            life,
            stage,
            keeper: tokio::spawn(keeper),
        });
        self.settings = Some(settings);
        Ok(())
    }

    /// Waits until all of its clients are ended, a second at the most; tells how many that were.
    async fn stop_running(&mut self) -> String {
        let Some(running) = self.running.take() else {
            return String::new();
        };
        let mut clients = self.counted.sums().now.clients;
        let mut stage = running.stage.subscribe();
        running.stage.send_replace(Stage::End);
        // One that has ended by itself has nothing to say.
        let end = Instant::now() + END_LIMIT;
        while running.life().ended.is_none() {
            match *stage.borrow_and_update() {
                Stage::Ending(count) => clients = count,
                Stage::Ended(count) => {
                    clients = count;
                    break;
                }
                Stage::Serving | Stage::End => {}
            }
            if !matches!(timeout_at(end, stage.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        drop(running);
        self.counted.take_over();
        match clients as usize {
            0 => String::new(),
            clients => format!(", {} closed", words::count(clients, "client")),
        }
    }

    pub(super) fn status(&self) -> Option<UdpgwStatus> {
        let settings = self.settings.as_ref()?;
        let now = self.counted.sums().now.clone();
        let running = self.running.as_ref();
        Some(UdpgwStatus {
            listen: settings.listen.clone(),
            clients: now.clients,
            max_clients: settings.max_clients.into(),
            connections: now.connections,
            ended: running.and_then(|running| running.life().ended.clone()),
        })
    }

    pub(super) fn stats(&self) -> Option<UdpgwStats> {
        self.settings.as_ref()?;
        let sums = self.counted.sums();
        let counters = names().enumerate().map(|(at, name)| {
            let of = |counted: &[u64]| counted.get(at).copied().unwrap_or_default();
            let sum = of(&sums.before).saturating_add(of(&sums.now.counted));
            (name.to_owned(), sum)
        });
        Some(UdpgwStats {
            clients: sums.now.clients,
            connections: sums.now.connections,
            counters: counters.collect(),
        })
    }

    /// What its process may do, while there is one.
    pub(super) fn rights(&self) -> Option<ProcessRights> {
        self.running.as_ref()?.life().rights.clone()
    }
}

impl Running {
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// The names of the counters, in their order.
fn names() -> impl Iterator<Item = &'static str> {
    let names: Vec<&str> = Snapshot::default().named().map(|(name, _)| name).collect();
    names.into_iter()
}

impl Counted {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process is over, and with it all of its clients: those of one that was killed, too.
    fn take_over(&self) {
        let mut sums = self.sums();
        let now = std::mem::take(&mut sums.now);
        let mut all = now.counted;
        sums.before.resize(names().count(), 0);
        all.resize(sums.before.len(), 0);
        for ((name, count), before) in names().zip(all).zip(&mut sums.before) {
            let lost = match name {
                "ended_with_gateway" => now.clients,
                "closed_with_client" => now.connections,
                _ => 0,
            };
            *before = before.saturating_add(count).saturating_add(lost);
        }
    }
}

impl Listens for Arc<Listening> {
    fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        Listening::sockets(self).map(AsFd::as_fd).collect()
    }

    fn turn_away(&self) {
        for socket in Listening::sockets(self) {
            let accepted = (0..WAITING).map_while(|_| SockRef::from(socket).accept().ok());
            accepted.for_each(drop);
        }
    }
}

impl Answers for Reading {
    const SECTION: &'static str = "udpgw";
    const COMMAND: &'static str = gateway::COMMAND;

    fn own_sockets(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![lookups::answer(&self.tunnel, &self.vip)?])
    }

    async fn answer(&self, channel: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = channel.into_split();
        let mut reader = BufReader::new(reader);
        let mut stage = self.stage.subscribe();
        let end = async {
            // It says so as long as this waits.
            let _ = stage.wait_for(|stage| *stage == Stage::End).await;
            let told = timeout(SILENCE, write_line(&mut writer, &Told::End)).await;
            if !matches!(told, Ok(Ok(()))) {
                return;
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            loop {
                let line = timeout(SILENCE, read_line::<Said>(&mut reader, LINE_MAX)).await;
                match line?? {
                    Some(Said::Beat) => {}
                    Some(Said::Numbers(numbers)) => self.counted.sums().now = numbers,
                    Some(Said::Ending(count)) => {
                        self.stage.send_replace(Stage::Ending(count));
                    }
                    Some(Said::Ended) => {
                        self.stage.send_modify(|stage| {
                            // Nobody may have seen the stage before.
                            let count = match *stage {
                                Stage::Ending(count) => count,
                                _ => 0,
                            };
                            *stage = Stage::Ended(count);
                        });
                        // It isn't to be started again: whoever wanted its end goes on from here.
                        return std::future::pending().await;
                    }
                    None => return Ok(()),
                }
            }
        };
        let outcome = tokio::select! {
            outcome = read => outcome,
            () = end => Ok(()),
        };
        self.counted.take_over();
        outcome
    }
}

/// What `allow` seems to open and doesn't: addresses of this host itself.
pub(crate) fn unopened(settings: &Udpgw, interface: &Interface) -> Vec<String> {
    let rules = Destinations::new(settings.allow.clone(), settings.deny.clone());
    let mut own: Vec<IpAddr> = interface.vip.iter().map(IpNet::addr).collect();
    // Without the kernel's answer nothing is opened either.
    own.extend(taltun_udpgw::own_addresses().unwrap_or_default());
    let unopened = rules.unopened(&own).into_iter();
    unopened
        .map(|(network, address)| {
            format!(
                "udpgw.allow: {network} doesn't open {address}, which is this host itself; add \
                 \"{address}\" if clients may send there, to `deny` if not"
            )
        })
        .collect()
}

fn tell(settings: &Udpgw, interface: &Interface) {
    for unopened in unopened(settings, interface) {
        warn!("{unopened}");
    }
    let advice = Buffers::ask().map(|buffers| buffers.advice(&limits(settings)));
    if let Ok(Some(advice)) = advice {
        warn!("udpgw: {advice}");
    }
    for address in &settings.listen {
        info!("udpgw: listening on {address}");
    }
}

fn listen(settings: &Udpgw, interface: &Interface) -> Vec<Listen> {
    let on_each = |address: &SocketAddr| {
        let address = *address;
        let devices = listening::devices(address, interface).into_iter();
        devices.map(move |name| Listen {
            address,
            interface: name.map(str::to_owned),
        })
    };
    settings.listen.iter().flat_map(on_each).collect()
}

/// What went wrong and what to do.
fn explain(error: &StartError) -> String {
    let StartError::Listen { address, reason } = error else {
        return format!("udpgw: {error}");
    };
    let advice = listening::advice(reason, *address);
    format!("udpgw.listen: cannot listen on {address}: {reason}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config};
    use crate::control::peers;
    use crate::protocol::device::{Device, Settings};
    use crate::protocol::randomness::Randomness;
    use crate::protocol::time::Time;

    fn config(section: &str) -> Config {
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"10.0.0.1/24\"\nprivate_key = \"{}\"\n\
             [udpgw]\n{section}\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"10.0.0.2\"\nallowed_ips = [\"203.0.113.0/24\", \
             \"198.51.100.0/25\"]\n\
             [[peers]]\npublic_key = \"{}\"\nallowed_ips = [\"0.0.0.0/0\", \"128.0.0.0/1\", \"2000::/3\"]\n",
            "3".repeat(64),
            "1".repeat(64),
            "2".repeat(64)
        );
        config::parse(&text, "test.toml").unwrap().config
    }

    fn device(config: &Config) -> Device {
        let mut device = Device::new(Settings {
            private_key: config.interface.private_key.clone(),
            randomness: Randomness::seeded([0; 32]),
            wall_clock_at_zero: Duration::ZERO,
            mtu: 1420,
            local_addresses: Vec::new(),
            relay: true,
        });
        for peer in &config.peers {
            device.add_peer(peers::settings(peer), Time::START).unwrap();
        }
        device
    }

    #[test]
    fn what_leads_to_a_peer_is_guarded_while_it_does() {
        let config = config("");
        let mut device = device(&config);
        let tunnel = Arc::clone(device.tunnel());
        let is_guarded = |ip: &str| {
            let found = lookups::find(ip.parse().unwrap(), &tunnel, &config.interface.vip);
            found.guarded.is_some()
        };
        for (ip, expected) in [
            ("10.0.0.2", true),
            ("203.0.113.9", true),
            ("198.51.100.9", true),
            // Only by the route to everywhere.
            ("198.51.100.200", false),
            ("8.8.8.8", false),
            ("193.0.0.1", false),
            ("2001:4860::8888", false),
        ] {
            assert_eq!(is_guarded(ip), expected, "{ip}");
        }
        // As `wg` changes them.
        device.set_allowed_ips(&config.peers[0].public_key, &[]);
        assert!(!is_guarded("203.0.113.9"));
        device.set_allowed_ips(
            &config.peers[1].public_key,
            &["8.8.8.0/24".parse().unwrap()],
        );
        assert!(is_guarded("8.8.8.8"));
    }

    #[test]
    fn own_addresses_in_a_network_that_is_allowed_are_told_of() {
        let told = |section: &str| {
            let config = config(section);
            unopened(config.udpgw.as_ref().unwrap(), &config.interface)
        };
        assert_eq!(
            told("allow = [\"10.0.0.0/24\"]"),
            [
                "udpgw.allow: 10.0.0.0/24 doesn't open 10.0.0.1, which is this host itself; add \
                 \"10.0.0.1\" if clients may send there, to `deny` if not"
            ]
        );
        for silent in [
            "",
            "allow = [\"10.0.0.0/24\", \"10.0.0.1\"]",
            "allow = [\"10.0.0.0/24\"]\ndeny = [\"10.0.0.1\"]",
        ] {
            assert!(told(silent).is_empty(), "{silent}");
        }
    }

    #[test]
    fn a_vip_is_listened_on_for_those_in_the_tunnel_alone() {
        let config = config("listen = [\"10.0.0.1:7300\", \"127.0.0.1:7300\"]");
        let listen = listen(config.udpgw.as_ref().unwrap(), &config.interface);
        let interfaces: Vec<Option<&str>> =
            listen.iter().map(|it| it.interface.as_deref()).collect();
        let tun_name = config.interface.tun_name.as_str();
        assert_eq!(interfaces, [Some(tun_name), Some("lo"), None]);
    }

    #[test]
    fn what_was_counted_counts_and_who_was_there_has_ended() {
        let counted = Counted::default();
        let place = |wanted: &str| names().position(|name| name == wanted).unwrap();
        let (accepted, ended) = (place("clients_accepted"), place("ended_with_gateway"));
        for _ in 0..2 {
            let mut numbers = vec![0; names().count()];
            numbers[accepted] = 3;
            numbers[ended] = 1;
            counted.sums().now = Numbers {
                clients: 2,
                connections: 1,
                counted: numbers,
            };
            counted.take_over();
        }
        // A second time adds nothing.
        counted.take_over();
        let sums = counted.sums();
        assert_eq!(sums.now, Numbers::default());
        assert_eq!((sums.before[accepted], sums.before[ended]), (6, 6));
        assert_eq!(sums.before[place("closed_with_client")], 2);
    }
}
