//! A range of ports in front of our socket, between two hosts.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use libtest_mimic::Failed;
use taltun::accel::Shield;
use taltun::config::XdpMode;

use super::lab::{HUB, Lab, ip, output, set_segment, start};
use crate::frames::{OUR_INDEX, PORT, handshake, message};

const RANGE: (u16, u16) = (8192, 12_287);
const HUB_V6: &str = "2001:db8::1";

pub(super) fn answers_come_from_the_port_used(lab: &Lab) -> Result<(), Failed> {
    for mode in [XdpMode::Generic, XdpMode::Driver] {
        let mut shield = ready(mode)?;
        for address in [HUB, HUB_V6] {
            let stranger = match address {
                HUB => &lab.stranger,
                _ => &lab.stranger_v6,
            };
            // One socket, as a peer has it. It hears what is from the port it sent to alone.
            for port in [8192, 8500, PORT, 12_287, 8500] {
                stranger.connect((address, port))?;
                stranger.send(&handshake(1, 0))?;
                stranger.send(&message(4, 96, OUR_INDEX))?;
                for length in [148, 96] {
                    let (received, from) = lab.hub.recv_from(&mut [0; 2048])?;
                    assert_eq!(received, length, "{mode:?} {address} {port}");
                    lab.hub.send_to(b"answer", from)?;
                    heard(stranger, b"answer")?;
                }
            }
        }
        // Off again: nobody turns it, and nothing of it is left to turn answers.
        shield.set_port_range(None);
        assert_eq!(shield.turning(), None);
        lab.stranger.connect((HUB, 8500))?;
        lab.stranger.send(&message(4, 96, OUR_INDEX))?;
        assert_eq!(lab.received()?, 0);
        // The kernel's word that the port is closed waits at the socket.
        assert!(heard(&lab.stranger, b"").is_err());
        lab.stranger.connect((HUB, PORT))?;
        lab.stranger.send(&message(4, 96, OUR_INDEX))?;
        let (_, from) = lab.hub.recv_from(&mut [0; 2048])?;
        lab.hub.send_to(b"answer", from)?;
        heard(&lab.stranger, b"answer")?;
    }
    Ok(())
}

/// What the kernel cuts into datagrams only after the program has seen it.
pub(super) fn batches_are_answered_by_batches(lab: &Lab) -> Result<(), Failed> {
    for mode in [XdpMode::Generic, XdpMode::Driver] {
        let _shield = ready(mode)?;
        for (address, stranger) in [(HUB, &lab.stranger), (HUB_V6, &lab.stranger_v6)] {
            stranger.connect((address, 8500))?;
            let mut batch = Vec::new();
            for _ in 0..8 {
                batch.extend(message(4, 96, OUR_INDEX));
            }
            set_segment(stranger, 96)?;
            stranger.send(&batch)?;
            set_segment(stranger, 0)?;
            let mut from = None;
            for _ in 0..8 {
                let (length, sender) = lab.hub.recv_from(&mut [0; 2048])?;
                assert_eq!(length, 96, "{mode:?} {address}");
                from = Some(sender);
            }
            set_segment(&lab.hub, 100)?;
            let sent = lab.hub.send_to(&[7; 800], from.ok_or("nobody sent")?);
            set_segment(&lab.hub, 0)?;
            sent?;
            for _ in 0..8 {
                heard(stranger, &[7; 100])?;
            }
        }
    }
    Ok(())
}

/// Another program's port of the range stays its own, and so do its answers.
pub(super) fn other_sockets_keep_their_ports(lab: &Lab) -> Result<(), Failed> {
    let _shield = ready(XdpMode::Generic)?;
    let other = UdpSocket::bind((HUB, 8500))?;
    other.set_read_timeout(Some(Duration::from_secs(2)))?;
    lab.stranger.connect((HUB, 8500))?;
    for datagram in [b"a question".to_vec(), message(4, 96, OUR_INDEX)] {
        lab.stranger.send(&datagram)?;
        let (length, from) = other.recv_from(&mut [0; 2048])?;
        assert_eq!(length, datagram.len());
        other.send_to(b"its answer", from)?;
        heard(&lab.stranger, b"its answer")?;
    }
    assert_eq!(lab.received()?, 0);
    Ok(())
}

/// An interface that a reply may leave by has the program from the next look on.
pub(super) fn follows_the_underlay(_: &Lab) -> Result<(), Failed> {
    let mut shield = ready(XdpMode::Generic)?;
    assert!(is_on("hub0")?);
    ip(&[
        "link", "add", "new0", "type", "veth", "peer", "name", "new1",
    ])?;
    ip(&["link", "set", "new0", "up"])?;
    sleep(Duration::from_millis(50));
    shield.refresh();
    assert!(is_on("new0")?);
    ip(&["link", "del", "new0"])?;
    shield.refresh();
    let turning = shield.turning().ok_or("no range is wanted")??;
    assert!(!turning.on.is_empty(), "{turning:?}");
    shield.set_port_range(None);
    assert!(!is_on("hub0")?);
    Ok(())
}

/// Whether the program sees what leaves by this interface, whichever way it is attached.
fn is_on(interface: &str) -> Result<bool, Failed> {
    // The kernel keeps the first fifteen bytes of a name.
    const NAME: &str = "taltun_reply_po";
    if let Ok((_, programs)) = SchedClassifier::query_tcx(interface, TcAttachType::Egress)
        && programs
            .iter()
            .any(|program| program.name_as_str() == Some(NAME))
    {
        return Ok(true);
    }
    Ok(output("tc", &["filter", "show", "dev", interface, "egress"])?.contains(NAME))
}

fn ready(mode: XdpMode) -> Result<Shield, Failed> {
    let mut shield = start(mode, &[]);
    shield.allow_index(OUR_INDEX);
    shield.set_port_range(Some(RANGE));
    match shield.turning() {
        Some(Ok(_)) => Ok(shield),
        other => Err(format!("{mode:?}: {other:?}").into()),
    }
}

/// The next that this socket hears is this.
fn heard(socket: &UdpSocket, expected: &[u8]) -> Result<(), Failed> {
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buffer = [0; 2048];
    let length = match socket.recv(&mut buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err("no answer".into()),
        Err(error) => return Err(error.into()),
    };
    assert_eq!(&buffer[..length], expected);
    Ok(())
}
