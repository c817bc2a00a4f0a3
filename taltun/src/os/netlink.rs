//! Asks the kernel for links, addresses, routes and neighbours, and hears of their changes.
//!
//! Blocking: the kernel has the answer ready when it has taken the request. Every request has a
//! sequence number; answers to other requests, such as the rest of one that was given up, are
//! skipped. Changes, in async code, go through `rtnetlink`'s own handle.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Asks the kernel, about the network namespace of the thread that made it.
pub(crate) struct Netlink {
    socket: Socket,
    /// The number of the last question.
    asked: u32,
}

impl Netlink {
    /// Connects to the kernel, so that nobody else is heard.
    ///
    /// # Errors
    /// Where no more sockets can be open.
    pub(crate) fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, asked: 0 })
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// The kernel's own, as where there is no such thing; `InvalidData` where its answer isn't
    /// understood.
    pub(crate) fn ask(&mut self, question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.send(question, NLM_F_REQUEST)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram) {
                let message = message?;
                if message.header.sequence_number != self.asked {
                    continue;
                }
                return match message.payload {
                    NetlinkPayload::InnerMessage(answer) => Ok(answer),
                    NetlinkPayload::Error(error) => Err(told(&error)),
                    _ => Err(odd("neither an answer nor an error")),
                };
            }
        }
    }

    /// Asks for the way to somebody.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); that there is no way is an error as well.
    pub(crate) fn route(&mut self, question: RouteMessage) -> io::Result<RouteMessage> {
        match self.ask(RouteNetlinkMessage::GetRoute(question))? {
            RouteNetlinkMessage::NewRoute(route) => Ok(route),
            _ => Err(odd("no route")),
        }
    }

    /// Asks for a whole table, and hands over each line of it. One that changes meanwhile may
    /// lack lines, so who keeps what was told has to hear of changes, too.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) fn dump(
        &mut self,
        question: RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.send(question, NLM_F_REQUEST | NLM_F_DUMP)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram) {
                let message = message?;
                if message.header.sequence_number != self.asked {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(line) => each(line),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(told(&error)),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, question: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.asked = self.asked.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.asked;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }
}

/// The question for the way to this address alone, to which sender, mark and flags may be added.
pub(crate) fn route_to(to: IpAddr) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family(to);
    route.header.destination_prefix_length = bits(to);
    route.attributes = vec![RouteAttribute::Destination(to.into())];
    route
}

/// The same for what is sent from this address of ours.
pub(crate) fn route_between(from: IpAddr, to: IpAddr) -> RouteMessage {
    let mut route = route_to(to);
    route.header.source_prefix_length = bits(from);
    route.attributes.push(RouteAttribute::Source(from.into()));
    route
}

/// The family of an address.
pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A socket that hears of changes in the network namespace of the calling thread, in these
/// groups; it never blocks.
///
/// # Errors
/// `EINVAL` where the kernel doesn't know a group, `EPERM` where it lets us hear nothing of it.
pub(crate) fn listen(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// The messages of a datagram of rtnetlink's. One that isn't understood ends them: where it ends
/// isn't known either.
pub(crate) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
            .map_err(|error| odd(&error.to_string()));
        // They are aligned to four bytes; the last may lack its padding.
        let length = message.as_ref().map_or(usize::MAX, |message| {
            (message.header.length as usize).next_multiple_of(4).max(4)
        });
        datagram = datagram.get(length..).unwrap_or_default();
        Some(message)
    })
}

/// An error that the kernel tells, as its number below zero; whatever is told instead is one, too.
pub(crate) fn told(error: &ErrorMessage) -> io::Error {
    io::Error::from_raw_os_error(error.raw_code().wrapping_abs())
}

/// That the kernel's answer isn't what was asked for.
pub(crate) fn odd(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroI32;

    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn any_number_is_an_error() {
        let mut error = ErrorMessage::default();
        for code in [-libc::ENODEV, i32::MIN] {
            error.code = NonZeroI32::new(code);
            assert_eq!(told(&error).raw_os_error(), Some(code.wrapping_abs()));
        }
    }

    fn links() -> RouteNetlinkMessage {
        RouteNetlinkMessage::GetLink(LinkMessage::default())
    }

    #[test]
    fn an_answer_that_was_not_read_to_its_end_is_none_to_the_next_question() {
        let mut netlink = Netlink::connect().unwrap();
        netlink.send(links(), NLM_F_REQUEST | NLM_F_DUMP).unwrap();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let route = netlink.route(route_to(loopback)).unwrap();
        let to = RouteAttribute::Destination(loopback.into());
        assert!(route.attributes.contains(&to), "{route:?}");
        let mut lines = 0;
        netlink.dump(links(), |_| lines += 1).unwrap();
        assert!(lines >= 1);
    }

    #[test]
    fn what_is_not_there_is_the_kernels_error() {
        let mut netlink = Netlink::connect().unwrap();
        let mut nobody = LinkMessage::default();
        nobody.header.index = i32::MAX.cast_unsigned();
        let error = netlink.ask(RouteNetlinkMessage::GetLink(nobody));
        assert_eq!(
            error.map(drop).unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
    }

    #[test]
    fn nonsense_ends_a_datagram() {
        assert_eq!(messages(&[]).count(), 0);
        for nonsense in [&[0_u8; 3][..], &[0; 16], &[0xff; 40]] {
            let read: Vec<_> = messages(nonsense).collect();
            assert!(read.len() <= nonsense.len() / 4 + 1, "{read:?}");
        }
    }
}
