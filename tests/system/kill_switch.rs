//! The kill switch opens at an orderly end and at no other, a restart doesn't open it in
//! between, and `taltun undo` releases what a dead process left.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{find, finish_within, output_of};
use taltun_tests::lab::Role;
use taltun_tests::node::{Keys, Node, RUNTIME_DIR};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::capture::{Capture, Packet};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{Case, ensure_answers, ensure_answers_within, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "kill switch: it stays closed after SIGKILL, a deleted interface and starts that fail",
        programs: &["nft"],
        run: stays_closed,
    },
    Case {
        name: "kill switch: a start that fails leaves the first one's rules closed, too",
        programs: &["nft"],
        run: first_start_fails,
    },
    Case {
        name: "kill switch: a restart lets not one packet out, with nftables",
        programs: &["nft"],
        run: || restart("nftables"),
    },
    Case {
        name: "kill switch: a restart lets not one packet out, with iptables",
        programs: &["iptables"],
        run: || restart("iptables"),
    },
    Case {
        name: "kill switch: a reload that drops the key opens it, and one that sets it closes it",
        programs: &["nft"],
        run: reload,
    },
    Case {
        name: "kill switch: undo refuses while the tunnel runs, and releases what it left",
        programs: &["nft"],
        run: undo,
    },
    Case {
        name: "kill switch: undo releases a switch of either tool without a journal",
        programs: &["nft"],
        run: undo_without_journal,
    },
];

/// What the server across the wire is asked outside of the tunnel.
fn outside() -> IpAddr {
    WIRE_A.far_v4()
}

/// A client on the left whose everything goes to a server on the right.
pub struct Full {
    pub pair: Pair,
    pub client: Node,
    _server: Node,
    /// Of the client's configuration.
    pub text: String,
}

impl Full {
    /// `more` are lines of the client's `[interface]`; it is started by way of `through`.
    pub fn start(more: &str, through: &[&str]) -> Result<Self> {
        let pair = Pair::create(&private_prefix())?;
        let (left, right) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n",
            right.private, left.public
        );
        let server = Node::start_with_text(&pair.right, &taltun()?, &text)?;
        let text = format!(
            "[interface]\nmode = \"client\"\nvip = \"10.200.0.2/24\"\nprivate_key = \"{}\"\n\
             local_addr = \"0.0.0.0:9000\"\nroutes = [\"0.0.0.0/0\", \"::/0\"]\n{more}\
             [[peers]]\npublic_key = \"{}\"\nallowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n\
             endpoint = \"{}:9000\"\npersistent_keepalive = 1\n",
            left.private,
            right.public,
            outside()
        );
        let client = Node::start_through(&pair.left, &taltun()?, &text, through)?;
        Ok(Self {
            pair,
            client,
            _server: server,
            text,
        })
    }

    /// The tunnel carries packets.
    pub fn tunnel_answers(&self) -> Result<()> {
        ensure_answers(&self.pair.left, Role::Hub.v4())
    }

    pub fn outside_is_closed(&self) -> Result<()> {
        for _ in 0..5 {
            let answer = Pinger::new(&self.pair.left, outside())?.ping(Duration::from_millis(200));
            ensure!(!matches!(answer, Ok(Some(_))), "the underlay answers");
        }
        Ok(())
    }

    pub fn outside_is_open(&self) -> Result<()> {
        ensure_answers(&self.pair.left, outside())
    }

    /// Writes another configuration, `from` being replaced in the first one's text.
    pub fn write_config(&self, from: &str, to: &str) -> Result<()> {
        ensure!(self.text.contains(from), "{}", self.text);
        Ok(fs::write(
            self.client.config(),
            self.text.replace(from, to),
        )?)
    }

    /// Runs `taltun` with these words in the client's namespace.
    pub fn taltun(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.pair.left.command(taltun()?);
        command
            .args(words)
            .env(RUNTIME_DIR, self.client.directory());
        finish_within(&mut command, Duration::from_secs(10))
    }

    /// A start that has to fail, and what it said.
    pub fn failing_start(&self) -> Result<String> {
        let config = self.client.config();
        let config = config.to_str().context("a path that is text")?;
        let output = self.taltun(&["run", "--config", config])?;
        ensure!(!output.status.success(), "it started");
        Ok(said(&output))
    }

    /// Rules without their counters, and the journal.
    pub fn held(&self) -> Result<(String, String)> {
        let list = ["-s", "list", "table", "inet", "taltun-taltun0"];
        let rules = output_of(self.pair.left.command("nft").args(list))?;
        let journal = fs::read_to_string(self.client.directory().join("taltun0.undo"))?;
        ensure!(rules.contains("kill_switch_output"), "{rules}");
        Ok((rules, journal))
    }

    pub fn end_within(&mut self, limit: Duration) -> Result<()> {
        let pid = self.client.pid();
        eventually("it ends", limit, || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            Ok(stat.is_empty() || stat.contains(") Z "))
        })?;
        self.client.kill()
    }
}

/// All that a command printed.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn stays_closed() -> Result<()> {
    let mut full = Full::start("kill_switch = true\n", &[])?;
    full.tunnel_answers()?;
    full.outside_is_closed()?;
    for way in ["SIGKILL", "a deleted interface"] {
        if way == "SIGKILL" {
            full.client.kill()?;
        } else {
            full.pair.left.ip("link delete taltun0")?;
            full.end_within(Duration::from_secs(10))?;
            let log = full.client.log();
            ensure!(log.contains("the kill switch of taltun0 holds"), "{log}");
        }
        full.outside_is_closed().context(way)?;
        let held = full.held()?;
        let status = full.taltun(&["status"])?;
        let text = said(&status);
        ensure!(status.status.code() == Some(1), "{text}");
        for expected in [
            "no tunnel is running. KILL SWITCH OF taltun0 HOLDS: nothing leaves.",
            "start: taltun run --config /",
            "release: taltun undo taltun0",
        ] {
            ensure!(text.contains(expected), "{text}");
        }

        // Starts that fail: by the file, by a port in use, by a route of somebody else's, by
        // what a later step finds; with the key and without.
        let taken = full.pair.left.udp("0.0.0.0:9055")?;
        full.pair.left.ip("tuntap add dev other mode tun")?;
        full.pair.left.ip("link set other up")?;
        full.pair.left.ip("route add 192.0.2.0/24 dev other")?;
        let port = "local_addr = \"0.0.0.0:9055\"";
        let late = "routes = [\"192.0.2.0/24\", \"0.0.0.0/0\", \"::/0\"]";
        for (from, to, expected) in [
            ("mode = \"client\"", "mode = \"nonsense\"", "interface.mode"),
            ("local_addr = \"0.0.0.0:9000\"", port, "cannot listen on"),
            ("routes = [\"0.0.0.0/0\", \"::/0\"]", late, "192.0.2.0/24"),
        ] {
            for more in ["kill_switch = true\n", ""] {
                let text = full.text.replace("kill_switch = true\n", more);
                ensure!(text.contains(from), "{text}");
                fs::write(full.client.config(), text.replace(from, to))?;
                let text = full.failing_start()?;
                ensure!(text.contains(expected), "{text}");
                ensure!(text.contains("the kill switch of taltun0 holds"), "{text}");
                ensure!(
                    full.held()? == held,
                    "after {way} and {expected} there is {:?} and not {held:?}",
                    full.held()?
                );
            }
        }
        full.outside_is_closed()?;
        drop(taken);
        full.pair.left.ip("link delete other")?;
        full.write_config("mode", "mode")?;
        full.client.start_again(&full.pair.left)?;
        full.tunnel_answers()?;
        full.outside_is_closed()?;
    }
    full.client.end(Signal::Terminate)?;
    full.outside_is_open()?;
    ensure!(full.held().is_err(), "an orderly end left the rules");
    // A successor without the key opens it once it is up.
    full.client.start_again(&full.pair.left)?;
    full.client.kill()?;
    full.outside_is_closed()?;
    full.write_config("kill_switch = true\n", "")?;
    full.client.start_again(&full.pair.left)?;
    full.outside_is_open()?;
    full.client.end(Signal::Terminate)?;
    let left = full.taltun(&["undo", "taltun0"])?;
    ensure!(
        said(&left).contains("nothing of taltun0 is left"),
        "{}",
        said(&left)
    );
    Ok(())
}

/// Another's route stands in the way of the second one of ours, after the rules were made.
fn first_start_fails() -> Result<()> {
    let mut full = Full::start("kill_switch = true\n", &[])?;
    full.client.end(Signal::Terminate)?;
    full.outside_is_open()?;
    full.pair.left.ip("tuntap add dev other mode tun")?;
    full.pair.left.ip("link set other up")?;
    full.pair.left.ip("route add 192.0.2.0/24 dev other")?;
    full.write_config(
        "routes = [\"0.0.0.0/0\", \"::/0\"]",
        "routes = [\"192.0.2.0/24\", \"0.0.0.0/0\", \"::/0\"]",
    )?;
    let text = full.failing_start()?;
    ensure!(text.contains("the kill switch of taltun0 holds"), "{text}");
    full.outside_is_closed()?;
    full.held()?;
    full.pair.left.ip("link delete other")?;
    full.client.start_again(&full.pair.left)?;
    full.tunnel_answers()?;
    full.client.end(Signal::Interrupt)?;
    full.outside_is_open()
}

/// Pings and sends outside of the tunnel all the time; nothing of that may be seen there.
struct Leaks {
    capture: Capture,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
}

impl Leaks {
    fn look(pair: &Pair) -> Result<Self> {
        let capture = Capture::start(&pair.right, "to-left")?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let mut pinger = Pinger::new(&pair.left, outside())?;
        let socket = pair.left.udp("0.0.0.0:0")?;
        let sender = thread::spawn(move || {
            let mut tried = 0;
            while !ended.load(Ordering::Relaxed) {
                // What is refused is what is wanted.
                let _ = pinger.ping(Duration::from_millis(1));
                let _ = socket.send_to(&[7], (outside(), 7));
                tried += 1;
            }
            tried
        });
        Ok(Self {
            capture,
            stop,
            sender,
        })
    }

    fn ensure_none(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let tried = self.sender.join().unwrap_or_default();
        let leaked: Vec<String> = self
            .capture
            .finish()
            .into_iter()
            .filter(|(packet, _)| is_leak(packet))
            .map(|(packet, count)| format!("{count} of {packet}"))
            .collect();
        ensure!(tried > 50, "only {tried} were tried");
        ensure!(leaked.is_empty(), "{}", leaked.join(", "));
        Ok(())
    }
}

fn is_leak(packet: &Packet) -> bool {
    packet.from == WIRE_A.near_v4() && packet.to_port != 9000 && packet.from_port != 9000
}

fn restart(firewall: &str) -> Result<()> {
    let keep = ["sh", "-c", "exec \"$@\" --keep-kill-switch", "sh"];
    let more = format!("kill_switch = true\nfirewall = \"{firewall}\"\n");
    let mut full = Full::start(&more, &keep)?;
    full.tunnel_answers()?;
    let leaks = Leaks::look(&full.pair)?;
    for _ in 0..5 {
        full.client.end(Signal::Terminate)?;
        full.client.start_again(&full.pair.left)?;
        full.tunnel_answers()?;
    }
    full.client.end(Signal::Terminate)?;
    full.outside_is_closed()?;
    // The other tool takes over, and back.
    let other = if firewall == "nftables" {
        "iptables"
    } else {
        "nftables"
    };
    let program = if other == "nftables" { "nft" } else { other };
    if find(program).is_some() {
        full.write_config(firewall, other)?;
        full.client.start_again(&full.pair.left)?;
        full.tunnel_answers()?;
        full.client.end(Signal::Terminate)?;
        full.write_config(firewall, firewall)?;
        full.client.start_again(&full.pair.left)?;
        full.tunnel_answers()?;
        full.client.end(Signal::Terminate)?;
    }
    leaks.ensure_none()?;
    let undone = full.taltun(&["undo", "taltun0"])?;
    ensure!(undone.status.success(), "{}", said(&undone));
    ensure!(
        said(&undone) == "undone for taltun0: policy rules, kernel settings, kill switch\n",
        "{}",
        said(&undone)
    );
    full.outside_is_open()?;
    // Ctrl-C is somebody who wants it to end.
    full.client.start_again(&full.pair.left)?;
    full.tunnel_answers()?;
    full.outside_is_closed()?;
    full.client.end(Signal::Interrupt)?;
    full.outside_is_open()
}

fn reload() -> Result<()> {
    let mut full = Full::start("kill_switch = true\nprotect_vip = true\n", &[])?;
    full.tunnel_answers()?;
    full.outside_is_closed()?;
    full.write_config("kill_switch = true\n", "")?;
    let text = full.client.tell(&["reload"])?;
    ensure!(text.contains("the kill switch is off"), "{text}");
    full.outside_is_open()?;
    full.tunnel_answers()?;
    let rules = output_of(full.pair.left.command("nft").args(["list", "ruleset"]))?;
    ensure!(
        rules.contains("protect_vip") && !rules.contains("kill_switch"),
        "{rules}"
    );
    // Killed now, it holds nothing.
    full.client.kill()?;
    full.outside_is_open()?;
    full.client.start_again(&full.pair.left)?;
    full.write_config("kill_switch", "kill_switch")?;
    let text = full.client.tell(&["reload"])?;
    ensure!(text.contains("the kill switch is on"), "{text}");
    full.tunnel_answers()?;
    full.outside_is_closed()?;
    let text = full.client.tell(&["reload"])?;
    ensure!(!text.contains("kill switch"), "{text}");
    full.client.kill()?;
    full.outside_is_closed()?;
    full.held()?;
    Ok(())
}

fn undo() -> Result<()> {
    let mut full = Full::start("kill_switch = true\nip_forward = true\n", &[])?;
    full.tunnel_answers()?;
    let refused = full.taltun(&["undo", "taltun0"])?;
    ensure!(refused.status.code() == Some(1), "{}", said(&refused));
    ensure!(
        said(&refused).contains("taltun0 is running (pid "),
        "{}",
        said(&refused)
    );
    full.outside_is_closed()?;
    full.tunnel_answers()?;
    full.client.kill()?;
    full.outside_is_closed()?;
    // From another namespace, too: the journal knows where it belongs.
    let status = {
        let mut command = Command::new(taltun()?);
        command
            .arg("status")
            .env(RUNTIME_DIR, full.client.directory());
        finish_within(&mut command, Duration::from_secs(10))?
    };
    ensure!(
        said(&status).contains("KILL SWITCH OF taltun0 HOLDS"),
        "{}",
        said(&status)
    );
    let mut command = Command::new(taltun()?);
    command
        .args(["undo", "taltun0"])
        .env(RUNTIME_DIR, full.client.directory());
    let text = output_of(&mut command)?;
    ensure!(
        text.starts_with("undone for taltun0: ") && text.contains("kill switch"),
        "{text}"
    );
    full.outside_is_open()?;
    ensure!(!full.pair.left.ip("rule show")?.contains("fwmark"));
    let again = full.taltun(&["undo", "taltun0"])?;
    ensure!(again.status.success(), "{}", said(&again));
    ensure!(
        said(&again) == "nothing of taltun0 is left on this host\n",
        "{}",
        said(&again)
    );
    let wrong = full.taltun(&["undo", "../x"])?;
    ensure!(wrong.status.code() == Some(2), "{}", said(&wrong));
    ensure_answers_within(&full.pair.left, outside(), Duration::from_secs(5))
}

fn undo_without_journal() -> Result<()> {
    for firewall in ["nftables", "iptables"] {
        if firewall == "iptables" && find(firewall).is_none() {
            println!("  no iptables here");
            continue;
        }
        let more = format!("kill_switch = true\nfirewall = \"{firewall}\"\n");
        let mut full = Full::start(&more, &[])?;
        full.client.kill()?;
        let journal = full.client.directory().join("taltun0.undo");
        for text in [None, Some("{ nonsense")] {
            match text {
                Some(text) => fs::write(&journal, text)?,
                None => fs::remove_file(&journal)?,
            }
            full.outside_is_closed()?;
            let undone = full.taltun(&["undo", "taltun0"])?;
            ensure!(undone.status.success(), "{}", said(&undone));
            ensure!(
                said(&undone).starts_with("undone for taltun0: ")
                    && said(&undone).contains("kill switch")
                    && !said(&undone).contains("firewall rules"),
                "{}",
                said(&undone)
            );
            full.outside_is_open()?;
            ensure!(!full.pair.left.ip("rule show")?.contains("fwmark"));
            ensure!(!journal.exists());
            full.client.start_again(&full.pair.left)?;
            full.client.kill()?;
        }
        full.taltun(&["undo", "taltun0"])?;
    }
    Ok(())
}
