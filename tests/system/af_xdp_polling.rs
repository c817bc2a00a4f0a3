//! AF_XDP: queues that are polled by the threads of their sockets, and what is done to the
//! interface for it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::sys::Signal;
use taltun_tests::traffic::ping::Pinger;

use crate::af_xdp::{BACK_LIMIT, ensure_in_use, over_af_xdp, take_down_replaced, wait_for_sockets};
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
];

/// What is set of an interface, and to what.
const SETTINGS: [&str; 2] = ["napi_defer_hard_irqs", "gro_flush_timeout"];
const UNTUNED: [&str; 2] = ["0", "0"];
const ALWAYS: &str = "af_xdp_busy_poll = true\n";
const NEVER: &str = "";
/// How long a spoke takes at most to find that the hub has forgotten it (`KEEPALIVE_TIMEOUT` and
/// `REKEY_TIMEOUT`), and to shake hands.
const NOTICED_LIMIT: Duration = Duration::from_secs(30);

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
    std::fs::write(&config, text.replace(ALWAYS, NEVER))?;
    lab.hub.start_again(&lab.net.hub)?;
    ensure!(settings(&lab, "to-a")? == UNTUNED);
    ensure!(settings(&lab, "to-b")? == UNTUNED);
    wait_for_sockets(&lab, 2)?;
    ensure_both_are_back(&lab)?;
    take_down(lab)
}

fn tuned_by_others() -> Result<()> {
    let mut lab = start(NEVER)?;
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
