//! The program that chooses a TUN queue: which packets take the sparse one, and that a flow's
//! worker stays the same.

use std::collections::BTreeSet;

use aya::maps::Array;
use aya::programs::{SocketFilter, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use libtest_mimic::Failed;

use crate::programs::map;
use crate::tunnel::{PEER, PEER_V6, TCP, UDP, US, US_V6, packet};
use crate::{NamedTest, Test};

const WORKERS: u32 = 3;
/// Runs at once that are more than a flow's budget, whatever flows in meanwhile.
const MANY: u32 = 64;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 8] = [
        ("a_flow_is_sparse_until_its_budget_is_used", budget),
        ("nothing_is_sparse_before_user_space_said_so", not_drained),
        ("a_flow_comes_back_once_the_queue_is_drained", drained),
        ("flows_are_judged_by_themselves", by_themselves),
        ("fragments_are_bulk_and_so_is_what_follows_them", fragments),
        ("extension_headers_are_bulk", extensions),
        ("flows_spread_over_workers_and_stay_there", workers),
        ("what_is_no_ip_packet_takes_the_first_queue", not_ip),
    ];
    tests
        .into_iter()
        .map(|(name, test)| (format!("tun_queue::{name}"), Box::new(test) as Box<_>))
}

/// The program, to which everything is drained unless `until` says otherwise.
fn loaded(until: u64) -> Result<Ebpf, Failed> {
    let mut ebpf = EbpfLoader::new()
        .override_global("TALTUN_WORKERS", &WORKERS, true)
        .load(taltun::accel::TUN_QUEUE_OBJECT)?;
    let program: &mut SocketFilter = ebpf
        .program_mut("taltun_tun_queue")
        .ok_or("no such program")?
        .try_into()?;
    program.load()?;
    drain(&mut ebpf, until)?;
    Ok(ebpf)
}

fn drain(ebpf: &mut Ebpf, until: u64) -> Result<(), Failed> {
    let mut drained: Array<_, u64> = map(ebpf, "DRAINED")?.try_into()?;
    for worker in 0..WORKERS {
        drained.set(worker, until, 0)?;
    }
    Ok(())
}

/// Now, by the programs' clock.
fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The queue of the last of so many packets.
fn queue_of_many(ebpf: &mut Ebpf, packet: &[u8], count: u32) -> Result<u32, Failed> {
    let program: &mut SocketFilter = ebpf
        .program_mut("taltun_tun_queue")
        .ok_or("no such program")?
        .try_into()?;
    let mut out = vec![0; packet.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut out),
        repeat: count,
        ..TestRunOptions::default()
    })?;
    Ok(result.return_value)
}

/// Whether a packet takes a sparse queue.
fn is_sparse(ebpf: &mut Ebpf, packet: &[u8]) -> Result<bool, Failed> {
    let queue = queue_of_many(ebpf, packet, 1)?;
    assert!(queue < 2 * WORKERS, "{queue}");
    Ok(queue >= WORKERS)
}

/// Uses a flow's budget up.
fn flood(ebpf: &mut Ebpf, packet: &[u8]) -> Result<(), Failed> {
    let queue = queue_of_many(ebpf, packet, MANY)?;
    assert!(queue < WORKERS, "{queue}");
    Ok(())
}

/// A packet of a flow between us and the peer, with these ports.
fn of_flow(v6: bool, protocol: u8, ports: [u8; 4], length: usize) -> Result<Vec<u8>, Failed> {
    let (from, to, header) = if v6 {
        (US_V6, PEER_V6, 40)
    } else {
        (US, PEER, 20)
    };
    let mut frame = packet(from, to, protocol, length)?;
    let at = ETHERNET + header;
    frame[at..at + 4].copy_from_slice(&ports);
    Ok(frame)
}

const FLOW: [u8; 4] = [0x9c, 0x40, 0, 53];
const OTHER: [u8; 4] = [0x9c, 0x41, 0, 53];

fn budget() -> Result<(), Failed> {
    for (v6, protocol) in [(false, UDP), (false, TCP), (true, UDP), (true, TCP)] {
        let ebpf = &mut loaded(now())?;
        let small = of_flow(v6, protocol, FLOW, 100)?;
        let large = of_flow(v6, protocol, FLOW, 1420)?;
        for _ in 0..3 {
            assert!(is_sparse(ebpf, &small)?);
        }
        let sparse = queue_of_many(ebpf, &small, 1)?;
        flood(ebpf, &large)?;
        // A worker's queues go together.
        assert_eq!(queue_of_many(ebpf, &large, 1)?, sparse - WORKERS);
        // What is small goes behind what is large.
        assert!(!is_sparse(ebpf, &small)?);
    }
    Ok(())
}

fn not_drained() -> Result<(), Failed> {
    let ebpf = &mut loaded(0)?;
    let small = of_flow(false, UDP, FLOW, 100)?;
    for _ in 0..3 {
        assert!(!is_sparse(ebpf, &small)?);
    }
    Ok(())
}

fn drained() -> Result<(), Failed> {
    let ebpf = &mut loaded(now())?;
    let small = of_flow(false, UDP, FLOW, 100)?;
    flood(ebpf, &of_flow(false, UDP, FLOW, 1420)?)?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    // Its budget is full again, its queue isn't empty.
    assert!(!is_sparse(ebpf, &small)?);
    drain(ebpf, u64::MAX)?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(is_sparse(ebpf, &small)?);
    Ok(())
}

fn by_themselves() -> Result<(), Failed> {
    for v6 in [false, true] {
        let ebpf = &mut loaded(now())?;
        flood(ebpf, &of_flow(v6, UDP, FLOW, 1420)?)?;
        assert!(is_sparse(ebpf, &of_flow(v6, UDP, OTHER, 1000)?)?);
        assert!(is_sparse(ebpf, &of_flow(v6, TCP, FLOW, 1000)?)?);
        // Without ports: all of a pair is one flow of its protocol.
        let ping = of_flow(v6, 1, FLOW, 84)?;
        assert!(is_sparse(ebpf, &ping)?);
        flood(ebpf, &of_flow(v6, 1, OTHER, 1420)?)?;
        assert!(!is_sparse(ebpf, &ping)?);
    }
    Ok(())
}

fn fragments() -> Result<(), Failed> {
    // The first one with more to come, one in the middle, the last one.
    for flags in [[0x20, 0], [0x20, 100], [0, 200]] {
        let ebpf = &mut loaded(now())?;
        let whole = of_flow(false, UDP, FLOW, 100)?;
        assert!(is_sparse(ebpf, &whole)?);
        let mut fragment = of_flow(false, UDP, FLOW, 100)?;
        fragment[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&flags);
        assert!(!is_sparse(ebpf, &fragment)?);
        // It might have the same ports.
        assert!(!is_sparse(ebpf, &whole)?);
        assert!(!is_sparse(ebpf, &of_flow(false, UDP, OTHER, 100)?)?);
        let elsewhere = packet(US, "10.0.0.3", UDP, 100)?;
        assert!(is_sparse(ebpf, &elsewhere)?);
        drain(ebpf, u64::MAX)?;
        // That of the flow was used up by what took the bulk queue.
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(is_sparse(ebpf, &whole)?);
    }
    // "Don't fragment" is no fragment.
    let ebpf = &mut loaded(now())?;
    let mut whole = of_flow(false, UDP, FLOW, 100)?;
    whole[ETHERNET + 6] = 0x40;
    assert!(is_sparse(ebpf, &whole)?);
    Ok(())
}

fn extensions() -> Result<(), Failed> {
    for header in [0, 43, 44, 60] {
        let ebpf = &mut loaded(now())?;
        assert!(!is_sparse(ebpf, &of_flow(true, header, FLOW, 100)?)?);
        assert!(!is_sparse(ebpf, &of_flow(true, UDP, FLOW, 100)?)?);
        // To IPv4 these are protocols like others.
        assert!(is_sparse(ebpf, &of_flow(false, header, FLOW, 100)?)?);
    }
    // Options of IPv4 come before the ports.
    let ebpf = &mut loaded(now())?;
    let mut options = packet(US, PEER, UDP, 200)?;
    options[ETHERNET] = 0x4f;
    options[ETHERNET + 60..ETHERNET + 64].copy_from_slice(&FLOW);
    assert!(is_sparse(ebpf, &options)?);
    flood(ebpf, &of_flow(false, UDP, FLOW, 1420)?)?;
    assert!(!is_sparse(ebpf, &options)?);
    Ok(())
}

fn workers() -> Result<(), Failed> {
    let ebpf = &mut loaded(now())?;
    let mut seen = BTreeSet::new();
    for port in 0..100 {
        let flow = of_flow(port % 2 == 0, UDP, [1, port, 0, 53], 100)?;
        // Of a flow that shares its slot with an earlier one, the bulk queue.
        let first = queue_of_many(ebpf, &flow, 1)?;
        let bulk = queue_of_many(ebpf, &flow, 10 * MANY)?;
        assert!(bulk < WORKERS && first % WORKERS == bulk, "{first} {bulk}");
        seen.insert(bulk);
    }
    assert_eq!(seen.len(), WORKERS as usize);
    Ok(())
}

fn not_ip() -> Result<(), Failed> {
    let ebpf = &mut loaded(now())?;
    // The harness looks into what it takes for IP itself.
    let not_ip = |mut frame: Vec<u8>| {
        frame[ETHERNET - 2..ETHERNET].copy_from_slice(&[0xff, 0xff]);
        frame
    };
    let mut strange = not_ip(of_flow(false, UDP, FLOW, 100)?);
    strange[ETHERNET] = 0x15;
    assert_eq!(queue_of_many(ebpf, &strange, MANY)?, 0);
    // Cut in the middle of a header.
    for (v6, length) in [(false, 1), (false, 19), (true, 39)] {
        let mut short = not_ip(of_flow(v6, UDP, FLOW, 100)?);
        short.truncate(ETHERNET + length);
        assert_eq!(queue_of_many(ebpf, &short, MANY)?, 0);
    }
    // Without ports where they should be.
    let mut short = not_ip(of_flow(false, UDP, FLOW, 100)?);
    short.truncate(ETHERNET + 22);
    assert!(!is_sparse(ebpf, &short)?);
    Ok(())
}
