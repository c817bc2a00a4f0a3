//! What the tests share: how one is declared, where `taltun` is, and the questions that are
//! asked over and over.

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::cards::Card;
use taltun_tests::command::{find, output_of};
use taltun_tests::lab::{Lab, Options};
use taltun_tests::netns::Namespace;
use taltun_tests::node::Node;
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::ping::Pinger;

pub use taltun_tests::node::process_of;

/// How long a tunnel may take to come up, one lost handshake included.
pub const UP_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may take that is going to come.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer is waited for that must not come.
pub const SILENCE: Duration = Duration::from_millis(300);

/// Stands among the programs that a test needs for a kernel with WireGuard.
pub const KERNEL_WIREGUARD: &str = "the kernel's WireGuard";

/// Stands among the programs that a test needs for a wireguard-go that isn't too old for it.
pub const RECENT_WIREGUARD_GO: &str = "a wireguard-go of 2023 or later";

/// Stands among the programs that a test needs for a kernel that can delay packets.
pub const NETEM: &str = "netem in the kernel";

/// Stands among the programs that a test needs for a limit of locked memory that can be lifted.
pub const MEMORY_LOCK: &str = "memory that can be locked without a limit";

/// Stands among the programs that a test needs for a kernel in which a veth's queues can be
/// switched on and off.
pub const VETH_QUEUES: &str = "a veth whose queues can be changed";

/// Stands among the programs that a test needs for a pair of cards that are there for it, and
/// do zero copy.
pub const ZERO_COPY: &str = "a virtio-net device that does zero copy";

/// Stands among the programs that a test needs for a pair of cards that are there for it, and
/// do no zero copy.
pub const NO_ZERO_COPY: &str = "a virtio-net device of a test's own";

/// Stands among the programs that a test needs for a pair of cards that are there for it, do
/// zero copy and have several queues.
pub const ZERO_COPY_QUEUES: &str = "a virtio-net device that does zero copy on several queues";

/// Stands among the programs that a test needs for a machine that was made for it, so that it may
/// move the clock.
pub const OWN_CLOCK: &str = "a machine whose clock may be moved";

/// Stands among the programs that a test needs for that of `cargo xtask`.
pub const XTASK: &str = "the program of `cargo xtask`";

const IN_THE_VM: &str = "`cargo xtask vm` has it";

/// What stands for an ability of the machine, whether it has it, and where else it is.
type Ability = (&'static str, fn() -> bool, &'static str);

const ABILITIES: &[Ability] = &[
    (KERNEL_WIREGUARD, kernel_has_wireguard, IN_THE_VM),
    (
        RECENT_WIREGUARD_GO,
        taltun_tests::wireguard_go::is_recent,
        "Debian's backports have it",
    ),
    (NETEM, kernel_has_netem, IN_THE_VM),
    (
        MEMORY_LOCK,
        || {
            let lifted = Command::new("prlimit")
                .args(["--memlock=unlimited", "true"])
                .output();
            lifted.is_ok_and(|it| it.status.success())
        },
        IN_THE_VM,
    ),
    (
        OWN_CLOCK,
        || env::var_os("TALTUN_OWN_MACHINE").is_some(),
        "`cargo xtask vm --only clock` has it",
    ),
    (
        XTASK,
        || xtask().is_ok(),
        "`cargo xtask test` runs where it is",
    ),
    (VETH_QUEUES, veth_has_queues, "newer kernels have it"),
    (
        ZERO_COPY,
        || card_does_zero_copy(Card::VirtioMapped) == Some(true),
        "`cargo xtask vm --only af_xdp --kernel 7` has it",
    ),
    (
        ZERO_COPY_QUEUES,
        || card_does_zero_copy(Card::VirtioQueues) == Some(true),
        "`cargo xtask vm --only af_xdp --kernel 7` has it, as root",
    ),
    (
        NO_ZERO_COPY,
        || card_does_zero_copy(Card::VirtioPlain) == Some(false),
        "`cargo xtask vm --only af_xdp` has it",
    ),
];

/// A test.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is true when it passes, as a sentence.
    pub name: &'static str,
    /// Programs it needs, besides root, which all of them need.
    pub programs: &'static [&'static str],
    /// The test.
    pub run: fn() -> Result<()>,
}

impl Case {
    /// Why it can't run here, if it can't.
    pub fn missing(&self) -> Option<String> {
        if !sys::is_root() {
            return Some("needs root, to make network namespaces".to_owned());
        }
        // First, as what finds out about abilities may need them.
        let missing = self
            .programs
            .iter()
            .filter(|program| ABILITIES.iter().all(|(ability, ..)| ability != *program))
            .find(|program| find(program).is_none());
        if let Some(program) = missing {
            return Some(format!("needs {program}, which isn't on PATH"));
        }
        ABILITIES
            .iter()
            .filter(|(ability, ..)| self.programs.contains(ability))
            .find(|(_, is_there, _)| !is_there())
            .map(|(ability, _, elsewhere)| format!("needs {ability}; {elsewhere}"))
    }
}

/// Whether the running kernel has netem, with a module or without.
fn kernel_has_netem() -> bool {
    let Ok(namespace) = Namespace::create(&format!("{}-netem", private_prefix())) else {
        return false;
    };
    Command::new("tc")
        .args([
            "-n",
            namespace.name(),
            "qdisc",
            "add",
            "dev",
            "lo",
            "root",
            "netem",
        ])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a veth's queues can be switched on and off in the running kernel.
fn veth_has_queues() -> bool {
    let Ok(namespace) = Namespace::create(&format!("{}-queues", private_prefix())) else {
        return false;
    };
    let make = "link add here numrxqueues 2 numtxqueues 2 type veth peer name there";
    let mut ethtool = namespace.command("ethtool");
    ethtool.args(["-L", "here", "rx", "1", "tx", "1"]);
    namespace.ip(make).is_ok() && output_of(&mut ethtool).is_ok()
}

/// Whether this card's driver does zero copy, for anybody; `None` if there is no such card.
fn card_does_zero_copy(card: Card) -> Option<bool> {
    let [interface, _] = card.find().ok()??;
    let index = sys::interface_index(&interface).ok()?;
    let program = sys::load_xdp(sys::Verdict::Pass).ok()?;
    // As whoever uses it would have one, too.
    let _attached = sys::attach_xdp(&program, index, sys::Attach::Driver).ok()?;
    let start = Instant::now();
    loop {
        match sys::try_zero_copy(index, 0) {
            Ok(()) => return Some(true),
            // A queue is free again only some time after its socket was closed.
            Err(error) if error.kind() == ErrorKind::ResourceBusy && start.elapsed() < UP_LIMIT => {
                sleep(Duration::from_millis(50));
            }
            Err(error) => {
                eprintln!("{interface} refuses zero copy: {error}");
                return Some(false);
            }
        }
    }
}

/// Whether the running kernel makes WireGuard interfaces, with a module or without.
fn kernel_has_wireguard() -> bool {
    Path::new("/sys/module/wireguard").exists()
        || Command::new("modprobe")
            .arg("wireguard")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// The `taltun` under test: `$TALTUN_BIN`, or the one of the same profile as this test.
pub fn taltun() -> Result<PathBuf> {
    if let Some(path) = env::var_os("TALTUN_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "TALTUN_BIN names {}, where no file is",
            path.display()
        );
        return Ok(path);
    }
    // We are TARGET/PROFILE/deps/system-HASH.
    let path = env::current_exe()?
        .ancestors()
        .nth(2)
        .context("this test isn't in a target directory")?
        .join("taltun");
    ensure!(
        path.is_file(),
        "there is no {}: run `cargo xtask test`, which builds it, or set TALTUN_BIN",
        path.display()
    );
    Ok(path)
}

/// The program of `cargo xtask`, of the same profile as this test.
pub fn xtask() -> Result<PathBuf> {
    // We are TARGET/PROFILE/deps/system-HASH.
    let here = env::current_exe()?;
    let profile = here.ancestors().nth(2);
    let path = profile
        .context("this test isn't in a target directory")?
        .join("xtask");
    ensure!(path.is_file(), "there is no {}", path.display());
    Ok(path)
}

/// A lab of this process's own.
pub fn lab(options: Options) -> Result<Lab> {
    Lab::start(&private_prefix(), &taltun()?, options)
}

/// Ends a test with its lab still running: everything stops in order and nothing is left.
pub fn take_down(lab: Lab) -> Result<()> {
    lab.stop(Signal::Terminate)?.into_result()
}

/// `to` answers pings from `namespace`, the first one within `limit`.
pub fn ensure_answers_within(namespace: &Namespace, to: IpAddr, limit: Duration) -> Result<()> {
    let mut pinger = Pinger::new(namespace, to)?;
    pinger
        .wait_until_answered(limit)
        .with_context(|| format!("from {}", namespace.name()))?;
    let answered = pinger.count_answers(5, ANSWER_LIMIT)?;
    ensure!(answered == 5, "{to} answered {answered} of 5 pings");
    Ok(())
}

/// `to` answers pings from `namespace`.
pub fn ensure_answers(namespace: &Namespace, to: IpAddr) -> Result<()> {
    ensure_answers_within(namespace, to, UP_LIMIT)
}

/// `to` answers no ping from `namespace`.
pub fn ensure_silent(namespace: &Namespace, to: IpAddr) -> Result<()> {
    let answered = Pinger::new(namespace, to)?.count_answers(5, SILENCE)?;
    ensure!(
        answered == 0,
        "{to} answered {answered} of 5 pings that must not be answered"
    );
    Ok(())
}

/// Makes sure that a process of the tunnel's may do nothing: all of its threads are nobody's, have no
/// capability and can't get one, their system calls are restricted, and its environment tells nothing.
pub fn ensure_without_rights(pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = fs::read_to_string(task?.path().join("status"))?;
        for line in [
            "Uid:\t65534\t65534\t65534\t65534",
            "Gid:\t65534\t65534\t65534\t65534",
            "Groups:\t",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            let holds = thread.lines().any(|it| it.trim_end() == line.trim_end());
            ensure!(holds, "{line} in {thread}");
        }
    }
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    ensure!(environment.is_empty(), "{environment:?}");
    Ok(())
}

/// Sends lines of `set=1` to a node's UAPI socket, as `wg set` does, which would look for the socket elsewhere. Returns
/// the answer.
pub fn set_by_uapi(node: &Node, lines: &str) -> Result<String> {
    let path = node.directory().join("wireguard/taltun0.sock");
    let mut socket = UnixStream::connect(&path).context("no UAPI socket")?;
    write!(socket, "set=1\n{lines}\n\n")?;
    let mut answer = [0; 64];
    let length = socket.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Asks until `condition` holds, for at most `limit`; `what` names it.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        ensure!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(50));
    }
    Ok(())
}
