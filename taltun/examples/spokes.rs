//! Many spokes in one program: shakes hands with a hub for each of them, then has them all
//! send, in turn, packets for one another. The load of `cargo xtask bench small`.
//!
//! ```text
//! spokes keys COUNT
//!     prints the spokes' public keys, one a line
//! spokes run COUNT HUB_KEY HUB_ADDRESS:FIRST-LAST OWN_ADDRESS INTERFACE HUB_MAC OWN_MAC
//!     shakes hands, prints `ready`, and then obeys lines on its input:
//!     `BYTES PACKETS RATE SENDERS`: seals so many packets of so many bytes for so many of the
//!         spokes to send, and prints `sealed`
//!     `go`: sends them, at RATE a second or, for 0, as fast as it can, and prints how many
//!         were sent in how many nanoseconds
//! ```
//!
//! Packets are sealed before they are sent, and sent as finished frames past the network
//! stack, so that the sender is faster than any hub. UDP's checksum is left out, as IPv4
//! allows. Spoke `n` has the inner address `10.201.n/250.n%250+1` and sends from UDP port
//! 20000 + `n`; its packets go to the next spoke, and to one port of the hub's after the other, from
//! the first to the last.

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun::crypto::{PresharedKey, PrivateKey, PublicKey};
use taltun::dataplane::clock;
use taltun::protocol::device::{Device, PeerSettings, Settings};
use taltun::protocol::messages::DATA_HEADER_LEN;
use taltun::protocol::peer::Endpoint;
use taltun::protocol::randomness::Randomness;
use taltun::protocol::tunnel::Tunnel;

const FIRST_PORT: u16 = 20_000;
/// Ethernet, IPv4 and UDP.
const OUTER_LEN: usize = 14 + 20 + 8;
/// The pause between two handshakes.
const PACE: Duration = Duration::from_millis(15);
/// Frames sent in one system call.
const BATCH: usize = 64;
/// Frames sent in one go at a given rate.
const BURST: usize = 32;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["keys", count] => {
            for number in 0..count.parse()? {
                println!("{}", key(number).public_key());
            }
            Ok(())
        }
        ["run", count, hub_key, hub, own, interface, hub_mac, own_mac] => {
            let world = World {
                hub_key: decode_key(hub_key)?,
                hub: hub_ports(hub)?,
                own: own.parse()?,
                macs: [mac(hub_mac)?, mac(own_mac)?],
            };
            run(&world, count.parse()?, interface)
        }
        _ => bail!("spokes keys COUNT | spokes run COUNT HUB_KEY HUB OWN INTERFACE MAC MAC"),
    }
}

struct World {
    hub_key: PublicKey,
    hub: HubPorts,
    own: Ipv4Addr,
    /// The hub's and our own.
    macs: [[u8; 6]; 2],
}

/// Where the hub is.
struct HubPorts {
    address: Ipv4Addr,
    first: u16,
    count: u16,
}

impl HubPorts {
    /// The port that a spoke sends its packet of this number to.
    fn port(&self, spoke: u16, packet: usize) -> u16 {
        let at = (usize::from(spoke) + packet) % usize::from(self.count);
        self.first + at as u16
    }
}

struct Spoke {
    tunnel: Arc<Tunnel>,
    /// Keeps the port, and is told what the hub has to say, which nobody reads.
    _socket: UdpSocket,
    port: u16,
}

fn key(number: u16) -> PrivateKey {
    let mut bytes = [0x5a; 32];
    // Not at the start: three bits of the first byte aren't part of a key.
    bytes[1..3].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_bytes(bytes)
}

fn inner(number: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 201, (number / 250) as u8, (number % 250 + 1) as u8)
}

fn decode_key(text: &str) -> Result<PublicKey> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
    let bytes = bytes.try_into().ok().context("a key has 32 bytes")?;
    Ok(PublicKey(bytes))
}

/// `10.0.0.1:4096-8191`.
fn hub_ports(text: &str) -> Result<HubPorts> {
    let parts = text.split_once(':').and_then(|(address, ports)| {
        let (first, last) = ports.split_once('-')?;
        Some((address, first, last))
    });
    let (address, first, last) = parts.context("the hub is ADDRESS:FIRST-LAST")?;
    let (first, last): (u16, u16) = (first.parse()?, last.parse()?);
    ensure!(first <= last && last - first < u16::MAX, "ports {text}");
    Ok(HubPorts {
        address: address.parse()?,
        first,
        count: last - first + 1,
    })
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("a MAC address has 6 bytes")
}

fn run(world: &World, count: u16, interface: &str) -> Result<()> {
    let spokes: Vec<Spoke> = (0..count)
        .map(|number| connect(world, number).with_context(|| format!("spoke {number}")))
        .collect::<Result<_>>()?;
    let socket = packet_socket(interface)?;
    say("ready")?;
    let mut lines = io::stdin().lock().lines();
    while let Some(line) = lines.next() {
        let line = line?;
        let words: Vec<u64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [bytes, packets, rate, senders] = words[..] else {
            bail!("expected BYTES PACKETS RATE SENDERS, not {line:?}");
        };
        let senders = &spokes[..senders as usize];
        let frames = Frames::seal(world, senders, count, bytes as usize, packets as usize)?;
        say("sealed")?;
        ensure!(lines.next().context("no go")?? == "go");
        let start = Instant::now();
        let sent = frames.send(&socket, rate)?;
        say(&format!("{sent} {}", start.elapsed().as_nanos()))?;
    }
    Ok(())
}

fn say(what: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}

/// A session with the hub, which the hub knows to be confirmed.
fn connect(world: &World, number: u16) -> Result<Spoke> {
    let port = FIRST_PORT + number;
    let socket = UdpSocket::bind((world.own, port))?;
    let hub = SocketAddrV4::new(world.hub.address, world.hub.port(number, 0));
    socket.connect(hub)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut device = Device::new(Settings {
        private_key: key(number),
        randomness: Randomness::seeded([number as u8; 32]),
        wall_clock_at_zero: clock::wall_clock_at_zero(),
        mtu: 1420,
        local_addresses: vec![IpAddr::V4(inner(number))],
        relay: false,
    });
    let hub = Endpoint::from(SocketAddr::V4(hub));
    let peer = PeerSettings {
        public_key: world.hub_key,
        preshared_key: PresharedKey::default(),
        endpoint: Some(hub),
        allowed_ips: vec!["10.201.0.0/16".parse()?],
        persistent_keepalive: None,
    };
    device
        .add_peer(peer, clock::now())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    for attempt in 0..10 {
        // A hub under load answers with a cookie first, and the next initiation is due five
        // seconds later: for this device, time flies.
        let now = clock::now() + 6 * attempt * Duration::from_secs(1);
        device.initiate(&world.hub_key, now);
        while let Some(transmit) = device.poll_transmit() {
            socket.send(&transmit.payload)?;
        }
        let mut answer = [0; 2048];
        let Ok(length) = socket.recv(&mut answer) else {
            // A hub that has had enough for this second.
            std::thread::sleep(Duration::from_secs(1));
            continue;
        };
        let taken = device.handle_handshake(&answer[..length], hub, false, now);
        while let Some(transmit) = device.poll_transmit() {
            // The keepalive by which the hub knows that we have the session, too.
            socket.send(&transmit.payload)?;
        }
        let peer = device.peer(&world.hub_key);
        // Some hubs are under load from 100 handshakes a second on.
        std::thread::sleep(PACE);
        if taken.is_ok() && peer.is_some_and(|peer| peer.last_handshake().is_some()) {
            return Ok(Spoke {
                tunnel: Arc::clone(device.tunnel()),
                _socket: socket,
                port,
            });
        }
    }
    bail!("no handshake with {}", hub.remote)
}

/// Sealed packets in frames, one behind the other.
struct Frames {
    bytes: Vec<u8>,
    frame_len: usize,
}

impl Frames {
    fn seal(
        world: &World,
        senders: &[Spoke],
        all: u16,
        inner_len: usize,
        count: usize,
    ) -> Result<Self> {
        let mut frames = Self {
            bytes: Vec::new(),
            frame_len: 0,
        };
        let mut buffer = vec![0; DATA_HEADER_LEN + inner_len + 64];
        for at in 0..count {
            let number = (at % senders.len()) as u16;
            let spoke = &senders[usize::from(number)];
            let to = inner((number + 1) % all);
            let packet = &mut buffer[DATA_HEADER_LEN..DATA_HEADER_LEN + inner_len];
            write_packet(packet, inner(number), to);
            let sealed = spoke
                .tunnel
                .batch(clock::now())
                .seal(&mut buffer, inner_len)
                .map_err(|error| anyhow::anyhow!("{error:?}"))?;
            frames.frame_len = OUTER_LEN + sealed.len;
            if at == 0 {
                frames.bytes.reserve_exact(count * frames.frame_len);
            }
            let ports = (spoke.port, world.hub.port(number, at / senders.len()));
            write_headers(&mut frames.bytes, world, ports, sealed.len);
            frames.bytes.extend_from_slice(&buffer[..sealed.len]);
        }
        Ok(frames)
    }

    /// Sends all of them; how many were.
    fn send(&self, socket: &OwnedFd, rate: u64) -> Result<u64> {
        let start = Instant::now();
        let mut sent = 0_u64;
        let burst = if rate == 0 { BATCH } else { BURST };
        for batch in self.bytes.chunks(burst * self.frame_len) {
            if let Some(due) = (sent * 1_000_000_000).checked_div(rate) {
                let due = Duration::from_nanos(due);
                while start.elapsed() < due {
                    std::hint::spin_loop();
                }
            }
            sent += send_batch(socket, batch, self.frame_len)? as u64;
        }
        Ok(sent)
    }
}

/// An IPv4 packet with UDP in it, of which all but the payload means something.
fn write_packet(packet: &mut [u8], from: Ipv4Addr, to: Ipv4Addr) {
    packet.fill(0);
    let length = packet.len() as u16;
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..22].copy_from_slice(&4000_u16.to_be_bytes());
    packet[22..24].copy_from_slice(&4001_u16.to_be_bytes());
    packet[24..26].copy_from_slice(&(length - 20).to_be_bytes());
}

fn write_headers(out: &mut Vec<u8>, world: &World, ports: (u16, u16), payload: usize) {
    let start = out.len();
    out.extend(world.macs.concat());
    out.extend([0x08, 0x00]);
    out.extend([0x45, 0]);
    out.extend((payload as u16 + 28).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    out.extend(world.own.octets());
    out.extend(world.hub.address.octets());
    let sum = checksum(&out[start + 14..start + 34]);
    out[start + 24..start + 26].copy_from_slice(&sum.to_be_bytes());
    out.extend(ports.0.to_be_bytes());
    out.extend(ports.1.to_be_bytes());
    out.extend((payload as u16 + 8).to_be_bytes());
    out.extend([0, 0]);
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A socket that sends whole frames on an interface, past its queueing discipline.
fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name is a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "there is no interface {interface}");
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel just gave us this descriptor, nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let bypass: libc::c_int = 1;
    // SAFETY: the pointer is to a c_int that outlives the call, and the length says so.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const bypass).cast(),
            size_of_val(&bypass) as libc::socklen_t,
        )
    };
    ensure!(set == 0, "{}", io::Error::last_os_error());
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = 0;
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the pointer is to a socket address of the given length that outlives the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    ensure!(bound == 0, "{}", io::Error::last_os_error());
    Ok(socket)
}

/// Sends the frames in `bytes`, at most [`BATCH`]; how many the kernel took.
fn send_batch(socket: &OwnedFd, bytes: &[u8], frame_len: usize) -> Result<usize> {
    // SAFETY: all-zero is a valid mmsghdr.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut pieces = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; BATCH];
    let mut count = 0;
    for frame in bytes.chunks(frame_len) {
        pieces[count] = libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        };
        messages[count].msg_hdr.msg_iov = &raw mut pieces[count];
        messages[count].msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let mut sent = 0;
    let mut tries = 0;
    while sent < count && tries < 2 * BATCH {
        tries += 1;
        // SAFETY: `count` headers are initialised and point at buffers that outlive the call,
        // which only reads them.
        let result = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages[sent..].as_mut_ptr(),
                (count - sent) as libc::c_uint,
                0,
            )
        };
        if let Ok(result) = usize::try_from(result) {
            sent += result;
        } else {
            // The other end's queue is full: that frame is lost on the wire.
            let error = io::Error::last_os_error();
            ensure!(error.raw_os_error() == Some(libc::ENOBUFS), "{error}");
            messages.copy_within(sent + 1..count, sent);
            count -= 1;
        }
    }
    Ok(sent)
}
