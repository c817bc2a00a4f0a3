//! What the data plane asks of the eBPF programs: to give packets to its sockets.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use crate::report::SteeringStatus;

/// Gives packets to the sockets of the data plane. Where no program is attached, nothing comes
/// of it: packets take the ordinary way, to one of the UDP sockets.
pub trait Redirect {
    /// Gives each of these sockets, which share our port and belong to the workers in this
    /// order, the datagrams whose receiver index names its worker.
    fn steer(&mut self, sockets: &[BorrowedFd<'_>]);

    /// Whether datagrams are steered, and why it is so.
    fn steering_status(&self) -> SteeringStatus;

    /// The sockets listen elsewhere now.
    fn rebind(&mut self, listen: SocketAddr);

    /// The interfaces whose frames can be handed to AF_XDP sockets, as they are now.
    fn interfaces(&self) -> Vec<XdpInterface>;

    /// Has transport messages that come in on a queue of an interface, and pass all checks,
    /// go to this AF_XDP socket, which must be bound to that queue, in frames of up to
    /// `room` bytes. The error is a sentence for people.
    fn connect(
        &mut self,
        interface: u32,
        queue: u32,
        socket: BorrowedFd<'_>,
        room: usize,
    ) -> Result<(), String>;

    /// Takes back a [`connect`](Self::connect): messages go the ordinary way again.
    fn disconnect(&mut self, interface: u32, queue: u32);
}

/// An interface whose XDP program can hand frames to AF_XDP sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpInterface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether the program runs in the driver, without which there is no zero copy.
    pub driver: bool,
    /// Its receive queues, as far as there are places for their sockets.
    pub queues: u32,
    /// Those of them that are there only while the program is attached.
    pub queues_of_xdp: Range<u32>,
    /// Bytes of its largest packet, from the IP header on.
    pub mtu: usize,
}
