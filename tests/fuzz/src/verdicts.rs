//! The verdicts of the XDP programs on any frame, run by the kernel (`BPF_PROG_TEST_RUN`), against user
//! space, which reads the same datagram with its own lists, parser and checks of MACs:
//!
//! * what isn't a plain datagram to a port of ours passes untouched;
//! * of what is, driver mode drops exactly what user space would drop without a key of a session: a denied
//!   source, no message, an index that isn't ours, a wrong mac1. All others pass, a right initiation, too;
//! * generic mode says the same, but of what may be several datagrams in one: see `of_several`;
//! * to a port of the range nothing is dropped, and what user space would drop isn't turned to our port.
//!
//! The programs need root and a kernel that lets it use `bpf()`.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::util::nr_cpus;
use ipnet::IpNet;
use taltun::dataplane::filter::Filter;
use taltun::layer::Layer;
use taltun_common::address::{Address, pseudo_header_sum};
use taltun_common::blake2s::{State, keyed};
use taltun_common::budget::Budget;
use taltun_common::maps::{Settings, family};
use taltun_crypto::{PresharedKey, PrivateKey};
use taltun_protocol::cookie::Checker;
use taltun_protocol::device::{self, Device, Event, PeerSettings};
use taltun_protocol::messages::Message;
use taltun_protocol::randomness::Randomness;
use taltun_protocol::time::Time;

const DROP: u32 = 1;
const PASS: u32 = 2;
const PROGRAMS: [&str; 2] = ["taltun_xdp", "taltun_xdp_skb"];
/// The port under guard, the range of ports that lead to it, and one that isn't ours.
const PORT: u16 = 9000;
const HOP_PORTS: RangeInclusive<u16> = 9100..=9110;
const OTHER_PORT: u16 = 9001;
const OURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
const DENIED: [&str; 2] = ["203.0.113.0/24", "2001:db8:dead::/48"];
/// Initiations merged into one packet that generic mode looks at.
const MERGED_MOST: usize = 4;

/// Why no program can be run here, if so. One that the verifier refuses is no reason: that is a
/// failure.
pub fn obstacle() -> Option<String> {
    // SAFETY: geteuid has no arguments and can't fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root".into());
    }
    let error = Ebpf::load(taltun::accel::OBJECT).err()?;
    let mut next: Option<&dyn Error> = Some(&error);
    while let Some(error) = next {
        let os_error = error.downcast_ref().and_then(io::Error::raw_os_error);
        if matches!(os_error, Some(libc::EPERM | libc::ENOSYS)) {
            return Some(format!("this kernel doesn't let root use bpf(): {error}"));
        }
        next = error.source();
    }
    None
}

pub(crate) fn run(input: &[u8]) {
    static BOTH: Mutex<Option<(UserSpace, Ebpf)>> = Mutex::new(None);
    let mut both = BOTH.lock().unwrap_or_else(PoisonError::into_inner);
    let (user_space, ebpf) = both.get_or_insert_with(|| {
        let user_space = UserSpace::new();
        let ebpf = loaded_programs(&user_space).expect("the programs can be loaded");
        (user_space, ebpf)
    });
    check(user_space, ebpf, input);
    check(user_space, ebpf, &framed(user_space, input));
}

/// What of user space a datagram meets first: the lists, and a device with a session, another
/// handshake that isn't answered yet, and the key that mac1 is made with.
struct UserSpace {
    filter: Filter,
    device: Device,
    now: Time,
    mac1_key: [u8; 32],
    /// The index of the session, and that of the handshake.
    indices: Vec<u32>,
}

impl UserSpace {
    fn new() -> Self {
        let filter = Filter::default();
        filter.set(&DENIED.map(|net| net.parse::<IpNet>().unwrap()), &[]);
        let [mut ours, mut theirs] = [0, 1].map(device_of);
        let (mut indices, mut session, mut now) = (Vec::new(), None, Time::START);
        for is_answered in [true, false] {
            ours.initiate(&key(1).public_key(), now);
            while let Some(event) = ours.poll_event() {
                match event {
                    Event::IndexBorn(index) => indices.push(index),
                    Event::SessionBegun { local, .. } => session = Some(local),
                    _ => {}
                }
            }
            while is_answered && let Some(sent) = ours.poll_transmit() {
                let from = SocketAddr::from(([192, 0, 2, 1], PORT)).into();
                let _ = theirs.handle_handshake(&sent.payload, from, false, now);
                while let Some(answer) = theirs.poll_transmit() {
                    let _ = ours.handle_handshake(&answer.payload, peer().into(), false, now);
                }
            }
            now = now + Duration::from_secs(10);
        }
        assert_eq!(indices.len(), 2, "a session and a handshake");
        assert_eq!(session, Some(indices[0]));
        let checker = Checker::new(&key(0).public_key());
        Self {
            filter,
            device: ours,
            now,
            mac1_key: *checker.mac1_key(),
            indices,
        }
    }

    fn denies(&self, source: IpAddr) -> bool {
        self.filter.read().denies(Layer::Outer, source)
    }

    /// Whether it drops a message for what anybody may see of it.
    fn drops(&self, message: &[u8], source: SocketAddr) -> bool {
        let mut batch = self.device.tunnel().batch(self.now);
        match Message::parse(message) {
            Err(_) => true,
            // An index is given out before there is a session, and the programs have it from then on;
            // what comes too early falls behind them.
            Ok(Message::Data { receiver, .. }) if self.indices.contains(&receiver) => false,
            Ok(Message::Data { receiver, counter }) => {
                let opened = batch.open(receiver, counter, &mut message.to_vec(), source.into());
                assert_eq!(opened, Err(taltun_common::drops::DropReason::UnknownIndex));
                true
            }
            Ok(parsed) => batch.vet(&parsed, message, source).is_err(),
        }
    }
}

fn key(who: u8) -> PrivateKey {
    PrivateKey::from_bytes([who + 1; 32])
}

/// Where the peer is.
fn peer() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 40_000))
}

/// We, or the peer.
fn device_of(who: u8) -> Device {
    let mut device = Device::new(device::Settings {
        private_key: key(who),
        randomness: Randomness::seeded([who; 32]),
        wall_clock_at_zero: Duration::from_secs(1_700_000_000),
        mtu: 1420,
        local_addresses: Vec::new(),
        relay: false,
    });
    let other = PeerSettings {
        public_key: key(1 - who).public_key(),
        preshared_key: PresharedKey([0; 32]),
        endpoint: Some(peer().into()),
        allowed_ips: Vec::new(),
        persistent_keepalive: None,
    };
    device
        .add_peer(other, Time::START)
        .expect("it is the only one");
    device
}

/// A frame around a message, with headers that are mostly right.
fn framed(user_space: &UserSpace, input: &[u8]) -> Vec<u8> {
    let Some((kind, message)) = input.split_first() else {
        return Vec::new();
    };
    let has = |bit: u32| kind >> bit & 1 != 0;
    let mut message = message.to_vec();
    // The right index, and the right mac1, can't be guessed.
    if has(2)
        && let Some(at) = index_at(&message)
        && message.len() >= at + 4
    {
        let index = user_space.indices[message.len() % 2];
        message[at..at + 4].copy_from_slice(&index.to_le_bytes());
    }
    if has(3) {
        // In each of those that are merged.
        let (at, length) = mac1_at(&message).unwrap_or((0, usize::MAX));
        let whole = message.chunks_mut(length).filter(|one| one.len() == length);
        for one in whole {
            let (covered, rest) = one.split_at_mut(at);
            let mac = taltun_crypto::mac(&user_space.mac1_key, &[covered]);
            rest[..16].copy_from_slice(&mac);
        }
    }
    let port = match (has(1), has(6)) {
        (false, false) => PORT,
        (true, false) => OTHER_PORT,
        (false, true) => *HOP_PORTS.start(),
        (true, true) => *HOP_PORTS.end(),
    };
    let mut frame = vec![2; 12];
    let length = (message.len() + 8) as u16;
    let (source, destination): (IpAddr, IpAddr) = match (has(0), has(5)) {
        (false, false) => (peer().ip(), OURS[0]),
        (false, true) => ([203, 0, 113, 9].into(), OURS[0]),
        (true, false) => ("2001:db8:7::7".parse().unwrap(), OURS[1]),
        (true, true) => ("2001:db8:dead::7".parse().unwrap(), OURS[1]),
    };
    if let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) {
        frame.extend([0x08, 0, 0x45, 0]);
        frame.extend(length.wrapping_add(20).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([17, 64]);
        frame.extend(as_key(source));
        frame.extend(as_key(destination));
    }
    let udp_length = length.wrapping_add(u16::from(has(7)));
    let unfinished = pseudo_header_sum(&as_key(source), &as_key(destination), udp_length);
    frame.extend(peer().port().to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    frame.extend(if has(4) { unfinished } else { 0x1234 }.to_be_bytes());
    frame.extend(message);
    frame
}

/// Where a message has the index of its receiver.
fn index_at(message: &[u8]) -> Option<usize> {
    match message.first()? {
        2 => Some(8),
        3 | 4 => Some(4),
        _ => None,
    }
}

/// Where a handshake message has its mac1, and how long it is.
fn mac1_at(message: &[u8]) -> Option<(usize, usize)> {
    match message.first()? {
        1 => Some((116, 148)),
        2 => Some((60, 92)),
        _ => None,
    }
}

/// A plain datagram to one of our addresses.
struct Datagram<'f> {
    source: SocketAddr,
    port: u16,
    /// `None` where IP, UDP and the frame contradict each other.
    message: Option<&'f [u8]>,
    /// Whether its checksum is that of the pseudo header alone, as of what the kernel has merged.
    is_unfinished: bool,
}

/// The datagram in a frame, by RFC 791, 8200 and 768.
fn datagram(frame: &[u8]) -> Option<Datagram<'_>> {
    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let (udp, ip_payload, source, destination) = match word(12)? {
        0x0800 => {
            let header: &[u8; 20] = frame.get(14..34)?.try_into().ok()?;
            let is_plain = header[0] == 0x45 && header[9] == 17 && word(20)? % 0x4000 == 0;
            is_plain.then_some(())?;
            let address = |at: usize| IpAddr::from(*header[at..].first_chunk::<4>().unwrap());
            (34, word(16)?.checked_sub(20)?, address(12), address(16))
        }
        0x86dd => {
            let header: &[u8; 40] = frame.get(14..54)?.try_into().ok()?;
            (header[0] >> 4 == 6 && header[6] == 17).then_some(())?;
            let address = |at: usize| {
                let address = IpAddr::from(*header[at..].first_chunk::<16>().unwrap());
                address.to_canonical()
            };
            (54, word(18)?, address(8), address(24))
        }
        _ => return None,
    };
    let payload = frame.get(udp + 8..)?;
    OURS.contains(&destination).then_some(())?;
    let udp_length = word(udp + 4)?;
    let length = usize::from(udp_length).checked_sub(8);
    let sum = pseudo_header_sum(&as_key(source), &as_key(destination), udp_length);
    Some(Datagram {
        source: SocketAddr::new(source, word(udp)?),
        port: word(udp + 2)?,
        message: length
            .filter(|_| udp_length == ip_payload)
            .and_then(|length| payload.get(..length)),
        is_unfinished: word(udp + 6)? == sum,
    })
}

/// What generic mode says of a datagram that may be several in one, where that isn't what driver mode
/// says of the whole: nothing tells it where the first one ends, and no good message may fall with a bad one.
/// `None` where it can be but one message.
fn of_several(user_space: &UserSpace, message: &[u8], source: SocketAddr) -> Option<u32> {
    match message {
        // Another session's may come behind it.
        [4, 0, 0, 0, ..] if message.len() >= 64 => Some(PASS),
        [kind @ 1..=3, 0, 0, 0, ..] => {
            let length = [148, 92, 64][usize::from(*kind) - 1];
            // The shortest message is data without a packet.
            let has_second = message.len() >= length + 32
                && matches!(message[length..length + 4], [1..=4, 0, 0, 0]);
            has_second.then_some(())?;
            let is_row = *kind == 1 && message.len().is_multiple_of(length);
            let mut looked_at = message.chunks(length).take(MERGED_MOST);
            let is_bad = is_row && looked_at.all(|one| !has_right_mac1(user_space, one, source));
            Some(if is_bad { DROP } else { PASS })
        }
        _ => None,
    }
}

/// Whether an initiation's mac1 is right, whatever its first four bytes say.
fn has_right_mac1(user_space: &UserSpace, initiation: &[u8], source: SocketAddr) -> bool {
    let checker = Checker::new(user_space.device.public_key());
    checker.check(initiation, source, user_space.now) != taltun_protocol::cookie::Proof::None
}

fn check(user_space: &UserSpace, ebpf: &mut Ebpf, frame: &[u8]) {
    // The kernel runs no test with less than an Ethernet header, or more than a page.
    if !(14..=3000).contains(&frame.len()) {
        return;
    }
    let found = PROGRAMS.map(|program| {
        // After many wrong MACs of late none is looked at, and all initiations fall.
        fill_budgets(ebpf).expect("the budgets can be written");
        verdict(ebpf, program, frame)
    });
    let to_us = datagram(frame).filter(|it| it.port == PORT || HOP_PORTS.contains(&it.port));
    let Some(datagram) = to_us else {
        for (verdict, after) in &found {
            assert_eq!(*verdict, PASS, "of {frame:02x?}");
            // The first fragment of a datagram to a port of the range is turned with the others.
            assert!(after == frame || is_turned(frame, after), "{after:02x?}");
        }
        return;
    };
    let is_denied = user_space.denies(datagram.source.ip());
    // Lengths that contradict each other are the kernel's affair.
    let driver = match datagram.message {
        _ if is_denied => DROP,
        Some(message) if user_space.drops(message, datagram.source) => DROP,
        _ => PASS,
    };
    let several = datagram
        .message
        .filter(|_| datagram.is_unfinished && !is_denied)
        .and_then(|message| of_several(user_space, message, datagram.source));
    let expected = [driver, several.unwrap_or(driver)];
    for ((verdict, after), expected) in found.into_iter().zip(expected) {
        if datagram.port == PORT {
            assert_eq!(verdict, expected, "of {frame:02x?}");
            assert_eq!(after, frame, "the frame was changed");
            continue;
        }
        // What isn't surely ours belongs to whoever has that port.
        assert_eq!(verdict, PASS, "of {frame:02x?}");
        let may_turn = expected == PASS && is_turned(frame, &after);
        assert!(after == frame || may_turn, "{frame:02x?} to {after:02x?}");
        // A session's index is proof enough.
        let is_data = datagram
            .message
            .is_some_and(|message| message.first() == Some(&4));
        if is_data && driver == PASS {
            assert_ne!(after, frame, "data to a port of the range isn't turned");
        }
    }
}

/// Whether a frame is another one whose port of the range is turned to ours.
fn is_turned(before: &[u8], after: &[u8]) -> bool {
    let udp = match before[12..] {
        [0x08, 0, ..] => 34,
        // Behind the header of a fragment, if it is one.
        [0x86, 0xdd, _, _, _, _, _, _, 44, ..] => 62,
        _ => 54,
    };
    let places = (udp + 2, udp + 6);
    let mut range = HOP_PORTS;
    range.any(|port| is_port_changed(before, after, places, port, PORT))
}

/// Whether the port at the first place of a frame went from one to the other, and with it the checksum at
/// the second, which says as much as before (RFC 1624); none stays none. Nothing else is changed.
pub(crate) fn is_port_changed(
    before: &[u8],
    after: &[u8],
    (port, checksum): (usize, usize),
    from: u16,
    to: u16,
) -> bool {
    let end = port.max(checksum) + 2;
    if before.len() < end || after.len() < end {
        return false;
    }
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (old, new) = (word(before, checksum), word(after, checksum));
    let sum = |port: u16, checksum: u16| (u32::from(port) + u32::from(checksum)) % 0xffff;
    let is_as_right = match old {
        0 => new == 0,
        _ => sum(from, old) == sum(to, new),
    };
    let mut expected = before.to_vec();
    expected[port..port + 2].copy_from_slice(&to.to_be_bytes());
    expected[checksum..checksum + 2].copy_from_slice(&new.to_be_bytes());
    word(before, port) == from && is_as_right && expected == after
}

/// What a program says of a frame, and the frame after it.
fn verdict(ebpf: &mut Ebpf, program: &str, frame: &[u8]) -> (u32, Vec<u8>) {
    let program: &mut Xdp = ebpf.program_mut(program).unwrap().try_into().unwrap();
    let mut after = vec![0; frame.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut after),
        ..TestRunOptions::default()
    });
    let verdict = result.expect("the kernel runs it").return_value;
    assert!(matches!(verdict, DROP | PASS), "verdict {verdict}");
    (verdict, after)
}

/// As if no MAC had been wrong.
fn fill_budgets(ebpf: &mut Ebpf) -> Result<(), Box<dyn Error>> {
    let cpus = nr_cpus().map_err(|(_, error)| error)?;
    let mut map: PerCpuArray<_, u64> = ebpf.map_mut("BUDGET").ok_or("no map")?.try_into()?;
    let full = PerCpuValues::try_from(vec![0; cpus])?;
    Ok(map.set(Budget::Mac1 as u32, full, 0)?)
}

/// The programs, told what user space tells them.
fn loaded_programs(user_space: &UserSpace) -> Result<Ebpf, Box<dyn Error>> {
    let mut ebpf = Ebpf::load(taltun::accel::OBJECT)?;
    for program in PROGRAMS {
        let program: &mut Xdp = ebpf.program_mut(program).ok_or("no program")?.try_into()?;
        program.load()?;
    }
    let settings = Settings {
        listen_port: PORT,
        hop_first: *HOP_PORTS.start(),
        hop_last: *HOP_PORTS.end(),
        check_indices: 1,
        check_mac1: 1,
        ..Settings::default()
    };
    let mut map: Array<_, Settings> = ebpf.map_mut("SETTINGS").ok_or("no map")?.try_into()?;
    map.set(0, settings, 0)?;
    let mut map: Array<_, State> = ebpf.map_mut("MAC1").ok_or("no map")?.try_into()?;
    map.set(0, keyed(&user_space.mac1_key), 0)?;
    let mut map: HashMap<_, u32, u8> = ebpf.map_mut("INDICES").ok_or("no map")?.try_into()?;
    for index in &user_space.indices {
        map.insert(index, 1, 0)?;
    }
    let mut map: HashMap<_, Address, u8> = ebpf
        .map_mut("LOCAL_ADDRESSES")
        .ok_or("no map")?
        .try_into()?;
    for address in OURS {
        map.insert(as_key(address), 1, 0)?;
    }
    let mut map: LpmTrie<_, Address, u8> = ebpf.map_mut("DENIED").ok_or("no map")?.try_into()?;
    for net in DENIED {
        let net: IpNet = net.parse()?;
        let (bits, family) = match net {
            IpNet::V4(_) => (96, family::V4),
            IpNet::V6(_) => (0, family::V6),
        };
        let bits = bits + u32::from(net.prefix_len());
        map.insert(&Key::new(bits, as_key(net.addr())), family, 0)?;
    }
    Ok(ebpf)
}

pub(crate) fn as_key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
