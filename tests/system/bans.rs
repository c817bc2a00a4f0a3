//! Bans: an address falls silent, the others don't notice, and it comes back.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::lab::{Options, Role};
use taltun_tests::node::XdpMode;
use taltun_tests::topology::{WIRE_A, WIRE_B};

use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, ensure_silent, lab, take_down,
};

pub const CASES: &[Case] = &[
    Case {
        name: "a banned address falls silent and returns, xdp auto",
        programs: &[],
        run: || outer(XdpMode::Auto, false),
    },
    Case {
        name: "a banned address falls silent and returns, xdp driver",
        programs: &[],
        run: || outer(XdpMode::Driver, false),
    },
    Case {
        name: "a banned address falls silent and returns, xdp generic",
        programs: &[],
        run: || outer(XdpMode::Generic, false),
    },
    Case {
        name: "a banned address falls silent and returns, xdp off",
        programs: &[],
        run: || outer(XdpMode::Off, false),
    },
    Case {
        name: "a banned IPv6 address falls silent and returns, xdp auto",
        programs: &[],
        run: || outer(XdpMode::Auto, true),
    },
    Case {
        name: "a banned IPv6 address falls silent and returns, xdp off",
        programs: &[],
        run: || outer(XdpMode::Off, true),
    },
    Case {
        name: "a ban of a network covers its addresses",
        programs: &[],
        run: network,
    },
    Case {
        name: "a ban with a time ends by itself",
        programs: &[],
        run: for_a_while,
    },
    Case {
        name: "an inner ban silences an address inside the tunnel",
        programs: &[],
        run: inner,
    },
    Case {
        name: "a ban of what is no address is refused",
        programs: &[],
        run: nonsense,
    },
];

fn outer(xdp: XdpMode, outer_v6: bool) -> Result<()> {
    let lab = lab(Options {
        xdp,
        outer_v6,
        ..Options::default()
    })?;
    let banned: IpAddr = if outer_v6 {
        WIRE_A.far_v6()
    } else {
        WIRE_A.far_v4()
    };
    let banned = banned.to_string();
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;

    lab.hub.tell(&["ban", &banned])?;
    ensure_silent(&lab.net.a, Role::Hub.v4())?;
    ensure_silent(&lab.net.a, Role::B.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    let stats = lab.hub.stats()?;
    ensure!(
        stats.denied.iter().any(|net| net.starts_with(&banned)),
        "{banned} isn't among the denied {:?}",
        stats.denied
    );
    ensure!(
        stats.dropped("denied") >= 10,
        "{} of 10 pings were counted",
        stats.dropped("denied")
    );

    lab.hub.tell(&["unban", &banned])?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let stats = lab.hub.stats()?;
    ensure!(stats.denied.is_empty(), "still denied: {:?}", stats.denied);
    take_down(lab)
}

fn network() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    lab.hub.tell(&["ban", "10.99.2.0/24"])?;
    ensure_silent(&lab.net.b, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    lab.hub.tell(&["unban", "10.99.2.0/24"])?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    take_down(lab)
}

fn for_a_while() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    let banned = WIRE_B.far_v4().to_string();
    // Long enough for the silence to be seen, which takes a second and a half.
    lab.hub.tell(&["ban", &banned, "--for", "4s"])?;
    ensure_silent(&lab.net.b, Role::Hub.v4())?;
    ensure_answers_within(&lab.net.b, Role::Hub.v4(), UP_LIMIT)?;
    let stats = lab.hub.stats()?;
    ensure!(stats.denied.is_empty(), "still denied: {:?}", stats.denied);
    take_down(lab)
}

fn inner() -> Result<()> {
    let lab = lab(Options::default())?;
    let banned = Role::A.v4().to_string();
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;

    lab.hub.tell(&["ban", &banned, "--inner"])?;
    ensure_silent(&lab.net.a, Role::Hub.v4())?;
    ensure_silent(&lab.net.a, Role::B.v4())?;
    // Neither the peer's other address nor the other peer.
    ensure_answers(&lab.net.a, Role::Hub.v6())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    let stats = lab.hub.stats()?;
    ensure!(
        stats
            .denied_inner
            .iter()
            .any(|net| net.starts_with(&banned)),
        "{banned} isn't among the denied {:?}",
        stats.denied_inner
    );
    ensure!(
        stats.dropped("inner_denied") >= 10,
        "{} of 10 pings were counted",
        stats.dropped("inner_denied")
    );

    lab.hub.tell(&["unban", &banned, "--inner"])?;
    ensure_answers_within(&lab.net.a, Role::Hub.v4(), Duration::from_secs(2))?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down(lab)
}

fn nonsense() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    for words in [
        &["ban", "banana"][..],
        &["ban", "10.0.0.0/33"],
        &["ban", ""],
        &["ban", "10.0.0.1", "--for", "soon"],
        &["unban", "203.0.113.0/24/24"],
    ] {
        ensure!(lab.hub.tell(words).is_err(), "`{words:?}` was accepted");
    }
    ensure!(lab.hub.stats()?.denied.is_empty());
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    take_down(lab)
}
