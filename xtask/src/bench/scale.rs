//! `cargo xtask bench scale`: a hub with many peers that do nothing, and what it takes to have
//! them: to start, to wait, and to change one of them.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Node, process_of};
use taltun_tests::random::Random;
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::private_prefix;

use super::machine::Machine;
use super::statistics::median;
use super::{Common, get_ready, note, usage};
use crate::run;
use crate::setup;

/// The hub's interface.
const INTERFACE: &str = "scale0";
/// Where it serves metrics.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9586);
/// How often they are scraped. Processes' CPU time is told in hundredths of a second.
const SCRAPES: usize = 21;
/// Between two scrapes: more than the time for which one text serves several.
const BETWEEN_SCRAPES: Duration = Duration::from_millis(500);
/// The first address of a peer, as a number: 10.0.1.0.
const FIRST: u32 = 0x0a00_0100;

/// The arguments of `cargo xtask bench scale`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many peers the hub has.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    peers: u32,
    /// How long the idle hub is watched.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle: u64,
    #[command(flatten)]
    common: Common,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    peers: u32,
    /// From the command until it answers `status`, with that answer.
    start_seconds: f64,
    memory_mb: f64,
    /// CPU time by time, of one core.
    idle_percent: f64,
    status_seconds: f64,
    /// The median of a few, from the connection to the last byte.
    scrape_seconds: f64,
    /// CPU time of each, of the hub and of the process that serves metrics.
    scrape_cpu_seconds: [f64; 2],
    scrape_bytes: usize,
    /// Each changes one peer.
    reload_seconds: f64,
    status_during_reload_seconds: f64,
    wg_set_seconds: f64,
    /// CPU time of the hub for it.
    wg_set_cpu_seconds: f64,
    memory_after_mb: f64,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::programs(&[("ip", "iproute2")])?;
    let taltun = arguments.common.taltun()?;
    if !sys::is_root() {
        return run::as_root(&taltun);
    }
    let machine = get_ready()?;
    let namespace = Namespace::create(&format!("{}-scale", private_prefix()))?;
    namespace.ip("link set lo up")?;
    note(&format!("starting a hub of {} peers", arguments.peers));
    let before = Instant::now();
    let hub = Node::start_with_text(&namespace, &taltun, &config(arguments.peers))?;
    let start_seconds = before.elapsed().as_secs_f64();
    // What comes once after a start: looks at the host, and files that are written.
    sleep(Duration::from_secs(12));
    let memory = || usage::largest_resident_mb(&[hub.pid()]).context("the hub is gone");
    let memory_mb = memory()?;
    note("watching it do nothing");
    let idle = Duration::from_secs(arguments.idle);
    let (_, idle_cpu) = measured(&hub, || {
        sleep(idle);
        Ok(())
    })?;
    note("asking and changing it");
    let status = || hub.tell(&["status", "--json"]).map(drop);
    let (status_seconds, _) = measured(&hub, status)?;
    let scrapes = scrapes(&namespace, &hub, arguments.peers)?;
    let file = hub.config();
    fs::write(&file, config(arguments.peers + 1))?;
    let (reload, during) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // While it reads the file.
            sleep(Duration::from_millis(100));
            measured(&hub, status)
        });
        let reload = measured(&hub, || {
            let told = hub.tell(&["reload"])?;
            ensure!(told.contains("1 peer added"), "it said: {told}");
            Ok(())
        });
        (reload, asking.join().expect("it doesn't panic"))
    });
    let (wg_set_seconds, wg_set_cpu_seconds) = measured(&hub, || wg_set(&hub, arguments.peers))?;
    let results = Results {
        machine,
        peers: arguments.peers,
        start_seconds,
        memory_mb,
        idle_percent: idle_cpu / idle.as_secs_f64() * 100.0,
        status_seconds,
        scrape_seconds: scrapes.seconds,
        scrape_cpu_seconds: scrapes.cpu_seconds,
        scrape_bytes: scrapes.bytes,
        reload_seconds: reload?.0,
        status_during_reload_seconds: during?.0,
        wg_set_seconds,
        wg_set_cpu_seconds,
        memory_after_mb: memory()?,
    };
    hub.stop(Signal::Terminate)?;
    namespace.delete()?;
    println!("{}", report(&results));
    arguments.common.write_json("bench-scale.json", &results)?;
    Ok(ExitCode::SUCCESS)
}

/// How long something takes, and how much CPU time of the hub's.
fn measured(hub: &Node, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let (start, before) = (Instant::now(), usage::cpu_seconds(&[hub.pid()])?);
    work()?;
    let cpu = usage::cpu_seconds(&[hub.pid()])? - before;
    Ok((start.elapsed().as_secs_f64(), cpu))
}

/// What scrapes of all metrics take.
struct Scrapes {
    /// The median, from the connection to the last byte.
    seconds: f64,
    /// Of each, in the hub and in the process that serves metrics.
    cpu_seconds: [f64; 2],
    bytes: usize,
}

fn scrapes(namespace: &Namespace, hub: &Node, peers: u32) -> Result<Scrapes> {
    let server = process_of(hub.pid(), "metrics-process")?;
    let cpu = || -> Result<[f64; 2]> {
        Ok([
            usage::cpu_seconds(&[hub.pid()])?,
            usage::cpu_seconds(&[server])?,
        ])
    };
    let mut seconds = Vec::new();
    let mut bytes = 0;
    let before = cpu()?;
    for _ in 0..SCRAPES {
        sleep(BETWEEN_SCRAPES);
        let start = Instant::now();
        let text = namespace.run(scrape)??;
        seconds.push(start.elapsed().as_secs_f64());
        let told = text.matches("\nwireguard_sent_bytes_total{").count();
        ensure!(told == peers as usize, "metrics of {told} peers");
        bytes = text.len();
    }
    let after = cpu()?;
    let each = |which: usize| (after[which] - before[which]) / SCRAPES as f64;
    Ok(Scrapes {
        seconds: median(&seconds).unwrap_or_default(),
        cpu_seconds: [each(0), each(1)],
        bytes,
    })
}

fn scrape() -> Result<String> {
    let mut stream = TcpStream::connect(METRICS).context("no metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: hub\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// What `wg set` says to give the last peer another address: `wg` itself looks for sockets of
/// this machine's tunnels elsewhere.
fn wg_set(hub: &Node, peer: u32) -> Result<()> {
    let path = hub
        .directory()
        .join("wireguard")
        .join(format!("{INTERFACE}.sock"));
    let mut socket = UnixStream::connect(&path).context("no UAPI socket")?;
    let key = key(peer);
    write!(
        socket,
        "set=1\npublic_key={key}\nallowed_ip=10.255.255.1/32\n\n"
    )?;
    let mut answer = [0; 64];
    let length = socket.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    ensure!(answer.contains("errno=0"), "it said: {answer}");
    Ok(())
}

/// A file with so many peers; one with more of them begins alike.
fn config(peers: u32) -> String {
    let mut text = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"{INTERFACE}\"\nvip = \"10.0.0.1/8\"\n\
         local_addr = \"0.0.0.0:9000\"\nprivate_key = \"{}\"\n\
         [metrics]\nlisten = \"{METRICS}\"\n",
        "42".repeat(32)
    );
    for number in 0..peers {
        let (vip, key) = (Ipv4Addr::from(FIRST + number), key(number));
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "\n[[peers]]\nname = \"peer{number}\"\nvip = \"{vip}\"\npublic_key = \"{key}\"\n"
        );
    }
    text
}

/// The public key of a peer, in hexadecimal, which both the file and the UAPI take.
fn key(peer: u32) -> String {
    let mut bytes = Random::new(u64::from(peer) + 1).bytes(32);
    bytes[31] &= 0x7f;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn report(results: &Results) -> String {
    let rows = [
        ("start", format!("{:.2} s", results.start_seconds)),
        ("memory", format!("{:.0} MB", results.memory_mb)),
        ("idle", format!("{:.2} % of a core", results.idle_percent)),
        ("status", format!("{:.2} s", results.status_seconds)),
        (
            "scrape of the metrics",
            format!(
                "{:.0} ms, {:.1} MB; CPU of the hub {:.0} ms, of its process {:.0} ms",
                results.scrape_seconds * 1e3,
                results.scrape_bytes as f64 / 1e6,
                results.scrape_cpu_seconds[0] * 1e3,
                results.scrape_cpu_seconds[1] * 1e3
            ),
        ),
        (
            "reload that adds one peer",
            format!("{:.2} s", results.reload_seconds),
        ),
        (
            "status during that reload",
            format!("{:.2} s", results.status_during_reload_seconds),
        ),
        (
            "wg set of one peer",
            format!(
                "{:.1} ms, {:.0} ms of CPU",
                results.wg_set_seconds * 1e3,
                results.wg_set_cpu_seconds * 1e3
            ),
        ),
        (
            "memory after all of it",
            format!("{:.0} MB", results.memory_after_mb),
        ),
    ];
    let mut text = format!(
        "A hub with {} idle peers ({})\n",
        results.peers,
        results.machine.line()
    );
    for (what, value) in rows {
        let _ = write!(text, "\n  {what:<27}{value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_one_more_peer_begins_alike_and_no_key_comes_twice() {
        let (few, more) = (config(3), config(4));
        assert!(more.starts_with(&few));
        assert_eq!(more.matches("[[peers]]").count(), 4);
        let keys: std::collections::HashSet<String> = (0..1000).map(key).collect();
        assert_eq!(keys.len(), 1000);
        assert!(keys.iter().all(|key| key.len() == 64));
    }
}
