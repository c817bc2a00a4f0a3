//! AF_XDP with zero copy on network cards with several queues.

use std::fs;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::cards::Card;
use taltun_tests::lab::{Lab, PORT, Role};
use taltun_tests::node::AfXdp;
use taltun_tests::traffic::ping::Pinger;

use crate::af_xdp::{ensure_in_use, ensure_leaves_in_its_frame, ethtool, wait_for_modes};
use crate::af_xdp_changes::under_load;
use crate::support::{ANSWER_LIMIT, Case, UP_LIMIT, ZERO_COPY_QUEUES};
use crate::zero_copy::{OnCards, carry_streams, ensure_goes_this_way};

pub const CASES: &[Case] = &[
    Case {
        name: "AF_XDP: zero copy: on several queues, auto takes each, and sources spread over them",
        programs: &["ethtool", ZERO_COPY_QUEUES],
        run: auto_takes_each,
    },
    Case {
        name: "AF_XDP: zero copy: the number of queues stays under load, and changes without XDP",
        programs: &["ethtool", ZERO_COPY_QUEUES],
        run: queues_change,
    },
];

/// Queues that a card has while no program is attached: one for each processor.
const QUEUES: u32 = 2;
/// Sources that are tried; no queue has none of them by chance.
const SOURCES: u16 = 40;
/// Packets of a source that may come in by a queue of XDP's: until the wire has learned from an
/// answer where they belong.
const UNTIL_LEARNED: u64 = 2;
/// How long spokes may take to notice that the hub has forgotten them, and to come back.
const FORGOTTEN_LIMIT: Duration = Duration::from_secs(60);

fn auto_takes_each() -> Result<()> {
    let on_cards = OnCards::start(Card::VirtioQueues, AfXdp::Auto)?;
    let lab = &on_cards.lab;
    wait_for_queues(lab, QUEUES, UP_LIMIT)?;
    let others = u64::from(SOURCES) * UNTIL_LEARNED;
    ensure_goes_this_way(lab, others, || {
        let before = received_by_queue(lab)?;
        for source in 1..=SOURCES {
            move_to_port(lab, PORT + source)?;
            for address in [Role::Hub.v4(), Role::B.v4()] {
                let mut pinger = Pinger::new(&lab.net.a, address)?;
                let answered = pinger.count_answers(3, ANSWER_LIMIT)?;
                ensure!(answered == 3, "{answered} of 3 from source {source}");
            }
        }
        let after = received_by_queue(lab)?;
        let came: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        eprintln!("{SOURCES} sources, by queue: {came:?}");
        let taken = &came[..QUEUES as usize];
        ensure!(taken.iter().all(|frames| *frames > 20), "{came:?}");
        Ok(())
    })
    .context("from many sources")?;
    ensure_goes_this_way(lab, 2 * UNTIL_LEARNED, || carry_streams(lab))?;
    on_cards.stop_and_free(QUEUES)
}

fn queues_change() -> Result<()> {
    let mut on_cards = OnCards::start(Card::VirtioQueues, AfXdp::On)?;
    let lab = &on_cards.lab;
    wait_for_queues(lab, QUEUES, UP_LIMIT)?;
    ensure_in_use(lab)?;
    // The driver lets nobody change them while a program is attached, to more or to fewer.
    under_load(lab, || {
        for other in [QUEUES - 1, QUEUES + 1] {
            let error = set_queues(lab, other).err();
            let error = error.with_context(|| format!("{other} queues are fine"))?;
            ensure!(error.to_string().contains("Invalid argument"), "{error:#}");
        }
        Ok(Instant::now())
    })?;
    wait_for_queues(lab, QUEUES, UP_LIMIT)?;

    // With the program gone it does, and the next hub takes what there is; also at once after
    // one that was killed, whose sockets the kernel may still be taking down.
    for count in [QUEUES - 1, QUEUES] {
        let lab = &mut on_cards.lab;
        lab.hub.kill()?;
        lab.hub.start_again(&lab.net.hub)?;
        lab.hub.kill()?;
        set_queues(lab, count)?;
        lab.hub.start_again(&lab.net.hub)?;
        wait_for_queues(lab, count, FORGOTTEN_LIMIT)
            .with_context(|| format!("with {count} queues"))?;
        ensure_in_use(lab)?;
        ensure_leaves_in_its_frame(lab)?;
    }
    on_cards.stop_and_free(QUEUES)
}

/// Waits until so many queues have their sockets, and those that are there because of XDP say
/// why they have none: virtio-net has one more for each processor then.
fn wait_for_queues(lab: &Lab, count: u32, limit: Duration) -> Result<()> {
    let count = count as usize;
    let mut modes = vec!["zero-copy"; count];
    modes.resize(count + available_parallelism()?.get(), "off");
    wait_for_modes(lab, &modes, limit)?;
    for queue in &lab.hub.status()?.af_xdp {
        let expected = match queue.mode.as_str() {
            "off" => "the driver has this queue for XDP",
            _ => "the driver does zero copy",
        };
        ensure!(queue.reason.contains(expected), "{}", queue.reason);
    }
    Ok(())
}

/// Gives the hub's card so many queues.
fn set_queues(lab: &Lab, count: u32) -> Result<()> {
    let words = ["-L", "to-a", "combined", &count.to_string()];
    ethtool(&lab.net.hub, &words)
}

/// Frames that the hub has received, of each queue.
fn received_by_queue(lab: &Lab) -> Result<Vec<u64>> {
    let queues = lab.hub.status()?.af_xdp;
    Ok(queues.iter().map(|queue| queue.received).collect())
}

/// Has a listen, and send, by another port: another source, by what the wire goes.
fn move_to_port(lab: &Lab, port: u16) -> Result<()> {
    let path = lab.a.directory().join("config.toml");
    let config = fs::read_to_string(&path)?;
    let is_address = |line: &&str| line.starts_with("local_addr = ");
    let address = config.lines().find(is_address).context("no address")?;
    let moved = config.replace(address, &format!("local_addr = \"[::]:{port}\""));
    fs::write(&path, moved)?;
    lab.a.tell(&["reload"]).map(drop)
}
