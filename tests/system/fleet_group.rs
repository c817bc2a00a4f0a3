//! The hubs of a group stand in for each other: stock clients at an address that the hubs share, while one hub after
//! the other is killed, stopped where it is, or told to give up its peers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::etcd::Etcd;
use taltun_tests::netns::Namespace;
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Lan, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::fleet_mesh::{Hubs, homes, status, vip};
use crate::support::{Case, ensure_answers, eventually};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer};

pub const CASES: &[Case] = &[Case {
    name: "fleet group: stock clients are there again when the hub of the shared address is gone",
    programs: &["etcd", "etcdctl", "wireguard-go", "wg"],
    run: stand_in,
}];

const SHARED: Ipv4Addr = Ipv4Addr::new(10, 99, 9, 200);
/// How many clients there are, unless [`CLIENTS_VARIABLE`] says otherwise.
const CLIENTS: u8 = 4;
/// `cargo xtask bench fleet` asks for more by it.
const CLIENTS_VARIABLE: &str = "TALTUN_FLEET_CLIENTS";
/// With more their addresses would meet the shared one.
const MOST_CLIENTS: u8 = 150;
const SOON: Duration = Duration::from_secs(20);
/// For how long clients are watched after each change.
const WATCHED: Duration = Duration::from_secs(8);
/// How often clients ping.
pub(crate) const EACH: Duration = Duration::from_millis(20);
/// How long an answer may take where none may be lost: with many clients on a busy machine some take long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which hub says of itself that it leads, if one does and no other.
fn leader(hubs: &Hubs<'_>, among: &[u8]) -> Result<Option<u8>> {
    let mut found = Vec::new();
    for number in among {
        let status = status(hubs.node(*number))?;
        let own = status["hubs"].as_array().into_iter().flatten();
        if own
            .clone()
            .any(|hub| hub["own"] == true && hub["leads"] == true)
        {
            found.push(*number);
        }
    }
    Ok(match found[..] {
        [one] => Some(one),
        _ => None,
    })
}

fn has_shared(hubs: &Hubs<'_>, number: u8) -> Result<bool> {
    let shown = hubs.host(number).ip("-4 -o addr show dev eth0")?;
    Ok(shown.contains(&format!(" {SHARED}/32")))
}

/// What became of a client's pings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pings {
    /// The longest time without an answer.
    pub gap: Duration,
    lost: u32,
}

/// That of each client, while `act` is done and for some seconds after.
pub(crate) fn watch(
    hosts: &[Namespace],
    to: IpAddr,
    patience: Duration,
    act: impl FnOnce() -> Result<()>,
) -> Result<Vec<Pings>> {
    let ends = AtomicBool::new(false);
    let ends = &ends;
    std::thread::scope(|scope| {
        let all: Vec<_> = hosts
            .iter()
            .map(|host| scope.spawn(move || ping(host, to, patience, ends)))
            .collect();
        sleep(Duration::from_secs(1));
        let acted = act();
        sleep(WATCHED);
        ends.store(true, Ordering::Relaxed);
        let pings = all.into_iter().map(|one| {
            one.join()
                .map_err(|_| anyhow::anyhow!("a pinger panicked"))?
        });
        let pings = pings.collect::<Result<Vec<_>>>();
        acted?;
        pings
    })
}

fn ping(host: &Namespace, to: IpAddr, patience: Duration, ends: &AtomicBool) -> Result<Pings> {
    let mut pinger = Pinger::new(host, to)?;
    let (mut last, mut gap, mut lost) = (Instant::now(), Duration::ZERO, 0);
    while !ends.load(Ordering::Relaxed) {
        let begun = Instant::now();
        if pinger.ping(patience)?.is_some() {
            gap = gap.max(last.elapsed());
            last = Instant::now();
        } else {
            lost += 1;
        }
        sleep(EACH.saturating_sub(begun.elapsed()));
    }
    Ok(Pings {
        gap: gap.max(last.elapsed()),
        lost,
    })
}

pub(crate) fn show(what: &str, pings: &[Pings]) {
    let mut gaps: Vec<Duration> = pings.iter().map(|it| it.gap).collect();
    gaps.sort_unstable();
    let lost: u32 = pings.iter().map(|it| it.lost).sum();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    let late = gaps[(99 * gaps.len()).div_ceil(100) - 1];
    println!(
        "{what}: {} clients without an answer for {median:.0?} (median), {late:.0?} (99 %), {longest:.0?} at the most; \
         {lost} pings lost",
        gaps.len()
    );
}

/// Shows for how long clients have no answer while `act` is done. None of them stays away. How many pings were lost.
fn all_come_back(
    what: &str,
    lan: &Lan,
    clients: &[Wg],
    patience: Duration,
    act: impl FnOnce() -> Result<()>,
) -> Result<u32> {
    // The third hub is behind each that stands in.
    let found = watch(&lan.hosts[3..], vip(2), patience, act)?;
    show(what, &found);
    for (number, pings) in found.iter().enumerate() {
        ensure!(
            pings.gap < WATCHED,
            "client {number} stays away: {}",
            clients[number].wg("show", &[])?
        );
    }
    Ok(found.iter().map(|pings| pings.lost).sum())
}

/// A client of wireguard-go on a host, which knows the hubs' key and one address.
pub(crate) fn stock_client(
    hubs: &Hubs<'_>,
    name: &str,
    host: &Namespace,
    key: &str,
    at: Ipv4Addr,
) -> Result<Wg> {
    let file = hubs.node(0).tell(&["peer", "new", name, "--wg"])?;
    let value = |key: &str| {
        let lines = file.lines().filter_map(|line| line.split_once(" = "));
        let mut found = lines.filter(|(name, _)| *name == key);
        found.next().map(|(_, value)| value.to_owned())
    };
    let private = value("PrivateKey").context("no key")?;
    let address = value("Address").context("no address")?;
    let address = address.split([',', '/']).next().context("none")?.to_owned();
    let client = Wg::start(Program::WireguardGo, host)?;
    let hub = WgPeer {
        public_key: key.to_owned(),
        endpoint: Some(format!("{at}:9000")),
        allowed_ips: "10.200.0.0/24".to_owned(),
        ..WgPeer::default()
    };
    let keys = WgKeys {
        private,
        public: String::new(),
    };
    client.configure(&keys, 51820, &[hub])?;
    client.bring_up(&[&format!("{address}/24")])?;
    Ok(client)
}

fn number_of_clients() -> Result<u8> {
    match std::env::var(CLIENTS_VARIABLE) {
        Ok(count) => {
            let count: u8 = count.parse().context(CLIENTS_VARIABLE)?;
            ensure!(
                (1..=MOST_CLIENTS).contains(&count),
                "1 to {MOST_CLIENTS} clients"
            );
            Ok(count)
        }
        Err(_) => Ok(CLIENTS),
    }
}

fn stand_in() -> Result<()> {
    let count = number_of_clients()?;
    let lan = Lan::create(&private_prefix(), 3 + count)?;
    let etcd = Etcd::start(&lan.bridge, 1)?;
    let more = format!("group = \"eu\"\nshared_address = \"{SHARED}\"\n");
    let mut hubs = Hubs::joined(&lan, &etcd, 3, &more)?;
    let key = hubs.wait_for_one_key()?;
    hubs.wait_until_whole()?;
    eventually("one hub has the address", SOON, || {
        let led = leader(&hubs, &[0, 1, 2])?;
        Ok(led == Some(0) && has_shared(&hubs, 0)? && !has_shared(&hubs, 1)?)
    })?;
    let mut clients = Vec::new();
    for number in 0..count {
        let host = &lan.hosts[usize::from(3 + number)];
        let name = format!("client-{number}");
        let client = stock_client(&hubs, &name, host, &key, SHARED)?;
        clients.push(client);
    }
    let to = vip(2);
    for number in 0..count {
        ensure_answers(&lan.hosts[usize::from(3 + number)], to)?;
    }
    eventually("all are at home at the first", SOON, || {
        Ok(homes(hubs.node(1), "madrid")? == u64::from(count))
    })?;

    all_come_back("killed", &lan, &clients, EACH, || hubs.nodes[0].kill())?;
    ensure!(leader(&hubs, &[1, 2])? == Some(1));
    eventually("the kernel has taken the address back", SOON, || {
        Ok(!has_shared(&hubs, 0)? && has_shared(&hubs, 1)?)
    })?;
    // All that are left hang for a second: nobody waits for the one that is away.
    all_come_back("all paused", &lan, &clients, EACH, || {
        let pids = [1, 2].map(|number| hubs.node(number).pid());
        for pid in pids {
            sys::send_signal(pid, Signal::Pause)?;
        }
        sleep(Duration::from_secs(1));
        for pid in pids {
            sys::send_signal(pid, Signal::Resume)?;
        }
        let resumed = Instant::now();
        eventually("one leads again", SOON, || {
            Ok(leader(&hubs, &[1, 2])?.is_some())
        })?;
        println!("one leads again after {:.0?}", resumed.elapsed());
        Ok(())
    })?;
    let led = leader(&hubs, &[1, 2])?.context("nobody leads")?;
    ensure!(led == 1, "another one leads");
    // Who comes back moves nobody.
    hubs.nodes[0].start_again(&lan.hosts[0])?;
    hubs.wait_until_whole()?;
    sleep(Duration::from_secs(3));
    ensure!(
        leader(&hubs, &[0, 1, 2])? == Some(1),
        "it took the address back"
    );

    let stopped = hubs.nodes[1].pid();
    all_come_back("stopped where it is", &lan, &clients, EACH, || {
        Ok(sys::send_signal(stopped, Signal::Pause)?)
    })?;
    ensure!(leader(&hubs, &[0, 2])? == Some(0));
    sys::send_signal(stopped, Signal::Resume)?;
    eventually("one leads", SOON, || {
        Ok(leader(&hubs, &[0, 1, 2])? == Some(0) && !has_shared(&hubs, 1)?)
    })?;
    hubs.wait_until_whole()?;
    for number in 0..count {
        ensure_answers(&lan.hosts[usize::from(3 + number)], to)?;
    }

    let drain = || -> Result<()> {
        let said = hubs.node(0).tell(&["fleet", "hub", "drain"])?;
        ensure!(said.contains("no peer is at home here any more"), "{said}");
        Ok(())
    };
    let lost = all_come_back("drained", &lan, &clients, PATIENCE, drain)?;
    ensure!(lost == 0, "{lost} pings were lost");
    ensure!(leader(&hubs, &[0, 1, 2])? == Some(1));
    ensure!(homes(hubs.node(1), "paris")? == u64::from(count));
    hubs.node(0).tell(&["fleet", "hub", "drain", "--undo"])?;
    drop(clients);
    hubs.stop()
}
