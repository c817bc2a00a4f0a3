//! iperf3: how it is called and what it says.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use taltun_tests::netns::Namespace;

use super::process::{Process, Wait};

/// The port of the server, as nothing else is in its namespace.
const PORT: u16 = 5201;
/// How long the server may take until it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than the transfer a client may take, to connect and to exchange results
/// through a queue that is full.
const GRACE: Duration = Duration::from_secs(15);
/// The most that iperf3's sockets for UDP are given for a buffer, bytes.
const UDP_BUFFER: usize = 4 << 20;

/// What to send.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// TCP in so many streams.
    Tcp(u32),
    /// UDP datagrams of so many bytes, as fast as they go.
    Udp(u32),
}

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Received {
    /// Payload bytes.
    pub bytes: f64,
    /// In so many seconds.
    pub seconds: f64,
}

/// A transfer under way; dropping it ends both ends.
pub struct Transfer {
    client: Process,
    _server: Process,
    seconds: u64,
}

impl Received {
    /// The rate in Gbit/s.
    pub fn gbps(self) -> f64 {
        self.gigabits() / self.seconds
    }

    /// How many gigabits.
    pub fn gigabits(self) -> f64 {
        self.bytes * 8.0 / 1e9
    }

    /// Thousands of datagrams of this length a second.
    pub fn kpps(self, length: u32) -> f64 {
        self.bytes / f64::from(length) / self.seconds / 1e3
    }
}

impl Transfer {
    /// Sends `load` for so many seconds from `from` to `address`, which is one of `to`'s.
    pub fn start(
        load: Load,
        from: &Namespace,
        to: &Namespace,
        address: IpAddr,
        seconds: u64,
    ) -> Result<Self> {
        let address = address.to_string();
        let mut server = to.command("iperf3");
        server.args(["--server", "--one-off", "--bind", &address]);
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Process::spawn(&mut server, "iperf3's server")?;
        wait_until_listening(&mut server, to)?;

        let mut client = from.command("iperf3");
        client.args(["--client", &address, "--json", "--interval", "0"]);
        client.args(["--time", &seconds.to_string()]);
        match load {
            Load::Tcp(streams) => client.args(["--parallel", &streams.to_string()]),
            Load::Udp(length) => {
                client.args(["--udp", "--bitrate", "0", "--length", &length.to_string()]);
                client.args(["--window", &udp_buffer().to_string()])
            }
        };
        // Without intervals the report fits the pipe, so nobody has to read along.
        client.stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Self {
            client: Process::spawn(&mut client, "iperf3")?,
            _server: server,
            seconds,
        })
    }

    /// Whether it still sends.
    pub fn is_running(&mut self) -> Result<bool> {
        self.client.is_running()
    }

    /// Waits for the end, calling `meanwhile` now and then, and returns what arrived.
    pub fn finish(mut self, meanwhile: impl FnMut()) -> Result<Received> {
        let limit = Duration::from_secs(self.seconds) + GRACE;
        match self.client.wait(limit, meanwhile)? {
            // It says in its report what went wrong, if anything did.
            Wait::Ended => parse(&self.client.take_output()?),
            Wait::Timeout => bail!("iperf3 was still running after {limit:?}"),
        }
    }
}

/// Bytes of the buffers of iperf3's sockets for UDP, for whoever measures: as many as the system lets anybody have,
/// up to [`UDP_BUFFER`]. By default it is some 250 small packets, and what more arrives while
/// iperf3 waits for its turn on a busy machine is lost by it and not by the tunnel.
pub fn udp_buffer() -> usize {
    ["rmem_max", "wmem_max"]
        .into_iter()
        .filter_map(|limit| {
            let text = fs::read_to_string(format!("/proc/sys/net/core/{limit}")).ok()?;
            text.trim().parse().ok()
        })
        .fold(UDP_BUFFER, usize::min)
}

fn wait_until_listening(server: &mut Process, namespace: &Namespace) -> Result<()> {
    let deadline = Instant::now() + LISTEN_LIMIT;
    while !namespace.run(is_listening)?? {
        ensure!(server.is_running()?, "iperf3's server ended at once");
        ensure!(Instant::now() < deadline, "iperf3's server doesn't listen");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether somebody listens on our port; runs inside the namespace.
fn is_listening() -> Result<bool> {
    let port = format!(":{PORT:04X}");
    let table = fs::read_to_string("/proc/thread-self/net/tcp")?;
    Ok(table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // "0A" is TCP_LISTEN.
        fields.len() > 3 && fields[1].ends_with(&port) && fields[3] == "0A"
    }))
}

/// Reads what `iperf3 --json` printed on the client.
fn parse(json: &str) -> Result<Received> {
    #[derive(Deserialize)]
    struct Report {
        error: Option<String>,
        #[serde(default)]
        end: End,
    }
    #[derive(Deserialize, Default)]
    struct End {
        sum_received: Option<Sum>,
    }
    #[derive(Deserialize)]
    struct Sum {
        bytes: f64,
        seconds: f64,
    }
    let report: Report = serde_json::from_str(json).context("iperf3 printed what we can't read")?;
    if let Some(error) = report.error {
        bail!("iperf3: {error}");
    }
    let sum = report
        .end
        .sum_received
        .context("iperf3 doesn't say what it received (older than 3.12?)")?;
    ensure!(sum.seconds > 0.0, "iperf3 ran for no time");
    Ok(Received {
        bytes: sum.bytes,
        seconds: sum.seconds,
    })
}

/// iperf3's version, if it is there.
pub fn version() -> Option<String> {
    let output = Command::new("iperf3").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tcp_received_is_read() {
        let json = r#"{"start":{"version":"iperf 3.12"},"intervals":[],"end":{"streams":[],
            "sum_sent":{"start":0,"end":2.0,"seconds":2.0,"bytes":600000000,"sender":true},
            "sum_received":{"start":0,"end":2.0,"seconds":2.0,"bytes":500000000,"bits_per_second":2e9},
            "sender_tcp_congestion":"cubic"}}"#;
        let received = parse(json).unwrap();
        assert!((received.gbps() - 2.0).abs() < 1e-9);
        assert!((received.gigabits() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn what_udp_received_is_not_what_it_sent() {
        let json = r#"{"end":{"sum":{"bytes":503698000,"lost_packets":331253},
            "sum_received":{"start":0,"end":1.0,"seconds":1.0,"bytes":6400000,"lost_packets":331253,"packets":387456}}}"#;
        assert!((parse(json).unwrap().kpps(64) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn an_error_is_iperf3s_own() {
        let json = r#"{"start":{},"intervals":[],"end":{},"error":"unable to connect to server"}"#;
        let error = parse(json).unwrap_err().to_string();
        assert_eq!(error, "iperf3: unable to connect to server");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for json in [
            "",
            "{",
            "{}",
            r#"{"end":{"sum_received":{"bytes":1,"seconds":0}}}"#,
        ] {
            assert!(parse(json).is_err(), "{json:?} was accepted");
        }
    }
}
