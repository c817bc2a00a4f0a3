//! What goes to an AF_XDP socket: one whole transport message to an index of ours, after all
//! checks, and nothing else; and without a socket all is as if there were no such thing.
//!
//! Test runs pretend that a frame came in on the first queue of loopback, so a socket there,
//! in a namespace of its own, is the one that is redirected to.

use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

use aya::Ebpf;
use aya::maps::{HashMap, XskMap};
use libtest_mimic::Failed;
use taltun::dataplane::sys::xsk::{Queue, Xsk};
use taltun_common::maps::{MAX_XSK_QUEUES, Settings, XskSockets};

use crate::corpus;
use crate::frames::{
    IP, OUR_INDEX, PORT, UDP_V4, UDP_V6, V4, V6, handshake, message, udp, udp_to, unfinished,
};
use crate::programs::{
    PROGRAMS, XDP_DROP, XDP_PASS, loaded, map, run, settings, verdict, write_settings,
};
use crate::{NamedTest, Test};

const XDP_REDIRECT: u32 = 4;
const LOOPBACK: u32 = 1;
/// Not the first places, so that an interface's count.
const PLACES: XskSockets = XskSockets {
    first: 2 * MAX_XSK_QUEUES as u32,
    queues: 1,
    room: 1792,
};
/// Spoilt frames tried besides the corpus.
const SPOILT: usize = 4000;

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 5] = [
        ("redirect::transport_alone_goes_to_the_socket", || {
            with_socket(transport_alone)
        }),
        ("redirect::the_socket_sees_the_port_that_was_used", || {
            with_socket(sees_the_port_used)
        }),
        ("redirect::what_finds_no_socket_passes", || {
            with_socket(no_socket_passes)
        }),
        ("redirect::only_transport_and_only_after_the_checks", || {
            with_socket(only_transport)
        }),
        (
            "redirect::a_socket_that_is_closed_is_gone_from_the_map",
            || with_socket(closed_is_gone),
        ),
    ];
    tests
        .into_iter()
        .map(|(name, test)| -> Test { (name.into(), Box::new(test)) })
}

/// Programs that know of a socket, and the socket.
fn with_socket(test: fn(Ebpf, Xsk) -> Result<(), Failed>) -> Result<(), Failed> {
    let run = move || -> Result<(), Failed> {
        // SAFETY: only changes the network namespace of this thread, which is ours.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()?;
        if !up.success() {
            return Err("loopback doesn't come up".into());
        }
        let queue = Queue {
            interface: LOOPBACK,
            number: 0,
        };
        let xsk = Xsk::bind(queue, 1500, true)?;
        let mut ebpf = loaded()?;
        let mut interfaces: HashMap<_, u32, XskSockets> =
            map(&mut ebpf, "XSK_INTERFACES")?.try_into()?;
        interfaces.insert(LOOPBACK, PLACES, 0)?;
        let socket = xsk.handle().socket().ok_or("no socket")?;
        let mut sockets: XskMap<_> = map(&mut ebpf, "XSKS")?.try_into()?;
        sockets.set(PLACES.first, socket.as_raw_fd(), 0)?;
        drop(socket);
        test(ebpf, xsk)
    };
    thread::spawn(run).join().map_err(|_| "it panicked")?
}

fn expect(ebpf: &mut Ebpf, frame: &[u8], expected: [u32; 2], what: &str) -> Result<(), Failed> {
    for (program, expected) in PROGRAMS.into_iter().zip(expected) {
        let got = verdict(ebpf, program, frame)?;
        if got != expected {
            return Err(format!("{program}, {what}: {got}, not {expected}").into());
        }
    }
    Ok(())
}

fn transport_alone(mut ebpf: Ebpf, _xsk: Xsk) -> Result<(), Failed> {
    let redirect = [XDP_REDIRECT; 2];
    for ends in [V4, V6] {
        for length in [32, 96, 1452, 1472] {
            let frame = udp(ends, &message(4, length, OUR_INDEX));
            expect(&mut ebpf, &frame, redirect, "a transport message")?;
        }
        let mut padded = udp(ends, &message(4, 32, OUR_INDEX));
        padded.resize(padded.len() + 30, 0);
        expect(&mut ebpf, &padded, redirect, "one with padding")?;
        let merged = unfinished(ends, &message(4, 64, OUR_INDEX));
        expect(
            &mut ebpf,
            &merged,
            [XDP_REDIRECT, XDP_PASS],
            "perhaps merged",
        )?;
        let response = udp(ends, &handshake(2, OUR_INDEX));
        expect(&mut ebpf, &response, [XDP_PASS; 2], "a response")?;
        let cookie = udp(ends, &message(3, 64, OUR_INDEX));
        expect(&mut ebpf, &cookie, [XDP_PASS; 2], "a cookie")?;
        let strange = udp(ends, &message(4, 64, 0x0bad_0bad));
        expect(&mut ebpf, &strange, [XDP_DROP; 2], "to a strange index")?;
    }
    let initiation = udp(V4, &handshake(1, 0));
    expect(&mut ebpf, &initiation, [XDP_PASS; 2], "an initiation")
}

/// A range of ports in front of ours: its lane answers from the port that it sees.
fn sees_the_port_used(mut ebpf: Ebpf, _xsk: Xsk) -> Result<(), Failed> {
    let before = settings(&mut ebpf)?;
    write_settings(
        &mut ebpf,
        Settings {
            hop_first: 8192,
            hop_last: 9215,
            ..before
        },
    )?;
    for program in PROGRAMS {
        for ends in [V4, V6] {
            let data = message(4, 96, OUR_INDEX);
            for port in [8500, PORT] {
                let frame = udp_to(ends, port, &data);
                let got = run(&mut ebpf, program, &frame)?;
                assert_eq!(got, (XDP_REDIRECT, frame), "{program}, {port}");
            }
            // What the socket doesn't get is for the kernel, which knows our port alone.
            let response = handshake(2, OUR_INDEX);
            let got = run(&mut ebpf, program, &udp_to(ends, 8500, &response))?;
            assert_eq!(got, (XDP_PASS, udp_to(ends, PORT, &response)), "{program}");
            let large = message(4, 2000, OUR_INDEX);
            let got = run(&mut ebpf, program, &udp_to(ends, 8500, &large))?;
            assert_eq!(got, (XDP_PASS, udp_to(ends, PORT, &large)), "{program}");
            // And what isn't for us stays as it is.
            let foreign = udp_to(ends, 8500, &message(4, 96, 0x0bad_0bad));
            let got = run(&mut ebpf, program, &foreign)?;
            assert_eq!(got, (XDP_PASS, foreign), "{program}");
        }
    }
    Ok(())
}

fn no_socket_passes(mut ebpf: Ebpf, _xsk: Xsk) -> Result<(), Failed> {
    let frame = udp(V4, &message(4, 1472, OUR_INDEX));
    // One byte too few, another place, no queues.
    let room = frame.len() as u32 - 1;
    for (what, places) in [
        ("a frame that is too large", XskSockets { room, ..PLACES }),
        ("no socket at its place", XskSockets { first: 0, ..PLACES }),
        (
            "places beyond the map",
            XskSockets {
                first: u32::MAX,
                ..PLACES
            },
        ),
        (
            "a queue too many",
            XskSockets {
                queues: 0,
                ..PLACES
            },
        ),
    ] {
        let mut interfaces: HashMap<_, u32, XskSockets> =
            map(&mut ebpf, "XSK_INTERFACES")?.try_into()?;
        interfaces.insert(LOOPBACK, places, 0)?;
        expect(&mut ebpf, &frame, [XDP_PASS; 2], what)?;
    }
    Ok(())
}

fn closed_is_gone(mut ebpf: Ebpf, xsk: Xsk) -> Result<(), Failed> {
    let frame = udp(V4, &message(4, 64, OUR_INDEX));
    expect(&mut ebpf, &frame, [XDP_REDIRECT; 2], "while it is open")?;
    drop(xsk);
    expect(&mut ebpf, &frame, [XDP_PASS; 2], "once it is closed")
}

/// Every frame of the corpus, and many spoilt ones, with the socket and without.
fn only_transport(mut ebpf: Ebpf, _xsk: Xsk) -> Result<(), Failed> {
    let mut without = loaded()?;
    let mut frames = corpus::frames();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % end
    };
    let good = [V4, V6].map(|ends| udp(ends, &message(4, 80, OUR_INDEX)));
    for round in 0..SPOILT {
        let mut frame = good[round % 2].clone();
        for _ in 0..=random(2) {
            let at = random(frame.len());
            frame[at] = random(256) as u8;
        }
        if random(8) == 0 {
            frame.truncate(random(frame.len()).max(14));
        }
        frames.push(frame);
    }
    let mut redirected = 0;
    for frame in frames {
        for program in PROGRAMS {
            // Initiations take tokens, of which both must have as many.
            let plain = verdict(&mut without, program, &frame)?;
            let with = verdict(&mut ebpf, program, &frame)?;
            // What is larger than a socket's frames goes the ordinary way.
            let fits = frame.len() <= PLACES.room as usize;
            let expected = if plain == XDP_PASS && fits && is_transport(&frame) {
                // Perhaps merged, in generic mode.
                let passes = program == PROGRAMS[1] && with == XDP_PASS;
                if passes { XDP_PASS } else { XDP_REDIRECT }
            } else {
                plain
            };
            if with != expected {
                return Err(format!("{program}: {with}, not {expected}: {frame:02x?}").into());
            }
            redirected += usize::from(with == XDP_REDIRECT);
        }
    }
    if redirected < SPOILT / 4 {
        return Err(format!("only {redirected} redirected").into());
    }
    Ok(())
}

/// Whether a frame that passed holds one transport message to our index and port.
fn is_transport(frame: &[u8]) -> bool {
    let (udp, address) = match frame.get(12..14) {
        Some([0x08, 0x00]) => (UDP_V4, IP + 16..IP + 20),
        Some([0x86, 0xdd]) => (UDP_V6, IP + 24..IP + 40),
        _ => return false,
    };
    if frame.len() < udp + 16 {
        return false;
    }
    let ours = [V4.destination, V6.destination].iter().any(|ours| {
        let octets = match ours {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        frame.get(address.clone()) == Some(&octets[..])
    });
    let index = OUR_INDEX.to_le_bytes();
    let plain = match udp {
        UDP_V4 => {
            frame[IP] == 0x45 && frame.get(IP + 9) == Some(&17) && {
                let fragment = [frame[IP + 6], frame[IP + 7]];
                u16::from_be_bytes(fragment).trailing_zeros() >= 14
            }
        }
        _ => frame[IP] >> 4 == 6 && frame.get(IP + 6) == Some(&17),
    };
    let length = frame
        .get(udp + 4..udp + 6)
        .map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    let ip_length = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    ours && plain
        && frame.get(udp + 2..udp + 4) == Some(&PORT.to_be_bytes()[..])
        && frame.get(udp + 8..udp + 12) == Some(&[4, 0, 0, 0][..])
        && frame.get(udp + 12..udp + 16) == Some(&index[..])
        && length.is_some_and(|length| {
            let of_ip = match udp {
                UDP_V4 => ip_length(IP + 2).wrapping_sub(20),
                _ => ip_length(IP + 4),
            };
            length >= 40 && udp + length <= frame.len() && of_ip == length
        })
}
