//! TC on the tunnel interface.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use libtest_mimic::Failed;
use taltun::config::XdpMode;
use taltun::layer::Layer;
use taltun_common::drops::DropReason;

use super::lab::{Lab, TUN, ip, output, start, start_on};
use crate::frames::{Ends, IP, udp};

pub(super) fn guards_the_tunnel(_: &Lab) -> Result<(), Failed> {
    const US: &str = "10.0.0.1";
    let tun = tun(TUN)?;
    ip(&["addr", "add", "10.0.0.1/24", "dev", TUN])?;
    ip(&["link", "set", TUN, "up"])?;
    let mut shield = start(XdpMode::Off, &[]);
    assert_eq!(shield.tunnel_status().mode.word(), "off");
    drop(shield);
    shield = start(XdpMode::Auto, &[]);
    let status = shield.tunnel_status();
    assert!(
        ["tcx", "clsact"].contains(&status.mode.word()),
        "{status:?}"
    );
    shield.add_routes(&["10.0.0.2/31".parse()?, "10.0.0.66/32".parse()?]);

    // Into the tunnel.
    let inside = UdpSocket::bind((US, 0))?;
    inside.set_read_timeout(Some(Duration::from_millis(200)))?;
    let arrived = |destination: &str, count: usize| -> Result<usize, Failed> {
        for _ in 0..count {
            inside.send_to(b"hello", (destination, 7))?;
        }
        Ok(packets_to(&tun, destination))
    };
    assert_eq!(arrived("10.0.0.2", 50)?, 50);
    let answered = arrived("10.0.0.9", 200)?;
    assert!((1..100).contains(&answered), "{answered}");
    let dropped = shield.drops()[DropReason::NoPeer];
    assert_eq!(dropped, 200 - answered as u64);
    shield.add_routes(&["10.0.0.9/32".parse()?]);
    shield.remove_routes(&["10.0.0.2/31".parse()?]);
    assert_eq!(arrived("10.0.0.9", 50)?, 50);

    // Out of it.
    let port = inside.local_addr()?.port();
    let from = |source: &str| -> Result<bool, Failed> {
        (&tun).write_all(&udp_packet(source, US, port)?)?;
        Ok(inside.recv(&mut [0; 64]).is_ok())
    };
    assert!(from("10.0.0.9")?);
    assert!(!from("10.0.0.2")?, "not a peer's any more");
    assert!(from("10.0.0.66")?);
    shield.ban(Layer::Inner, "10.0.0.66/32".parse()?)?;
    assert!(!from("10.0.0.66")?);
    shield.unban(Layer::Inner, "10.0.0.66/32".parse()?)?;
    assert!(from("10.0.0.66")?);
    let drops = shield.drops();
    assert_eq!(drops[DropReason::InnerSource], 1);
    assert_eq!(drops[DropReason::InnerDenied], 1);
    let sources = shield.sources(Layer::Inner, 1);
    assert_eq!(sources[0].addr.to_string(), "10.0.0.66");
    assert_eq!(
        (sources[0].packets, sources[0].bytes, sources[0].drops),
        (3, 3 * 33, 1)
    );

    // And it leaves nothing behind.
    drop(shield);
    assert_eq!(arrived("10.0.0.7", 50)?, 50);
    assert!(from("10.0.0.2")?);
    Ok(())
}

/// A clsact filter outlives a process that was killed, where its interface does. With tcx
/// there is nothing to replace: links go with their process.
pub(super) fn replaces_filters_of_the_killed(_: &Lab) -> Result<(), Failed> {
    let _tun = tun(TUN)?;
    let start = || start_on(&["none0"], XdpMode::Auto, &[]);
    let killed = start();
    let mode = killed.tunnel_status().mode;
    std::mem::forget(killed);

    let shield = start();
    assert_eq!(shield.tunnel_status().mode, mode);
    // A filter is a line, which may have its name twice.
    let ours = |direction: &str| -> Result<Vec<String>, Failed> {
        let filters = output("tc", &["filter", "show", "dev", TUN, direction])?;
        let ours = filters.lines().filter(|line| line.contains("taltun_tun_"));
        Ok(ours.map(ToOwned::to_owned).collect())
    };
    let expected = usize::from(mode.word() == "clsact");
    for direction in ["ingress", "egress"] {
        let ours = ours(direction)?;
        assert_eq!(ours.len(), expected, "{direction}, {mode}: {ours:?}");
    }
    drop(shield);
    for direction in ["ingress", "egress"] {
        let ours = ours(direction)?;
        assert!(ours.is_empty(), "{direction}, {mode}: {ours:?}");
    }
    Ok(())
}

/// A TUN interface in this namespace, as long as the file is open.
fn tun(name: &str) -> Result<File, Failed> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: all zeroes is a valid ifreq: it holds integers, bytes and null pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads an ifreq, which lives until after the call; O_NONBLOCK is set
    // on a file that is ours.
    let result = unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
        libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request)
    };
    match result {
        0 => Ok(file),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// How many IPv4 packets for this address wait in the TUN.
fn packets_to(mut tun: &File, destination: &str) -> usize {
    let destination: Ipv4Addr = destination.parse().expect("an address");
    let mut packet = [0; 2048];
    let mut count = 0;
    while tun.read(&mut packet).is_ok() {
        count += usize::from(packet[0] == 0x45 && packet[16..20] == destination.octets());
    }
    count
}

/// An IPv4 packet with five bytes for a UDP port.
fn udp_packet(source: &str, destination: &str, port: u16) -> Result<Vec<u8>, Failed> {
    let ends = Ends {
        source: source.parse()?,
        destination: destination.parse()?,
    };
    let mut packet = udp(ends, b"hello").split_off(IP);
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    // IPv4 needs no UDP checksum, but a right one of the header.
    packet[26..28].fill(0);
    let sum: u32 = packet[..20]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    Ok(packet)
}
