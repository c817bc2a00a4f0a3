//! AF_XDP: queues that are polled by the threads of their sockets, and what is done to the
//! interface for it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::sys::{Signal, send_merged};
use taltun_tests::traffic::ping::Pinger;

use crate::af_xdp::{
    BACK_LIMIT, ensure_in_use, over_af_xdp, received, take_down_replaced, wait_for_sockets,
};
use crate::af_xdp_changes::under_load;
use crate::support::{Case, ensure_answers, eventually, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "AF_XDP: polled: packets come through it, and the interface is as it was at the end",
        programs: &[],
        run: polled_and_put_back,
    },
    Case {
        name: "AF_XDP: polled: after SIGKILL the next start puts the interface back",
        programs: &["kill"],
        run: put_back_by_the_next_start,
    },
    Case {
        name: "AF_XDP: polled: what somebody else has tuned stays as it is",
        programs: &[],
        run: tuned_by_others,
    },
    Case {
        name: "AF_XDP: polled: under load, traffic goes on after changes of the interface",
        programs: &[],
        run: changes_while_polled,
    },
    Case {
        name: "AF_XDP: polled: auto polls while many packets come, and else doesn't",
        programs: &[],
        run: auto_follows_the_load,
    },
];

/// What is set of an interface, and to what.
const SETTINGS: [&str; 2] = ["napi_defer_hard_irqs", "gro_flush_timeout"];
const UNTUNED: [&str; 2] = ["0", "0"];
const ALWAYS: &str = "af_xdp_busy_poll = \"on\"\n";
const AUTO: &str = "";
/// How long a spoke takes at most to find that the hub has forgotten it (`KEEPALIVE_TIMEOUT` and
/// `REKEY_TIMEOUT`), and to shake hands.
const NOTICED_LIMIT: Duration = Duration::from_secs(30);
/// Packets a second from which on `auto` polls.
const BUSY: f64 = 50_000.0;

fn start(busy_poll: &'static str) -> Result<Lab> {
    let lab = lab(Options {
        more: busy_poll,
        ..over_af_xdp()
    })?;
    wait_for_sockets(&lab, 2)?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    Ok(lab)
}

/// Both spokes reach a hub that was started again.
fn ensure_both_are_back(lab: &Lab) -> Result<()> {
    for spoke in [&lab.net.a, &lab.net.b] {
        Pinger::new(spoke, Role::Hub.v4())?.wait_until_answered(NOTICED_LIMIT)?;
    }
    ensure_answers(&lab.net.a, Role::B.v4())
}

/// Whether this kernel can: before Linux 5.11 status says that it can't.
fn can_poll(lab: &Lab) -> Result<bool> {
    eventually("it is polled, or known why not", BACK_LIMIT, || {
        let queues = lab.hub.status()?.af_xdp;
        Ok(queues
            .iter()
            .all(|queue| queue.polled || queue.reason.contains("not polled")))
    })?;
    let queues = lab.hub.status()?.af_xdp;
    let old = queues
        .iter()
        .all(|queue| queue.reason.contains("needs Linux 5.11"));
    ensure!(old || queues.iter().all(|queue| queue.polled), "{queues:?}");
    Ok(!old)
}

fn settings(lab: &Lab, interface: &str) -> Result<[String; 2]> {
    let read = |name| {
        let path = format!("/sys/class/net/{interface}/{name}");
        let text = output_of(lab.net.hub.command("cat").arg(path))?;
        Ok::<_, anyhow::Error>(text.trim().to_owned())
    };
    Ok([read(SETTINGS[0])?, read(SETTINGS[1])?])
}

fn tune(lab: &Lab, interface: &str, values: [&str; 2]) -> Result<()> {
    for (name, value) in SETTINGS.iter().zip(values) {
        let line = format!("echo {value} > /sys/class/net/{interface}/{name}");
        output_of(lab.net.hub.command("sh").args(["-c", &line]))?;
    }
    Ok(())
}

fn polled_and_put_back() -> Result<()> {
    let mut lab = start(ALWAYS)?;
    if can_poll(&lab)? {
        for interface in ["to-a", "to-b"] {
            let values = settings(&lab, interface)?;
            ensure!(values[0] != "0" && values[1] != "0", "{values:?}");
        }
    }
    ensure_in_use(&lab)?;
    for address in [Role::B.v4(), Role::B.v6()] {
        ensure_answers(&lab.net.a, address)?;
    }
    // An end in order, of which the namespaces see what comes of it.
    lab.hub.end(Signal::Terminate)?;
    for interface in ["to-a", "to-b"] {
        ensure!(settings(&lab, interface)? == UNTUNED);
    }
    lab.hub.start_again(&lab.net.hub)?;
    take_down(lab)
}

fn put_back_by_the_next_start() -> Result<()> {
    let mut lab = start(ALWAYS)?;
    let polled = can_poll(&lab)?;
    lab.hub.kill()?;
    ensure!((settings(&lab, "to-a")? != UNTUNED) == polled);
    // A start that doesn't poll by itself.
    let config = lab.hub.config();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace(ALWAYS, AUTO))?;
    lab.hub.start_again(&lab.net.hub)?;
    ensure!(settings(&lab, "to-a")? == UNTUNED);
    ensure!(settings(&lab, "to-b")? == UNTUNED);
    wait_for_sockets(&lab, 2)?;
    ensure_both_are_back(&lab)?;
    take_down(lab)
}

fn tuned_by_others() -> Result<()> {
    let mut lab = start(AUTO)?;
    lab.hub.end(Signal::Terminate)?;
    let theirs = ["1", "30000"];
    tune(&lab, "to-a", theirs)?;
    let config = lab.hub.config();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text + ALWAYS)?;
    lab.hub.start_again(&lab.net.hub)?;
    wait_for_sockets(&lab, 2)?;
    can_poll(&lab)?;
    ensure!(settings(&lab, "to-a")? == theirs);
    ensure_both_are_back(&lab)?;
    lab.hub.end(Signal::Terminate)?;
    ensure!(settings(&lab, "to-a")? == theirs);
    ensure!(settings(&lab, "to-b")? == UNTUNED);
    lab.hub.start_again(&lab.net.hub)?;
    take_down(lab)
}

fn changes_while_polled() -> Result<()> {
    let lab = start(ALWAYS)?;
    let polled = can_poll(&lab)?;
    under_load(&lab, || {
        lab.net.hub.ip("link set to-a down")?;
        sleep(Duration::from_millis(1500));
        lab.net.hub.ip("link set to-a up")?;
        Ok(Instant::now())
    })?;
    let outcome = under_load(&lab, || {
        let start = Instant::now();
        for mtu in [3000, 1500] {
            lab.net.hub.ip(&format!("link set to-a mtu {mtu}"))?;
            lab.net.hub.ip(&format!("link set to-b mtu {mtu}"))?;
            sleep(Duration::from_secs(2));
        }
        Ok(start)
    })?;
    ensure!(
        outcome.arrived() == outcome.sent,
        "{} of {} datagrams arrived",
        outcome.arrived(),
        outcome.sent
    );
    // New sockets are polled like those before them.
    ensure!(can_poll(&lab)? == polled);
    lab.net.hub.ip("link delete to-a")?;
    eventually("the other one is still polled", BACK_LIMIT, || {
        let queues = lab.hub.status()?.af_xdp;
        Ok(queues.len() == 1 && queues[0].polled == polled)
    })?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    take_down_replaced(lab)
}

/// Sends from a to b as fast as it goes, and looks at the rate at which the hub receives and
/// at whether it polls.
fn auto_follows_the_load() -> Result<()> {
    let lab = start(AUTO)?;
    sleep(Duration::from_secs(2));
    ensure!(settings(&lab, "to-a")? == UNTUNED, "nothing comes");
    let sink = lab
        .net
        .b
        .run(|| UdpSocket::bind(SocketAddr::new(Role::B.v4(), 0)))??;
    let source = lab.net.a.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    source.connect(sink.local_addr()?)?;
    let stop = AtomicBool::new(false);
    let (polled, fastest) = scope(|scope| {
        let sender = scope.spawn(|| {
            let datagrams = [7; 40 * 64];
            while !stop.load(Ordering::Relaxed) {
                // What finds no room is lost, as is most of this.
                let _ = send_merged(&source, &datagrams, 64);
            }
        });
        let outcome = watch_load(&lab);
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("it doesn't panic");
        outcome
    })?;
    drop((source, sink));
    eprintln!("{fastest:.0} packets a second at most; polled: {polled}");
    // By one measure or the other a second may be cut elsewhere.
    ensure!(polled || fastest < BUSY * 1.5, "{fastest} and not polled");
    ensure!(!polled || fastest > BUSY / 2.0, "{fastest} and polled");
    eventually("it is as it was", BACK_LIMIT, || {
        let polled = lab.hub.status()?.af_xdp.iter().any(|queue| queue.polled);
        Ok(!polled && settings(&lab, "to-a")? == UNTUNED)
    })?;
    ensure_in_use(&lab)?;
    take_down(lab)
}

/// Whether it was polled within some seconds, and at most how many frames came in a second.
fn watch_load(lab: &Lab) -> Result<(bool, f64)> {
    let mut fastest = 0.0_f64;
    for _ in 0..5 {
        let (before, started) = (received(lab, "to-a")?, Instant::now());
        sleep(Duration::from_secs(1));
        let status = lab.hub.status().context("under load")?;
        let rate = (received(lab, "to-a")? - before) as f64 / started.elapsed().as_secs_f64();
        fastest = fastest.max(rate);
        if status.af_xdp.iter().any(|queue| queue.polled) {
            return Ok((true, fastest));
        }
    }
    Ok((false, fastest))
}
