//! As a service: what the service manager is told, what `systemctl reload` gets, the kill switch
//! that is closed before the tunnel, and the units themselves.
//!
//! systemd needn't run here: its part is played by a socket of the test's own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{finish_within, output_of};
use taltun_tests::lab::Role;
use taltun_tests::sys::{PausedThread, Signal};
use taltun_tests::topology::private_prefix;

use crate::kill_switch::{Full, said};
use crate::support::{Case, ensure_answers, process_of, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "service: the manager is told of the start, of reloads that work and don't, and of the end",
        programs: &["env"],
        run: a_life,
    },
    Case {
        name: "service: a controller that hangs misses its beats, and packets go on",
        programs: &["env"],
        run: a_hanging_controller,
    },
    Case {
        name: "service: a start that fails says why",
        programs: &["env"],
        run: a_failing_start,
    },
    Case {
        name: "service: a kill switch is closed before the tunnel, taken over by it, and opened",
        programs: &["nft"],
        run: closed_early,
    },
    Case {
        name: "service: the units are well formed and leave few rights",
        programs: &["systemd-analyze"],
        run: units_are_well_formed,
    },
    Case {
        name: "service: with the unit's rights alone all that needs rights works",
        programs: &["nft", "setpriv"],
        run: with_the_rights_of_the_unit,
    },
];

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);
const UNIT: &str = include_str!("../../taltun/dist/systemd/taltun@.service");
const UNITS: [(&str, &str); 3] = [
    ("taltun@.service", UNIT),
    (
        "taltun-killswitch@.service",
        include_str!("../../taltun/dist/systemd/taltun-killswitch@.service"),
    ),
    (
        "taltun-udpgw.service",
        include_str!("../../taltun/dist/systemd/taltun-udpgw.service"),
    ),
];
/// The most that `systemd-analyze security` may find, of 10.
const EXPOSURE: f64 = 2.5;

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    directory: PathBuf,
}

impl Manager {
    fn start() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("{}-notify", private_prefix()));
        fs::create_dir_all(&directory)?;
        let socket = UnixDatagram::bind(directory.join("socket"))?;
        Ok(Self { socket, directory })
    }

    /// The words by way of which a node is started that this is to hear of.
    fn words(&self, watchdog: Duration) -> [String; 3] {
        [
            "env".to_owned(),
            format!("NOTIFY_SOCKET={}", self.directory.join("socket").display()),
            format!("WATCHDOG_USEC={}", watchdog.as_micros()),
        ]
    }

    /// The next datagram; `None` if none comes within `limit`.
    fn next(&self, limit: Duration) -> Result<Option<String>> {
        self.socket.set_read_timeout(Some(limit))?;
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Ok(Some(String::from_utf8(bytes[..length].to_vec())?)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The next datagram in which `wanted` begins a line.
    fn wait_for(&self, wanted: &str) -> Result<String> {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if let Some(text) = self.next(LIMIT)?
                && text.lines().any(|line| line.starts_with(wanted))
            {
                return Ok(text);
            }
        }
        anyhow::bail!("nothing with {wanted} came within {LIMIT:?}")
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Nothing else to do about what can't be removed.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn a_life() -> Result<()> {
    let manager = Manager::start()?;
    let through = manager.words(Duration::from_secs(60));
    let mut full = Full::start("kill_switch = false\n", &words(&through))?;
    let ready = manager.wait_for("READY=1")?;
    ensure!(ready.contains("STATUS=UDP port 9000, 1 peer"), "{ready}");
    manager.wait_for("WATCHDOG=1")?;
    full.tunnel_answers()?;
    manager.wait_for("STATUS=UDP port 9000, 1 peer, 1 with a session")?;

    // As the unit says it.
    let pid = full.client.pid().to_string();
    let reload = || full.taltun(&["reload", "--pid", &pid]);
    full.write_config("10.200.0.2/24", "10.200.0.2/24\"\ndebug = true #")?;
    let reloaded = reload()?;
    ensure!(reloaded.status.success(), "{}", said(&reloaded));
    let begins = manager.wait_for("RELOADING=1")?;
    ensure!(begins.contains("\nMONOTONIC_USEC="), "{begins}");
    let ends = manager.wait_for("READY=1")?;
    ensure!(ends.contains("STATUS="), "{ends}");

    full.write_config("vip = \"10.200.0.2/24\"", "vip = \"10.200.0.300/24\"")?;
    let refused = reload()?;
    ensure!(refused.status.code() == Some(2), "{}", said(&refused));
    manager.wait_for("RELOADING=1")?;
    let ends = manager.wait_for("READY=1")?;
    ensure!(ends.contains("STATUS=not reloaded: "), "{ends}");
    ensure!(ends.contains("10.200.0.300"), "{ends}");
    full.tunnel_answers()?;
    // It is still told with what the tunnel does since.
    let status = manager.wait_for("STATUS=UDP port 9000")?;
    ensure!(status.contains("; not reloaded: "), "{status}");

    let other = full.taltun(&["reload", "--pid", "1"])?;
    ensure!(other.status.code() == Some(1), "{}", said(&other));
    ensure!(
        said(&other).contains("process 1 runs no tunnel"),
        "{}",
        said(&other)
    );
    full.client.end(Signal::Terminate)?;
    manager.wait_for("STOPPING=1")?;
    Ok(())
}

fn a_hanging_controller() -> Result<()> {
    let manager = Manager::start()?;
    let through = manager.words(Duration::from_secs(2));
    let full = Full::start("", &words(&through))?;
    manager.wait_for("READY=1")?;
    full.tunnel_answers()?;
    manager.wait_for("WATCHDOG=1")?;
    let paused = PausedThread::pause(full.client.pid())?;
    // What was sent before.
    while manager.next(Duration::from_millis(10))?.is_some() {}
    let silent = Instant::now();
    while silent.elapsed() < Duration::from_secs(4) {
        let heard = manager.next(Duration::from_millis(100))?;
        ensure!(heard.is_none(), "{heard:?} from a controller that hangs");
        ensure_answers(&full.pair.left, Role::Hub.v4())?;
    }
    drop(paused);
    manager.wait_for("WATCHDOG=1")?;
    Ok(())
}

fn a_failing_start() -> Result<()> {
    let manager = Manager::start()?;
    let file = manager.directory.join("bad.toml");
    fs::write(&file, "[interface]\nvip = \"10.0.0.300/24\"\n")?;
    let mut command = Command::new(taltun()?);
    command.args(["run", "--config"]).arg(&file);
    command.env("NOTIFY_SOCKET", manager.directory.join("socket"));
    let ended = finish_within(&mut command, LIMIT)?;
    ensure!(ended.status.code() == Some(2), "{}", said(&ended));
    let status = manager.wait_for("STATUS=")?;
    ensure!(status.contains("bad.toml:2"), "{status}");
    Ok(())
}

fn closed_early() -> Result<()> {
    let mut full = Full::start("kill_switch = true\n", &[])?;
    full.tunnel_answers()?;
    full.client.end(Signal::Interrupt)?;
    full.outside_is_open()?;
    let config = full.client.config();
    let config = config.to_str().context("a path that is text")?;
    let close = ["kill-switch", "--config", config];
    let open = ["kill-switch", "--open", "--config", config];

    // Twice is as good as once.
    for _ in 0..2 {
        let closed = full.taltun(&close)?;
        ensure!(closed.status.success(), "{}", said(&closed));
        full.outside_is_closed()?;
    }
    let status = said(&full.taltun(&["status"])?);
    ensure!(status.contains("KILL SWITCH OF taltun0 HOLDS"), "{status}");
    ensure!(
        status.contains(&format!("taltun run --config {config}")),
        "{status}"
    );

    full.client.start_again(&full.pair.left)?;
    full.tunnel_answers()?;
    full.outside_is_closed()?;
    for words in [&close[..], &open] {
        let kept = full.taltun(words)?;
        ensure!(kept.status.success(), "{}", said(&kept));
        ensure!(
            said(&kept).contains("keeps its own kill switch"),
            "{}",
            said(&kept)
        );
        full.outside_is_closed()?;
        full.tunnel_answers()?;
    }
    full.client.kill()?;
    full.outside_is_closed()?;
    let opened = full.taltun(&open)?;
    ensure!(opened.status.success(), "{}", said(&opened));
    full.outside_is_open()?;

    full.write_config("kill_switch = true", "kill_switch = false")?;
    let refused = full.taltun(&close)?;
    ensure!(refused.status.code() == Some(2), "{}", said(&refused));
    ensure!(
        said(&refused).contains("add kill_switch = true"),
        "{}",
        said(&refused)
    );
    full.outside_is_open()
}

/// A directory with the units, and with programs under the names that they call.
fn units() -> Result<(PathBuf, impl Drop)> {
    struct Directory(PathBuf);
    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
    let directory = std::env::temp_dir().join(format!("{}-units", private_prefix()));
    fs::create_dir_all(&directory)?;
    let kept = Directory(directory.clone());
    for (name, text) in UNITS {
        // It looks whether the program is there, which it need not be on this machine.
        let program = format!("={} ", taltun()?.display());
        fs::write(directory.join(name), text.replace("=taltun ", &program))?;
    }
    Ok((directory, kept))
}

fn units_are_well_formed() -> Result<()> {
    let (directory, _kept) = units()?;
    for (name, _) in UNITS {
        let unit = directory.join(name);
        let verify = ["verify", "--man=no"];
        let mut command = Command::new("systemd-analyze");
        let verified = finish_within(command.args(verify).arg(&unit), LIMIT)?;
        ensure!(verified.status.success(), "{name}: {}", said(&verified));
        ensure!(said(&verified).is_empty(), "{name}: {}", said(&verified));
        let exposure = exposure(&unit)?;
        eprintln!("systemd-analyze security {name}: {exposure}");
        ensure!(exposure <= EXPOSURE, "{name}: {exposure}");
    }
    Ok(())
}

/// What `systemd-analyze security` says of a unit, of 10.
fn exposure(unit: &Path) -> Result<f64> {
    let words = ["security", "--offline=true", "--no-pager"];
    let text = output_of(Command::new("systemd-analyze").args(words).arg(unit))?;
    let line = text.lines().find(|line| line.contains("exposure level"));
    let line = line.with_context(|| format!("no level in {text}"))?;
    let level = line.rsplit_once(": ").context("a level")?.1;
    let number = level.split_whitespace().next().context("a number")?;
    Ok(number.parse()?)
}

/// What one of the unit's settings says.
fn setting(name: &str) -> Result<&'static str> {
    let mut lines = UNIT.lines();
    lines
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .with_context(|| format!("the unit has no {name}"))
}

fn with_the_rights_of_the_unit() -> Result<()> {
    let set = setting("CapabilityBoundingSet")?;
    let set = set.split(' ').map(|name| name.replace("CAP_", "+"));
    let set = set.collect::<Vec<_>>().join(",").to_lowercase();
    let set = format!("--bounding-set=-all,{set}");
    ensure!(setting("NoNewPrivileges")? == "yes");
    let through = ["setpriv", &set, "--no-new-privs"];
    let hook = std::env::temp_dir().join(format!("{}-hook", private_prefix()));
    // A kill switch, a setting of the kernel, a hook that changes an interface, metrics.
    let more = format!(
        "kill_switch = true\nip_forward = true\non_up = \"ip link set $TALTUN_INTERFACE txqueuelen 77 && echo \
         done > {}\"\n",
        hook.display()
    );
    let mut full = Full::start(&more, &through)?;
    full.tunnel_answers()?;
    full.outside_is_closed()?;
    let status = full.client.status()?;
    ensure!(!status.xdp.is_empty(), "no XDP program");
    for shown in &status.xdp {
        ensure!(shown.mode != "off", "{}: {}", shown.interface, shown.reason);
    }
    crate::support::eventually("the hook ran", LIMIT, || Ok(hook.exists()))?;
    fs::remove_file(&hook)?;
    let link = full.pair.left.ip("link show taltun0")?;
    ensure!(link.contains("qlen 77"), "{link}");
    let metrics = "[metrics]\nlisten = \"127.0.0.1:9586\"\n[[peers]]";
    full.write_config("[[peers]]", metrics)?;
    let said_of = full.client.tell(&["reload"])?;
    ensure!(said_of.contains("metrics"), "{said_of}");
    crate::support::eventually("its process is nobody's", LIMIT, || {
        let Ok(child) = process_of(full.client.pid(), "metrics-process") else {
            return Ok(false);
        };
        let status = fs::read_to_string(format!("/proc/{child}/status"))?;
        Ok(status.contains("Uid:\t65534\t65534") && status.contains("CapEff:\t0000000000000000"))
    })?;
    full.client.end(Signal::Interrupt)?;
    full.outside_is_open()
}
