//! Ten minutes of TCP to the hub and through the relay, across several rekeys; and ten
//! gigabytes over a bad wire. Only run when asked for by name: `cargo xtask test --only soak`.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::{Options, Role};
use taltun_tests::traffic::stream::Stream;

use crate::bad_wire;
use crate::support::{Case, ensure_answers, lab, take_down};

/// How a filter begins that brings these tests in.
pub const FILTER: &str = "soak";

const DURATION: Duration = Duration::from_mins(10);
/// Sessions are renewed every 120 s, so ten minutes see the first and at least four more.
const HANDSHAKES: u64 = 5;

pub const CASES: &[Case] = &[
    Case {
        name: "soak: ten minutes of TCP break no connection across rekeys",
        programs: &[],
        run: soak,
    },
    Case {
        name: "soak: 10 GB of TCP over a bad wire arrive right, across rekeys and changes of MTU",
        programs: &[],
        run: bad_wire::ten_gigabytes,
    },
];

fn soak() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let streams = [
        Stream::start(&lab.net.a, &lab.net.hub, SocketAddr::new(Role::Hub.v4(), 0))?,
        Stream::start(&lab.net.a, &lab.net.b, SocketAddr::new(Role::B.v6(), 0))?,
    ];
    let start = Instant::now();
    let mut seen = [0; 2];
    while start.elapsed() < DURATION {
        sleep(Duration::from_secs(5));
        for (stream, seen) in streams.iter().zip(&mut seen) {
            let received = stream.received();
            ensure!(
                received > *seen,
                "nothing arrived for 5 s after {} s",
                start.elapsed().as_secs()
            );
            *seen = received;
        }
    }
    for stream in streams {
        stream.finish().context("a connection broke")?;
    }
    for peer in lab.hub.status()?.peers {
        ensure!(
            peer.handshakes >= HANDSHAKES,
            "{:?} made {} handshakes in ten minutes",
            peer.name,
            peer.handshakes
        );
    }
    take_down(lab)
}
