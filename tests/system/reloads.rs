//! What a reload does and says, and a key that two machines have.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::finish_within;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{ANSWER_LIMIT, Case, UP_LIMIT, ensure_answers_within, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "a reload adds a site with its routes, and takes it away, without a restart",
        programs: &[],
        run: new_site,
    },
    Case {
        name: "a reload says what it did, own key and debug included, and all that needs a restart",
        programs: &[],
        run: says_what,
    },
    Case {
        name: "what wg changes is in the log, a line for all of it within a second",
        programs: &[],
        run: changed_by_wg,
    },
    Case {
        name: "a reload exits with 2 for a mistake in the file and with 1 for the rest, and shows warnings",
        programs: &[],
        run: exit_codes,
    },
    Case {
        name: "a reload that brings our key back has the hub itself start the handshakes",
        programs: &[],
        run: key_and_back,
    },
    Case {
        name: "a key that two machines have shows in the log and in the status",
        programs: &[],
        run: shared_key,
    },
];

const SITE: &str = "192.168.77.0/24";

struct Hub {
    pair: Pair,
    keys: Keys,
    peer: Keys,
    site: Keys,
    node: Node,
}

impl Hub {
    fn start() -> Result<Self> {
        let pair = Pair::create(&private_prefix())?;
        let generate = || Keys::generate(&taltun()?);
        let (keys, peer, site) = (generate()?, generate()?, generate()?);
        let text = text(&keys.private, &peer, "", "");
        let node = Node::start_with_text(&pair.left, &taltun()?, &text)?;
        Ok(Self {
            pair,
            keys,
            peer,
            site,
            node,
        })
    }

    fn reload(&self, private: &str, interface: &str, more: &str) -> Result<String> {
        fs::write(
            self.node.config(),
            text(private, &self.peer, interface, more),
        )?;
        self.node.tell(&["reload"])
    }

    fn site(&self) -> String {
        format!(
            "[[peers]]\nname = \"site\"\npublic_key = \"{}\"\nvip = \"10.200.0.3\"\n\
             allowed_ips = [\"{SITE}\"]\n",
            self.site.public
        )
    }

    fn routes(&self) -> Result<String> {
        self.pair.left.ip("route show")
    }
}

fn text(private: &str, peer: &Keys, interface: &str, more: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{private}\"\n\
         {interface}\n[[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n{more}",
        peer.public
    )
}

fn new_site() -> Result<()> {
    let hub = Hub::start()?;
    let key = hub.keys.private.clone();
    let routed = |hub: &Hub| -> Result<bool> { Ok(hub.routes()?.contains(SITE)) };
    ensure!(!routed(&hub)?);
    let routes = format!("routes = [\"{SITE}\"]");
    let said = hub.reload(&key, &routes, &hub.site())?;
    ensure!(said.contains("1 peer added"), "{said}");
    ensure!(said.contains("1 route added"), "{said}");
    ensure!(routed(&hub)?, "{}", hub.routes()?);

    // One that somebody else has is refused, and all stays.
    hub.pair.left.ip("route add 192.168.78.0/24 dev lo")?;
    let taken = format!("routes = [\"{SITE}\", \"192.168.79.0/24\", \"192.168.78.0/24\"]");
    let refusal = hub.reload(&key, &taken, &hub.site());
    let refusal = format!("{:#}", refusal.err().context("it was taken")?);
    ensure!(refusal.contains("interface.routes"), "{refusal}");
    ensure!(refusal.contains("192.168.78.0/24"), "{refusal}");
    ensure!(routed(&hub)?, "{}", hub.routes()?);
    ensure!(
        !hub.routes()?.contains("192.168.79.0/24"),
        "{}",
        hub.routes()?
    );

    let said = hub.reload(&key, "", "")?;
    ensure!(said.contains("1 peer removed"), "{said}");
    ensure!(said.contains("1 route removed"), "{said}");
    ensure!(!routed(&hub)?, "{}", hub.routes()?);
    hub.node.stop(Signal::Terminate)
}

fn says_what() -> Result<()> {
    let hub = Hub::start()?;
    let key = hub.keys.private.clone();
    let said = hub.reload(&key, "", "")?;
    ensure!(said.contains("nothing has changed"), "{said}");
    let said = hub.reload(&key, "relay = false", "")?;
    ensure!(
        said == "reloaded: relay off: packets between peers go through the kernel\n",
        "{said}"
    );
    let said = hub.reload(&key, "relay = true", "")?;
    ensure!(said.starts_with("reloaded: relay on: "), "{said}");
    let said = hub.reload(&key, "", "")?;
    ensure!(!said.contains("relay on"), "{said}");
    let said = hub.reload(&key, "debug = true", "")?;
    ensure!(said.contains("debug on"), "{said}");
    // A decision that is told only then.
    hub.node.tell(&["ban", "203.0.113.7"])?;
    let said = hub.reload(&hub.site.private, "debug = true", "")?;
    ensure!(said.contains("our own key changed"), "{said}");
    ensure!(
        hub.node.tell(&["status"])?.contains(&hub.site.public),
        "the key is as before"
    );
    let said = hub.reload(
        &key,
        "",
        "persistent_keepalive = 7\n[accel]\ndeny = [\"192.0.2.0/24\"]",
    )?;
    for words in [
        "1 peer changed",
        "our own key changed",
        "debug off",
        "accel.deny changed",
    ] {
        ensure!(said.contains(words), "{said}");
    }
    let refusal = hub.reload(
        &key,
        "mtu = 1300\nroutes = [\"0.0.0.0/0\"]\nfwmark = 7",
        "[dataplane]\nworkers = 3\n[accel]\nxdp = \"off\"",
    );
    let refusal = format!("{:#}", refusal.err().context("it was taken")?);
    for key in [
        "interface.mtu",
        "interface.routes",
        "interface.fwmark",
        "dataplane.workers",
        "accel.xdp",
    ] {
        ensure!(refusal.contains(key), "{key} isn't named: {refusal}");
    }
    ensure!(hub.node.stats()?.denied.len() == 2, "something has changed");
    hub.node.stop(Signal::Terminate)
}

/// `wg` itself would look for its socket elsewhere.
fn changed_by_wg() -> Result<()> {
    let hub = Hub::start()?;
    let set = |lines: &str| -> Result<()> {
        let path = hub.node.directory().join("wireguard/taltun0.sock");
        let mut socket = UnixStream::connect(&path).context("no UAPI socket")?;
        write!(socket, "set=1\n{lines}\n")?;
        let mut answer = String::new();
        socket.set_read_timeout(Some(UP_LIMIT))?;
        BufReader::new(socket).read_line(&mut answer)?;
        ensure!(answer == "errno=0\n", "{lines}: {answer}");
        Ok(())
    };
    let line = |number: usize| -> Result<String> {
        let mut found = String::new();
        eventually("it is told", UP_LIMIT, || {
            let log = hub.node.log();
            let lines = log
                .lines()
                .filter_map(|line| line.split_once("changed by wg: "));
            found = lines
                .map(|(_, what)| what.to_owned())
                .nth(number)
                .unwrap_or_default();
            Ok(!found.is_empty())
        })?;
        Ok(found)
    };
    let key = |digit: usize| format!("{digit:x}").repeat(64);
    set(&format!(
        "fwmark=7\npublic_key={}\nallowed_ip=10.200.0.9/32\n",
        key(1)
    ))?;
    let told = line(0)?;
    ensure!(told.starts_with("fwmark 0x7, 1 peer added ("), "{told}");
    set(&format!(
        "public_key={}\npersistent_keepalive_interval=9\n",
        key(1)
    ))?;
    let told = line(1)?;
    ensure!(told.starts_with("1 peer changed ("), "{told}");
    set(&format!("public_key={}\nremove=true\n", key(1)))?;
    let told = line(2)?;
    ensure!(told.starts_with("1 peer removed ("), "{told}");
    // Many in one go are counted, and neither key is in the log.
    let many: Vec<String> = (1..=9)
        .map(|digit| {
            format!(
                "public_key={}
",
                key(digit)
            )
        })
        .collect();
    let many = many.concat();
    set(&format!("private_key={}\n{many}", key(10)))?;
    let told = line(3)?;
    ensure!(told.ends_with(", 9 peers added"), "{told}");
    ensure!(!hub.node.log().contains(&key(10)), "our key is in the log");
    hub.node.stop(Signal::Terminate)
}

fn exit_codes() -> Result<()> {
    let hub = Hub::start()?;
    let reload = |file: &str| -> Result<(Option<i32>, String, String)> {
        fs::write(hub.node.config(), file)?;
        let output = finish_within(hub.node.command().arg("reload"), UP_LIMIT)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        ))
    };
    let good = |interface: &str, more: &str| text(&hub.keys.private, &hub.peer, interface, more);
    for (mistake, words) in [
        (good("nonsense", ""), "not valid TOML"),
        (good("colour = \"red\"", ""), "unknown key"),
        (good("", "allowed_ips = [\"10.0.0.0/99\"]"), "allowed_ips"),
    ] {
        let (code, out, err) = reload(&mistake)?;
        ensure!(code == Some(2), "{code:?}: {err}");
        ensure!(out.is_empty() && err.contains(words), "{out} {err}");
    }
    let (code, _, err) = reload(&good("mtu = 1300", ""))?;
    ensure!(code == Some(1), "{code:?}: {err}");
    ensure!(
        err.contains("interface.mtu") && err.contains("restart"),
        "{err}"
    );
    // What `check` warns of, on the terminal of who reloads.
    let (code, out, err) = reload(&good("routes = [\"10.77.0.0/16\"]", ""))?;
    ensure!(code == Some(0), "{code:?}: {err}");
    ensure!(out.contains("1 route added"), "{out}");
    ensure!(
        err.starts_with("taltun: warning: ") && err.contains("10.77.0.0/16"),
        "{err}"
    );
    let mut none = hub.node.command();
    none.args(["reload", "--interface", "nobody0"]);
    let output = finish_within(&mut none, UP_LIMIT)?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    hub.node.stop(Signal::Terminate)
}

/// The client says nothing by itself until the hub has spoken.
fn key_and_back() -> Result<()> {
    let hub = Hub::start()?;
    let key = hub.keys.private.clone();
    let client = format!(
        "[interface]\nmode = \"client\"\nvip = \"10.200.0.2/24\"\nprivate_key = \"{}\"\n\
         [accel]\nxdp = \"off\"\n[[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\n\
         endpoint = \"{}:9000\"\n",
        hub.peer.private,
        hub.keys.public,
        WIRE_A.near_v4()
    );
    let node = Node::start_with_text(&hub.pair.right, &taltun()?, &client)?;
    ensure_answers_within(&hub.pair.right, "10.200.0.1".parse()?, UP_LIMIT)?;
    let handshakes = || -> Result<u64> {
        let status = hub.node.status()?;
        Ok(status.peers.first().context("no peer")?.handshakes)
    };
    let away_and_back = || -> Result<()> {
        let said = hub.reload(&hub.site.private, "", "")?;
        ensure!(said.contains("our own key changed"), "{said}");
        // So that an initiation with the wrong key is under way.
        std::thread::sleep(Duration::from_millis(500));
        hub.reload(&key, "", "")?;
        Ok(())
    };
    let before = handshakes()?;
    away_and_back()?;
    eventually("the hub has started a handshake", UP_LIMIT, || {
        Ok(handshakes()? > before)
    })?;
    // And somebody who pings meanwhile notices little.
    let mut pinger = Pinger::new(&hub.pair.right, "10.200.0.1".parse()?)?;
    ensure!(pinger.count_answers(3, ANSWER_LIMIT)? == 3);
    away_and_back()?;
    let start = Instant::now();
    pinger.wait_until_answered(UP_LIMIT)?;
    println!("answered {:?} after the key was back", start.elapsed());
    node.stop(Signal::Terminate)?;
    hub.node.stop(Signal::Terminate)
}

/// The same machine with the same key at two ports, each of which speaks by turns.
fn shared_key() -> Result<()> {
    let hub = Hub::start()?;
    let client = |port: u16| -> String {
        format!(
            "[interface]\nmode = \"client\"\nvip = \"10.200.0.2/24\"\nprivate_key = \"{}\"\n\
             local_addr = \"0.0.0.0:{port}\"\n[accel]\nxdp = \"off\"\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\n\
             endpoint = \"{}:9000\"\npersistent_keepalive = 1\n",
            hub.peer.private,
            hub.keys.public,
            WIRE_A.near_v4()
        )
    };
    for turn in 0..5 {
        let port = 9101 + turn % 2;
        let node = Node::start_with_text(&hub.pair.right, &taltun()?, &client(port))?;
        ensure_answers_within(&hub.pair.right, "10.200.0.1".parse()?, UP_LIMIT)?;
        node.stop(Signal::Terminate)?;
    }
    eventually("the log tells", Duration::from_secs(20), || {
        Ok(hub.node.log().contains("ana moves back and forth between"))
    })?;
    let text = hub.node.tell(&["status"])?;
    ensure!(
        text.contains("moves between") && text.contains("9101") && text.contains("9102"),
        "{text}"
    );
    hub.node.stop(Signal::Terminate)
}
