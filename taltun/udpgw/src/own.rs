//! The addresses that this host's interfaces have, for warnings. Where datagrams may go is asked
//! of the kernel's routes, which know of more: see [`crate::routes`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::routes;

/// The header of a message, what an address's begins with, and the header of an attribute.
const HEADER: usize = 16;
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;
/// The kernel's answer comes in pieces that are smaller.
const PIECE: usize = 64 << 10;

/// Asks the kernel.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let socket = routes::connect()?;
    socket.send(&question())?;
    let mut buffer = vec![0; PIECE];
    let mut found = Vec::new();
    loop {
        let length = io::Read::read(&mut &socket, &mut buffer)?;
        if read(&buffer[..length], &mut found)? {
            return Ok(found);
        }
    }
}

/// Adds the addresses in a piece of the kernel's answer; whether it was the last one.
pub(crate) fn read(mut piece: &[u8], found: &mut Vec<IpAddr>) -> io::Result<bool> {
    while let Some((kind, message, rest)) = message(piece) {
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => return Err(io::ErrorKind::Other.into()),
            _ if kind == libc::RTM_NEWADDR => found.extend(address(message)),
            _ => {}
        }
        piece = rest;
    }
    Ok(false)
}

/// The question for all addresses.
fn question() -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut bytes = Vec::with_capacity(HEADER + ADDRESS);
    bytes.extend((HEADER as u32 + ADDRESS as u32).to_ne_bytes());
    bytes.extend(libc::RTM_GETADDR.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.resize(HEADER + ADDRESS, 0);
    bytes
}

/// The type of the first message, what it says, and what comes after it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, bytes.get(HEADER..length)?, rest))
}

/// The address of a message: the local one where the interface has another end.
fn address(message: &[u8]) -> Option<IpAddr> {
    let mut attributes = message.get(ADDRESS..)?;
    let mut found = None;
    while let Some(header) = attributes.get(..ATTRIBUTE) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let value = attributes.get(ATTRIBUTE..length)?;
        if kind == libc::IFA_LOCAL || (kind == libc::IFA_ADDRESS && found.is_none()) {
            found = ip(value);
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    found
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(|it| Ipv4Addr::from(it).into());
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|it| Ipv6Addr::from(it).into()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_its_loopback_address() {
        let own = own_addresses().unwrap();
        assert!(own.contains(&Ipv4Addr::LOCALHOST.into()), "{own:?}");
    }

    #[test]
    fn the_near_end_is_ours_and_halves_are_none() {
        let attribute = |kind: u16, ip: [u8; 4]| {
            let mut bytes = 8_u16.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(ip);
            bytes
        };
        let mut bytes = vec![0; ADDRESS];
        bytes.extend(attribute(libc::IFA_ADDRESS, [192, 0, 2, 2]));
        assert_eq!(address(&bytes), Some([192, 0, 2, 2].into()));
        bytes.extend(attribute(libc::IFA_LOCAL, [192, 0, 2, 1]));
        assert_eq!(address(&bytes), Some([192, 0, 2, 1].into()));
        for length in 0..ADDRESS + 8 {
            assert_eq!(address(&bytes[..length]), None, "{length}");
        }
        let nothing = [0; HEADER];
        assert!(message(&nothing).is_none());
    }
}
