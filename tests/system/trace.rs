//! `taltun trace`: what it tells is what happens, to the packet, and it ends with whoever asked
//! for it.

use std::net::IpAddr;
use std::thread::sleep;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::netns::Namespace;
use taltun_tests::sys::{Signal, send_signal};
use taltun_tests::traffic::datagrams;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::service::{Service, visit};

use crate::support::{Case, SILENCE, UP_LIMIT, eventually};
use crate::tracer::{TOLD_WITHIN, Tracer, ensure_none_left, threads};
use crate::two_peers::TwoPeers;

pub const CASES: &[Case] = &[
    Case {
        name: "trace: over some seconds it and the counters agree to the packet",
        programs: &[],
        run: agrees,
    },
    Case {
        name: "trace: of one peer, only drops, not too many lines, and no peer of that name",
        programs: &[],
        run: chooses,
    },
    Case {
        name: "trace: it ends with its reader, with one that reads nothing, and with the hub",
        programs: &[],
        run: ends,
    },
];

const HUB: &str = "10.200.0.1";
const ANA: &str = "10.200.0.2";
const LUIS: &str = "10.200.0.3";

const RULES: &str = "[[rules]]\nfrom = \"ana\"\nto = \"luis\"\ndeny = \"tcp/81\"\n";

fn start() -> Result<TwoPeers> {
    TwoPeers::start(|keys| crate::explain::text(keys, "", RULES))
}

/// Pings that have to be answered, or must not be.
fn pings(from: &Namespace, source: &str, to: &str, count: usize, answered: bool) -> Result<()> {
    let (source, to): (IpAddr, IpAddr) = (source.parse()?, to.parse()?);
    let limit = if answered { UP_LIMIT } else { SILENCE };
    let answers = Pinger::from_source(from, source, to)?.count_answers(count, limit)?;
    let expected = if answered { count } else { 0 };
    ensure!(answers == expected, "{source} to {to}: {answers} answers");
    Ok(())
}

/// The counters that a trace has to agree with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    rx: u64,
    tx: u64,
    relayed: u64,
    drops: Vec<(String, u64)>,
}

fn counted(hub: &TwoPeers) -> Result<Counted> {
    let stats: Value = serde_json::from_str(&hub.node.tell(&["stats", "--json"])?)?;
    let traffic = |name: &str| stats["traffic"][name].as_u64().context("no traffic");
    let drops = stats["drops"].as_object().context("no drops")?;
    let drops = drops
        .iter()
        .map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or_default()));
    Ok(Counted {
        rx: traffic("rx_packets")?,
        tx: traffic("tx_packets")?,
        relayed: traffic("relayed_packets")?,
        drops: drops.collect(),
    })
}

/// What a trace has told of the same.
fn told(tracer: &Tracer, like: &Counted) -> Counted {
    let passed =
        |place: &str| tracer.count(|line| line["verdict"] == "passed" && line["place"] == place);
    let drops = like.drops.iter().map(|(reason, _)| {
        let count = tracer.count(|line| line["verdict"] == "dropped" && line["reason"] == **reason);
        (reason.clone(), count)
    });
    Counted {
        rx: passed("to_host"),
        tx: passed("from_host"),
        relayed: passed("relayed"),
        drops: drops.collect(),
    }
}

fn since(after: &Counted, before: &Counted) -> Counted {
    let drops = after.drops.iter().zip(&before.drops);
    Counted {
        rx: after.rx - before.rx,
        tx: after.tx - before.tx,
        relayed: after.relayed - before.relayed,
        drops: drops
            .map(|((reason, after), (_, before))| (reason.clone(), after - before))
            .collect(),
    }
}

fn agrees() -> Result<()> {
    let hub = start()?;
    let (ana, luis, host) = (&hub.star.a, &hub.star.b, &hub.star.hub);
    pings(ana, ANA, LUIS, 1, true)?;
    pings(ana, ANA, HUB, 1, true)?;
    sleep(SILENCE);
    let tracer = Tracer::start(&hub.node, &[])?;
    let of_luis = Tracer::start(&hub.node, &["luis", "--drops"])?;
    let before = counted(&hub)?;

    pings(ana, ANA, LUIS, 20, true)?;
    pings(ana, ANA, HUB, 7, true)?;
    pings(host, HUB, ANA, 5, true)?;
    let _service = Service::start(luis, format!("{LUIS}:80").parse()?)?;
    visit(ana, format!("{LUIS}:80").parse()?, UP_LIMIT)?;
    ensure!(visit(ana, format!("{LUIS}:81").parse()?, SILENCE).is_err());
    // Faster than user space answers them: TC drops some, user space the others.
    datagrams::send(host, "10.200.0.77:9".parse()?, vec![vec![0; 30]; 30])?;
    hub.node.tell(&["ban", "--inner", ANA])?;
    pings(ana, ANA, LUIS, 3, false)?;
    pings(ana, ANA, HUB, 3, false)?;
    hub.node.tell(&["unban", "--inner", ANA])?;
    hub.node.tell(&["ban", "10.99.1.2"])?;
    pings(ana, ANA, LUIS, 4, false)?;
    hub.node.tell(&["unban", "10.99.1.2"])?;
    sleep(TOLD_WITHIN);

    let counts = since(&counted(&hub)?, &before);
    let told_of = told(&tracer, &counts);
    ensure!(told_of == counts, "told {told_of:?}\ncounted {counts:?}");
    let dropped = |reason: &str| tracer.count(|line| line["reason"] == reason);
    ensure!(counts.relayed >= 40 && counts.rx >= 12 && counts.tx >= 12);
    ensure!(dropped("no_peer") == 30 && dropped("inner_denied") == 6 && dropped("denied") >= 4);
    ensure!(dropped("rule") >= 1);
    // Whom it was for is known also where a rule or a ban was asked before.
    let kept_from_luis = |reason: &str| of_luis.count(|line| line["reason"] == reason);
    ensure!(kept_from_luis("rule") == dropped("rule") && kept_from_luis("inner_denied") == 3);
    let by =
        |place: &str| tracer.count(|line| line["reason"] == "no_peer" && line["place"] == place);
    ensure!(by("tc") > 0 && by("from_host") > 0);

    // What a line says of a packet.
    let all = tracer.told();
    let find = |wanted: &dyn Fn(&Value) -> bool| {
        let found = all.iter().find(|line| wanted(line));
        found.cloned().context("no such line")
    };
    let refused = find(&|line| line["reason"] == "rule")?;
    ensure!(
        refused["from"] == "ana" && refused["to"] == "luis" && refused["source"] == ANA,
        "{refused}"
    );
    ensure!(
        refused["destination"] == LUIS && refused["protocol"] == "tcp",
        "{refused}"
    );
    ensure!(
        refused["destination_port"] == 81 && refused["place"] == "relayed",
        "{refused}"
    );
    let rule = refused["rule"].as_str().context("no rule")?;
    let (file, line) = rule.rsplit_once(':').context("no line")?;
    let text = std::fs::read_to_string(hub.node.config())?;
    let written = text.lines().nth(line.parse::<usize>()? - 1);
    ensure!(
        written.is_some_and(|line| line.contains("[[rules]]")),
        "{rule}"
    );
    let name = hub.node.config().file_name().map(ToOwned::to_owned);
    ensure!(
        name.is_some_and(|name| file.ends_with(&*name.to_string_lossy())),
        "{rule}"
    );
    let relayed = find(&|line| line["place"] == "relayed" && line["verdict"] == "passed")?;
    ensure!(
        relayed["from"] == "ana" && relayed["to"] == "luis",
        "{relayed}"
    );
    ensure!(
        relayed["protocol"] == "icmp" && relayed["bytes"] == 84,
        "{relayed}"
    );
    let denied = find(&|line| line["reason"] == "denied")?;
    let outer = denied["outer"].as_str().context("no address outside")?;
    ensure!(outer.starts_with("10.99.1.2"), "{denied}");
    drop((tracer, of_luis));
    ensure_none_left(&hub.node)?;

    // For people, the same.
    let text = hub.node.command().args(["trace", "--help"]).output()?;
    ensure!(String::from_utf8_lossy(&text.stdout).contains("--drops"));
    hub.end()
}

fn chooses() -> Result<()> {
    let hub = start()?;
    let (ana, host) = (&hub.star.a, &hub.star.hub);
    let of_luis = Tracer::start(&hub.node, &["luis"])?;
    let drops = Tracer::start(&hub.node, &["--drops"])?;
    let few = Tracer::start(&hub.node, &["--rate", "3"])?;
    eventually("three watch", UP_LIMIT, || Ok(threads(&hub.node)? == 3))?;
    pings(ana, ANA, HUB, 30, true)?;
    pings(ana, ANA, LUIS, 2, true)?;
    pings(host, HUB, "10.200.0.77", 3, false)?;
    sleep(TOLD_WITHIN);
    let is_luis = |line: &Value| line["from"] == "luis" || line["to"] == "luis";
    ensure!(of_luis.count(is_luis) == 4 && of_luis.count(|line| !is_luis(line)) == 0);
    ensure!(drops.count(|line| line["reason"] == "no_peer") == 3);
    ensure!(drops.count(|line| line["verdict"] != "dropped") == 0);
    eventually("what was left out is told", UP_LIMIT, || {
        let left_out = few.count(|line| line["verdict"] == "left_out");
        let told = few.count(|line| line["verdict"] != "left_out");
        Ok(left_out >= 20 && left_out + told == 67)
    })
    .with_context(|| format!("{:?}", few.told()))?;
    let unknown = hub.node.command().args(["trace", "nobody"]).output()?;
    let said = String::from_utf8_lossy(&unknown.stderr);
    ensure!(
        unknown.status.code() == Some(1) && said.contains("is no peer's name or key"),
        "{said}"
    );
    let too_many: Vec<Tracer> = (0..5)
        .map(|_| Tracer::start(&hub.node, &[]))
        .collect::<Result<_>>()?;
    eventually("eight watch", UP_LIMIT, || Ok(threads(&hub.node)? == 8))?;
    let refused = hub.node.command().arg("trace").output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(said.contains("8 watch packets already"), "{said}");
    drop((of_luis, drops, few, too_many));
    ensure_none_left(&hub.node)?;
    hub.end()
}

fn ends() -> Result<()> {
    let mut hub = start()?;
    let tracer = Tracer::start(&hub.node, &[])?;
    eventually("it watches", UP_LIMIT, || Ok(threads(&hub.node)? == 1))?;
    drop(tracer);
    ensure_none_left(&hub.node)?;

    // One that reads nothing: packets don't wait for it, and it is let go of.
    let stuck = Tracer::start(&hub.node, &["--rate", "1000000"])?;
    eventually("it watches", UP_LIMIT, || Ok(threads(&hub.node)? == 1))?;
    send_signal(stuck.pid(), Signal::Pause)?;
    for _ in 0..3 {
        let sent = datagrams::send(
            &hub.star.a,
            format!("{HUB}:9").parse()?,
            vec![vec![0; 30]; 3000],
        )?;
        ensure!(sent == 3000);
        pings(&hub.star.a, ANA, LUIS, 3, true)?;
    }
    ensure_none_left(&hub.node)?;
    send_signal(stuck.pid(), Signal::Resume)?;
    let said = stuck.wait()?;
    ensure!(said.contains("read nothing for 10 seconds"), "{said}");

    let told = Tracer::start(&hub.node, &["ana"])?;
    eventually("it watches", UP_LIMIT, || Ok(threads(&hub.node)? == 1))?;
    hub.node.end(Signal::Terminate)?;
    let said = told.wait()?;
    ensure!(
        said.contains("the trace is over: the tunnel ends"),
        "{said}"
    );
    Ok(())
}
