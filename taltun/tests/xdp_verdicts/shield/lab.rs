//! Two hosts on one wire, each in a network namespace of its own, and the shield on ours.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aya::maps::{Map, MapData, MapInfo};
use aya::programs::loaded_programs;
use libtest_mimic::Failed;
use taltun::accel::{Shield, ShieldSettings};
use taltun::config::XdpMode;

use crate::frames::{MAC1_KEY, PORT};

pub(super) type InLab = fn(&Lab) -> Result<(), Failed>;

/// Two hosts on one wire.
pub(super) struct Lab {
    /// Our socket.
    pub(super) hub: UdpSocket,
    /// A stranger's sockets, in another namespace.
    pub(super) stranger: UdpSocket,
    pub(super) stranger_v6: UdpSocket,
}

pub(super) const TUN: &str = "taltun0";
pub(super) const HUB: &str = "192.0.2.1";
pub(super) const STRANGER: &str = "192.0.2.2";

pub(super) fn start(mode: XdpMode, deny: &[&str]) -> Shield {
    start_on(&[], mode, deny)
}

pub(super) fn start_on(interfaces: &[&str], mode: XdpMode, deny: &[&str]) -> Shield {
    let interfaces: Vec<_> = interfaces.iter().map(ToString::to_string).collect();
    let deny: Vec<_> = deny
        .iter()
        .map(|net| net.parse().expect("a network"))
        .collect();
    Shield::start(&ShieldSettings {
        interfaces: &interfaces,
        listen: SocketAddr::new("::".parse().expect("an address"), PORT),
        mark: 0,
        mode,
        prefer_driver: false,
        deny: &deny,
        deny_inner: &[],
        routes: &[],
        mac1_key: &MAC1_KEY,
        handshakes_per_second: 20,
        tun_name: TUN,
        debug: false,
        verifier_log: Path::new("/dev/null"),
    })
}

impl Lab {
    /// Waits until both families arrive: a fresh wire takes a moment for IPv6.
    fn wait_until_ready(&self) -> Result<(), Failed> {
        for socket in [&self.stranger, &self.stranger_v6] {
            let arrives = |_| -> Result<bool, Failed> {
                socket.send(b"ready?")?;
                Ok(self.received()? != 0)
            };
            if !(0..25).map(arrives).any(|arrived| arrived.unwrap_or(false)) {
                return Err("the wire stays silent".into());
            }
        }
        Ok(())
    }

    pub(super) fn send(&self, datagram: &[u8]) -> Result<(), Failed> {
        self.stranger.send(datagram)?;
        Ok(())
    }

    /// Sends one buffer as several datagrams of this size, in one call.
    pub(super) fn send_batch(&self, batch: &[u8], size: u16) -> Result<(), Failed> {
        set_segment(&self.stranger, size)?;
        self.send(batch)?;
        Ok(set_segment(&self.stranger, 0)?)
    }

    /// How many datagrams arrive until it is quiet.
    pub(super) fn received(&self) -> Result<usize, Failed> {
        let mut count = 0;
        loop {
            match self.hub.recv(&mut [0; 2048]) {
                Ok(_) => count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Has the kernel cut what this socket sends into datagrams of this size; 0 for not at all.
pub(super) fn set_segment(socket: &UdpSocket, size: u16) -> std::io::Result<()> {
    let size = libc::c_int::from(size);
    // SAFETY: the kernel reads one int from where it is.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Runs a test in a thread with a network namespace of its own and a wire to another one.
/// Both namespaces go with the threads and sockets that are in them.
pub(super) fn in_lab(test: InLab) -> Result<(), Failed> {
    in_thread(move || {
        let namespace = new_namespace()?;
        let (stranger, stranger_v6) = in_thread(move || stranger(&namespace))?;
        ip(&["addr", "add", "192.0.2.1/24", "dev", "hub0"])?;
        ip(&["addr", "add", "2001:db8::1/64", "dev", "hub0", "nodad"])?;
        ip(&["link", "set", "hub0", "up"])?;
        let hub = UdpSocket::bind(("::", PORT))?;
        hub.set_read_timeout(Some(Duration::from_millis(200)))?;
        stranger.connect((HUB, PORT))?;
        stranger_v6.connect(("2001:db8::1", PORT))?;
        let lab = Lab {
            hub,
            stranger,
            stranger_v6,
        };
        lab.wait_until_ready()?;
        test(&lab)
    })
}

/// The far end: a namespace, the wire from there to `hub_namespace`, and two sockets.
fn stranger(hub_namespace: &str) -> Result<(UdpSocket, UdpSocket), Failed> {
    new_namespace()?;
    ip(&[
        "link",
        "add",
        "far0",
        "type",
        "veth",
        "peer",
        "name",
        "hub0",
        "netns",
        hub_namespace,
    ])?;
    ip(&["addr", "add", "192.0.2.2/24", "dev", "far0"])?;
    ip(&["addr", "add", "2001:db8::2/64", "dev", "far0", "nodad"])?;
    ip(&["link", "set", "far0", "up"])?;
    Ok((
        UdpSocket::bind((STRANGER, 0))?,
        UdpSocket::bind(("2001:db8::2", 0))?,
    ))
}

/// Gives this thread a network namespace of its own; the path that names it.
pub fn new_namespace() -> Result<String, Failed> {
    // SAFETY: changes this thread's network namespace and nothing in memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: gettid has no arguments and can't fail.
    let thread = unsafe { libc::gettid() };
    Ok(format!("/proc/{}/task/{thread}/ns/net", std::process::id()))
}

/// Runs this in a thread of its own, because a namespace is a thread's.
pub fn in_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    std::thread::spawn(run)
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(super) fn ip(arguments: &[&str]) -> Result<String, Failed> {
    output("ip", arguments)
}

/// A map of the program that is attached to our end of the wire.
pub(super) fn attached_map(name: &str) -> Result<Map, Failed> {
    let link = ip(&["-details", "link", "show", "hub0"])?;
    let id = link
        .split_once("prog/xdp id ")
        .and_then(|(_, id)| id.split_whitespace().next())
        .ok_or("no program is attached")?
        .parse::<u32>()?;
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .ok_or("the attached program isn't loaded")?;
    for map in program.map_ids()?.unwrap_or_default() {
        if MapInfo::from_id(map)?.name_as_str() == Some(name) {
            return Ok(Map::from_map_data(MapData::from_id(map)?)?);
        }
    }
    Err(format!("the program has no map {name}").into())
}

pub(super) fn gro_is_on() -> Result<bool, Failed> {
    Ok(output("ethtool", &["-k", "hub0"])?.contains("generic-receive-offload: on"))
}

pub fn output(program: &str, arguments: &[&str]) -> Result<String, Failed> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {}: {error}", arguments.join(" ")).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
