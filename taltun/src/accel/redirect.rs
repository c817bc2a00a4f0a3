//! What the data plane needs of the programs: the choice of the socket for packets.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::Shield;
use super::programs::Programs;
use crate::dataplane::redirect::{Redirect, XdpInterface};
use crate::report::{Steering, SteeringStatus};

impl Redirect for Shield {
    fn steer(&mut self, sockets: &[BorrowedFd<'_>]) {
        if let Ok(programs) = &mut self.programs {
            programs.steer(sockets);
        }
    }

    fn steering_status(&self) -> SteeringStatus {
        match &self.programs {
            Ok(programs) => programs.steering_status(),
            Err(reason) => SteeringStatus {
                mode: Steering::Off,
                reason: reason.clone(),
            },
        }
    }

    fn rebind(&mut self, listen: SocketAddr) {
        if let Ok(programs) = &mut self.programs {
            programs.rebind(listen);
        }
    }

    fn interfaces(&self) -> Vec<XdpInterface> {
        self.programs
            .as_ref()
            .map_or_else(|_| Vec::new(), Programs::interfaces)
    }

    fn connect(
        &mut self,
        interface: u32,
        queue: u32,
        socket: BorrowedFd<'_>,
        room: usize,
    ) -> Result<(), String> {
        let programs = self.programs.as_mut().map_err(|reason| reason.clone())?;
        programs.sockets.connect(interface, queue, socket, room)
    }

    fn disconnect(&mut self, interface: u32, queue: u32) {
        if let Ok(programs) = &mut self.programs {
            programs.sockets.disconnect(interface, queue);
        }
    }
}
