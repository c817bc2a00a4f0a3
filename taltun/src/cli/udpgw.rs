//! `taltun udpgw`: a UDP gateway, with the options of badvpn-udpgw and UDP-PY.

mod values;

use std::future::Future;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;
use taltun_udpgw::{
    Buffers, Destinations, Listen, LocalPorts, Options, Server, StartError, UDP_MTU, Watch,
    listens_twice,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::failure::Failure;
use super::{human, logging, output};
use values::{Level, Logger, Place};

/// So many threads if nobody says, and no more than there are cores.
const WORKERS: usize = 4;

/// Carry UDP for clients that only have TCP.
///
/// A drop-in for badvpn-udpgw and for UDP-PY, with their options: clients such as tun2socks
/// connect by TCP, mostly through an ssh tunnel, and this host sends and receives their UDP
/// datagrams. All who can connect can use it, so it listens on this host only unless
/// `--listen-addr` says otherwise.
///
/// Clients may send to the Internet, and not to private, loopback, link-local or multicast
/// addresses or to this host's own. `--allow` and `--deny` make exceptions; the more specific
/// one counts. This host's own addresses take an `--allow` for each alone.
///
/// Of an option that is given twice the last one counts, but for those that can be given several
/// times.
#[derive(Args)]
#[command(version, args_override_self = true)]
#[command(after_help = "\
Exit codes: 0 ended by SIGTERM or SIGINT; 2 wrong usage; 1 anything else.
Ports below 1024, such as the default, need root or CAP_NET_BIND_SERVICE; many clients expect
port 7300.")]
pub(super) struct Udpgw {
    /// Where clients connect to; can be given several times. A name is all of its addresses.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:53")]
    listen_addr: Vec<Place>,

    /// What to log: none, error, warning, info (notice), debug, or 0 to 5.
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    loglevel: Level,

    /// Where to log: stderr or stdout.
    #[arg(long, value_name = "WHERE", default_value = "stderr")]
    logger: Logger,

    /// Refuse more clients than that.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = values::number(1, 1_000_000))]
    max_clients: u32,

    /// Close a client's least recently used connection if it opens more than that.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = values::number(1, 65_536))]
    max_connections_for_client: u32,

    /// End a client that sends no message for so long; 0: never.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = values::seconds)]
    client_timeout: Duration,

    /// Close a connection that carries no datagram for so long; 0: never.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = values::seconds)]
    udp_timeout: Duration,

    /// How often to print a line of counters, at every log level but none; 0: never.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = values::seconds)]
    stats_interval: Duration,

    /// The kernel's buffers for each client, to receive and to send; 0: the kernel chooses.
    #[arg(long, value_name = "BYTES", default_value_t = 262_144, value_parser = values::buffer())]
    tcp_buffer: u32,

    /// The kernel's buffer for what is sent to a client, instead of --tcp-buffer; 0: the kernel
    /// chooses.
    #[arg(long, value_name = "BYTES", value_parser = values::buffer())]
    client_socket_sndbuf: Option<u32>,

    /// The kernel's buffers for each connection, to receive and to send; 0: the kernel chooses.
    #[arg(long, value_name = "BYTES", default_value_t = 131_072, value_parser = values::buffer())]
    udp_buffer: u32,

    /// Let the kernel hold small writes back (Nagle's algorithm).
    #[arg(long)]
    no_tcp_nodelay: bool,

    /// Don't look for clients that are gone (by 6 probes, one each 10 s, after 60 s of silence).
    #[arg(long)]
    no_keepalive: bool,

    /// Drop larger datagrams.
    #[arg(long, value_name = "BYTES", default_value_t = UDP_MTU as u32, value_parser = values::number(1, 65_535))]
    udp_mtu: u32,

    /// Send IPv4 from these local ports: the first one and how many.
    #[arg(long, value_names = ["ADDRESS:PORT", "COUNT"], num_args = 2, action = ArgAction::Set)]
    local_udp_addrs: Vec<String>,

    /// The same for IPv6.
    #[arg(long, value_names = ["[ADDRESS]:PORT", "COUNT"], num_args = 2, action = ArgAction::Set)]
    local_udp_ip6_addrs: Vec<String>,

    /// No two connections share a local port; this is always so.
    #[arg(long)]
    unique_local_ports: bool,

    /// Clients may send to these networks, too, with commas between them or several times.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = values::destination)]
    allow: Vec<IpNet>,

    /// Clients may not send to these networks.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = values::network)]
    deny: Vec<IpNet>,

    /// How many threads serve clients [default: one a core, at most 4].
    #[arg(long, value_name = "N", value_parser = values::number(1, 256))]
    workers: Option<u32>,

    // What badvpn-udpgw has and we don't, so that the answer says why.
    #[arg(long, hide = true, num_args = 2)]
    channel_loglevel: Vec<String>,
    #[arg(long, hide = true)]
    syslog_facility: Option<String>,
    #[arg(long, hide = true)]
    syslog_ident: Option<String>,
}

impl Udpgw {
    pub(super) fn run(self) -> Result<(), Failure> {
        let level = LevelFilter::from(self.loglevel);
        match self.logger {
            Logger::Stderr => logging::start_at(level),
            Logger::Stdout => logging::start_on_stdout(level),
        }
        let interval = some(self.stats_interval);
        let mut options = self.options()?;
        let quiet = level == LevelFilter::OFF;
        options.file_limit = Some(taltun_udpgw::raise_file_limit(options.files()));
        if options.served().0 == 0 {
            return Err(Failure::Other(format!(
                "at most {} files can be open, which leaves none for clients; raise the limit \
                 (ulimit -Hn, LimitNOFILE=)",
                options.file_limit.unwrap_or_default()
            )));
        }
        try_local(&options).map_err(Failure::Other)?;
        if !quiet {
            warn_of(&options);
        }
        let limits = limits(&options);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let _inside = runtime.enter();
        // Before anybody can connect, so that it never kills us halfway.
        let stop = stop().map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let server = Server::bind(options).map_err(|error| explain(&error))?;
        for address in server.addresses().unwrap_or_default() {
            tracing::info!("udpgw: listening on {address}");
        }
        tracing::info!("udpgw: at most {limits}");
        let watch = server.watch();
        runtime.block_on(async {
            let report = report(watch, interval.filter(|_| !quiet));
            tokio::select! {
                outcome = server.run(stop) => outcome.map_err(|error| explain(&error)),
                () = report => Ok(()),
            }
        })
    }

    fn options(self) -> Result<Options, Failure> {
        let size = |bytes: u32| (bytes > 0).then_some(bytes as usize);
        for (option, given, why) in [
            (
                "--channel-loglevel",
                !self.channel_loglevel.is_empty(),
                "there are no channels; --loglevel is for all of the log",
            ),
            (
                "--syslog-facility",
                self.syslog_facility.is_some(),
                values::NO_SYSLOG,
            ),
            (
                "--syslog-ident",
                self.syslog_ident.is_some(),
                values::NO_SYSLOG,
            ),
        ] {
            if given {
                let message = format!("{option} isn't supported: {why}");
                return Err(Failure::Usage(message));
            }
        }
        let listen = listen(&self.listen_addr)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Options {
            listen: listen.into_iter().map(Listen::from).collect(),
            max_clients: self.max_clients as usize,
            max_connections: self.max_connections_for_client as usize,
            client_timeout: some(self.client_timeout),
            udp_timeout: some(self.udp_timeout),
            tcp_receive_buffer: size(self.tcp_buffer),
            tcp_send_buffer: size(self.client_socket_sndbuf.unwrap_or(self.tcp_buffer)),
            udp_buffer: size(self.udp_buffer),
            tcp_nodelay: !self.no_tcp_nodelay,
            keepalive: !self.no_keepalive,
            udp_mtu: self.udp_mtu as usize,
            local: values::local_ports("--local-udp-addrs", &self.local_udp_addrs, IpAddr::is_ipv4)
                .map_err(Failure::Usage)?,
            local_ipv6: values::local_ports(
                "--local-udp-ip6-addrs",
                &self.local_udp_ip6_addrs,
                IpAddr::is_ipv6,
            )
            .map_err(Failure::Usage)?,
            destinations: Destinations::new(self.allow, self.deny),
            workers: self
                .workers
                .map_or(cores.min(WORKERS), |workers| workers as usize),
            file_limit: None,
            log_clients: true,
        })
    }
}

/// All addresses, each once: names may share some.
fn listen(places: &[Place]) -> Result<Vec<SocketAddr>, Failure> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for place in places {
        for address in place.addresses().map_err(Failure::Other)? {
            if all.contains(&address) {
                continue;
            }
            if let Some(other) = all.iter().find(|it| listens_twice(**it, address)) {
                return Err(Failure::Usage(format!(
                    "--listen-addr {other} and --listen-addr {address} are one place to listen; \
                     keep one of them"
                )));
            }
            all.push(address);
        }
    }
    Ok(all)
}

/// Whether connections can have the local addresses that are asked for.
fn try_local(options: &Options) -> Result<(), String> {
    for (option, local) in [
        ("--local-udp-addrs", options.local),
        ("--local-udp-ip6-addrs", options.local_ipv6),
    ] {
        if let Some(LocalPorts { address, .. }) = local {
            UdpSocket::bind((address, 0)).map_err(|error| {
                format!(
                    "{option}: cannot send from {address}: {error}; name an address of this host"
                )
            })?;
        }
    }
    Ok(())
}

/// What clients can have and make the gateway and the kernel hold, at most.
pub(super) fn limits(options: &Options) -> String {
    let (clients, connections) = options.served();
    let own = human::bytes(options.memory_bound() as u64);
    let kernel = Buffers::ask().ok().and_then(|it| it.bound(options));
    let kernel = kernel.map_or_else(
        || "no bound for".to_owned(),
        |bound| format!("{} of", human::bytes(bound as u64)),
    );
    format!(
        "{} with {} in all, {own} of memory and {kernel} the kernel's buffers",
        human::counted(clients as u64, "client"),
        human::counted(connections as u64, "connection"),
    )
}

/// What the kernel gives less of than `options` ask for, and what to do.
pub(super) fn small_buffers(options: &Options) -> Option<String> {
    Buffers::ask().ok()?.advice(options)
}

fn some(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// Says what may surprise, though it is no error.
fn warn_of(options: &Options) {
    for Listen { address, .. } in &options.listen {
        if !address.ip().is_loopback() {
            output::warn(&format!(
                "whoever reaches {address} can send UDP from this host; allow only your own \
                 clients by a firewall, or listen on 127.0.0.1"
            ));
        }
    }
    for (option, local) in [
        ("--local-udp-addrs", options.local),
        ("--local-udp-ip6-addrs", options.local_ipv6),
    ] {
        if local.is_some_and(|local| local.address.is_loopback()) {
            output::warn(&format!(
                "{option}: from a loopback address only this host itself is reached"
            ));
        }
    }
    // Without the kernel's answer nothing is opened either.
    let own = taltun_udpgw::own_addresses().unwrap_or_default();
    for (network, address) in options.destinations.unopened(&own) {
        output::warn(&format!(
            "--allow {network} doesn't open {address}, which is this host itself; add --allow \
             {address} if clients may send there, or --deny {address}"
        ));
    }
    if let Some(small) = small_buffers(options) {
        output::warn(&small);
    }
    let wanted = options.files();
    let possible = options.file_limit.unwrap_or(wanted);
    if possible < wanted {
        let (clients, connections) = options.served();
        output::warn(&format!(
            "at most {possible} files can be open, and all clients with all connections need \
             {wanted}: {clients} clients are served, with {connections} connections in all; raise \
             the limit (ulimit -Hn, LimitNOFILE=) or lower --max-clients"
        ));
    }
}

/// Done when this process is asked to end.
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Prints the counters, for ever.
async fn report(watch: Watch, interval: Option<Duration>) {
    let Some(interval) = interval else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(interval).await;
        output::note(&format!("udpgw: {}", watch.stats()));
    }
}

/// What went wrong and what to do.
fn explain(error: &StartError) -> Failure {
    let StartError::Listen { address, reason } = error else {
        return Failure::Other(error.to_string());
    };
    let port = address.port();
    let advice = match reason.raw_os_error() {
        Some(libc::EACCES) => "; ports below 1024 need root or CAP_NET_BIND_SERVICE, so choose \
                               another such as --listen-addr 127.0.0.1:7300"
            .to_owned(),
        Some(libc::EADDRINUSE) => format!(
            "; `ss -ltnp sport = :{port}` shows who does; stop that or choose another with \
             --listen-addr"
        ),
        Some(libc::EADDRNOTAVAIL) => "; no interface of this host has that address".to_owned(),
        _ => String::new(),
    };
    Failure::Other(format!("{error}{advice}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        udpgw: Udpgw,
    }

    fn options(line: &str) -> Result<Options, String> {
        let line = Line::try_parse_from(line.split_ascii_whitespace());
        let line = line.map_err(|error| error.to_string())?;
        line.udpgw.options().map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn the_defaults_are_those_of_the_predecessors() {
        let mut found = options("udpgw").unwrap();
        found.workers = 1;
        assert_eq!(format!("{found:?}"), format!("{:?}", Options::default()));
    }

    #[test]
    fn the_lines_of_the_predecessors_are_understood() {
        let badvpn = options(
            "udpgw --logger stdout --loglevel 3 --listen-addr 127.0.0.1:7300 --listen-addr \
             [::1]:7300 --udp-mtu 1500 --max-clients 7 --max-connections-for-client 8 \
             --client-socket-sndbuf 0 --local-udp-addrs 192.0.2.1:4000 100 \
             --local-udp-ip6-addrs [2001:db8::1]:5000 1 --unique-local-ports",
        );
        let badvpn = badvpn.unwrap();
        assert_eq!(badvpn.listen.len(), 2);
        assert_eq!((badvpn.max_clients, badvpn.max_connections), (7, 8));
        assert_eq!((badvpn.udp_mtu, badvpn.tcp_send_buffer), (1500, None));
        assert_eq!(badvpn.tcp_receive_buffer, Some(262_144));
        let local = badvpn.local.unwrap();
        assert_eq!((local.first, local.count), (4000, 100));
        assert_eq!(badvpn.local_ipv6.unwrap().first, 5000);
        let python = options(
            "udpgw --listen-addr 127.0.0.1:8443 --loglevel error --max-clients 350 \
             --max-connections-for-client 10 --client-timeout 0 --udp-timeout 2.5 \
             --stats-interval 120 --tcp-buffer 524288 --udp-buffer 0 --no-tcp-nodelay \
             --no-keepalive",
        );
        let python = python.unwrap();
        assert_eq!(python.client_timeout, None);
        assert_eq!(python.udp_timeout, Some(Duration::from_millis(2500)));
        assert_eq!(
            (python.tcp_send_buffer, python.udp_buffer),
            (Some(524_288), None)
        );
        assert!(!python.tcp_nodelay && !python.keepalive);
    }

    #[test]
    fn of_an_option_that_is_repeated_the_last_one_counts() {
        let found = options(
            "udpgw --max-clients 3 --no-keepalive --max-clients 7 --no-keepalive \
             --local-udp-addrs 192.0.2.1:4000 100 --local-udp-addrs 192.0.2.1:5000 10 \
             --listen-addr 127.0.0.1:7300 --listen-addr 127.0.0.1:7301 --allow 10.0.0.0/8 \
             --allow 192.168.0.0/16",
        );
        let found = found.unwrap();
        assert_eq!((found.max_clients, found.keepalive), (7, false));
        assert_eq!(found.local.unwrap().first, 5000);
        assert_eq!(found.listen.len(), 2);
        for ip in ["10.1.1.1", "192.168.1.1"] {
            let verdict = found.destinations.judge(ip.parse().unwrap());
            assert_eq!(format!("{verdict:?}"), "AllowedIfForeign", "{ip}");
        }
    }

    #[test]
    fn a_name_is_all_of_its_addresses() {
        let found = options("udpgw --listen-addr localhost:7300").unwrap();
        assert!(!found.listen.is_empty());
        for listen in found.listen {
            assert!(listen.address.ip().is_loopback());
            assert_eq!(listen.address.port(), 7300);
        }
    }

    #[test]
    fn an_address_twice_is_one_and_one_within_the_other_is_refused() {
        let found = options("udpgw --listen-addr 127.0.0.1:7300 --listen-addr 127.0.0.1:7300");
        assert_eq!(found.unwrap().listen.len(), 1);
        let told = options("udpgw --listen-addr 0.0.0.0:7300 --listen-addr 127.0.0.1:7300");
        let told = told.unwrap_err();
        assert!(
            told.starts_with("Usage") && told.contains("are one place to listen"),
            "{told}"
        );
        let told = options("udpgw --listen-addr 127.0.0.1:7300,127.0.0.1:7301").unwrap_err();
        assert!(told.contains("once for each"), "{told}");
    }

    #[test]
    fn what_may_be_right_later_is_no_wrong_usage() {
        let told = options("udpgw --listen-addr nobody.invalid:7300").unwrap_err();
        assert!(
            told.starts_with("Other") && told.contains("write the address in place of the name"),
            "{told}"
        );
        // 192.0.2.0/24 is nobody's.
        let local = |line: &str| try_local(&options(line).unwrap());
        let told = local("udpgw --local-udp-addrs 192.0.2.1:3000 10").unwrap_err();
        assert!(
            told.starts_with("--local-udp-addrs: cannot send from 192.0.2.1: "),
            "{told}"
        );
        assert!(local("udpgw --local-udp-addrs 127.0.0.1:3000 10").is_ok());
    }

    #[test]
    fn small_buffers_are_told_of() {
        let options = Options {
            tcp_receive_buffer: Some(1 << 30),
            ..Options::default()
        };
        let told = small_buffers(&options).unwrap();
        assert!(told.contains("net.core.rmem_max=1073741824"), "{told}");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--listen-addr localhost",
            "--listen-addr nobody.invalid:7300",
            "--listen-addr 127.0.0.1",
            "--channel-loglevel udpgw 4",
            "--syslog-ident udpgw",
            "--client-timeout -1",
            "--udp-timeout nan",
            "--max-connections-for-client 65537",
            "--logger syslog",
            "--local-udp-addrs 192.0.2.1:65535 2",
            "--local-udp-addrs [2001:db8::1]:4000 2",
            "--local-udp-addrs 192.0.2.1:4000 0",
            "--allow 10.0.0.0/33",
            "--allow 0.0.0.0",
            "--allow ::/128",
        ] {
            assert!(options(&format!("udpgw {line}")).is_err(), "{line}");
        }
    }
}
