//! What the log and `status` tell of peers: who came and from where, and why somebody doesn't.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::support::{Case, ensure_answers, eventually, taltun};

/// A handshake's time, with room for a slow machine: it used to be 93 s.
const HANDSHAKE: Duration = Duration::from_secs(30);

const SECRETS: [&str; 2] = [
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
];

pub const CASES: &[Case] = &[
    Case {
        name: "the log tells of a peer's handshake and of its new endpoint",
        programs: &[],
        run: finished_and_moved,
    },
    Case {
        name: "another preshared key is named on both sides",
        programs: &[],
        run: preshared_key,
    },
    Case {
        name: "a port that nobody has is named within seconds",
        programs: &[],
        run: closed_port,
    },
    Case {
        name: "an unknown key is named, and so is who has a wrong key of the hub",
        programs: &[],
        run: strangers,
    },
    Case {
        name: "a flood of unknown keys and wrong mac1 doesn't fill the log",
        programs: &[],
        run: flood,
    },
];

/// A hub on the left and a spoke on the right, in files that a test may spoil.
struct Two {
    pair: Pair,
    hub: String,
    spoke: String,
    keys: [Keys; 2],
}

fn two() -> Result<Two> {
    let keys = [Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?];
    let interface = |mode, role: Role, keys: &Keys| {
        format!(
            "[interface]\nmode = \"{mode}\"\ntun_name = \"taltun0\"\nvip = {:?}\n\
             local_addr = \"[::]:{PORT}\"\nprivate_key = \"{}\"\n",
            role.interface_vips(),
            keys.private
        )
    };
    let hub = format!(
        "{}\n[[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = {:?}\n",
        interface("server", Role::Hub, &keys[0]),
        keys[1].public,
        Role::A.vips()
    );
    let spoke = format!(
        "{}\n[[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = {:?}\nendpoint = \"{}\"\n\
         persistent_keepalive = 1\n",
        interface("client", Role::A, &keys[1]),
        keys[0].public,
        Role::Hub.vips(),
        SocketAddr::new(WIRE_A.near_v4(), PORT)
    );
    Ok(Two {
        pair: Pair::create(&private_prefix())?,
        hub,
        spoke,
        keys,
    })
}

/// Waits until a line of the log has all these words.
fn logged(node: &Node, words: &[&str], limit: Duration) -> Result<()> {
    let what = format!("the log has {words:?}");
    eventually(&what, limit, || {
        let log = node.log();
        Ok(log
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word))))
    })
    .map_err(|error| error.context(node.log()))
}

fn finished_and_moved() -> Result<()> {
    let two = two()?;
    let hub = Node::start_with_text(&two.pair.left, &taltun()?, &two.hub)?;
    let spoke = Node::start_with_text(&two.pair.right, &taltun()?, &two.spoke)?;
    ensure_answers(&two.pair.right, Role::Hub.v4())?;
    let from = format!("endpoint={}", SocketAddr::new(WIRE_A.far_v4(), PORT));
    logged(&hub, &["handshake finished", "peer=ana", &from], HANDSHAKE)?;
    let to = format!("endpoint={}", SocketAddr::new(WIRE_A.near_v4(), PORT));
    logged(&spoke, &["handshake finished", "peer=hub", &to], HANDSHAKE)?;
    // The spoke goes on to another port, with its session.
    let text = std::fs::read_to_string(spoke.config())?;
    std::fs::write(spoke.config(), text.replace("[::]:9000", "[::]:9777"))?;
    spoke.tell(&["reload"])?;
    logged(
        &hub,
        &["new endpoint", "peer=ana", ":9777", ":9000"],
        HANDSHAKE,
    )?;
    spoke.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}

fn preshared_key() -> Result<()> {
    let two = two()?;
    let with = |text: &str, secret: &str| format!("{text}preshared_key = \"{secret}\"\n");
    let hub = with(&two.hub, SECRETS[0]);
    let hub = Node::start_with_text(&two.pair.left, &taltun()?, &hub)?;
    let spoke = with(&two.spoke, SECRETS[1]);
    let spoke = Node::start_with_text(&two.pair.right, &taltun()?, &spoke)?;
    logged(
        &spoke,
        &["WARN", "peer=hub", "another preshared key"],
        HANDSHAKE,
    )?;
    logged(&hub, &["WARN", "peer=ana", "preshared key"], HANDSHAKE)?;
    for (node, cause) in [(&spoke, "preshared_key"), (&hub, "not_confirmed")] {
        let json = node.tell(&["status", "--json"])?;
        ensure!(json.contains(&format!("\"cause\": \"{cause}\"")), "{json}");
        let text = node.tell(&["status"])?;
        ensure!(text.contains("problem:"), "{text}");
    }
    // Once it is mended the problem is over.
    let text = std::fs::read_to_string(spoke.config())?;
    std::fs::write(spoke.config(), text.replace(SECRETS[1], SECRETS[0]))?;
    spoke.tell(&["reload"])?;
    ensure_answers(&two.pair.right, Role::Hub.v4())?;
    for node in [&spoke, &hub] {
        let json = node.tell(&["status", "--json"])?;
        ensure!(json.contains("\"problem\": null"), "{json}");
    }
    Ok(())
}

fn closed_port() -> Result<()> {
    let two = two()?;
    let spoke = Node::start_with_text(&two.pair.right, &taltun()?, &two.spoke)?;
    let start = Instant::now();
    logged(
        &spoke,
        &["WARN", "peer=hub", ":9000", "nobody listens"],
        HANDSHAKE,
    )?;
    println!("a closed port is named after {:?}", start.elapsed());
    let json = spoke.tell(&["status", "--json"])?;
    ensure!(json.contains("\"cause\": \"port_closed\""), "{json}");
    // It stays so while nothing else comes, and it isn't told with each try.
    std::thread::sleep(Duration::from_secs(12));
    let json = spoke.tell(&["status", "--json"])?;
    ensure!(json.contains("\"cause\": \"port_closed\""), "{json}");
    let told = spoke.log().matches("nobody listens").count();
    ensure!(told == 1, "told {told} times:\n{}", spoke.log());
    Ok(())
}

fn strangers() -> Result<()> {
    let two = two()?;
    let other = Keys::generate(&taltun()?)?;
    // The hub knows somebody else; its sources are counted by XDP and without it.
    for xdp in ["auto", "off"] {
        let text = two.hub.replace(&two.keys[1].public, &other.public);
        let text = format!("{text}\n[accel]\nxdp = \"{xdp}\"\n");
        let hub = Node::start_with_text(&two.pair.left, &taltun()?, &text)?;
        let spoke = Node::start_with_text(&two.pair.right, &taltun()?, &two.spoke)?;
        let from = format!("endpoint={}", SocketAddr::new(WIRE_A.far_v4(), PORT));
        logged(&hub, &["WARN", &two.keys[1].public, &from], HANDSHAKE)?;
        let json = hub.tell(&["status", "--json"])?;
        ensure!(
            json.contains("unknown_keys") && json.contains(&two.keys[1].public),
            "{json}"
        );
        let text = hub.tell(&["status"])?;
        ensure!(
            text.contains(&format!("unknown key {} tried", two.keys[1].public)),
            "{text}"
        );
        logged(&spoke, &["WARN", "peer=hub", "no answer"], HANDSHAKE)?;
        drop(spoke);
        // Now the spoke is wrong about the hub.
        let text = two.spoke.replace(&two.keys[0].public, &other.public);
        let _spoke = Node::start_with_text(&two.pair.right, &taltun()?, &text)?;
        let source = format!("source={}", WIRE_A.far_v4());
        logged(&hub, &["WARN", "mac1", &source], HANDSHAKE)?;
        if xdp == "auto" {
            let json = hub.tell(&["stats", "--json"])?;
            ensure!(json.contains("\"reason\": \"mac1\""), "{json}");
        }
    }
    Ok(())
}

fn flood() -> Result<()> {
    let two = two()?;
    let text = format!("{}\n[accel]\nxdp = \"off\"\n", two.hub);
    let hub = Node::start_with_text(&two.pair.left, &taltun()?, &text)?;
    let before = hub.log().lines().count();
    let socket = two.pair.right.udp("0.0.0.0:0")?;
    let mut message = [0_u8; 148];
    message[0] = 1;
    let to = SocketAddr::new(WIRE_A.near_v4(), PORT);
    for number in 0..50_000_u32 {
        message[4..8].copy_from_slice(&number.to_be_bytes());
        let _ = socket.send_to(&message, to);
    }
    eventually("the flood was seen", HANDSHAKE, || {
        let drops: u64 = hub.stats()?.drops.values().sum();
        Ok(drops > 100)
    })?;
    std::thread::sleep(Duration::from_secs(2));
    let lines = hub.log().lines().count() - before;
    ensure!((1..=30).contains(&lines), "{lines} lines:\n{}", hub.log());
    Ok(())
}
