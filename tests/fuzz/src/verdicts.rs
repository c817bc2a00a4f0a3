//! The verdicts of the XDP programs on any frame, run by the kernel (`BPF_PROG_TEST_RUN`), against the
//! policy written once more for user space: what isn't a plain datagram to our port passes; what is
//! falls exactly if its source is denied or it isn't a message that one of our peers may send. And
//! generic mode, which may be shown several datagrams in one, drops nothing that driver mode passes.
//!
//! The programs need root and a kernel that lets it use `bpf()`.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use taltun_common::address::Address;
use taltun_common::blake2s::{State, keyed};
use taltun_common::maps::{Settings, family};

const DROP: u32 = 1;
const PASS: u32 = 2;
const PROGRAMS: [&str; 2] = ["taltun_xdp", "taltun_xdp_skb"];
/// The port under guard, an index that was given out, and the key of mac1.
const PORT: u16 = 9000;
const INDEX: u32 = 0x1234_5678;
const MAC1_KEY: [u8; 32] = [0x5a; 32];
const OURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
const DENIED_V4: [u8; 3] = [203, 0, 113];

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
    static PROGRAMS_LOADED: Mutex<Option<Ebpf>> = Mutex::new(None);
    let mut loaded = PROGRAMS_LOADED
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let ebpf = loaded.get_or_insert_with(|| loaded_programs().expect("the programs can be loaded"));
    check(ebpf, input);
    check(ebpf, &framed(input));
}

/// A frame around a message, with headers that are mostly right.
fn framed(input: &[u8]) -> Vec<u8> {
    let Some((kind, message)) = input.split_first() else {
        return Vec::new();
    };
    let mut message = message.to_vec();
    // The right index, and the right mac1, can't be guessed.
    if kind & 4 != 0
        && let Some(at) = index_at(&message)
        && let Some(place) = message.get_mut(at..at + 4)
    {
        place.copy_from_slice(&INDEX.to_le_bytes());
    }
    if kind & 8 != 0
        && let Some(at) = mac1_at(&message)
    {
        let mac = taltun_crypto::mac(&MAC1_KEY, &[&message[..at]]);
        message[at..at + 16].copy_from_slice(&mac);
    }
    let mut frame = vec![2; 12];
    let length = (message.len() + 8) as u16;
    if kind & 1 == 0 {
        frame.extend([0x08, 0, 0x45, 0]);
        frame.extend(length.wrapping_add(20).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend(if kind & 32 == 0 {
            [198, 51, 100, 7]
        } else {
            [203, 0, 113, 9]
        });
        frame.extend([192, 0, 2, 1]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([17, 64]);
        frame.extend([0x20, 1, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend((if kind & 2 == 0 { PORT } else { 9001 }).to_be_bytes());
    frame.extend(length.wrapping_add(u16::from(kind >> 7)).to_be_bytes());
    frame.extend([0x12, 0x34]);
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

/// Where a handshake message of the right length has its mac1.
fn mac1_at(message: &[u8]) -> Option<usize> {
    match (message.first()?, message.len()) {
        (1, 148) => Some(116),
        (2, 92) => Some(60),
        _ => None,
    }
}

/// What becomes of a frame, by the policy; `None` where it depends on what came before.
fn expected(frame: &[u8]) -> Option<u32> {
    let Some((source, length, message)) = to_us(frame) else {
        return Some(PASS);
    };
    let is_denied = match source {
        IpAddr::V4(v4) => v4.octets()[..3] == DENIED_V4,
        IpAddr::V6(_) => false,
    };
    if is_denied {
        return Some(DROP);
    }
    // Lengths that contradict each other are the kernel's affair.
    let Some(message) = length.and_then(|length| message.get(..length)) else {
        return Some(PASS);
    };
    let word = |at: usize| message.get(at..at + 4);
    let fits = match message {
        [1, 0, 0, 0, ..] => message.len() == 148,
        [2, 0, 0, 0, ..] => message.len() == 92,
        [3, 0, 0, 0, ..] => message.len() == 64,
        [4, 0, 0, 0, ..] => message.len() >= 32,
        _ => false,
    };
    if !fits {
        return Some(DROP);
    }
    if index_at(message).is_some_and(|at| word(at) != Some(&INDEX.to_le_bytes())) {
        return Some(DROP);
    }
    let Some(at) = mac1_at(message) else {
        return Some(PASS);
    };
    let mac = taltun_crypto::mac(&MAC1_KEY, &[&message[..at]]);
    match (message[at..at + 16] == mac, message[0]) {
        (false, _) => Some(DROP),
        (true, 2) => Some(PASS),
        // After many wrong ones of late, none is looked at.
        (true, _) => None,
    }
}

/// The source of a plain datagram to our port and one of our addresses, the length of its message, if
/// IP and UDP agree on one, and what is behind UDP's header.
fn to_us(frame: &[u8]) -> Option<(IpAddr, Option<usize>, &[u8])> {
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
                let address = Ipv6Addr::from(*header[at..].first_chunk::<16>().unwrap());
                address
                    .to_ipv4_mapped()
                    .map_or(IpAddr::from(address), IpAddr::from)
            };
            (54, word(18)?, address(8), address(24))
        }
        _ => return None,
    };
    let message = frame.get(udp + 8..)?;
    let is_ours = word(udp + 2)? == PORT && OURS.contains(&destination);
    is_ours.then_some(())?;
    let agreed = (word(udp + 4)? == ip_payload).then_some(ip_payload);
    let length = agreed.and_then(|length| usize::from(length).checked_sub(8));
    Some((source, length, message))
}

fn check(ebpf: &mut Ebpf, frame: &[u8]) {
    // The kernel runs no test with less than an Ethernet header, or more than a page.
    if !(14..=3000).contains(&frame.len()) {
        return;
    }
    let [driver, generic] = PROGRAMS.map(|program| verdict(ebpf, program, frame));
    if let Some(expected) = expected(frame) {
        assert_eq!(driver, expected, "of {frame:02x?}");
    }
    assert!(
        generic == PASS || driver == DROP,
        "only generic mode drops {frame:02x?}"
    );
}

/// What a program says of a frame, which it leaves as it is.
fn verdict(ebpf: &mut Ebpf, program: &str, frame: &[u8]) -> u32 {
    let program: &mut Xdp = ebpf.program_mut(program).unwrap().try_into().unwrap();
    let mut after = vec![0; frame.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut after),
        ..TestRunOptions::default()
    });
    let verdict = result.expect("the kernel runs it").return_value;
    assert_eq!(after, frame, "the frame was changed");
    assert!(matches!(verdict, DROP | PASS), "verdict {verdict}");
    verdict
}

/// The programs, told what [`expected`] goes by.
fn loaded_programs() -> Result<Ebpf, Box<dyn Error>> {
    let mut ebpf = Ebpf::load(taltun::accel::OBJECT)?;
    for program in PROGRAMS {
        let program: &mut Xdp = ebpf.program_mut(program).ok_or("no program")?.try_into()?;
        program.load()?;
    }
    let settings = Settings {
        listen_port: PORT,
        check_indices: 1,
        check_mac1: 1,
        ..Settings::default()
    };
    let mut map: Array<_, Settings> = ebpf.map_mut("SETTINGS").ok_or("no map")?.try_into()?;
    map.set(0, settings, 0)?;
    let mut map: Array<_, State> = ebpf.map_mut("MAC1").ok_or("no map")?.try_into()?;
    map.set(0, keyed(&MAC1_KEY), 0)?;
    let mut map: HashMap<_, u32, u8> = ebpf.map_mut("INDICES").ok_or("no map")?.try_into()?;
    map.insert(INDEX, 1, 0)?;
    let mut map: HashMap<_, Address, u8> = ebpf
        .map_mut("LOCAL_ADDRESSES")
        .ok_or("no map")?
        .try_into()?;
    for address in OURS {
        map.insert(as_key(address), 1, 0)?;
    }
    let mut map: LpmTrie<_, Address, u8> = ebpf.map_mut("DENIED").ok_or("no map")?.try_into()?;
    let denied = Ipv4Addr::new(DENIED_V4[0], DENIED_V4[1], DENIED_V4[2], 0);
    map.insert(&Key::new(96 + 24, as_key(denied.into())), family::V4, 0)?;
    Ok(ebpf)
}

fn as_key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
