//! AF_XDP with zero copy, on network cards that a virtual machine has for it: the hub is on
//! the one of a pair, a switch with both spokes on the other.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::cards::{Card, bring_back, lend};
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::sys::{Signal, interface_index, try_zero_copy};
use taltun_tests::traffic::stream::Stream;

use crate::af_xdp::{
    BACK_LIMIT, behind_one_interface, ensure_in_use, ensure_leaves_in_its_frame, received, sent,
    wait_for_one_interface,
};
use crate::af_xdp_changes::{Books, under_load};
use crate::support::{Case, NO_ZERO_COPY, ZERO_COPY, ensure_answers, eventually, lab};

pub const CASES: &[Case] = &[
    Case {
        name: "AF_XDP: zero copy: auto takes it, and all that is opened or relayed goes that way",
        programs: &[ZERO_COPY],
        run: auto_takes_it,
    },
    Case {
        name: "AF_XDP: zero copy: under load, traffic goes on after changes of the interface",
        programs: &[ZERO_COPY],
        run: goes_on,
    },
    Case {
        name: "AF_XDP: zero copy: where the driver refuses it, on copies, auto doesn't, and both \
               say why",
        programs: &[NO_ZERO_COPY],
        run: refused,
    },
];

/// Bytes that a connection has to carry, and how long it may take.
const ENOUGH: u64 = 2_000_000;
const STREAM_LIMIT: Duration = Duration::from_secs(60);

/// A lab on a pair of cards.
pub struct OnCards {
    pub lab: Lab,
    switch: Namespace,
    /// What the cards' interfaces are called outside.
    names: [String; 2],
}

impl OnCards {
    pub fn start(card: Card, af_xdp: AfXdp) -> Result<Self> {
        let names = card.find()?.context("the cards are gone")?;
        let lab = lab(Options {
            xdp: XdpMode::Driver,
            af_xdp,
            ..Options::default()
        })?;
        let switch = behind_one_interface(&lab, |switch| {
            // What is said of `to-a` from now on is said of the card.
            eventually("the veths are gone", BACK_LIMIT, || {
                let queues = lab.hub.status()?.af_xdp;
                Ok(queues.iter().all(|queue| queue.interface.is_empty()))
            })?;
            lend(&names[0], &lab.net.hub, "to-a")?;
            lend(&names[1], switch, "port-hub")
        })?;
        Ok(Self { lab, switch, names })
    }

    /// Stops the nodes, which leave nothing on the card, and gives the cards back.
    pub fn stop(self) -> Result<()> {
        let Lab { hub, a, b, net, .. } = self.lab;
        for node in [a, b, hub] {
            node.stop(Signal::Terminate)?;
        }
        let link = net.hub.ip("-d link show dev to-a")?;
        ensure!(!link.contains("xdp"), "a program is left: {link}");
        bring_back(&net.hub, "to-a", &self.names[0])?;
        bring_back(&self.switch, "port-hub", &self.names[1])?;
        self.switch.delete()?;
        net.delete()
    }

    /// The same, and the first so many queues are anybody's again.
    pub fn stop_and_free(self, queues: u32) -> Result<()> {
        let interface = self.names[0].clone();
        self.stop()?;
        for queue in 0..queues {
            eventually("the queue is free again", BACK_LIMIT, || {
                Ok(try_zero_copy(interface_index(&interface)?, queue).is_ok())
            })
            .with_context(|| format!("queue {queue}"))?;
        }
        Ok(())
    }
}

/// Streams to the hub, from it and through it, by either family, and what was sent in all has
/// come out of them, byte by byte.
pub fn carry_streams(lab: &Lab) -> Result<()> {
    for (from, to, address) in [
        (&lab.net.a, &lab.net.hub, Role::Hub.v4()),
        (&lab.net.hub, &lab.net.b, Role::B.v4()),
        (&lab.net.a, &lab.net.b, Role::B.v4()),
        (&lab.net.b, &lab.net.a, Role::A.v6()),
    ] {
        let stream = Stream::start(from, to, SocketAddr::new(address, 0))?;
        stream.wait_for_more_than(ENOUGH, STREAM_LIMIT)?;
        let carried = stream.finish().with_context(|| format!("to {address}"))?;
        eprintln!(
            "{} bytes to {address} in {:?}",
            carried.bytes, carried.elapsed
        );
    }
    Ok(())
}

/// All that `traffic` brings but handshakes, and but for so many `others`, comes in through
/// AF_XDP; all is opened; and what is relayed leaves in its frame.
pub fn ensure_goes_this_way(
    lab: &Lab,
    others: u64,
    traffic: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = (Books::look(lab)?, received(lab, "to-a")?, sent(lab)?);
    traffic()?;
    let balance = || -> Result<_> {
        for queue in &lab.hub.status()?.af_xdp {
            ensure!(queue.ring_full + queue.dropped == 0, "{queue:?}");
        }
        Ok((
            Books::look(lab)?.since(before.0),
            received(lab, "to-a")? - before.1,
            sent(lab)? - before.2,
        ))
    };
    eventually("the counters add up", BACK_LIMIT, || {
        let (books, received, _) = balance()?;
        Ok(books.balance() && books.are_about(received, others))
    })
    .with_context(|| format!("{:?}", balance()))?;
    let (books, received, sent) = balance()?;
    eprintln!("{books:?}, {received} through AF_XDP, {sent} left by it");
    ensure!(sent > received / 4, "{sent} left in their frames");
    Ok(())
}

fn auto_takes_it() -> Result<()> {
    let on_cards = OnCards::start(Card::VirtioMapped, AfXdp::Auto)?;
    let lab = &on_cards.lab;
    wait_for_one_interface(lab, "zero-copy")?;
    let reason = &lab.hub.status()?.af_xdp[0].reason;
    ensure!(reason == "the driver does zero copy", "{reason}");
    ensure_in_use(lab)?;
    ensure_leaves_in_its_frame(lab)?;

    ensure_goes_this_way(lab, 0, || carry_streams(lab))?;
    on_cards.stop_and_free(1)
}

fn goes_on() -> Result<()> {
    let on_cards = OnCards::start(Card::VirtioMapped, AfXdp::On)?;
    let lab = &on_cards.lab;
    wait_for_one_interface(lab, "zero-copy")?;
    under_load(lab, || {
        lab.net.hub.ip("link set to-a down")?;
        sleep(Duration::from_millis(1500));
        lab.net.hub.ip("link set to-a up")?;
        Ok(Instant::now())
    })?;
    ensure_in_use(lab)?;
    // Larger frames take another socket.
    under_load(lab, || {
        let start = Instant::now();
        for mtu in [3000, 1500] {
            lab.net.hub.ip(&format!("link set to-a mtu {mtu}"))?;
            sleep(Duration::from_millis(2500));
        }
        Ok(start)
    })?;
    wait_for_one_interface(lab, "zero-copy")?;
    ensure_in_use(lab)?;
    ensure_leaves_in_its_frame(lab)?;
    crate::af_xdp_exits::ensure_own_packets_leave(lab)?;
    on_cards.stop()
}

fn refused() -> Result<()> {
    let on_cards = OnCards::start(Card::VirtioPlain, AfXdp::On)?;
    let lab = &on_cards.lab;
    ensure_refused(lab, "copy")?;
    ensure_in_use(lab)?;
    ensure_leaves_in_its_frame(lab)?;
    on_cards.stop()?;

    let on_cards = OnCards::start(Card::VirtioPlain, AfXdp::Auto)?;
    let lab = &on_cards.lab;
    ensure_refused(lab, "off")?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    on_cards.stop()
}

/// The queue comes to be in this mode, and the driver's answer is the reason.
fn ensure_refused(lab: &Lab, mode: &str) -> Result<()> {
    wait_for_one_interface(lab, mode)?;
    let reason = &lab.hub.status()?.af_xdp[0].reason;
    ensure!(
        reason.contains("no zero copy here") && reason.contains("os error"),
        "{reason}"
    );
    eprintln!("{mode}: {reason}");
    Ok(())
}
