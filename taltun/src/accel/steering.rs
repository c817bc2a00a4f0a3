//! The program that gives each worker's socket the datagrams of its own sessions.
//!
//! It belongs to the group of sockets, and goes with them. Without it the kernel distributes
//! datagrams by a hash of addresses and ports. Nothing is lost then, but a peer that moves changes
//! its worker, and packets may overtake each other.

use std::error::Error;
use std::os::fd::BorrowedFd;

use aya::Ebpf;
use aya::maps::{MapData, ReusePortSockArray};
use aya::programs::SkReuseport;

use super::explain::explain;
use super::named::map;
use crate::report::{self, SteeringStatus};

const PROGRAM: &str = "taltun_reuseport";

/// The program and its map of sockets.
pub(super) struct Steering {
    sockets: ReusePortSockArray<MapData>,
    /// Or why it isn't. Later nobody may load it.
    loaded: Result<(), String>,
}

impl Steering {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            sockets: map(ebpf, "SOCKETS")?.try_into()?,
            loaded: load(ebpf).map_err(|error| explain(&*error)),
        })
    }

    /// Steers datagrams to these sockets, which share a port and belong to the workers in
    /// this order.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf, sockets: &[BorrowedFd<'_>]) -> SteeringStatus {
        let [first, _, ..] = sockets else {
            return SteeringStatus::none();
        };
        let attached = self.loaded.clone().and_then(|()| {
            let attached = self.try_attach(ebpf, sockets, *first);
            attached.map_err(|error| explain(&*error))
        });
        match attached {
            Ok(()) => SteeringStatus {
                mode: report::Steering::Ebpf,
                reason: format!("{} workers share the port", sockets.len()),
            },
            Err(reason) => off(format!("refused: {reason}")),
        }
    }

    fn try_attach(
        &mut self,
        ebpf: &mut Ebpf,
        sockets: &[BorrowedFd<'_>],
        first: BorrowedFd<'_>,
    ) -> Result<(), Box<dyn Error>> {
        for (worker, socket) in sockets.iter().enumerate() {
            self.sockets.set(worker as u32, socket, 0)?;
        }
        program(ebpf)?.attach(first)?;
        Ok(())
    }
}

fn load(ebpf: &mut Ebpf) -> Result<(), Box<dyn Error>> {
    Ok(program(ebpf)?.load()?)
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SkReuseport, Box<dyn Error>> {
    let program = ebpf
        .program_mut(PROGRAM)
        .ok_or("there is no such program")?;
    Ok(program.try_into()?)
}

/// What to say where datagrams aren't steered.
fn off(reason: impl Into<String>) -> SteeringStatus {
    SteeringStatus {
        mode: report::Steering::Off,
        reason: reason.into(),
    }
}
