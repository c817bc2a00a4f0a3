//! Starting, stopping and dying.

use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::bpf::Objects;
use taltun_tests::lab::{Options, Role};
use taltun_tests::node::XdpMode;
use taltun_tests::sys::Signal;

use crate::support::{Case, ensure_answers, ensure_answers_within, eventually, lab, take_down};

/// What a killed process held goes in the background.
const KERNEL_LIMIT: Duration = Duration::from_secs(3);

pub const CASES: &[Case] = &[
    Case {
        name: "after SIGTERM nothing is left, xdp driver",
        programs: &[],
        run: || stops_by(Signal::Terminate, XdpMode::Driver),
    },
    Case {
        name: "after SIGTERM nothing is left, xdp generic",
        programs: &[],
        run: || stops_by(Signal::Terminate, XdpMode::Generic),
    },
    Case {
        name: "after SIGINT nothing is left",
        programs: &[],
        run: || stops_by(Signal::Interrupt, XdpMode::Auto),
    },
    Case {
        name: "a spoke that was killed comes back",
        programs: &[],
        run: killed_spoke_returns,
    },
    Case {
        name: "a hub that was killed comes back, and the spokes to it",
        programs: &[],
        run: killed_hub_returns,
    },
    Case {
        name: "a daemon that was killed for good leaves nothing either",
        programs: &[],
        run: killed_for_good,
    },
    Case {
        name: "a killed hub leaves no program, map, link or filter, xdp driver",
        programs: &["bpftool"],
        run: || killed_hub_leaves_no_object(XdpMode::Driver),
    },
    Case {
        name: "a killed hub leaves no program, map, link or filter, xdp generic",
        programs: &["bpftool"],
        run: || killed_hub_leaves_no_object(XdpMode::Generic),
    },
    Case {
        name: "the control socket is for its owner only",
        programs: &[],
        run: control_socket_is_private,
    },
];

fn stops_by(signal: Signal, xdp: XdpMode) -> Result<()> {
    let lab = lab(Options {
        xdp,
        ..Options::default()
    })?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    lab.stop(signal)?.into_result()
}

fn killed_spoke_returns() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    lab.a.kill()?;
    nothing_is_left(&lab, Role::A)?;
    lab.a.start_again(&lab.net.a)?;
    // It is the one who starts handshakes, so it needs nobody's timer.
    ensure_answers_within(&lab.net.a, Role::Hub.v4(), Duration::from_secs(6))?;
    ensure_answers(&lab.net.b, Role::A.v4())?;
    take_down(lab)
}

fn killed_hub_returns() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    lab.hub.kill()?;
    nothing_is_left(&lab, Role::Hub)?;
    lab.hub.start_again(&lab.net.hub)?;
    // The spokes notice by hearing nothing for 15 s, and may then have to try twice.
    let limit = Duration::from_secs(30);
    ensure_answers_within(&lab.net.a, Role::Hub.v4(), limit)?;
    ensure_answers_within(&lab.net.b, Role::Hub.v4(), limit)?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down(lab)
}

fn killed_hub_leaves_no_object(xdp: XdpMode) -> Result<()> {
    let mut lab = lab(Options {
        xdp,
        ..Options::default()
    })?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let objects = Objects::of(lab.hub.pid())?;
    ensure!(
        !objects.remaining()?.is_empty(),
        "bpftool doesn't show what the hub holds"
    );
    lab.hub.kill()?;
    nothing_is_left(&lab, Role::Hub)?;
    eventually("its BPF objects are gone", KERNEL_LIMIT, || {
        Ok(objects.remaining()?.is_empty())
    })?;
    // And they are no obstacle to the next start.
    lab.hub.start_again(&lab.net.hub)?;
    for shown in lab.hub.status()?.xdp {
        ensure!(
            shown.mode == xdp.name(),
            "started again, {} is in mode {}: {}",
            shown.interface,
            shown.mode,
            shown.reason
        );
    }
    take_down(lab)
}

fn killed_for_good() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    lab.hub.kill()?;
    let end = lab.stop(Signal::Terminate)?;
    ensure!(
        end.disorderly.len() == 1,
        "only the hub was killed, but {:?}",
        end.disorderly
    );
    ensure!(end.left.is_empty(), "left behind: {:?}", end.left);
    Ok(())
}

fn control_socket_is_private() -> Result<()> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    let lab = lab(Options::default())?;
    let mut sockets = 0;
    for entry in std::fs::read_dir(lab.hub.directory())? {
        let metadata = entry?.metadata()?;
        if metadata.file_type().is_socket() {
            sockets += 1;
            let mode = metadata.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "its mode is {mode:o}");
        }
    }
    ensure!(sockets == 1, "there are {sockets} sockets");
    take_down(lab)
}

fn nothing_is_left(lab: &taltun_tests::lab::Lab, role: Role) -> Result<()> {
    eventually("nothing is left of the killed", KERNEL_LIMIT, || {
        Ok(lab.changes(role)?.is_empty())
    })
}
