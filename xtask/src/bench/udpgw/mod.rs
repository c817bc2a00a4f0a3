//! `cargo xtask bench udpgw`: many clients of a UDP gateway with small datagrams, by Taltun, by
//! badvpn-udpgw and by a plain server in Python.
//!
//! Clients, gateway and the service beyond share the machine, so what a gateway does with a
//! second of CPU time says more than what comes through.

mod load;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use taltun_tests::command::{find, output_of};
use taltun_tests::netns::Namespace;
use taltun_tests::sys;
use taltun_tests::topology::private_prefix;

use super::machine::Machine;
use super::process::Process;
use super::table::aligned;
use super::{Common, get_ready, note, usage};
use crate::{run, setup};
use load::Clients;

const PYTHON_SERVER: &str = include_str!("server.py");
const GATEWAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7300);
/// How long a gateway may take to listen.
const START: Duration = Duration::from_secs(10);

/// The arguments of `cargo xtask bench udpgw`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many clients there are.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=5000))]
    clients: u16,
    /// How many connections each of them has.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    connections: u16,
    /// How long each phase takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many datagrams a second there are while delays are measured.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    #[command(flatten)]
    common: Common,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    clients: u16,
    connections: u16,
    rate_of_delays: u64,
    gateways: Vec<Line>,
}

/// What was measured of a gateway.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    /// There and back, as many as came through.
    datagrams_a_second: f64,
    lost: u64,
    /// CPU time by time, of one core.
    cpu_percent: f64,
    datagrams_a_cpu_second: f64,
    memory_mb: f64,
    /// There and back, at the rate of delays.
    p50_milliseconds: f64,
    p99_milliseconds: f64,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::programs(&[
        ("ip", "iproute2"),
        ("python3", "python3"),
        ("prlimit", "util-linux"),
    ])?;
    let taltun = arguments.common.taltun()?;
    if !sys::is_root() {
        return run::as_root(&taltun);
    }
    let machine = get_ready()?;
    // For us, and for those that we start.
    let files = 500 + u64::from(arguments.clients) * (1 + u64::from(arguments.connections));
    let own = std::process::id().to_string();
    output_of(Command::new("prlimit").args(["--pid", &own, &format!("--nofile={files}:")]))?;
    let namespace = Namespace::create(&format!("{}-udpgw", private_prefix()))?;
    let gateways = commands(&namespace, &taltun, arguments)
        .into_iter()
        .map(|(name, command)| measure(&namespace, name, command, arguments))
        .collect::<Result<_>>()?;
    namespace.delete()?;
    let results = Results {
        machine,
        clients: arguments.clients,
        connections: arguments.connections,
        rate_of_delays: arguments.rate,
        gateways,
    };
    println!("{}", report(&results));
    arguments.common.write_json("bench-udpgw.json", &results)?;
    Ok(ExitCode::SUCCESS)
}

/// The gateways that are there, and how they are started.
fn commands(
    namespace: &Namespace,
    taltun: &Path,
    arguments: &Arguments,
) -> Vec<(&'static str, Command)> {
    let clients = arguments.clients.to_string();
    let connections = arguments.connections.to_string();
    let listen = GATEWAY.to_string();
    let common = [
        "--listen-addr",
        &listen,
        "--max-clients",
        &clients,
        "--max-connections-for-client",
        &connections,
    ];
    let mut python = namespace.command("python3");
    python.args(["-c", PYTHON_SERVER, &GATEWAY.port().to_string()]);
    let mut ours = namespace.command(taltun);
    ours.arg("udpgw")
        .args(common)
        .args(["--allow", "127.0.0.1"]);
    let mut commands = vec![("Python, threads", python), ("taltun udpgw", ours)];
    if let Some(badvpn) = find("badvpn-udpgw") {
        let mut command = namespace.command(badvpn);
        command.args(common).args(["--loglevel", "error"]);
        commands.push(("badvpn-udpgw", command));
    } else {
        note("badvpn-udpgw isn't on PATH and is left out");
    }
    commands
}

fn measure(
    namespace: &Namespace,
    name: &'static str,
    mut command: Command,
    arguments: &Arguments,
) -> Result<Line> {
    note(&format!("measuring {name}"));
    let gateway = Process::spawn(command.stdout(Stdio::null()), name)?;
    let pids = [gateway.pid()];
    let line = namespace.run(|| {
        let deadline = Instant::now() + START;
        while TcpStream::connect(GATEWAY).is_err() {
            ensure!(Instant::now() < deadline, "it doesn't listen");
            sleep(Duration::from_millis(50));
        }
        let echo = load::echo()?;
        let count = usize::from(arguments.clients);
        // The client that tried the port has to be gone where no more are allowed.
        sleep(Duration::from_millis(200));
        let clients = Clients::connect(GATEWAY, count, arguments.connections, echo)?;
        // Opens all connections.
        clients.saturate(1)?;
        let before = usage::cpu_seconds(&pids)?;
        let sent = clients.saturate(arguments.seconds)?;
        let cpu = usage::cpu_seconds(&pids)? - before;
        let memory = usage::largest_resident_mb(&pids).context("it is gone")?;
        let delays = clients.delays(arguments.rate, arguments.seconds)?;
        let percentile = |percent: usize| delays[delays.len() * percent / 100] * 1e3;
        anyhow::Ok(Line {
            name,
            datagrams_a_second: sent.answered as f64 / sent.seconds,
            lost: sent.lost,
            cpu_percent: cpu / sent.seconds * 100.0,
            datagrams_a_cpu_second: sent.answered as f64 / cpu,
            memory_mb: memory,
            p50_milliseconds: percentile(50),
            p99_milliseconds: percentile(99),
        })
    })?;
    drop(gateway);
    line.with_context(|| name.to_owned())
}

fn report(results: &Results) -> String {
    let mut text = format!(
        "{} clients × {} connections, datagrams of 100 bytes, there and back; delays at {} a second\n\
         {}\n\n",
        results.clients,
        results.connections,
        results.rate_of_delays,
        results.machine.line(),
    );
    let titles = [
        "",
        "lost",
        "datagrams/s",
        "CPU %",
        "/CPU second",
        "MB",
        "p50 ms",
        "p99 ms",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(results.gateways.iter().map(|line| {
        vec![
            line.name.to_owned(),
            line.lost.to_string(),
            format!("{:.0}", line.datagrams_a_second),
            format!("{:.0}", line.cpu_percent),
            format!("{:.0}", line.datagrams_a_cpu_second),
            format!("{:.1}", line.memory_mb),
            format!("{:.2}", line.p50_milliseconds),
            format!("{:.2}", line.p99_milliseconds),
        ]
    }));
    text += &aligned(&rows, 1);
    let of = |name: &str| results.gateways.iter().find(|line| line.name == name);
    if let (Some(ours), Some(python)) = (of("taltun udpgw"), of("Python, threads")) {
        let _ = write!(
            text,
            "\nA second of CPU time carries {:.1} times as many as in Python.",
            ours.datagrams_a_cpu_second / python.datagrams_a_cpu_second
        );
    }
    text
}
