//! `taltun udpgw`: UDP through one TCP connection, for a client that isn't ours.
//!
//! The client is a Python program that knows the protocol and nothing of Taltun. It and the
//! gateway share a machine; what they reach is on another one, whose addresses look public.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{find, finish_within, output_of, wait_for};
use taltun_tests::netns::Namespace;
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::dns::Resolver;

use crate::support::{Case, eventually, taltun};

const CLIENT: &str = include_str!("udpgw/client.py");
/// Where the gateway is, and where echoes are.
const GATEWAY: [&str; 2] = ["127.0.0.1", "7300"];
const V4: [&str; 2] = ["203.0.113.2", "9000"];
const V6: [&str; 2] = ["2001:db8::2", "9000"];
/// How long a scenario may take on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the gateway may take to end.
const END: Duration = Duration::from_secs(1);

pub const CASES: &[Case] = &[
    Case {
        name: "udpgw carries datagrams of all sizes, IPv4 and IPv6",
        programs: &["python3"],
        run: echo,
    },
    Case {
        name: "udpgw asks the host's name server",
        programs: &["python3"],
        run: dns,
    },
    Case {
        name: "udpgw asks another name server at once where one can't be sent to",
        programs: &["python3"],
        run: dns_elsewhere,
    },
    Case {
        name: "udpgw opens a new socket when a connection begins anew",
        programs: &["python3"],
        run: rebind,
    },
    Case {
        name: "udpgw closes the connection used least recently and refuses clients above the limit",
        programs: &["python3"],
        run: limits,
    },
    Case {
        name: "udpgw loses datagrams of a client that reads slowly and of nobody else",
        programs: &["python3"],
        run: slow,
    },
    Case {
        name: "udpgw ends clients that lie or say nothing, and no others",
        programs: &["python3", "ss"],
        run: liars,
    },
    Case {
        name: "udpgw sends to the Internet, and elsewhere only if told",
        programs: &["python3"],
        run: destinations,
    },
    Case {
        name: "udpgw serves 200 clients with 10 connections each",
        programs: &["python3"],
        run: crowd,
    },
    Case {
        name: "udpgw closes what isn't used and ends within a second",
        programs: &["python3"],
        run: ends,
    },
    Case {
        name: "udpgw is reached through ssh",
        programs: &["python3", "ssh", "sshd", "ssh-keygen", "ss"],
        run: through_ssh,
    },
    Case {
        name: "udpgw says what keeps it from starting",
        programs: &[],
        run: refusals,
    },
];

fn echo() -> Result<()> {
    let site = Site::start(&[])?;
    site.play("echo", &[V4, V6])?;
    site.eventually("keepalives", |n| n == 2)?;
    site.eventually("dropped_flag", |n| n == 1)?;
    site.eventually("ended_by_client", |n| n == 1)?;
    site.stop()
}

fn dns() -> Result<()> {
    // What is known of name servers is a thread's.
    let site = Site::start(&["--workers", "1"])?;
    let answer = Ipv4Addr::new(192, 0, 2, 77);
    let resolver = Resolver::start(&site.pair.right, WIRE_A.far_v4(), answer)?;
    let words = [["10.1.2.3", "53"], ["192.0.2.77", "0"]];
    site.play("dns", &words)?;
    // One that says nothing, and the same after it.
    let two = format!("nameserver 203.0.113.77\nnameserver {}\n", WIRE_A.far_v4());
    fs::write(site.directory.join("resolv.conf"), two)?;
    // The file is read again each 2 s.
    std::thread::sleep(Duration::from_millis(2100));
    site.play("dns_next", &words)?;
    // Once two have found it out others needn't, and one that has a new id for each question does
    // so as soon; a comment in another encoding is none of it.
    site.play("dns_in_time", &words)?;
    site.play("dns_at_once", &words)?;
    let mut three = b"# B\xfcro\nnameserver 203.0.113.78\n".to_vec();
    three.extend(format!("nameserver {}\n", WIRE_A.far_v4()).into_bytes());
    fs::write(site.directory.join("resolv.conf"), three)?;
    std::thread::sleep(Duration::from_millis(2100));
    site.play("dns_new_ids", &words)?;
    drop(resolver);
    site.stop()
}

fn dns_elsewhere() -> Result<()> {
    let site = Site::start(&["--workers", "1"])?;
    let left = &site.pair.left;
    let right = &site.pair.right;
    let _first = Resolver::start(right, WIRE_A.far_v4(), Ipv4Addr::new(192, 0, 2, 77))?;
    let second = Resolver::start(
        right,
        Ipv4Addr::new(203, 0, 113, 2).into(),
        Ipv4Addr::new(192, 0, 2, 78),
    )?;
    left.ip("route add prohibit 192.0.2.1")?;
    left.ip("route add unreachable 192.0.2.2")?;
    left.ip("-6 route add unreachable 2001:db8:ffff::/48")?;
    // Each of them fails at once, in another way.
    let [far, other] = [WIRE_A.far_v4().to_string(), "203.0.113.2".to_owned()];
    let servers = [
        "2001:db8:ffff::1",
        "192.0.2.1",
        "192.0.2.2",
        "fe80::1",
        "255.255.255.255",
        &far,
        &other,
    ];
    let text = servers
        .map(|server| format!("nameserver {server}\n"))
        .concat();
    fs::write(site.directory.join("resolv.conf"), text)?;
    let words = [["10.1.2.3", "53"], ["192.0.2.77", "0"], ["192.0.2.78", "0"]];
    site.play("dns_at_once", &words)?;
    // One that can't be sent to any more, while it is asked.
    let mut user = client(left, "dns_each", GATEWAY, &words)?;
    wait_until_ready(&mut user)?;
    left.ip(&format!("route add prohibit {}", WIRE_A.far_v4()))?;
    if wait_for(&mut user, LIMIT)?.is_none() {
        user.kill()?;
    }
    let outcome = user.wait_with_output()?;
    ensure!(outcome.status.success(), "{outcome:?}\n{}", site.log());
    // None is left.
    left.ip("route add prohibit 203.0.113.2")?;
    site.play("dns_in_vain", &words)?;
    site.eventually("dropped_no_socket", |n| n == 1)?;
    drop(second);
    site.stop()
}

fn rebind() -> Result<()> {
    let site = Site::start(&[])?;
    site.play("rebind", &[V4, V6])?;
    site.eventually("closed_rebind", |n| n == 3)?;
    site.stop()
}

fn limits() -> Result<()> {
    let site = Site::start(&["--max-clients", "2", "--max-connections-for-client", "3"])?;
    site.play("limits", &[V4])?;
    site.eventually("clients_refused", |n| n >= 1)?;
    site.eventually("closed_least_recent", |n| n >= 2000)?;
    site.eventually("dropped_no_socket", |n| n == 1)?;
    site.eventually("connections", |n| n == 0)?;
    site.stop()
}

fn slow() -> Result<()> {
    let site = Site::start(&["--tcp-buffer", "8192"])?;
    site.play("slow", &[V4])?;
    site.eventually("dropped_slow_client", |n| n > 100)?;
    site.stop()
}

fn liars() -> Result<()> {
    let site = Site::start(&["--client-timeout", "2", "--udp-mtu", "2000"])?;
    site.play("liars", &[V4])?;
    site.eventually("ended_malformed", |n| n == 5)?;
    site.eventually("ended_timeout", |n| n == 2)?;
    // A client whose machine is gone without a word.
    let far = ["203.0.113.1", "7301"];
    let mut stays = client(&site.pair.right, "stay", far, &[V4])?;
    wait_until_ready(&mut stays)?;
    // Once all is acknowledged that was sent.
    eventually("keepalive is set", LIMIT, || {
        let mut ss = site.pair.left.command("ss");
        let sockets = output_of(ss.args(["-tno", "sport = :7301"]))?;
        Ok(sockets.contains("timer:(keepalive,"))
    })?;
    site.pair.right.ip("link set to-left down")?;
    site.eventually("ended_timeout", |n| n == 3)?;
    site.eventually("clients", |n| n == 0)?;
    stays.kill()?;
    stays.wait()?;
    site.stop()
}

fn destinations() -> Result<()> {
    let site = Site::start(&[])?;
    // What belongs to the gateway's host without any interface's having it.
    let left = &site.pair.left;
    left.ip("address add 198.51.100.1/24 dev lo")?;
    left.ip("route add local 192.88.98.0/28 dev lo src 203.0.113.1")?;
    left.ip("-6 route add local 2001:db8:77::/64 dev lo")?;
    left.run(|| fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1"))??;
    let never = [
        ["198.51.100.7", "9000"],
        ["192.88.98.3", "9000"],
        ["2001:db8:77::5", "9000"],
        // Anycast, of a router.
        ["2001:db8::", "9000"],
        ["10.99.1.2", "9000"],
        ["fd99:1::2", "9000"],
        ["127.0.0.1", "9000"],
        ["::ffff:10.99.1.2", "9000"],
        // The gateway's own, the second of a network among them.
        ["203.0.113.1", "9000"],
        ["203.0.113.9", "9000"],
        ["2001:db8::1", "9000"],
    ];
    let _private = serve(&site.pair.right, ["10.99.1.2", "9000"])?;
    let _private = serve(&site.pair.right, ["fd99:1::2", "9000"])?;
    let mut own = Vec::new();
    for ip in [
        "198.51.100.7",
        "192.88.98.3",
        "127.0.0.1",
        "203.0.113.1",
        "203.0.113.9",
        "2001:db8::1",
    ] {
        own.push(serve(&site.pair.left, [ip, "9000"])?);
    }
    site.play("denied", &never)?;
    site.eventually("dropped_destination", |n| n == never.len() as u64)?;
    site.play("allowed", &[V4, V6])?;
    // One that becomes the host's own while it is used, and is it no more.
    let mut user = client(&site.pair.left, "sends", GATEWAY, &[V4])?;
    wait_until_ready(&mut user)?;
    site.pair.left.ip("route add local 203.0.113.2 dev lo")?;
    site.eventually("closed_denied", |n| n == 1)?;
    user.kill()?;
    user.wait()?;
    site.pair.left.ip("route del local 203.0.113.2 dev lo")?;
    eventually("it is reached again", LIMIT, || {
        Ok(site.play("allowed", &[V4]).is_ok())
    })?;
    let never = &never[4..];
    let site = site.start_again(&[
        "--allow",
        "10.99.0.0/16,127.0.0.1",
        "--allow",
        "203.0.113.9",
        "--deny",
        "203.0.113.0/24",
    ])?;
    site.play("allowed", &[never[0], never[2], never[3], never[5], V6])?;
    site.play("denied", &[V4, never[1], never[4]])?;
    // A network with this host in it doesn't mean this host.
    let site = site.start_again(&["--allow", "203.0.113.0/24,128.0.0.0/2,127.0.0.0/8"])?;
    site.play("allowed", &[V4])?;
    site.play("denied", &[never[2], never[3], never[4], never[5]])?;
    site.stop()
}

fn crowd() -> Result<()> {
    let site = Site::start(&[])?;
    site.play("crowd", &[V4])?;
    site.eventually("opened", |n| n == 2000)?;
    site.eventually("to_client", |n| n == 10_000)?;
    let status = fs::read_to_string(format!("/proc/{}/status", site.gateway.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    let peak = peak.context("no VmHWM")?;
    ensure!(peak < 64 << 10, "it used {peak} KiB");
    site.stop()
}

fn ends() -> Result<()> {
    let mut site = Site::start(&["--udp-timeout", "1.5"])?;
    let mut stays = client(&site.pair.left, "stay", GATEWAY, &[V4])?;
    wait_until_ready(&mut stays)?;
    site.eventually("connections", |n| n == 3)?;
    site.eventually("connections", |n| n == 0)?;
    site.eventually("closed_timeout", |n| n == 3)?;
    site.eventually("clients", |n| n == 1)?;
    end(&mut site.gateway)?;
    let ended = wait_for(&mut stays, LIMIT)?.context("its client doesn't end")?;
    ensure!(ended.success(), "the client said {ended}");
    site.remove()
}

fn through_ssh() -> Result<()> {
    const FORWARDED: [&str; 2] = ["127.0.0.1", "7310"];
    let site = Site::start(&[])?;
    let answer = Ipv4Addr::new(192, 0, 2, 77);
    let _resolver = Resolver::start(&site.pair.right, WIRE_A.far_v4(), answer)?;
    let key = site.directory.join("key");
    let mut keygen = Command::new("ssh-keygen");
    output_of(
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key),
    )?;
    let key = key.display();
    let config = format!(
        "ListenAddress 127.0.0.1:2222\nHostKey {key}\nAuthorizedKeysFile {key}.pub\n\
         PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
    );
    let file = site.directory.join("sshd");
    fs::write(&file, config)?;
    let sshd = find("sshd").context("there is no sshd")?;
    let log = |name: &str| File::create(site.directory.join(name));
    // It wants a directory there, and nothing is to be left.
    let script = "mount -t tmpfs none /run && mkdir /run/sshd && exec \"$@\"";
    let mut server = site.pair.left.command("sh");
    server
        .args(["-c", script, "sh"])
        .arg(sshd)
        .args(["-D", "-e", "-f"])
        .arg(file);
    let _server = Service(server.stderr(log("sshd.log")?).spawn()?);
    let mut client = site.pair.left.command("ssh");
    let forward = format!(
        "{}:{}:{}:{}",
        FORWARDED[0], FORWARDED[1], GATEWAY[0], GATEWAY[1]
    );
    client.args([
        "-N",
        "-F",
        "none",
        "-p",
        "2222",
        "-L",
        &forward,
        "-i",
        &key.to_string(),
    ]);
    for option in [
        "BatchMode=yes",
        "ConnectionAttempts=20",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ExitOnForwardFailure=yes",
    ] {
        client.args(["-o", option]);
    }
    let _client = Service(
        client
            .arg("root@127.0.0.1")
            .stderr(log("ssh.log")?)
            .spawn()?,
    );
    eventually("ssh forwards", LIMIT, || {
        let listening = output_of(site.pair.left.command("ss").arg("-tln"))?;
        Ok(listening.contains(":7310"))
    })
    .with_context(|| fs::read_to_string(site.directory.join("ssh.log")).unwrap_or_default())?;
    site.play_at(FORWARDED, "echo", &[V4, V6])?;
    site.play_at(FORWARDED, "dns", &[["10.1.2.3", "53"], ["192.0.2.77", "0"]])?;
    site.eventually("ended_by_client", |n| n == 2)?;
    site.stop()
}

fn refusals() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let run = |words: &[&str]| {
        let mut command = namespace.command(taltun()?);
        let output = finish_within(command.arg("udpgw").args(words), LIMIT)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(said.lines().count() <= 1, "{said}");
        anyhow::Ok((output.status.code(), said))
    };
    let (code, said) = run(&["--listen-addr", "192.0.2.1:7300", "--loglevel", "none"])?;
    ensure!(
        code == Some(1)
            && said.starts_with("taltun: cannot listen on 192.0.2.1:7300: ")
            && said.ends_with("; no interface of this host has that address\n"),
        "{code:?}: {said}"
    );
    let _holder = namespace.tcp("127.0.0.1:7300")?;
    let (code, said) = run(&["--listen-addr", "127.0.0.1:7300", "--tcp-buffer", "65536"])?;
    ensure!(
        code == Some(1) && said.contains("; `ss -ltnp sport = :7300` shows who does"),
        "{code:?}: {said}"
    );
    for words in [
        &["--max-clients", "0"][..],
        &["--listen-addr", "localhost"],
        &["--logger", "syslog"],
        &["--deny", "nobody"],
    ] {
        let (code, said) = run(words)?;
        ensure!(code == Some(2), "{words:?}: {code:?}: {said}");
        ensure!(said.contains(words[0]) && said.contains(words[1]), "{said}");
    }
    ensure!(run(&["--help"])?.0 == Some(0), "--help failed");
    namespace.delete()
}

/// A gateway, and beyond it somebody who answers.
struct Site {
    pair: Pair,
    gateway: Child,
    echoes: Vec<Service>,
    directory: PathBuf,
}

impl Site {
    fn start(options: &[&str]) -> Result<Self> {
        let pair = Pair::create(&private_prefix())?;
        for address in ["203.0.113.1/24", "203.0.113.9/24", "2001:db8::1/64"] {
            pair.left
                .ip(&format!("address add {address} dev to-right"))?;
        }
        for address in ["203.0.113.2/24", "2001:db8::2/64"] {
            pair.right
                .ip(&format!("address add {address} dev to-left"))?;
        }
        let directory = std::env::temp_dir().join(format!("{}-udpgw", private_prefix()));
        fs::create_dir_all(&directory)?;
        let resolver = format!("nameserver {}\n", WIRE_A.far_v4());
        fs::write(directory.join("resolv.conf"), resolver)?;
        let echoes = vec![serve(&pair.right, V4)?, serve(&pair.right, V6)?];
        let gateway = start_gateway(&pair.left, &directory, options)?;
        Ok(Self {
            pair,
            gateway,
            echoes,
            directory,
        })
    }

    /// The same with another gateway.
    fn start_again(mut self, options: &[&str]) -> Result<Self> {
        end(&mut self.gateway)?;
        self.gateway = start_gateway(&self.pair.left, &self.directory, options)?;
        Ok(self)
    }

    /// Plays a scenario to its end.
    fn play(&self, scenario: &str, words: &[[&str; 2]]) -> Result<()> {
        self.play_at(GATEWAY, scenario, words)
    }

    fn play_at(&self, gateway: [&str; 2], scenario: &str, words: &[[&str; 2]]) -> Result<()> {
        let mut client = client(&self.pair.left, scenario, gateway, words)?;
        if wait_for(&mut client, LIMIT)?.is_none() {
            client.kill()?;
        }
        let output = client.wait_with_output()?;
        ensure!(
            output.status.success() && output.stdout.ends_with(b"ok\n"),
            "{scenario}: {}\nthe gateway said: {}",
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// What the last line of counters says; 0 if it doesn't name it.
    fn counter(&self, name: &str) -> Option<u64> {
        let log = self.log();
        let (log, _) = log.rsplit_once('\n')?;
        let line = log.lines().rfind(|line| line.contains("udpgw: clients="))?;
        let mut words = line.split(' ').filter_map(|word| word.split_once('='));
        let value = words.find(|(key, _)| *key == name);
        Some(value.map_or(0, |(_, value)| value.parse().unwrap_or(u64::MAX)))
    }

    fn eventually(&self, name: &str, condition: impl Fn(u64) -> bool) -> Result<()> {
        let is_so = || Ok(self.counter(name).is_some_and(&condition));
        eventually(&format!("{name} is right"), LIMIT, is_so).with_context(|| self.log())
    }

    fn stop(mut self) -> Result<()> {
        end(&mut self.gateway)?;
        self.remove()
    }

    /// Takes down what is left without its gateway.
    fn remove(mut self) -> Result<()> {
        self.echoes.clear();
        fs::remove_dir_all(&self.directory)?;
        self.pair.left.delete()?;
        self.pair.right.delete()
    }
}

/// Starts a gateway that asks the name server of a `resolv.conf` of its own.
fn start_gateway(namespace: &Namespace, directory: &Path, options: &[&str]) -> Result<Child> {
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let mut command = namespace.command("sh");
    command.args(["-c", script, "sh"]);
    command.arg(directory.join("resolv.conf")).arg(taltun()?);
    command.args(["udpgw", "--loglevel", "debug", "--stats-interval", "0.1"]);
    command.args([
        "--listen-addr",
        "127.0.0.1:7300",
        "--listen-addr",
        "203.0.113.1:7301",
    ]);
    let log = File::create(directory.join("log"))?;
    let gateway = command.args(options).stderr(log).spawn()?;
    let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
    eventually("it listens", LIMIT, || Ok(log().contains("listening on"))).with_context(log)?;
    Ok(gateway)
}

/// Ends a gateway, which has a second for it and says that all went well.
fn end(gateway: &mut Child) -> Result<()> {
    let start = Instant::now();
    sys::send_signal(gateway.id(), Signal::Terminate)?;
    let status = wait_for(gateway, LIMIT)?.context("it doesn't end")?;
    ensure!(status.success(), "it ended with {status}");
    ensure!(start.elapsed() < END, "it took {:?}", start.elapsed());
    Ok(())
}

/// A client in `namespace` that plays a scenario.
pub fn client(
    namespace: &Namespace,
    scenario: &str,
    gateway: [&str; 2],
    words: &[[&str; 2]],
) -> Result<Child> {
    let mut command = namespace.command("python3");
    command.args(["-c", CLIENT, scenario]).args(gateway);
    command.args(words.as_flattened());
    Ok(command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

/// A process that answers until it is dropped.
pub struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has somebody answer datagrams at an address.
pub fn serve(namespace: &Namespace, address: [&str; 2]) -> Result<Service> {
    let mut command = namespace.command("python3");
    command.args(["-c", CLIENT, "serve"]).args(address);
    let mut service = Service(command.stdout(Stdio::piped()).spawn()?);
    wait_until_ready(&mut service.0)?;
    Ok(service)
}

/// Waits until a client or a service says that it is.
pub fn wait_until_ready(child: &mut Child) -> Result<()> {
    let stdout = child.stdout.as_mut().context("it has no pipe")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line == "ready\n", "it said {line:?}");
    Ok(())
}
