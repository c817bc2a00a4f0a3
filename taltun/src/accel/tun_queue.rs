//! The program that chooses a TUN queue for each packet: see [`taltun_common::sparse`].

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::Map;
use aya::programs::SocketFilter;
use aya::{Ebpf, EbpfLoader};

use super::TUN_QUEUE_OBJECT;
use super::explain::explain;
use crate::dataplane::sparse::Chooser;
use crate::dataplane::tun::Tun;

const PROGRAM: &str = "taltun_tun_queue";
/// Where it finds how many workers there are.
const WORKERS: &str = "TALTUN_WORKERS";

/// Has it choose for this interface, which has a queue for each of so many workers; for more queues
/// it chooses once there are some.
///
/// # Errors
/// Why it can't be, as a sentence. The kernel chooses by its own hash then.
pub fn attach(tun: &Tun, workers: u32) -> Result<Chooser, String> {
    try_attach(tun, workers).map_err(|error| explain(&*error))
}

fn try_attach(tun: &Tun, workers: u32) -> Result<Chooser, Box<dyn Error>> {
    if TUN_QUEUE_OBJECT.is_empty() {
        return Err("built from a packaged crate, which has no eBPF programs".into());
    }
    let mut ebpf = EbpfLoader::new()
        .override_global(WORKERS, &workers, true)
        .load(TUN_QUEUE_OBJECT)?;
    let drained = drained(&ebpf)?;
    let program: &mut SocketFilter = ebpf
        .program_mut(PROGRAM)
        .ok_or("there is no such program")?
        .try_into()?;
    program.load()?;
    // From here on the interface holds the program, and the program its maps.
    tun.steer_by(program.fd()?.as_fd())?;
    let program = program.fd()?.as_fd().try_clone_to_owned()?;
    Ok(Chooser { program, drained })
}

fn drained(ebpf: &Ebpf) -> Result<OwnedFd, Box<dyn Error>> {
    match ebpf.map("DRAINED") {
        Some(Map::Array(map)) => Ok(map.fd().as_fd().try_clone_to_owned()?),
        _ => Err("there is no such map".into()),
    }
}
