//! The UDP gateway of `[udpgw]`, beside the tunnel.
//!
//! It has threads of its own: one accepts clients, the others serve them, and the controller only
//! starts and stops them and reads counters. Its clients reach the Internet as this host does,
//! and not what lies behind the peers: an address that is a peer's at that moment, by whatever
//! way it came to be, is refused unless the file allows it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use taltun_udpgw::{
    Buffers, Destinations, Guard, Listen, Listening, Options, Server, Snapshot, StartError, Watch,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{listening, panics, words};
use crate::config::{Interface, Udpgw};
use crate::os::capabilities;
use crate::protocol::tunnel::Tunnel;
use crate::report::{UdpgwStats, UdpgwStatus};

/// How long an end may take before it is no longer waited for.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Files that the rest of the process may need.
const OTHER_FILES: usize = 512;

/// The gateway, if there is one.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    settings: Option<Udpgw>,
    running: Option<Running>,
    /// Why it isn't running though it should.
    ended: Option<String>,
    /// Earlier ones that may still have clients.
    ending: Vec<Ending>,
    /// What others before counted.
    counted: Snapshot,
}

/// One that ends, and who tells that it has.
type Ending = (Watch, oneshot::Receiver<Option<String>>);

/// One that runs, or did until a moment ago.
#[derive(Debug)]
struct Running {
    watch: Watch,
    listening: Listening,
    stop: oneshot::Sender<()>,
    /// Told once nobody can connect any more, and dropped when all is over.
    closed: oneshot::Receiver<()>,
    over: oneshot::Receiver<Option<String>>,
    /// Dropped by its thread once all of its clients have ended, for who takes its place.
    ended: Option<oneshot::Receiver<()>>,
}

impl Gateway {
    /// Starts what the file asks for.
    pub(super) fn start(
        settings: Option<Udpgw>,
        interface: &Interface,
        tunnel: &Arc<Tunnel>,
    ) -> Result<Self, String> {
        let mut running = None;
        if let Some(settings) = &settings {
            let options = options(settings, interface, tunnel);
            running = Some(Running::start(options, None, &Listening::default())?);
            tell(settings, interface);
        }
        Ok(Self {
            settings,
            running,
            ..Self::default()
        })
    }

    /// Where it listens.
    pub(super) fn listening(&self) -> Option<&Listening> {
        self.running.as_ref().map(|running| &running.listening)
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
        let stands = self.running.is_some() || settings.is_none();
        if self.settings.as_ref() == settings && stands {
            return Ok(None);
        }
        let Some(settings) = settings else {
            let closed = self.stop_listening().await;
            self.settings = None;
            self.ended = None;
            return Ok(Some(format!("udpgw off{closed}")));
        };
        let options = options(settings, interface, tunnel);
        // All that may fail comes before anything ends.
        let started = Running::start(options, self.running.as_mut(), friends)
            .map_err(|reason| format!("{reason}; the gateway is as before"))?;
        let had = self.running.is_some();
        let closed = self.stop_listening().await;
        tell(settings, interface);
        self.running = Some(started);
        self.settings = Some(settings.clone());
        self.ended = None;
        let done = if had { "started anew" } else { "on" };
        Ok(Some(format!("udpgw {done}{closed}")))
    }

    /// Ends it; waits a second at the most.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            drop(running.listening);
            let _ = timeout(END_LIMIT, running.over).await;
        }
    }

    /// Waits until it accepts nobody any more; tells how many clients it had, which end
    /// meanwhile.
    async fn stop_listening(&mut self) -> String {
        let Some(running) = self.running.take() else {
            return String::new();
        };
        let stats = running.watch.stats();
        let _ = running.stop.send(());
        let _ = timeout(END_LIMIT, running.closed).await;
        self.ending.push((running.watch, running.over));
        match stats.clients as usize {
            0 => String::new(),
            clients => format!(", {} closed", words::count(clients, "client")),
        }
    }

    /// Tells the log if it ended by itself. Call it now and then.
    pub(super) fn look(&mut self) {
        self.settle();
        let Some(running) = &mut self.running else {
            return;
        };
        let fault = panics::take_fault_in_gateway();
        let reason = match running.over.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) if !fault => return,
            Err(oneshot::error::TryRecvError::Empty) => "a fault, see the log".into(),
            Ok(Some(reason)) => reason,
            Ok(None) | Err(oneshot::error::TryRecvError::Closed) => "its thread is gone".into(),
        };
        error!("udpgw: the gateway ended: {reason}; `taltun reload` starts it again");
        // What is left of it ends as well.
        let running = self.running.take();
        self.ending
            .extend(running.map(|running| (running.watch, running.over)));
        self.ended = Some(reason);
    }

    /// Keeps what those counted that are over.
    fn settle(&mut self) {
        let counted = &mut self.counted;
        self.ending.retain_mut(|(watch, over)| {
            let ends = over.try_recv() == Err(oneshot::error::TryRecvError::Empty);
            if !ends {
                *counted = watch.stats().counted.and(counted);
            }
            ends
        });
    }

    pub(super) fn status(&self) -> Option<UdpgwStatus> {
        let settings = self.settings.as_ref()?;
        let stats = self.running.as_ref().map(|running| running.watch.stats());
        let stats = stats.unwrap_or_default();
        Some(UdpgwStatus {
            listen: settings.listen.clone(),
            clients: stats.clients,
            max_clients: settings.max_clients.into(),
            connections: stats.connections,
            ended: self.ended.clone(),
        })
    }

    pub(super) fn stats(&self) -> Option<UdpgwStats> {
        self.settings.as_ref()?;
        let running = self.running.iter().map(|running| &running.watch);
        let all = running.chain(self.ending.iter().map(|(watch, _)| watch));
        let (mut clients, mut connections, mut counted) = (0, 0, self.counted);
        for stats in all.map(Watch::stats) {
            clients += stats.clients;
            connections += stats.connections;
            counted = stats.counted.and(&counted);
        }
        let named = counted.named();
        Some(UdpgwStats {
            clients,
            connections,
            counters: named.map(|(name, n)| (name.to_owned(), n)).collect(),
        })
    }
}

impl Running {
    /// Listens, and starts the threads. They serve nobody until an earlier gateway, if there is
    /// one, has ended all of its clients, so both never have files open at the same time.
    fn start(
        options: Options,
        earlier: Option<&mut Self>,
        friends: &Listening,
    ) -> Result<Self, String> {
        let wanted = files(&options);
        let possible = taltun_udpgw::raise_file_limit(wanted);
        if possible < wanted {
            return Err(format!(
                "udpgw: all clients with all connections need {wanted} open files, and this \
                 process may have {possible}; lower max_clients or max_connections_for_client, or \
                 raise the limit (LimitNOFILE=, ulimit -Hn)"
            ));
        }
        let nothing = Listening::default();
        let listening = earlier.as_ref().map_or(&nothing, |it| &it.listening);
        let server = Server::bind_in_place_of(options, listening, friends);
        let server = server.map_err(|error| explain(&error))?;
        let listening = server.listening();
        let listening = listening.map_err(|error| format!("udpgw: cannot start: {error}"))?;
        let watch = server.watch();
        let (stop, stopped) = oneshot::channel();
        let (closing, closed) = oneshot::channel();
        let (ending, over) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let before = earlier.and_then(|it| it.ended.take());
        thread::Builder::new()
            .name("udpgw".into())
            .spawn(move || {
                // What takes a right is done by now. The threads that it starts have none either.
                if let Err(error) = capabilities::give_up() {
                    warn!("udpgw: its threads keep capabilities: {error}");
                }
                // Who waits for it may have given up.
                let _ = ending.send(serve(server, before, stopped, closing));
                drop(end);
            })
            .map_err(|error| format!("udpgw: cannot start a thread: {error}"))?;
        Ok(Self {
            watch,
            listening,
            stop,
            closed,
            over,
            ended: Some(ended),
        })
    }
}

/// Serves to the end; why that came without anybody's asking for it.
fn serve(
    server: Server,
    before: Option<oneshot::Receiver<()>>,
    stopped: oneshot::Receiver<()>,
    closing: oneshot::Sender<()>,
) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Some(format!("cannot start: {error}")),
    };
    let stop = async {
        // Who drops the other end wants it to end, too.
        let _ = stopped.await;
    };
    let closed = || closing.send(()).unwrap_or_default();
    let outcome = runtime.block_on(async {
        if let Some(before) = before {
            let _ = timeout(END_LIMIT, before).await;
        }
        server.run(stop, closed).await
    });
    outcome.err().map(|error| error.to_string())
}

/// How many files a hub has to be able to open for that.
pub(crate) fn files(options: &Options) -> usize {
    options.files() + OTHER_FILES
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

fn options(settings: &Udpgw, interface: &Interface, tunnel: &Arc<Tunnel>) -> Options {
    let destinations = Destinations::new(settings.allow.clone(), settings.deny.clone());
    Options {
        listen: listen(settings, interface),
        destinations: destinations.guarded_by(guard(&interface.vip, tunnel)),
        ..limits(settings)
    }
}

/// All but who connects to where and where they may send.
pub(crate) fn limits(settings: &Udpgw) -> Options {
    let size = |bytes: u32| (bytes > 0).then_some(bytes as usize);
    let seconds = |it: u32| (it > 0).then(|| Duration::from_secs(it.into()));
    Options {
        listen: settings.listen.iter().copied().map(Listen::from).collect(),
        max_clients: settings.max_clients as usize,
        max_connections: settings.max_connections as usize,
        client_timeout: seconds(settings.client_timeout),
        udp_timeout: seconds(settings.udp_timeout),
        tcp_receive_buffer: size(settings.tcp_buffer),
        tcp_send_buffer: size(settings.tcp_buffer),
        udp_buffer: size(settings.udp_buffer),
        tcp_nodelay: settings.tcp_nodelay,
        keepalive: settings.keepalive,
        udp_mtu: settings.udp_mtu.into(),
        workers: settings.workers.into(),
        log_clients: false,
        ..Options::default()
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

/// What is the tunnel's: the networks of our vips, and all that leads to a peer just then, but
/// for routes to everywhere.
fn guard(vip: &[IpNet], tunnel: &Arc<Tunnel>) -> Guard {
    let (vip, tunnel) = (vip.to_vec(), Arc::clone(tunnel));
    Guard::new(move |ip: IpAddr| {
        let own = vip.iter().filter(|net| net.contains(&ip));
        let own = own.map(IpNet::prefix_len);
        let peers = tunnel.owners(ip).into_iter().map(|(length, _)| length);
        let all = own.chain(peers);
        all.filter(|length| !taltun_udpgw::is_everywhere(ip, *length))
            .min()
    })
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
    use std::net::{TcpListener, TcpStream};

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

    fn free_port() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    #[test]
    fn what_leads_to_a_peer_is_denied_while_it_does() {
        let config = config("");
        let mut device = device(&config);
        let interface = &config.interface;
        let rules = options(config.udpgw.as_ref().unwrap(), interface, device.tunnel());
        let is_denied = |ip: &str| {
            let verdict = rules.destinations.judge(ip.parse().unwrap());
            format!("{verdict:?}") == "Denied"
        };
        for (ip, expected) in [
            ("10.0.0.2", true),
            ("203.0.113.9", true),
            ("::ffff:203.0.113.9", true),
            ("198.51.100.9", true),
            // Only by the route to everywhere.
            ("198.51.100.200", false),
            ("8.8.8.8", false),
            ("193.0.0.1", false),
            ("2001:4860::8888", false),
        ] {
            assert_eq!(is_denied(ip), expected, "{ip}");
        }
        // As `wg` changes them.
        device.set_allowed_ips(&config.peers[0].public_key, &[]);
        assert!(!is_denied("203.0.113.9"));
        device.set_allowed_ips(
            &config.peers[1].public_key,
            &["8.8.8.0/24".parse().unwrap()],
        );
        assert!(is_denied("8.8.8.8"));
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

    #[tokio::test]
    async fn a_gateway_with_a_fault_is_told_of_and_starts_again() {
        let address = free_port();
        let config = config(&format!("listen = \"{address}\""));
        let device = device(&config);
        let (interface, tunnel) = (&config.interface, device.tunnel());
        let mut gateway = Gateway::start(config.udpgw.clone(), interface, tunnel).unwrap();
        gateway.look();
        assert_eq!(gateway.status().unwrap().ended, None);
        assert!(TcpStream::connect(address).is_ok());

        panics::note_fault_in_gateway();
        gateway.look();
        let ended = gateway.status().unwrap().ended;
        assert_eq!(ended.as_deref(), Some("a fault, see the log"));

        let (wanted, nobody) = (config.udpgw.as_ref(), Listening::default());
        // The threads that are left end by themselves.
        let mut told = Err(String::new());
        for _ in 0..100 {
            told = gateway.follow(wanted, interface, tunnel, &nobody).await;
            if told.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(told, Ok(Some("udpgw on".to_owned())));
        assert_eq!(gateway.status().unwrap().ended, None);
        assert!(TcpStream::connect(address).is_ok());
        let same = gateway.follow(wanted, interface, tunnel, &nobody).await;
        assert_eq!(same, Ok(None));

        gateway.stop().await;
        assert!(TcpStream::connect(address).is_err());
    }
}
