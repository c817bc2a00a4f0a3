//! What can happen to a machine in the middle of its work. Each is begun, lasts, and is ended, so that the
//! machine is what it was.
//!
//! [`CLOCK_FAULTS`] are apart: a clock can't be moved for one namespace alone, so they are only for a
//! machine that was made for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::world::{World, open_files};
use crate::command::output_of;
use crate::sys::{self, Signal};
use crate::topology::{PAIR_LINKS, WIRE_A};

/// Something that happens.
#[derive(Debug)]
pub struct Fault {
    /// What it is.
    pub name: &'static str,
    /// How long it lasts.
    pub lasts: Duration,
    /// Makes it.
    pub begin: fn(&mut World) -> Result<()>,
    /// Ends it.
    pub end: fn(&mut World) -> Result<()>,
}

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3);

/// The client's end of the wire.
const WIRE: &str = PAIR_LINKS.0;

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "the client is killed and starts again",
        lasts: SHORT,
        begin: |world| world.client.kill(),
        end: |world| world.client.start_again(&world.pair.left),
    },
    Fault {
        name: "the server is killed and starts again",
        lasts: SHORT,
        begin: |world| world.server.kill(),
        end: |world| world.server.start_again(&world.pair.right),
    },
    Fault {
        name: "the server stops and starts again",
        lasts: SHORT,
        begin: |world| world.server.end(Signal::Terminate),
        end: |world| world.server.start_again(&world.pair.right),
    },
    Fault {
        name: "the client stands still",
        lasts: LONG,
        begin: |world| Ok(sys::send_signal(world.client.pid(), Signal::Pause)?),
        end: |world| Ok(sys::send_signal(world.client.pid(), Signal::Resume)?),
    },
    Fault {
        name: "the server stands still",
        lasts: LONG,
        begin: |world| Ok(sys::send_signal(world.server.pid(), Signal::Pause)?),
        end: |world| Ok(sys::send_signal(world.server.pid(), Signal::Resume)?),
    },
    Fault {
        name: "the link goes down",
        lasts: LONG,
        begin: |world| ip(world, &["link set to-right down"]),
        end: |world| up_again(world, WIRE),
    },
    Fault {
        name: "the link gets another name",
        lasts: SHORT,
        begin: |world| {
            ip(
                world,
                &["link set to-right down", "link set to-right name other"],
            )?;
            up_again(world, "other")
        },
        end: |world| {
            ip(
                world,
                &["link set other down", "link set other name to-right"],
            )?;
            up_again(world, WIRE)
        },
    },
    Fault {
        name: "the address goes and comes back",
        lasts: LONG,
        begin: |world| {
            ip(
                world,
                &[&format!("addr del {}/24 dev to-right", WIRE_A.near_v4())],
            )
        },
        end: |world| {
            ip(
                world,
                &[&format!("addr add {}/24 dev to-right", WIRE_A.near_v4())],
            )
        },
    },
    Fault {
        name: "the wire takes smaller packets",
        lasts: LONG,
        begin: |world| ip(world, &["link set to-right mtu 1280"]),
        end: |world| ip(world, &["link set to-right mtu 1500"]),
    },
    Fault {
        name: "the tunnel's interface goes down",
        lasts: SHORT,
        begin: |world| ip(world, &["link set taltun0 down"]),
        end: |world| ip(world, &["link set taltun0 up"]),
    },
    Fault {
        name: "the link is taken out and another comes in its place",
        lasts: LONG,
        begin: |world| world.pair.unplug(),
        end: |world| world.pair.plug_in(&world.hardware),
    },
    Fault {
        name: "routes are withdrawn",
        lasts: LONG,
        begin: |world| routes(world, "del"),
        end: |world| routes(world, "add"),
    },
    Fault {
        name: "the wire's queue takes no packet, which senders hear as ENOBUFS",
        lasts: LONG,
        begin: |world| {
            tc(
                world,
                &["replace", "dev", WIRE, "root", "pfifo", "limit", "0"],
            )
        },
        end: |world| tc(world, &["del", "dev", WIRE, "root"]),
    },
    Fault {
        name: "the client's disk is full",
        lasts: LONG,
        begin: |world| {
            let state = world.client.directory().join("state");
            let state = state.display();
            mounts(
                world,
                &format!(
                    "mkdir -p {state} && mount -t tmpfs -o size=4k full {state} && \
                     ! cat /dev/zero >{state}/filler 2>/dev/null"
                ),
            )
        },
        end: |world| unmount(world, &world.client.directory().join("state")),
    },
    Fault {
        name: "the client's directory in /run can't be written",
        lasts: LONG,
        begin: |world| {
            let run = world.client.directory().display();
            mounts(
                world,
                &format!("mount --bind {run} {run} && mount -o remount,bind,ro {run}"),
            )
        },
        end: |world| unmount(world, world.client.directory()),
    },
    Fault {
        name: "somebody flushes nftables",
        lasts: LONG,
        begin: |world| {
            output_of(world.pair.left.command("nft").args(["flush", "ruleset"]))?;
            // It is noticed, and not at once.
            std::thread::sleep(LONG);
            Ok(())
        },
        end: |_| Ok(()),
    },
    Fault {
        name: "another VPN leads everything into itself",
        lasts: LONG,
        begin: |world| {
            ip(
                world,
                &[
                    "link add other type veth peer name beyond",
                    "link set beyond up",
                    "link set other up",
                    "route add default dev other table 777",
                    "rule add pref 50 lookup 777",
                ],
            )
        },
        end: |world| ip(world, &["rule del pref 50 lookup 777", "link del other"]),
    },
    Fault {
        name: "the client can open no more files",
        lasts: LONG,
        begin: |world| {
            let open = open_files(&world.client)?;
            files_limit(world, open)
        },
        end: |world| files_limit(world, 1024),
    },
];

/// Faults of the machine's clock, which is everybody's.
pub const CLOCK_FAULTS: &[Fault] = &[
    Fault {
        name: "the clock goes back a day, and on again",
        lasts: LONG,
        begin: |_| date("1 day ago"),
        end: |_| date("1 day"),
    },
    Fault {
        name: "the clock goes ahead a year, and back again",
        lasts: LONG,
        begin: |_| date("365 days"),
        end: |_| date("365 days ago"),
    },
    Fault {
        name: "the clock starts in 1970, as where no battery keeps it, and is set then",
        lasts: LONG,
        begin: |world| {
            let now = output_of(Command::new("date").arg("+%s"))?;
            fs::write(remembered_clock(world), now)?;
            date("@60")
        },
        end: |world| {
            let then = fs::read_to_string(remembered_clock(world))?;
            date(&format!("@{}", then.trim()))
        },
    },
];

fn remembered_clock(world: &World) -> PathBuf {
    world.client.directory().join("clock")
}

fn date(to: &str) -> Result<()> {
    output_of(Command::new("date").args(["--utc", "--set", to]))?;
    Ok(())
}

/// Adds or deletes the routes of the wire's own networks, without which the server is nowhere.
fn routes(world: &World, what: &str) -> Result<()> {
    if sys::kernel_has_ipv6() {
        let network = "fd99:1::/64";
        let v6 = format!("-6 route {what} {network} dev {WIRE} proto kernel metric 256");
        ip(world, &[&v6])?;
    }
    let (network, own) = ("10.99.1.0/24", WIRE_A.near_v4());
    let v4 = format!("route {what} {network} dev {WIRE} proto kernel scope link src {own}");
    ip(world, &[&v4])
}

/// Runs `tc qdisc` in the client's namespace.
fn tc(world: &World, words: &[&str]) -> Result<()> {
    output_of(world.pair.left.command("tc").arg("qdisc").args(words))?;
    Ok(())
}

/// Runs this script among the client's own mounts, which end with it.
fn mounts(world: &World, script: &str) -> Result<()> {
    let pid = world.client.pid().to_string();
    output_of(Command::new("nsenter").args(["--mount", "--target", &pid, "sh", "-c", script]))?;
    Ok(())
}

fn unmount(world: &World, directory: &Path) -> Result<()> {
    mounts(world, &format!("umount {}", directory.display()))
}

/// Runs `ip` in the client's namespace with each of these.
fn ip(world: &World, commands: &[&str]) -> Result<()> {
    for command in commands {
        world.pair.left.ip(command)?;
    }
    Ok(())
}

/// A link that was down lacks its IPv6 address, which its administrator's tools would add again.
fn up_again(world: &World, link: &str) -> Result<()> {
    ip(world, &[&format!("link set {link} up")])?;
    if !sys::kernel_has_ipv6() {
        return Ok(());
    }
    let address = format!("addr replace {}/64 dev {link} nodad", WIRE_A.near_v6());
    ip(world, &[&address])
}

fn files_limit(world: &World, most: usize) -> Result<()> {
    let pid = world.client.pid().to_string();
    output_of(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:")]))?;
    Ok(())
}
