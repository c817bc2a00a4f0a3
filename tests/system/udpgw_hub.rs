//! `[udpgw]`: the gateway that a hub runs beside its tunnel.
//!
//! The hub has two peers. The client is behind the first, or on the hub itself. The second has an
//! inner address and a network, and it is also where the Internet is: 203.0.113.2, which the hub
//! reaches outside of the tunnel.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::{output_of, wait_for};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node, Site};
use taltun_tests::sys::{Signal, send_signal};
use taltun_tests::topology::{Pair, Star, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{
    Case, UP_LIMIT, ensure_answers_within, ensure_without_rights, eventually, process_of, taltun,
};
use crate::udpgw::{Service, client, serve, wait_until_ready};

pub const CASES: &[Case] = &[
    Case {
        name: "udpgw in a hub serves through the tunnel and on loopback, and nobody else",
        programs: &["python3"],
        run: serves,
    },
    Case {
        name: "udpgw in a hub doesn't reach peers unless the file allows it",
        programs: &["python3"],
        run: peers,
    },
    Case {
        name: "udpgw in a hub follows a reload, and stays where that can't be",
        programs: &["python3"],
        run: reloads,
    },
    Case {
        name: "udpgw in a hub is a process without rights; killed under traffic it comes back, and the tunnel goes on",
        programs: &["python3"],
        run: killed,
    },
    Case {
        name: "a hub with clients of udpgw ends within a second",
        programs: &["python3"],
        run: ends,
    },
    Case {
        name: "a hub whose udpgw can't listen doesn't start, and leaves nothing",
        programs: &["python3", "nft"],
        run: cannot_listen,
    },
    Case {
        name: "udpgw in a hub sends nothing past the kill switch",
        programs: &["python3", "nft"],
        run: kill_switch,
    },
];

const LIMIT: Duration = Duration::from_secs(60);
/// The gateway's process tells the tunnel four times a second what it counts.
const TOLD: Duration = Duration::from_millis(400);
const VIP: [&str; 2] = ["10.200.0.1", "7300"];
const LOOPBACK: [&str; 2] = ["127.0.0.1", "7300"];
const BOTH: &str = "listen = [\"10.200.0.1:7300\", \"127.0.0.1:7300\"]\n";
/// On the Internet, and no peer's.
const OUTSIDE: [&str; 2] = ["203.0.113.2", "9000"];
/// The second peer's own address, and one of its network, which looks public.
const PEER: [&str; 2] = ["10.200.0.3", "9000"];
const BEHIND: [&str; 2] = ["198.51.100.7", "9000"];

struct Hub {
    star: Star,
    keys: [Keys; 3],
    node: Node,
    _spokes: [Node; 2],
    _echoes: Vec<Service>,
}

impl Hub {
    /// A hub with `section` in `[udpgw]`, and its peers, with sessions.
    fn start(section: &str) -> Result<Self> {
        let star = Star::create(&private_prefix())?;
        star.hub.ip("address add 203.0.113.1/24 dev to-b")?;
        star.b.ip("address add 203.0.113.2/24 dev to-hub")?;
        star.b.ip("address add 198.51.100.7/32 dev lo")?;
        let generate = || Keys::generate(&taltun()?);
        let keys = [generate()?, generate()?, generate()?];
        let node = Node::start_with_text(&star.hub, &taltun()?, &text(&keys, "", section))?;
        let spoke = |namespace: &Namespace, own: usize, hub: &str| {
            let text = format!(
                "[interface]\nmode = \"client\"\nlocal_addr = \"0.0.0.0:9100\"\nvip = \"10.200.0.{}/24\"\nprivate_key = \"{}\"\n\
                 [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\n\
                 allowed_ips = [\"10.200.0.0/24\"]\nendpoint = \"{hub}\"\n\
                 persistent_keepalive = 25\n",
                own + 1,
                keys[own].private,
                keys[0].public
            );
            Node::start_with_text(namespace, &taltun()?, &text)
        };
        let spokes = [
            spoke(&star.a, 1, "10.99.1.1:9100")?,
            spoke(&star.b, 2, "10.99.2.1:9100")?,
        ];
        for namespace in [&star.a, &star.b] {
            ensure_answers_within(namespace, "10.200.0.1".parse()?, UP_LIMIT)?;
        }
        let echoes = [OUTSIDE, PEER, BEHIND].map(|address| serve(&star.b, address));
        let echoes = echoes.into_iter().collect::<Result<_>>()?;
        Ok(Self {
            star,
            keys,
            node,
            _spokes: spokes,
            _echoes: echoes,
        })
    }

    fn reload(&self, section: &str) -> Result<String> {
        fs::write(self.node.config(), text(&self.keys, "", section))?;
        self.node.tell(&["reload"])
    }

    fn ask(&self, what: &str) -> Result<Value> {
        sleep(TOLD);
        let json: Value = serde_json::from_str(&self.node.tell(&[what, "--json"])?)?;
        Ok(json["udpgw"].clone())
    }

    /// Whether all that began is over or there.
    fn adds_up(&self) -> Result<bool> {
        let stats = self.ask("stats")?;
        let counters = stats["counters"].as_object().context("no counters")?;
        let sum = |prefix: &str| -> u64 {
            let matching = counters.iter().filter(|(name, _)| name.starts_with(prefix));
            matching.filter_map(|(_, value)| value.as_u64()).sum()
        };
        let now = |name: &str| stats[name].as_u64().unwrap_or_default();
        Ok(sum("clients_accepted") == now("clients") + sum("ended_")
            && sum("opened") == now("connections") + sum("closed_"))
    }

    fn counter(&self, name: &str) -> Result<u64> {
        let stats = self.ask("stats")?;
        let value = stats["counters"][name].as_u64();
        value.with_context(|| format!("{name} isn't in {stats}"))
    }
}

fn text(keys: &[Keys; 3], more: &str, section: &str) -> String {
    let [own, a, b] = keys;
    format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
         local_addr = \"0.0.0.0:9100\"\nprivate_key = \"{}\"\nroutes = [\"198.51.100.0/24\"]\n\
         {more}\n\
         [udpgw]\n{section}\n\
         [[peers]]\nname = \"a\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n\
         [[peers]]\nname = \"b\"\npublic_key = \"{}\"\nvip = \"10.200.0.3\"\n\
         allowed_ips = [\"198.51.100.0/24\"]\n",
        own.private, a.public, b.public
    )
}

/// Plays a scenario to its end.
fn play(from: &Namespace, at: [&str; 2], scenario: &str, words: &[[&str; 2]]) -> Result<()> {
    let mut client = client(from, scenario, at, words)?;
    if wait_for(&mut client, LIMIT)?.is_none() {
        client.kill()?;
    }
    let output = client.wait_with_output()?;
    ensure!(
        output.status.success() && output.stdout.ends_with(b"ok\n"),
        "{scenario} at {at:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn serves() -> Result<()> {
    let hub = Hub::start(BOTH)?;
    play(&hub.star.a, VIP, "allowed", &[OUTSIDE])?;
    play(&hub.star.hub, VIP, "allowed", &[OUTSIDE])?;
    play(&hub.star.hub, LOOPBACK, "allowed", &[OUTSIDE])?;
    ensure!(hub.counter("clients_accepted")? == 3);
    ensure!(hub.counter("to_client")? >= 3);
    let status = hub.node.tell(&["status"])?;
    let expected = "udpgw    10.200.0.1:7300, 127.0.0.1:7300: 0 of at most 1,000 clients";
    eventually("all are gone", LIMIT, || {
        Ok(hub.node.tell(&["status"])?.contains(expected))
    })
    .with_context(|| status)?;
    let stats = hub.node.tell(&["stats"])?;
    ensure!(stats.contains("clients_accepted "), "{stats}");

    // Whoever isn't in the tunnel can send to the vip, and finds nobody there.
    hub.star.b.ip("route add 10.200.0.1/32 via 10.99.2.1")?;
    let refusal = play(&hub.star.b, VIP, "allowed", &[OUTSIDE]);
    let refusal = format!("{:#}", refusal.err().context("it was served")?);
    ensure!(refusal.contains("ConnectionRefusedError"), "{refusal}");
    hub.star.b.ip("route del 10.200.0.1/32")?;
    play(&hub.star.b, VIP, "allowed", &[OUTSIDE])?;
    hub.node.stop(Signal::Terminate)
}

fn peers() -> Result<()> {
    let hub = Hub::start(BOTH)?;
    // The hub itself reaches them.
    ensure_answers_within(&hub.star.hub, "198.51.100.7".parse()?, UP_LIMIT)?;
    let own = [["10.200.0.1", "9000"], ["203.0.113.1", "9000"]];
    let _own = own.map(|address| serve(&hub.star.hub, address));
    let never = [PEER, BEHIND, own[0], own[1], ["10.200.0.99", "9000"]];
    play(&hub.star.a, VIP, "denied", &never)?;
    play(&hub.star.hub, LOOPBACK, "denied", &never)?;
    ensure!(hub.counter("dropped_destination")? == 2 * never.len() as u64);
    // A rule for more than what is the tunnel's doesn't mean it.
    hub.reload(&format!(
        "{BOTH}allow = [\"10.0.0.0/8\", \"198.51.0.0/16\"]"
    ))?;
    play(&hub.star.a, VIP, "denied", &[PEER, BEHIND])?;
    hub.reload(&format!(
        "{BOTH}allow = [\"10.200.0.3\", \"198.51.100.0/24\"]"
    ))?;
    play(&hub.star.a, VIP, "allowed", &[PEER, BEHIND])?;
    // Nor does one for the tunnel's network mean the hub itself, which takes one of its own.
    hub.reload(&format!("{BOTH}allow = [\"10.200.0.0/24\"]"))?;
    play(&hub.star.a, VIP, "allowed", &[PEER])?;
    play(&hub.star.a, VIP, "denied", &own)?;
    hub.reload(&format!("{BOTH}allow = [\"10.200.0.1\"]"))?;
    play(&hub.star.hub, LOOPBACK, "allowed", &[own[0]])?;
    // Nor does one count that is for the Internet, once an address belongs to a peer.
    hub.reload(BOTH)?;
    play(&hub.star.a, VIP, "allowed", &[OUTSIDE])?;
    let mut user = client(&hub.star.a, "until_silent", VIP, &[OUTSIDE])?;
    wait_until_ready(&mut user)?;
    ensure!(hub.ask("status")?["connections"] == 1);
    let path = hub.node.directory().join("wireguard/taltun0.sock");
    let mut socket = UnixStream::connect(&path).context("no UAPI socket")?;
    let key = hub.keys[2].public_bytes()?;
    let key = key.map(|byte| format!("{byte:02x}")).concat();
    write!(
        socket,
        "set=1\npublic_key={key}\nallowed_ip=203.0.113.0/24\n\n"
    )?;
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer)?;
    ensure!(answer == "errno=0\n", "{answer}");
    let before = hub.counter("dropped_destination")?;
    let ended = wait_for(&mut user, LIMIT)?.context("it still sends")?;
    ensure!(ended.success(), "{ended}");
    ensure!(hub.counter("dropped_destination")? > before);
    play(&hub.star.a, VIP, "denied", &[OUTSIDE])?;
    hub.node.stop(Signal::Terminate)
}

fn reloads() -> Result<()> {
    let hub = Hub::start(BOTH)?;
    let said = hub.reload(BOTH)?;
    ensure!(said.contains("nothing has changed"), "{said}");
    let mut stay = client(&hub.star.a, "stay", VIP, &[OUTSIDE])?;
    wait_until_ready(&mut stay)?;
    let said = hub.reload(&format!("{BOTH}max_clients = 1"))?;
    ensure!(
        said == "reloaded: udpgw started anew, 1 client closed\n",
        "{said}"
    );
    let closed = wait_for(&mut stay, LIMIT)?.context("its client isn't closed")?;
    ensure!(closed.success(), "{closed}");
    ensure!(hub.ask("status")?["max_clients"] == 1);
    // What was counted before counts, to the end of the last client.
    ensure!(hub.counter("clients_accepted")? == 1);
    ensure!(hub.counter("opened")? >= 1);
    eventually("the counters add up", LIMIT, || hub.adds_up())?;
    ensure!(hub.counter("ended_with_gateway")? == 1);
    ensure!(hub.counter("closed_with_client")? >= 1);
    let mut stay = client(&hub.star.a, "stay", VIP, &[OUTSIDE])?;
    wait_until_ready(&mut stay)?;
    let refusal = play(&hub.star.hub, LOOPBACK, "allowed", &[OUTSIDE]);
    ensure!(refusal.is_err(), "a second client is served");
    ensure!(hub.counter("clients_refused")? >= 1);

    // A place that is taken: all goes on as before.
    let _holder = hub.star.hub.tcp("127.0.0.1:7301")?;
    let taken = text(&hub.keys, "", "listen = \"127.0.0.1:7301\"").replace(
        "198.51.100.0/24\"]\n\n",
        "198.51.100.0/24\", \"192.168.77.0/24\"]\n\n",
    );
    ensure!(taken.contains("192.168.77.0/24"), "{taken}");
    fs::write(hub.node.config(), taken)?;
    let refusal = hub.node.tell(&["reload"]);
    let refusal = format!("{:#}", refusal.err().context("it was taken")?);
    for words in [
        "udpgw.listen: cannot listen on 127.0.0.1:7301: ",
        "the gateway is as before",
    ] {
        ensure!(refusal.contains(words), "{refusal}");
    }
    // Nor does one that asks for too much end it.
    let refusal = hub.reload(&format!(
        "{BOTH}max_clients = 1000000\nmax_connections_for_client = 65536"
    ));
    let refusal = format!("{:#}", refusal.err().context("it isn't too much")?);
    ensure!(refusal.contains("open files"), "{refusal}");
    ensure!(stay.try_wait()?.is_none(), "its client was closed");
    ensure!(hub.ask("status")?["clients"] == 1);
    stay.kill()?;
    stay.wait()?;
    eventually("its client is gone", LIMIT, || {
        Ok(hub.ask("status")?["clients"] == 0)
    })?;
    let routes = hub.star.hub.ip("route show")?;
    ensure!(!routes.contains("192.168.77.0/24"), "{routes}");
    ensure!(hub.ask("status")?["listen"][0] == "10.200.0.1:7300");
    play(&hub.star.a, VIP, "allowed", &[OUTSIDE])?;

    // From everywhere to the vip alone: one covers the other.
    let said = hub.reload("listen = \"0.0.0.0:7300\"")?;
    ensure!(said.contains("udpgw started anew"), "{said}");
    play(&hub.star.b, ["10.99.2.1", "7300"], "allowed", &[OUTSIDE])?;
    hub.reload("listen = \"10.200.0.1:7300\"")?;
    eventually("the counters add up", LIMIT, || hub.adds_up())?;
    play(&hub.star.a, VIP, "allowed", &[OUTSIDE])?;
    ensure!(play(&hub.star.b, ["10.99.2.1", "7300"], "allowed", &[OUTSIDE]).is_err());

    // Off, and on again.
    let without = text(&hub.keys, "", "").replace("[udpgw]", "");
    fs::write(hub.node.config(), &without)?;
    let said = hub.node.tell(&["reload"])?;
    ensure!(said == "reloaded: udpgw off\n", "{said}");
    ensure!(hub.ask("status")?.is_null());
    ensure!(play(&hub.star.a, VIP, "allowed", &[OUTSIDE]).is_err());
    let said = hub.reload(BOTH)?;
    ensure!(said == "reloaded: udpgw on\n", "{said}");
    play(&hub.star.a, VIP, "allowed", &[OUTSIDE])?;
    hub.node.stop(Signal::Terminate)
}

fn killed() -> Result<()> {
    let hub = Hub::start(BOTH)?;
    let pid = hub.node.pid();
    let mut stay = client(&hub.star.a, "stay", VIP, &[OUTSIDE])?;
    wait_until_ready(&mut stay)?;
    ensure!(hub.ask("status")?["clients"] == 1);
    let first = process_of(pid, "udpgw-process")?;
    ensure_without_rights(first)?;
    let mut pinger = Pinger::new(&hub.star.a, "10.200.0.3".parse()?)?;
    pinger.wait_until_answered(UP_LIMIT)?;

    send_signal(first, Signal::Kill)?;
    let answered = pinger.count_answers(50, UP_LIMIT)?;
    ensure!(answered == 50, "{answered} of 50 pings");
    let closed = wait_for(&mut stay, LIMIT)?.context("its client isn't closed")?;
    ensure!(closed.success(), "{closed}");
    eventually("another process is there", UP_LIMIT, || {
        Ok(process_of(pid, "udpgw-process").is_ok_and(|it| it != first))
    })?;
    play(&hub.star.a, VIP, "allowed", &[OUTSIDE])?;
    play(&hub.star.a, VIP, "denied", &[PEER])?;
    ensure!(hub.node.pid() == pid);
    ensure_without_rights(process_of(pid, "udpgw-process")?)?;
    // What was counted before counts.
    ensure!(hub.counter("clients_accepted")? == 3);
    ensure!(hub.counter("ended_with_gateway")? == 1);
    eventually("the counters add up", LIMIT, || hub.adds_up())?;
    ensure!(hub.ask("status")?["ended"].is_null());
    hub.node.stop(Signal::Terminate)
}

fn ends() -> Result<()> {
    let mut hub = Hub::start(BOTH)?;
    let mut clients = Vec::new();
    for (from, at) in [(&hub.star.a, VIP), (&hub.star.hub, LOOPBACK)] {
        let mut client = client(from, "stay", at, &[OUTSIDE])?;
        wait_until_ready(&mut client)?;
        clients.push(client);
    }
    let start = Instant::now();
    hub.node.end(Signal::Terminate)?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(1), "it took {took:?}");
    // The one beside it was told; the other is beyond a tunnel that is gone.
    let closed = wait_for(&mut clients[1], LIMIT)?.context("it isn't closed")?;
    ensure!(closed.success(), "{closed}");
    clients[0].kill()?;
    clients[0].wait()?;
    Ok(())
}

fn cannot_listen() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let generate = || Keys::generate(&taltun()?);
    let keys = [generate()?, generate()?, generate()?];
    let more = "mss_clamp = true";
    let refused = |section: &str| -> Result<String> {
        let site = Site::prepare(&pair.left, &taltun()?, &text(&keys, more, section))?;
        let mut child = site
            .run_command(&pair.left, &[])
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        let status = wait_for(&mut child, LIMIT)?.context("it runs")?;
        let output = child.wait_with_output()?;
        ensure!(!status.success(), "it ended with {status}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let said = refused("listen = \"192.0.2.77:7300\"")?;
    ensure!(
        said.contains("udpgw.listen: cannot listen on 192.0.2.77:7300: ")
            && said.contains("no interface of this host has that address"),
        "{said}"
    );
    let holder = pair.left.tcp("127.0.0.1:7300")?;
    let said = refused("")?;
    ensure!(said.contains("`ss -ltnp sport = :7300`"), "{said}");
    drop(holder);
    let said = refused("max_clients = 1000000\nmax_connections_for_client = 65536")?;
    ensure!(said.contains("open files"), "{said}");
    ensure!(!pair.left.ip("link show")?.contains("taltun0"));
    let rules = output_of(pair.left.command("nft").args(["list", "ruleset"]))?;
    ensure!(rules.trim().is_empty(), "{rules}");
    let said = refused("nonsense = 1")?;
    ensure!(said.contains("udpgw.nonsense: unknown key"), "{said}");
    let node = Node::start_with_text(&pair.left, &taltun()?, &text(&keys, more, ""))?;
    node.stop(Signal::Terminate)
}

fn kill_switch() -> Result<()> {
    let hub = Hub::start(BOTH)?;
    play(&hub.star.hub, LOOPBACK, "allowed", &[OUTSIDE])?;
    let Hub {
        star,
        keys,
        node,
        _spokes,
        _echoes,
    } = hub;
    node.stop(Signal::Terminate)?;
    let text = text(&keys, "kill_switch = true", BOTH)
        .replace("routes = [\"198.51.100.0/24\"]", "routes = [\"0.0.0.0/0\"]");
    let node = Node::start_with_text(&star.hub, &taltun()?, &text)?;
    // It isn't refused; nothing gets out, and nothing that goes into the tunnel has an owner.
    play(&star.hub, LOOPBACK, "denied", &[OUTSIDE])?;
    node.stop(Signal::Terminate)
}
