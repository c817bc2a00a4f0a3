//! Names that choose the tunnel, for the devices behind a router: by `[dns_routes]` with the
//! router's own resolver in between, and by the sets and marks that the manual shows.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::snapshot::Snapshot;
use taltun_tests::traffic::dns::{self, Resolver};

use crate::router::{
    ANOTHER, Home, ROUTER, ROUTER_V6, SERVICE, SERVICE_V6, THE_HUB, THE_HUB_V6, sees,
};
use crate::support::{Case, UP_LIMIT, eventually};

pub const CASES: &[Case] = &[
    Case {
        name: "router: a name that a device asks its router for leads it into the tunnel",
        programs: &["nft"],
        run: asked_through_the_router,
    },
    Case {
        name: "router: the manual's sets and marks lead devices and the router into the tunnel",
        programs: &["nft", "sysctl"],
        run: sets_and_marks,
    },
];

const LIMIT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(700);
const PAUSE: Duration = Duration::from_millis(50);
/// The router, as its devices know it.
const GATEWAY: &str = "192.168.8.1";

fn asked_through_the_router() -> Result<()> {
    let (mut home, ours, theirs) = Home::create("nftables")?;
    home.world.ip("addr add 198.18.0.53/24 dev eth0")?;
    let names = vec![
        ("www.example.net", SERVICE.parse()?),
        ("www.example.net", SERVICE_V6.parse()?),
        ("www.example.org", ANOTHER.parse()?),
    ];
    let _resolver = Resolver::with_names(&home.world, "198.18.0.53".parse()?, names, 60)?;
    let before = Snapshot::take(&home.router)?;
    home.start(
        &(ours, theirs),
        "[]",
        "",
        "[nat]\nmasquerade = true\nout = \"tunnel\"\n\
         [dns_routes]\ndomains = [\"*.example.net\"]\nvia = \"hub\"\n\
         upstream = [\"198.18.0.53\"]\n",
    )?;
    let dnsmasq = PassesOn::start(&home.router, GATEWAY, "10.4.0.2")?;
    // Nobody has asked.
    home.sees(SERVICE, ROUTER)?;
    for (name, v6, address, expected) in [
        ("www.example.net", false, SERVICE, THE_HUB),
        ("www.example.net", true, SERVICE_V6, THE_HUB_V6),
        ("www.example.org", false, ANOTHER, ROUTER),
    ] {
        let answer = dns::ask(&home.device, GATEWAY.parse()?, name, v6, LIMIT)?;
        ensure!(answer == Some(address.parse()?), "{name} is at {answer:?}");
        home.sees(address, expected)?;
    }
    drop(dnsmasq);
    home.stop_client(&before)?;
    home.sees(SERVICE, ROUTER)?;
    home.stop()
}

/// Passes questions on to another resolver, as dnsmasq does by `server=/NAME/ADDRESS`.
struct PassesOn {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PassesOn {
    fn start(namespace: &Namespace, at: &str, to: &str) -> Result<Self> {
        let (at, to): (IpAddr, IpAddr) = (at.parse()?, to.parse()?);
        let asked = namespace.udp((at, dns::PORT))?;
        let asking = namespace.udp(("0.0.0.0", 0))?;
        asked.set_read_timeout(Some(PAUSE))?;
        asking.set_read_timeout(Some(LIMIT))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = asked.recv_from(&mut buffer) else {
                    continue;
                };
                // A lost question is one that the asker notices.
                let answer = asking
                    .send_to(&buffer[..length], (to, dns::PORT))
                    .and_then(|_| asking.recv(&mut buffer))
                    .and_then(|length| asked.send_to(&buffer[..length], from));
                if let Err(error) = answer
                    && error.kind() != ErrorKind::WouldBlock
                {
                    eprintln!("passing a question on: {error}");
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for PassesOn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sets_and_marks() -> Result<()> {
    let (mut home, ours, theirs) = Home::create("nftables")?;
    let before = Snapshot::take(&home.router)?;
    let rules = block("# split.nft")?;
    let settings = block("# in [interface]")?;
    let (hooks, nat) = settings.split_once("[nat]").context("no [nat]")?;
    let file = format!("/run/{}.nft", home.router.name());
    fs::write(&file, rules)?;
    home.start(
        &(ours, theirs),
        "[]",
        &hooks.replace("/etc/taltun/split.nft", &file),
        &format!("[nat]{nat}"),
    )?;
    let router = &home.router;
    eventually("the hooks have run", UP_LIMIT, || {
        let settings = router
            .command("sysctl")
            .arg("-n")
            .arg("net.ipv4.conf.taltun0.rp_filter")
            .output()?;
        Ok(settings.stdout == b"2\n")
    })?;
    fs::remove_file(&file)?;
    home.sees(SERVICE, ROUTER)?;
    home.sees(SERVICE_V6, ROUTER_V6)?;
    // As dnsmasq does when it is asked for the name.
    for (set, address) in [("tunnel4", SERVICE), ("tunnel6", SERVICE_V6)] {
        let words = format!("add element inet split {set} {{ {address} }}");
        output_of(router.command("nft").arg(words))?;
    }
    for from in [&home.device, &home.router] {
        sees(from, SERVICE, THE_HUB, LIMIT)?;
        sees(from, SERVICE_V6, THE_HUB_V6, LIMIT)?;
        sees(from, ANOTHER, ROUTER, LIMIT)?;
    }
    let way = router.ip("route get 198.18.0.80 from 192.168.8.2 iif br-lan mark 0x51")?;
    ensure!(way.contains("dev taltun0"), "{way}");
    // An address that was wrong goes.
    output_of(router.command("nft").arg("flush set inet split tunnel4"))?;
    eventually("it goes around again", UP_LIMIT, || {
        Ok(sees(&home.device, SERVICE, ROUTER, SHORT).is_ok())
    })?;
    home.stop_client(&before)?;
    home.stop()
}

/// What follows this line in its block of the manual's page on routing.
fn block(first: &str) -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../taltun/docs/manual/routing.md");
    let page = fs::read_to_string(page)?;
    let (_, rest) = page.split_once(first).context("the manual lacks it")?;
    let (_, rest) = rest.split_once('\n').context("the manual lacks it")?;
    let (block, _) = rest.split_once("```").context("it has no end")?;
    Ok(block.to_owned())
}
