//! What can happen to a machine in the middle of its work. Each is begun, lasts, and is ended, so that the
//! machine is what it was.
//!
//! [`CLOCK_FAULTS`] are apart: a clock can't be moved for one namespace alone, so they are only for a
//! machine that was made for them.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::world::World;
use crate::command::output_of;
use crate::node::open_files;
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
    /// What is asked of both programs while it lasts, so that they meet it.
    pub meanwhile: fn(&World) -> Result<()>,
    /// Ends it.
    pub end: fn(&mut World) -> Result<()>,
    /// Whether making it opens the kill switch itself, until that is noticed.
    pub opens: bool,
}

impl Fault {
    /// One in which nothing else happens.
    const fn new(
        name: &'static str,
        lasts: Duration,
        begin: fn(&mut World) -> Result<()>,
        end: fn(&mut World) -> Result<()>,
    ) -> Self {
        Self {
            name,
            lasts,
            begin,
            meanwhile: |_| Ok(()),
            end,
            opens: false,
        }
    }

    const fn asking(self, meanwhile: fn(&World) -> Result<()>) -> Self {
        Self { meanwhile, ..self }
    }

    const fn opening(self) -> Self {
        Self {
            opens: true,
            ..self
        }
    }
}

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3);

/// Who is banned and unbanned; nobody has this address.
const STRANGER: &str = "203.0.113.77";
/// What a program says that can't write down what was changed, and how long it may take to say so.
const UNWRITTEN: &str = "changes can't be written down";
const COMPLAINT: Duration = Duration::from_secs(10);

/// The client's end of the wire.
const WIRE: &str = PAIR_LINKS.0;

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault::new(
        "the client is killed and starts again",
        SHORT,
        |world| world.client.kill(),
        |world| world.client.start_again(&world.pair.left),
    ),
    Fault::new(
        "the server is killed and starts again",
        SHORT,
        |world| world.server.kill(),
        |world| world.server.start_again(&world.pair.right),
    ),
    Fault::new(
        "the server stops and starts again",
        SHORT,
        |world| world.server.end(Signal::Terminate),
        |world| world.server.start_again(&world.pair.right),
    ),
    Fault::new(
        "the client stands still",
        LONG,
        |world| Ok(sys::send_signal(world.client.pid(), Signal::Pause)?),
        |world| Ok(sys::send_signal(world.client.pid(), Signal::Resume)?),
    ),
    Fault::new(
        "the server stands still",
        LONG,
        |world| Ok(sys::send_signal(world.server.pid(), Signal::Pause)?),
        |world| Ok(sys::send_signal(world.server.pid(), Signal::Resume)?),
    ),
    Fault::new(
        "the link goes down",
        LONG,
        |world| ip(world, &["link set to-right down"]),
        |world| up_again(world, WIRE),
    ),
    Fault::new(
        "the link gets another name",
        SHORT,
        |world| {
            ip(
                world,
                &["link set to-right down", "link set to-right name other"],
            )?;
            up_again(world, "other")
        },
        |world| {
            ip(
                world,
                &["link set other down", "link set other name to-right"],
            )?;
            up_again(world, WIRE)
        },
    ),
    Fault::new(
        "the address goes and comes back",
        LONG,
        |world| {
            ip(
                world,
                &[&format!("addr del {}/24 dev to-right", WIRE_A.near_v4())],
            )
        },
        |world| {
            ip(
                world,
                &[&format!("addr add {}/24 dev to-right", WIRE_A.near_v4())],
            )
        },
    ),
    Fault::new(
        "the wire takes smaller packets",
        LONG,
        |world| ip(world, &["link set to-right mtu 1280"]),
        |world| ip(world, &["link set to-right mtu 1500"]),
    ),
    Fault::new(
        "the tunnel's interface goes down",
        SHORT,
        |world| ip(world, &["link set taltun0 down"]),
        |world| ip(world, &["link set taltun0 up"]),
    ),
    Fault::new(
        "the link is taken out and another comes in its place",
        LONG,
        |world| world.pair.unplug(),
        |world| world.pair.plug_in(&world.hardware),
    ),
    Fault::new(
        "routes are withdrawn",
        LONG,
        |world| routes(world, "del"),
        |world| routes(world, "add"),
    ),
    Fault::new(
        "the wire's queue takes no packet",
        LONG,
        |world| {
            tc(
                world,
                &["replace", "dev", WIRE, "root", "pfifo", "limit", "0"],
            )
        },
        |world| tc(world, &["del", "dev", WIRE, "root"]),
    ),
    Fault::new(
        "the client's disk is full",
        LONG,
        |world| {
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
        |world| unmount(world, &world.client.directory().join("state")),
    )
    .asking(change_without_room),
    Fault::new(
        "the client's directory in /run can't be written",
        LONG,
        |world| {
            let run = world.client.directory().display();
            mounts(
                world,
                &format!("mount --bind {run} {run} && mount -o remount,bind,ro {run}"),
            )
        },
        |world| unmount(world, world.client.directory()),
    )
    .asking(change),
    Fault::new(
        "somebody flushes nftables",
        LONG,
        |world| {
            output_of(world.pair.left.command("nft").args(["flush", "ruleset"]))?;
            Ok(())
        },
        |_| Ok(()),
    )
    .opening(),
    Fault::new(
        "another VPN leads everything into itself",
        LONG,
        |world| {
            // It takes packets without asking who has an address, as a TUN device does.
            let others = "link add other type veth peer name beyond netns";
            ip(
                world,
                &[
                    &format!("{others} {}", world.pair.right.name()),
                    "link set other arp off up",
                ],
            )?;
            world.pair.right.ip("link set beyond up")?;
            ip(
                world,
                &[
                    "route add default dev other table 777",
                    "rule add pref 50 lookup 777",
                ],
            )
        },
        |world| ip(world, &["rule del pref 50 lookup 777", "link del other"]),
    ),
    Fault::new(
        "the client and its helpers can open no more files",
        LONG,
        |world| {
            for process in world.client.processes()? {
                let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
                let limit = soft_limit(&limits).context("no limit of open files")?;
                world.file_limits.push((process, limit));
                files_limit(process, &open_files(process)?.to_string())?;
            }
            Ok(())
        },
        |world| {
            for (process, limit) in world.file_limits.drain(..) {
                // A helper may have ended of it, and another is there.
                let is_there = Path::new("/proc").join(process.to_string()).exists();
                if is_there {
                    files_limit(process, &limit)?;
                }
            }
            Ok(())
        },
    )
    .asking(knock),
];

/// Faults of the machine's clock, which is everybody's.
pub const CLOCK_FAULTS: &[Fault] = &[
    Fault::new(
        "the clock goes back a day, and on again",
        LONG,
        |_| date("1 day ago"),
        |_| date("1 day"),
    ),
    Fault::new(
        "the clock goes ahead a year, and back again",
        LONG,
        |_| date("365 days"),
        |_| date("365 days ago"),
    ),
    Fault::new(
        "the clock starts in 1970, as where no battery keeps it, and is set then",
        LONG,
        |world| {
            let now = output_of(Command::new("date").arg("+%s"))?;
            fs::write(remembered_clock(world), now)?;
            date("@60")
        },
        |world| {
            let then = fs::read_to_string(remembered_clock(world))?;
            date(&format!("@{}", then.trim()))
        },
    ),
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

/// People change things meanwhile, and are answered, although nothing can be written down.
fn change(world: &World) -> Result<()> {
    for words in [&["ban", STRANGER][..], &["unban", STRANGER], &["reload"]] {
        world.client.tell(words)?;
    }
    Ok(())
}

/// The same where there is no room for a word, which is said.
fn change_without_room(world: &World) -> Result<()> {
    let complaints = || world.client.log().matches(UNWRITTEN).count();
    let before = complaints();
    change(world)?;
    let until = Instant::now() + COMPLAINT;
    while complaints() == before {
        ensure!(
            Instant::now() < until,
            "there was no room, and it said nothing"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Somebody wants to ask for something, which takes a file.
fn knock(world: &World) -> Result<()> {
    let socket = world.client.directory().join("taltun0.sock");
    let asked = UnixStream::connect(&socket);
    let mut asked = asked.with_context(|| format!("can't connect to {}", socket.display()))?;
    asked.write_all(b"\"stats\"\n")?;
    Ok(())
}

/// The soft limit of open files, of what `/proc` says of a process's limits.
fn soft_limit(limits: &str) -> Option<String> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn files_limit(process: u32, most: &str) -> Result<()> {
    let pid = process.to_string();
    output_of(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:")]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             95000                95000                processes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(soft_limit(limits).as_deref(), Some("1024"));
        assert_eq!(soft_limit("Max processes 1 2\n"), None);
    }
}
