//! AF_XDP sockets in the XDP program's maps, and the interfaces that may have some.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::{HashMap, MapData, XskMap};
use taltun_common::maps::{MAX_XSK_INTERFACES, MAX_XSK_QUEUES, XskSockets};

use super::explain::explain;
use super::named::map;
use super::offload;
use crate::dataplane::redirect::XdpInterface;
use crate::os::interface;

/// An interface as it is now.
pub(super) fn interface(
    index: u32,
    name: &str,
    driver: bool,
    queues_of_xdp: Range<u32>,
) -> io::Result<XdpInterface> {
    Ok(XdpInterface {
        index,
        name: name.into(),
        driver,
        queues: offload::receive_queues(name)?.min(MAX_XSK_QUEUES as u32),
        queues_of_xdp,
        mtu: interface::mtu(&interface::socket()?, name)? as usize,
    })
}

/// Which sockets the program knows.
pub(super) struct Sockets {
    interfaces: HashMap<MapData, u32, XskSockets>,
    by_place: XskMap<MapData>,
    /// The places of each interface's, and how many of them are taken.
    places: BTreeMap<u32, (XskSockets, u32)>,
}

impl Sockets {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self {
            interfaces: map(ebpf, "XSK_INTERFACES")?.try_into()?,
            by_place: map(ebpf, "XSKS")?.try_into()?,
            places: BTreeMap::new(),
        })
    }

    /// Has transport messages of this queue go to this socket, in frames of up to `room`
    /// bytes. The error is a sentence.
    pub(super) fn connect(
        &mut self,
        interface: u32,
        queue: u32,
        socket: BorrowedFd<'_>,
        room: usize,
    ) -> Result<(), String> {
        let (mut places, taken) = match self.places.get(&interface) {
            Some(known) => *known,
            None => (self.free_places().ok_or("too many interfaces")?, 0),
        };
        if queue >= places.queues {
            return Err(format!("there are places for {MAX_XSK_QUEUES} queues"));
        }
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        // Sockets of one interface may be of different times and sizes.
        places.room = if taken == 0 {
            room
        } else {
            places.room.min(room)
        };
        let place = places.first + queue;
        // The room first, so that no frame finds the socket and not the room.
        self.interfaces
            .insert(interface, places, 0)
            .map_err(|error| explain(&error))?;
        self.places.insert(interface, (places, taken + 1));
        let socket = socket.as_raw_fd();
        if let Err(error) = self.by_place.set(place, socket, 0) {
            self.disconnect(interface, queue);
            return Err(explain(&error));
        }
        Ok(())
    }

    /// From now on the messages of this queue go the ordinary way.
    pub(super) fn disconnect(&mut self, interface: u32, queue: u32) {
        let Some((places, taken)) = self.places.get_mut(&interface) else {
            return;
        };
        // One whose socket was closed isn't there any more.
        let _ = self.by_place.unset(places.first + queue);
        *taken = taken.saturating_sub(1);
        if *taken == 0 {
            let _ = self.interfaces.remove(&interface);
            self.places.remove(&interface);
        }
    }

    /// The first places that no interface has.
    fn free_places(&self) -> Option<XskSockets> {
        let taken: Vec<u32> = self
            .places
            .values()
            .map(|(places, _)| places.first)
            .collect();
        (0..MAX_XSK_INTERFACES as u32)
            .map(|at| at * MAX_XSK_QUEUES as u32)
            .find(|first| !taken.contains(first))
            .map(|first| XskSockets {
                first,
                queues: MAX_XSK_QUEUES as u32,
                room: 0,
            })
    }
}
