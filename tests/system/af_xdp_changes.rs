//! AF_XDP while traffic flows and the interface below it changes: the flow goes on, and every
//! packet that came in is accounted for.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::{Lab, Role};
use taltun_tests::sys::interface_index;
use taltun_tests::traffic::flow::{Flow, Outcome};
use taltun_tests::traffic::ping::Pinger;

use crate::af_xdp::{
    BACK_LIMIT, connected, ensure_in_use, ethtool, take_down_replaced, wait_for_sockets,
};
use crate::support::{Case, UP_LIMIT, VETH_QUEUES, ensure_answers, eventually, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "AF_XDP: under load, traffic goes on after the interface was down",
        programs: &[],
        run: interface_down_and_up,
    },
    Case {
        name: "AF_XDP: under load, traffic goes on with another MTU and other frames",
        programs: &[],
        run: mtu_change,
    },
    Case {
        name: "AF_XDP: under load, new queues get sockets of their own, and keep them",
        programs: &["ethtool", VETH_QUEUES],
        run: queues_change,
    },
    Case {
        name: "AF_XDP: under load, sockets that are closed lose nothing",
        programs: &[],
        run: sockets_closed,
    },
    Case {
        name: "AF_XDP: an interface that vanishes and comes back gets its socket again",
        programs: &[],
        run: interface_vanishes,
    },
    Case {
        name: "AF_XDP: an interface that takes the number of another gets a socket of its own",
        programs: &[],
        run: interface_replaced,
    },
];

/// How long the flow is watched before a change and after it. Changes are looked for once a
/// second.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(3);
/// Packets that may be neither opened nor dropped: handshakes and keepalives.
const OF_ITS_OWN: u64 = 20;
/// Packets that may come in while no program is attached, as it is to be attached anew.
const MEANWHILE: u64 = 500;

/// What the hub has counted.
#[derive(Debug, Clone, Copy)]
pub struct Books {
    /// Packets that XDP has seen.
    seen: u64,
    /// Packets that were opened, and packets that were dropped for whatever reason.
    opened: u64,
    dropped: u64,
}

impl Books {
    pub fn look(lab: &Lab) -> Result<Self> {
        let stats = lab.hub.stats()?;
        Ok(Self {
            seen: stats.sources.iter().map(|source| source.packets).sum(),
            opened: stats.traffic.rx_packets + stats.traffic.relayed_packets,
            dropped: stats.dropped_in_all(),
        })
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            seen: self.seen - before.seen,
            opened: self.opened - before.opened,
            dropped: self.dropped - before.dropped,
        }
    }

    /// Whatever came in has been opened or counted as dropped, once.
    pub fn balance(self) -> bool {
        self.balance_but_for(OF_ITS_OWN)
    }

    /// The same, and so many may have come in that XDP hasn't seen.
    fn balance_but_for(self, unseen: u64) -> bool {
        let known = self.opened + self.dropped;
        self.seen <= known + OF_ITS_OWN && known <= self.seen + unseen
    }

    /// That many packets, some of the tunnel's own, and up to so many others came in.
    pub fn are_about(self, packets: u64, others: u64) -> bool {
        self.seen.abs_diff(packets) <= OF_ITS_OWN + others
    }
}

/// Sends a flow from a through the hub to b, and changes something meanwhile. `change`
/// returns when that was done; from then on the flow must go on, all that comes in must be
/// accounted for, and nothing may arrive twice.
pub fn under_load(lab: &Lab, change: impl FnOnce() -> Result<Instant>) -> Result<Outcome> {
    watch(lab, OF_ITS_OWN, change)
}

/// The same, and so many packets may have come in that XDP hasn't seen.
fn watch(lab: &Lab, unseen: u64, change: impl FnOnce() -> Result<Instant>) -> Result<Outcome> {
    Pinger::new(&lab.net.a, Role::B.v4())?.wait_until_answered(UP_LIMIT)?;
    let before = Books::look(lab)?;
    let flow = Flow::start(&lab.net.a, &lab.net.b, SocketAddr::new(Role::B.v4(), 0))?;
    sleep(BEFORE);
    let changed = change()?;
    sleep(AFTER);
    let outcome = flow.finish()?;
    eventually("the counters add up", BACK_LIMIT, || {
        Ok(Books::look(lab)?.since(before).balance_but_for(unseen))
    })
    .with_context(|| format!("{:?}", Books::look(lab).map(|after| after.since(before))))?;
    let pause = outcome.longest_pause(changed);
    eprintln!(
        "{} of {} datagrams arrived; the longest pause after the change was {pause:?}; {:?}",
        outcome.arrived(),
        outcome.sent,
        Books::look(lab)?.since(before),
    );
    ensure!(
        pause < AFTER,
        "nothing arrived for {pause:?} after the change"
    );
    Ok(outcome)
}

fn interface_down_and_up() -> Result<()> {
    let lab = connected()?;
    ensure_in_use(&lab)?;
    let outcome = under_load(&lab, || {
        lab.net.hub.ip("link set to-a down")?;
        sleep(Duration::from_millis(1500));
        lab.net.hub.ip("link set to-a up")?;
        Ok(Instant::now())
    })?;
    ensure!(outcome.arrived() < outcome.sent, "it was never down");
    // Taking it down took the address of IPv6 away, which nothing here needs.
    lab.net.hub.ip("addr add fd99:1::1/64 dev to-a nodad")?;
    ensure_in_use(&lab)?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down(lab)
}

fn mtu_change() -> Result<()> {
    let lab = connected()?;
    under_load(&lab, || {
        let start = Instant::now();
        for mtu in [1300, 3000, 1500] {
            lab.net.hub.ip(&format!("link set to-a mtu {mtu}"))?;
            lab.net.a.ip(&format!("link set to-hub mtu {mtu}"))?;
            // The socket is bound again for larger frames, and packets go by the other way
            // until it is.
            sleep(AFTER / 2);
            eventually("packets come through AF_XDP again", BACK_LIMIT, || {
                Ok(ensure_in_use(&lab).is_ok())
            })?;
        }
        Ok(start)
    })?;
    wait_for_sockets(&lab, 2)?;
    take_down(lab)
}

fn queues_change() -> Result<()> {
    let lab = connected()?;
    // Make room for more queues than one: a veth has as many as it was made with.
    lab.net.hub.ip("link delete to-a")?;
    lab.net.hub.ip(&format!(
        "link add to-a numrxqueues 4 numtxqueues 4 type veth peer name to-hub numrxqueues 4 \
         numtxqueues 4 netns {}",
        lab.net.a.name()
    ))?;
    for (namespace, interface) in [(&lab.net.hub, "to-a"), (&lab.net.a, "to-hub")] {
        ethtool(namespace, &["-L", interface, "rx", "1", "tx", "1"])?;
    }
    // With XDP a veth never sends by more queues than the other end receives by.
    let receive = |count| ethtool(&lab.net.hub, &["-L", "to-a", "rx", count]);
    restore_wire(&lab)?;
    wait_for_new_interface(&lab)?;
    let outcome = watch(&lab, MEANWHILE, || {
        receive("4")?;
        let changed = Instant::now();
        wait_for_sockets(&lab, 5)?;
        Ok(changed)
    })?;
    // The kernel takes the link down for a moment.
    ensure!(
        outcome.arrived() * 20 >= outcome.sent * 19,
        "{} of {} datagrams arrived",
        outcome.arrived(),
        outcome.sent
    );
    // Fewer queues than have sockets: the kernel lets nobody take them away.
    under_load(&lab, || {
        for fewer in ["1", "3"] {
            ensure!(
                receive(fewer).is_err(),
                "a queue went from under its socket"
            );
        }
        Ok(Instant::now())
    })?;
    under_load(&lab, || {
        ethtool(&lab.net.a, &["-L", "to-hub", "tx", "4"])?;
        Ok(Instant::now())
    })?;
    wait_for_sockets(&lab, 5)?;
    ensure_in_use(&lab)?;
    take_down_replaced(lab)
}

/// Frames of another size take another socket: the old one is closed while packets come in,
/// and what is on its ring is carried through.
fn sockets_closed() -> Result<()> {
    let lab = connected()?;
    let before = lab.hub.stats()?;
    let outcome = under_load(&lab, || {
        let start = Instant::now();
        for mtu in [3000, 1500, 3000, 1500] {
            lab.net.hub.ip(&format!("link set to-a mtu {mtu}"))?;
            lab.net.hub.ip(&format!("link set to-b mtu {mtu}"))?;
            sleep(AFTER);
        }
        Ok(start)
    })?;
    let after = lab.hub.stats()?;
    ensure!(
        outcome.arrived() == outcome.sent,
        "{} of {} datagrams arrived",
        outcome.arrived(),
        outcome.sent
    );
    let relayed = after.traffic.relayed_packets - before.traffic.relayed_packets;
    ensure!(relayed >= outcome.sent, "{relayed} relayed");
    let dropped = after.dropped("ring_full") - before.dropped("ring_full");
    ensure!(dropped == 0, "{dropped} dropped");
    wait_for_sockets(&lab, 2)?;
    ensure_in_use(&lab)?;
    take_down(lab)
}

fn interface_vanishes() -> Result<()> {
    let lab = connected()?;
    lab.net.hub.ip("link delete to-a")?;
    eventually("its socket is gone", BACK_LIMIT, || {
        Ok(lab.hub.status()?.queues_over_af_xdp() == Some(1))
    })?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    lab.net.hub.ip(&format!(
        "link add to-a type veth peer name to-hub netns {}",
        lab.net.a.name()
    ))?;
    restore_wire(&lab)?;
    wait_for_new_interface(&lab)?;
    take_down_replaced(lab)
}

/// Waits until packets come in through the socket of an interface that was made anew; what
/// there is at first may still be that of the old one.
fn wait_for_new_interface(lab: &Lab) -> Result<()> {
    Pinger::new(&lab.net.a, Role::Hub.v4())?.wait_until_answered(UP_LIMIT)?;
    eventually("packets come through AF_XDP again", BACK_LIMIT, || {
        Ok(ensure_in_use(lab).is_ok())
    })?;
    wait_for_sockets(lab, 2)
}

/// As one does that comes from another namespace.
fn interface_replaced() -> Result<()> {
    let lab = connected()?;
    let index = lab
        .net
        .hub
        .run(|| interface_index("to-a"))?
        .context("there is no to-a")?;
    // Between two looks.
    lab.net.hub.ip("link delete to-a")?;
    lab.net.hub.ip(&format!(
        "link add to-a index {index} type veth peer name to-hub netns {}",
        lab.net.a.name()
    ))?;
    restore_wire(&lab)?;
    wait_for_new_interface(&lab)?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down_replaced(lab)
}

/// Gives a wire between a and the hub that has been made anew what the first one had.
pub fn restore_wire(lab: &Lab) -> Result<()> {
    for (namespace, interface, host) in [(&lab.net.hub, "to-a", 1), (&lab.net.a, "to-hub", 2)] {
        namespace.ip(&format!("addr add 10.99.1.{host}/24 dev {interface}"))?;
        namespace.ip(&format!("addr add fd99:1::{host}/64 dev {interface} nodad"))?;
        namespace.ip(&format!("link set {interface} up"))?;
    }
    Ok(())
}
