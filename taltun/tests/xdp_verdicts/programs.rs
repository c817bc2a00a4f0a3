//! The programs and their maps, as tests handle them: loaded, told what they need to know,
//! run on one frame, and asked what they have counted.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use libtest_mimic::Failed;

use taltun_common::address::Address;
use taltun_common::blake2s::{State, keyed};
use taltun_common::bucket::Rate;
use taltun_common::drops::DropReason;
use taltun_common::maps::{Settings, SourceCounters, family};

use crate::frames::{MAC1_KEY, OUR_INDEX, PORT, V4, V6, key};

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;

/// For driver mode and for generic mode.
pub const PROGRAMS: [&str; 2] = ["taltun_xdp", "taltun_xdp_skb"];

/// Initiations at once from one source.
pub const BURST: u32 = 5;
/// And one more each minute: however slow a machine is, a test of bursts is over by then.
const SLOW: Rate = Rate {
    token: 60_000_000_000,
    bucket: 60_000_000_000 * BURST as u64,
};

/// The programs, told all that the corpus relies on.
pub fn loaded() -> Result<Ebpf, Failed> {
    let mut ebpf = loaded_for(&MAC1_KEY, SLOW)?;
    allow_index(&mut ebpf, OUR_INDEX)?;
    deny(&mut ebpf, "203.0.113.0", 96 + 24, family::V4)?;
    deny(&mut ebpf, "2001:db8:bad::", 48, family::V6)?;
    Ok(ebpf)
}

/// Runs this on programs as [`loaded`] gives them, but spares the loading, which takes a
/// second on a slow machine: who is done with programs leaves them to the next, and as they
/// were. Only counters and buckets may have changed.
pub fn with_fresh_counters(
    run: impl FnOnce(&mut Ebpf) -> Result<(), Failed>,
) -> Result<(), Failed> {
    static IDLE: Mutex<Vec<Ebpf>> = Mutex::new(Vec::new());
    let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let left = idle().pop();
    let mut ebpf = left.map_or_else(loaded, Ok)?;
    run(&mut ebpf)?;
    forget_counts(&mut ebpf)?;
    idle().push(ebpf);
    Ok(())
}

fn forget_counts(ebpf: &mut Ebpf) -> Result<(), Failed> {
    let mut sources: PerCpuHashMap<_, Address, SourceCounters> =
        map(ebpf, "SOURCES")?.try_into()?;
    let counted = sources.keys().collect::<Result<Vec<_>, _>>()?;
    for source in counted {
        sources.remove(&source)?;
    }
    let mut buckets: HashMap<_, Address, u64> = map(ebpf, "BUCKETS")?.try_into()?;
    let limited = buckets.keys().collect::<Result<Vec<_>, _>>()?;
    for source in limited {
        buckets.remove(&source)?;
    }
    let mut drops: PerCpuArray<_, u64> = map(ebpf, "DROPS")?.try_into()?;
    let cpus = nr_cpus().map_err(|(_, error)| error)?;
    for reason in DropReason::ALL {
        drops.set(*reason as u32, PerCpuValues::try_from(vec![0; cpus])?, 0)?;
    }
    Ok(())
}

/// The programs, guarding our addresses, without any index and with nobody denied.
pub fn loaded_for(mac1_key: &[u8; 32], initiations: Rate) -> Result<Ebpf, Failed> {
    tell(Ebpf::load(taltun::accel::OBJECT)?, mac1_key, initiations)
}

/// These programs, guarding our addresses.
pub fn prepared(ebpf: Ebpf) -> Result<Ebpf, Failed> {
    tell(ebpf, &MAC1_KEY, Rate::default())
}

fn tell(mut ebpf: Ebpf, mac1_key: &[u8; 32], initiations: Rate) -> Result<Ebpf, Failed> {
    let mut mac1: Array<_, State> = map(&mut ebpf, "MAC1")?.try_into()?;
    mac1.set(0, keyed(mac1_key), 0)?;
    write_settings(
        &mut ebpf,
        Settings {
            listen_port: PORT,
            check_indices: 1,
            check_mac1: 1,
            initiations,
            ..Settings::default()
        },
    )?;
    let mut own: HashMap<_, Address, u8> = map(&mut ebpf, "LOCAL_ADDRESSES")?.try_into()?;
    own.insert(key(V4.destination), 1, 0)?;
    own.insert(key(V6.destination), 1, 0)?;
    Ok(ebpf)
}

pub fn settings(ebpf: &mut Ebpf) -> Result<Settings, Failed> {
    let settings: Array<_, Settings> = map(ebpf, "SETTINGS")?.try_into()?;
    Ok(settings.get(&0, 0)?)
}

pub fn write_settings(ebpf: &mut Ebpf, value: Settings) -> Result<(), Failed> {
    let mut settings: Array<_, Settings> = map(ebpf, "SETTINGS")?.try_into()?;
    Ok(settings.set(0, value, 0)?)
}

pub fn allow_index(ebpf: &mut Ebpf, index: u32) -> Result<(), Failed> {
    let mut indices: HashMap<_, u32, u8> = map(ebpf, "INDICES")?.try_into()?;
    Ok(indices.insert(index, 1, 0)?)
}

pub fn deny(ebpf: &mut Ebpf, address: &str, bits: u32, meant: u8) -> Result<(), Failed> {
    let mut list: LpmTrie<_, Address, u8> = map(ebpf, "DENIED")?.try_into()?;
    Ok(list.insert(&Key::new(bits, key(address.parse::<IpAddr>()?)), meant, 0)?)
}

/// What a program says of a frame, which it leaves as it is.
pub fn verdict(ebpf: &mut Ebpf, program: &str, frame: &[u8]) -> Result<u32, Failed> {
    let (verdict, after) = run(ebpf, program, frame)?;
    if after != frame {
        return Err("the program changed the frame".into());
    }
    Ok(verdict)
}

/// What a program says of a frame, and the frame after it.
pub fn run(ebpf: &mut Ebpf, program: &str, frame: &[u8]) -> Result<(u32, Vec<u8>), Failed> {
    let program: &mut Xdp = ebpf
        .program_mut(program)
        .ok_or("no such program")?
        .try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    // The kernel gives back the frame; with no room for it the run would fail.
    let mut data_out = vec![0; frame.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut data_out),
        ..TestRunOptions::default()
    })?;
    Ok((result.return_value, data_out))
}

/// Runs a packet through a TC program: what that decides, and the packet as it leaves. `segment` is
/// what the kernel says of its segments' size.
pub fn run_tc(
    ebpf: &mut Ebpf,
    program: &str,
    packet: &[u8],
    segment: u32,
) -> Result<(u32, Vec<u8>), Failed> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(program)
        .ok_or("no such program")?
        .try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    // struct __sk_buff up to and with gso_size, the 45th word.
    let mut context = [0; 46 * 4];
    context[44 * 4..45 * 4].copy_from_slice(&segment.to_ne_bytes());
    let mut out = vec![0; packet.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    })?;
    Ok((result.return_value, out))
}

/// How often this reason was counted.
pub fn dropped(ebpf: &mut Ebpf, reason: DropReason) -> Result<u64, Failed> {
    let drops: PerCpuArray<_, u64> = map(ebpf, "DROPS")?.try_into()?;
    Ok(drops.get(&(reason as u32), 0)?.iter().sum())
}

/// What was counted a source, all CPUs together. When it was dropped last is left out: it is
/// there exactly if something was.
pub fn counters(ebpf: &mut Ebpf, name: &str) -> Result<Vec<(Address, SourceCounters)>, Failed> {
    let sources: PerCpuHashMap<_, Address, SourceCounters> = map(ebpf, name)?.try_into()?;
    let entries = sources.iter().collect::<Result<Vec<_>, _>>()?;
    let sums = entries.into_iter().map(|(address, cpus)| {
        let mut sum = SourceCounters::default();
        for cpu in cpus.iter() {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
            sum.drops += cpu.drops;
            sum.reason = sum.reason.max(cpu.reason);
            assert_eq!(cpu.last_drop != 0, cpu.drops != 0, "{cpu:?}");
        }
        (address, sum)
    });
    Ok(sums.collect())
}

pub fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map, Failed> {
    Ok(ebpf.map_mut(name).ok_or("no such map")?)
}

/// Keeps this thread on the CPU it is on.
pub fn pin_to_this_cpu() -> Result<(), Failed> {
    // SAFETY: the call takes nothing.
    pin_to(unsafe { libc::sched_getcpu() }.try_into()?)
}

/// Keeps this thread on a CPU.
pub fn pin_to(cpu: usize) -> Result<(), Failed> {
    // SAFETY: the set is plain bits, all zero to begin with; the calls read and write
    // nothing but it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}
