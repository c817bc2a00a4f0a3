//! `[metrics]`: what Prometheus reads, and the process that serves it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::{Signal, send_signal};
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{
    Case, UP_LIMIT, ensure_answers_within, ensure_without_rights, eventually, process_of, taltun,
};

pub const CASES: &[Case] = &[
    Case {
        name: "metrics tell what status tells, to a process without any right",
        programs: &[],
        run: serves,
    },
    Case {
        name: "metrics follow a reload, and stay where that can't be",
        programs: &[],
        run: reloads,
    },
    Case {
        name: "metrics come back when their process is killed, and end with the hub",
        programs: &[],
        run: heals,
    },
    Case {
        name: "metrics on a vip are for those in the tunnel and the hub itself",
        programs: &[],
        run: on_vip,
    },
    Case {
        name: "metrics on a port that is taken keep no hub from starting, and come once it is free",
        programs: &[],
        run: taken,
    },
    Case {
        name: "metrics and the UDP gateway exchange their ports, and listen on several",
        programs: &[],
        run: exchanges,
    },
    Case {
        name: "a metrics process that is stopped is replaced, and ends with a hub that is killed",
        programs: &[],
        run: stopped,
    },
    Case {
        name: "scrapers that say nothing or do not read keep nobody from metrics",
        programs: &[],
        run: silent,
    },
    Case {
        name: "metrics and alert rules are what promtool takes, and the alerts come when they should",
        programs: &["promtool"],
        run: promtool,
    },
];

const LIMIT: Duration = Duration::from_secs(30);
const LOOPBACK: &str = "127.0.0.1:9586";

struct Hub {
    pair: Pair,
    keys: [Keys; 2],
    node: Node,
}

impl Hub {
    fn start(section: &str) -> Result<Self> {
        let pair = Pair::create(&private_prefix())?;
        let keys = [Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?];
        let node = Node::start_with_text(&pair.left, &taltun()?, &text(&keys, section))?;
        Ok(Self { pair, keys, node })
    }

    /// The peer, with a session.
    fn spoke(&self) -> Result<Node> {
        let text = format!(
            "[interface]\nmode = \"client\"\nlocal_addr = \"0.0.0.0:9100\"\nvip = \"10.200.0.2/24\"\n\
             private_key = \"{}\"\n[[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\n\
             endpoint = \"10.99.1.1:9100\"\n",
            self.keys[1].private, self.keys[0].public
        );
        let node = Node::start_with_text(&self.pair.right, &taltun()?, &text)?;
        ensure_answers_within(&self.pair.right, "10.200.0.1".parse()?, UP_LIMIT)?;
        Ok(node)
    }

    fn reload(&self, section: &str) -> Result<String> {
        fs::write(self.node.config(), text(&self.keys, section))?;
        self.node.tell(&["reload"])
    }

    /// What a scraper on the hub reads.
    fn scrape(&self, address: &str) -> Result<String> {
        scrape(&self.pair.left, address)
    }

    /// The process that serves metrics.
    fn process(&self) -> Result<u32> {
        process_of(self.node.pid(), "metrics-process")
    }
}

fn text(keys: &[Keys; 2], section: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
         local_addr = \"0.0.0.0:9100\"\nprivate_key = \"{}\"\n{section}\n\
         [[peers]]\nname = 'ana \"the\" first'\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n",
        keys[0].private, keys[1].public
    )
}

fn scrape(from: &Namespace, address: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    from.run(|| {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(LIMIT))?;
        ask(stream)
    })?
}

fn ask(mut stream: impl Read + Write) -> Result<String> {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: hub\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(body.to_owned())
}

/// The value of the only sample whose line begins so.
fn value(text: &str, start: &str) -> Result<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(start));
    let rest = lines
        .next()
        .with_context(|| format!("no {start} in {text}"))?;
    let value = rest.rsplit(' ').next().unwrap_or_default();
    value.parse().with_context(|| format!("{start}{rest}"))
}

fn serves() -> Result<()> {
    let hub = Hub::start("[metrics]")?;
    let before = hub.scrape(LOOPBACK)?;
    ensure!(value(&before, "taltun_peers_with_session{")? < 0.5);
    ensure!(value(&before, "wireguard_latest_handshake_seconds{")? < 0.5);
    let spoke = hub.spoke()?;
    let after = hub.scrape(LOOPBACK)?;
    ensure!(
        value(&after, "taltun_peers_with_session{")? > 0.5,
        "{after}"
    );
    let peer = format!(
        "{{interface=\"taltun0\",public_key=\"{}\",allowed_ips=\"10.200.0.2/32\",\
         friendly_name=\"ana \\\"the\\\" first\"}} ",
        hub.keys[1].public
    );
    let status = hub.node.status()?;
    let sent = value(&after, &format!("wireguard_sent_bytes_total{peer}"))?;
    ensure!(
        sent > 0.0 && sent <= status.peers[0].tx_bytes as f64,
        "{sent}"
    );
    let handshake = value(&after, &format!("wireguard_latest_handshake_seconds{peer}"))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    ensure!((now.as_secs_f64() - handshake).abs() < 60.0, "{handshake}");

    let worker = "{interface=\"taltun0\",thread=\"taltun-in-0\"}";
    ensure!(value(&after, &format!("taltun_thread_cpu_seconds_total{worker}"))? > 0.0);
    ensure!(
        value(
            &after,
            "taltun_socket_queue_drops_total{interface=\"taltun0\",worker=\"0\"}"
        )? < 0.5
    );
    ensure!(value(&after, "taltun_tunnel_queue_drops_total{")? < 0.5);

    // What it may do: nothing.
    ensure_without_rights(hub.process()?)?;
    let status = hub.node.tell(&["status"])?;
    ensure!(status.contains("metrics  127.0.0.1:9586\n"), "{status}");
    drop(spoke);
    hub.node.stop(Signal::Terminate)
}

fn reloads() -> Result<()> {
    let hub = Hub::start("")?;
    ensure!(hub.scrape(LOOPBACK).is_err(), "nobody asked for it");
    ensure!(hub.reload("[metrics]")? == "reloaded: metrics on\n");
    hub.scrape(LOOPBACK)?;
    let said = hub.reload("[metrics]")?;
    ensure!(said.contains("nothing has changed"), "{said}");
    // The same port, by an address that has the old one in it, and back.
    for (listen, elsewhere) in [("0.0.0.0:9586", true), (LOOPBACK, false)] {
        let said = hub.reload(&format!("[metrics]\nlisten = \"{listen}\""))?;
        ensure!(
            said == "reloaded: metrics.listen changed, metrics moved\n",
            "{said}"
        );
        hub.scrape(LOOPBACK)?;
        let outside = scrape(&hub.pair.right, "10.99.1.1:9586");
        ensure!(outside.is_ok() == elsewhere, "{listen}: {outside:?}");
    }
    // A port of somebody else's, who would share it even.
    let taken = hub.pair.left.tcp("127.0.0.1:9587")?;
    let refused = hub.reload("[metrics]\nlisten = \"127.0.0.1:9587\"");
    let refused = format!("{:#}", refused.err().context("it was taken")?);
    ensure!(
        refused.contains("metrics.listen: cannot listen on 127.0.0.1:9587"),
        "{refused}"
    );
    ensure!(refused.contains("ss -ltnp sport = :9587"), "{refused}");
    hub.scrape(LOOPBACK)?;
    drop(taken);
    // A file, in which something else is left alone.
    let mistaken = hub.node.directory().join("metrics.sock");
    let refused = hub.reload(&format!("[metrics]\nlisten = \"{}\"", mistaken.display()));
    let refused = format!("{:#}", refused.err().context("it is a tunnel's")?);
    ensure!(
        refused.contains("taken for a tunnel's control socket"),
        "{refused}"
    );
    let path = hub.node.directory().join("metrics");
    fs::write(&path, "precious")?;
    let section = format!("[metrics]\nlisten = \"{}\"", path.display());
    ensure!(hub.reload(&section).is_err());
    ensure!(fs::read_to_string(&path)? == "precious");
    fs::remove_file(&path)?;
    ensure!(hub.reload(&section)? == "reloaded: metrics.listen changed, metrics moved\n");
    ensure!(hub.scrape(LOOPBACK).is_err());
    ask(UnixStream::connect(&path)?)?;
    ensure!(fs::metadata(&path)?.permissions().mode() & 0o777 == 0o666);
    // Somebody takes it away.
    fs::remove_file(&path)?;
    let status = hub.node.tell(&["status"])?;
    ensure!(status.contains("its file is gone"), "{status}");
    let said = hub.reload(&section)?;
    ensure!(said.contains("metrics made anew"), "{said}");
    ask(UnixStream::connect(&path)?)?;
    ensure!(hub.reload("")? == "reloaded: metrics off\n");
    ensure!(!path.exists());
    eventually("its process has ended", LIMIT, || {
        Ok(hub.process().is_err())
    })?;
    hub.node.stop(Signal::Terminate)
}

fn heals() -> Result<()> {
    let mut hub = Hub::start("[metrics]")?;
    hub.scrape(LOOPBACK)?;
    let first = hub.process()?;
    send_signal(first, Signal::Kill)?;
    eventually("status tells it", LIMIT, || {
        let status = hub.node.tell(&["status"])?;
        Ok(status.contains("metrics  127.0.0.1:9586: doesn't answer"))
    })?;
    eventually("it is back", LIMIT, || Ok(hub.process().is_ok()))?;
    // Who came meanwhile waited in the kernel's queue.
    hub.scrape(LOOPBACK)?;
    ensure!(hub.process()? != first);
    ensure!(
        hub.node
            .log()
            .contains("metrics: its process ended (signal: 9")
    );
    // It doesn't outlive a hub that can't tell it.
    let second = hub.process()?;
    hub.node.kill()?;
    eventually("it ended, too", LIMIT, || {
        Ok(!Path::new(&format!("/proc/{second}")).exists())
    })
}

fn on_vip() -> Result<()> {
    let hub = Hub::start("[metrics]\nlisten = \"10.200.0.1:9586\"")?;
    let spoke = hub.spoke()?;
    scrape(&hub.pair.right, "10.200.0.1:9586")?;
    hub.scrape("10.200.0.1:9586")?;
    drop(spoke);
    hub.pair.right.ip("route add 10.200.0.1/32 via 10.99.1.1")?;
    let outside = scrape(&hub.pair.right, "10.200.0.1:9586");
    ensure!(outside.is_err(), "{outside:?}");
    hub.node.stop(Signal::Terminate)
}

fn taken() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let keys = [Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?];
    let taken = pair.left.tcp(LOOPBACK)?;
    let node = Node::start_with_text(&pair.left, &taltun()?, &text(&keys, "[metrics]"))?;
    let hub = Hub { pair, keys, node };
    let log = hub.node.log();
    ensure!(
        log.contains("metrics.listen: cannot listen on 127.0.0.1:9586"),
        "{log}"
    );
    let status = hub.node.tell(&["status"])?;
    ensure!(
        status.contains("metrics  127.0.0.1:9586: doesn't answer: cannot listen on"),
        "{status}"
    );
    // A reload for something else isn't kept from it.
    let text = text(&hub.keys, "[metrics]").replace("ana", "eva");
    fs::write(hub.node.config(), text)?;
    let said = hub.node.tell(&["reload"])?;
    ensure!(said.starts_with("reloaded: "), "{said}");
    drop(taken);
    eventually("there are metrics", LIMIT, || {
        Ok(hub.scrape(LOOPBACK).is_ok())
    })?;
    let status = hub.node.tell(&["status"])?;
    ensure!(status.contains("metrics  127.0.0.1:9586\n"), "{status}");
    hub.node.stop(Signal::Terminate)
}

fn exchanges() -> Result<()> {
    let section = |metrics: &str, gateway: &str| {
        format!(
            "[metrics]\nlisten = [\"10.200.0.1:9586\", \"{metrics}\"]\n[udpgw]\nlisten = \
             \"{gateway}\"\n"
        )
    };
    let (one, other) = ("127.0.0.1:9586", "127.0.0.1:9587");
    let hub = Hub::start(&section(one, other))?;
    for (metrics, gateway) in [(other, one), (one, other), ("[::]:9588", one)] {
        let said = hub.reload(&section(metrics, gateway))?;
        ensure!(said.contains("metrics moved"), "{said}");
        let scraped = format!("127.0.0.1:{}", &metrics[metrics.len() - 4..]);
        hub.scrape(&scraped)?;
        hub.scrape("10.200.0.1:9586")?;
        hub.pair.left.run(|| {
            let address: SocketAddr = gateway.parse()?;
            anyhow::Ok(TcpStream::connect_timeout(
                &address,
                Duration::from_secs(2),
            )?)
        })??;
    }
    // Neither port is shared with anybody from then on.
    let shared = hub.pair.left.run(|| TcpListener::bind("127.0.0.1:9588"))?;
    ensure!(shared.is_err());
    hub.node.stop(Signal::Terminate)
}

fn stopped() -> Result<()> {
    let mut hub = Hub::start("[metrics]")?;
    hub.scrape(LOOPBACK)?;
    let first = hub.process()?;
    send_signal(first, Signal::Pause)?;
    eventually("another process serves", 2 * LIMIT, || {
        Ok(hub.process().is_ok_and(|it| it != first))
    })?;
    hub.scrape(LOOPBACK)?;
    ensure!(hub.node.log().contains("it hung for 15 s"));
    let second = hub.process()?;
    send_signal(second, Signal::Pause)?;
    hub.node.kill()?;
    eventually("it ended with the hub", LIMIT, || {
        Ok(!Path::new(&format!("/proc/{second}")).exists())
    })
}

fn silent() -> Result<()> {
    let hub = Hub::start("[metrics]")?;
    let address: SocketAddr = LOOPBACK.parse()?;
    let mut held = Vec::new();
    for turn in 0..64 {
        let mut stream = hub.pair.left.run(|| TcpStream::connect(address))??;
        if turn % 2 == 0 {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: hub\r\n\r\n");
        }
        held.push(stream);
    }
    for _ in 0..8 {
        let start = Instant::now();
        hub.scrape(LOOPBACK)?;
        // Prometheus waits for so long.
        ensure!(start.elapsed() < Duration::from_secs(10));
    }
    drop(held);
    hub.node.stop(Signal::Terminate)
}

fn promtool() -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rules = repository.join("taltun/dist/alerts.yml");
    output_of(
        Command::new("promtool")
            .args(["check", "rules"])
            .arg(&rules),
    )?;
    let tests = repository.join("tests/system/alerts_test.yml");
    output_of(Command::new("promtool").args(["test", "rules"]).arg(&tests))?;
    let hub = Hub::start("[metrics]\n[udpgw]")?;
    let spoke = hub.spoke()?;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let text = hub.scrape(LOOPBACK)?;
    promtool
        .stdin
        .take()
        .context("no pipe")?
        .write_all(text.as_bytes())?;
    let said = promtool.wait_with_output()?;
    let complaints = String::from_utf8_lossy(&said.stderr);
    ensure!(
        said.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    drop(spoke);
    hub.node.stop(Signal::Terminate)
}
