//! A machine that was stopped, rolled back or copied: sessions of before end, and new ones are
//! made. Events of the kernel's can't be made up, as only the kernel is believed; so this is the
//! way where it sends none: the wall clock parts from the clock that goes on by itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{PORT, Role};
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::support::{Case, ensure_answers, eventually, taltun};

pub const CASES: &[Case] = &[Case {
    name: "sessions end and come anew when the wall clock says that the machine was copied",
    programs: &["cc"],
    run: sessions_end_when_clocks_part,
}];

/// A look at the clocks comes once a second.
const LIMIT: Duration = Duration::from_secs(20);
/// A wall clock that is an hour ahead while a file is there.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
    int outcome = syscall(SYS_clock_gettime, clock, at);
    const char *file = getenv("TALTUN_TEST_CLOCK");
    if (outcome == 0 && clock == CLOCK_REALTIME && file && access(file, F_OK) == 0)
        at->tv_sec += 3600;
    return outcome;
}
"#;

fn sessions_end_when_clocks_part() -> Result<()> {
    let taltun = taltun()?;
    let directory = tempfile::tempdir()?;
    let library = build_clock(directory.path())?;
    let ahead = directory.path().join("ahead");
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun)?, Keys::generate(&taltun)?);
    let config = |role: Role, keys: &Keys, peer: Peer| Config {
        more: "",
        mode: if role == Role::Hub {
            "server"
        } else {
            "client"
        },
        vip: role.interface_vips(),
        local_addr: format!("[::]:{PORT}"),
        private_key: keys.private.clone(),
        xdp: XdpMode::Off,
        af_xdp: AfXdp::Off,
        peers: vec![peer],
    };
    let client = Peer {
        name: "client",
        public_key: theirs.public.clone(),
        vip: Role::A.vips(),
        endpoint: None,
        allowed_ips: Vec::new(),
    };
    let hub = Node::start_through(
        &pair.left,
        &taltun,
        &config(Role::Hub, &ours, client).to_toml(),
        &[
            "env",
            &format!("LD_PRELOAD={library}"),
            &format!("TALTUN_TEST_CLOCK={}", ahead.display()),
        ],
    )?;
    let server = Peer {
        name: "hub",
        public_key: ours.public.clone(),
        vip: Role::Hub.vips(),
        endpoint: Some(format!("{}:{PORT}", WIRE_A.near_v4())),
        allowed_ips: Vec::new(),
    };
    let spoke = Node::start(&pair.right, &taltun, &config(Role::A, &theirs, server))?;
    ensure_answers(&pair.right, Role::Hub.v4())?;
    let said = || hub.log().matches("all sessions end").count();
    ensure!(said() == 0, "sessions ended by themselves");
    // There and back: a machine that was rolled back, and one whose clock was put right.
    for (times, step) in [(1, "an hour on"), (2, "an hour back")] {
        let before = hub.status()?.peers[0].handshakes;
        if times == 1 {
            fs::write(&ahead, "")?;
        } else {
            fs::remove_file(&ahead)?;
        }
        eventually(step, LIMIT, || Ok(said() == times))?;
        eventually("a new session", LIMIT, || {
            Ok(hub.status()?.peers[0].handshakes > before)
        })?;
        ensure_answers(&pair.right, Role::Hub.v4())?;
    }
    spoke.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}

/// The library that shows this wall clock; its path.
fn build_clock(directory: &Path) -> Result<String> {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    fs::write(&source, CLOCK)?;
    let mut cc = std::process::Command::new("cc");
    output_of(
        cc.args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source),
    )?;
    Ok(library.display().to_string())
}
