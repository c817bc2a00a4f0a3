//! Raw packets put on an interface as they are, past the kernel's own idea of what a packet
//! may look like.

use std::fs::File;
use std::io::{self, Write};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;
use crate::sys;

/// How many packets are sent in one go; below the length of an interface's queue.
const BURST: usize = 32;
/// The pause between two of these.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends each of `packets` out of `interface` of `namespace`, on a TUN without a link-layer
/// header, and returns how many these were. None of them may be empty.
pub fn send(
    namespace: &Namespace,
    interface: &str,
    packets: impl IntoIterator<Item = Vec<u8>>,
) -> Result<u64> {
    let (mut v4, mut v6) = namespace
        .run(|| {
            io::Result::Ok((
                open(interface, libc::ETH_P_IP as u16)?,
                open(interface, libc::ETH_P_IPV6 as u16)?,
            ))
        })?
        .with_context(|| format!("can't open {interface}"))?;
    let mut sent = 0;
    for packet in packets {
        // The kernel is told what the packet says it is.
        let socket = if packet.first().is_some_and(|byte| byte >> 4 == 6) {
            &mut v6
        } else {
            &mut v4
        };
        match socket.write_all(&packet) {
            // So a packet socket learns that a TC program dropped its packet.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            outcome => outcome
                .with_context(|| format!("can't send {} bytes on {interface}", packet.len()))?,
        }
        sent += 1;
        if sent % BURST == 0 {
            sleep(PAUSE);
        }
    }
    Ok(sent as u64)
}

/// A socket that writes packets of this protocol to `interface`.
fn open(interface: &str, ethertype: u16) -> io::Result<File> {
    // Protocol zero: nothing is to be received.
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    sys::bind_packet_socket(&socket, sys::interface_index(interface)?, ethertype)?;
    Ok(socket.into())
}
