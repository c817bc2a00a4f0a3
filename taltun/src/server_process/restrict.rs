//! The system calls and files of such a process, once all that it uses is open: what it takes to talk to
//! clients and to the tunnel, no file, and what else it [`Needs`].

use std::io;
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::getuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::os::capabilities;
use crate::os::seccomp::{Argument, Filter, RefusedCalls, refused_calls};
use crate::report::ProcessRights;

/// What clients and their connections need. None of it opens anything but a client's connection.
const CALLS: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    // Threads begin with these, one that was started a moment ago perhaps only then.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

/// The longest line in which a process says what it may do, bytes.
const LINE_MAX: usize = 4096;

/// What a process needs beside that.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Needs {
    /// System calls, whatever their arguments.
    pub(crate) calls: &'static [libc::c_long],
    /// Others, with the arguments that they may have.
    pub(crate) some: &'static [(libc::c_long, &'static [Argument])],
    /// TCP ports that it connects to.
    pub(crate) ports: &'static [u16],
    /// Directories of which it reads what everybody may.
    pub(crate) directories: &'static [&'static str],
    /// Devices that it opens.
    pub(crate) devices: &'static [&'static str],
}

/// From now on this process can open nothing but what it needs. `start` starts its threads; there must be
/// no other one before. What the kernel can't forbid is told; nothing else is less safe for that.
pub(crate) fn restrict<T>(
    name: &str,
    needs: &Needs,
    start: impl FnOnce() -> io::Result<T>,
) -> io::Result<(ProcessRights, T)> {
    // Seccomp refuses what all this takes, so it comes last.
    let user = getuid().as_raw();
    let capabilities = capabilities::held().map_or_else(|_| Vec::new(), capabilities::names);
    // Threads inherit it, and only so have it.
    let landlock = forbid_files(needs);
    let started = start()?;
    let seccomp = forbid_calls(needs).map_err(|error| format!("seccomp: {error}"));
    let reasons = [&landlock, &seccomp].map(|outcome| outcome.as_ref().err().cloned());
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    let rights = ProcessRights {
        name: name.to_owned(),
        user,
        capabilities,
        seccomp: seccomp.is_ok(),
        landlock: landlock.is_ok(),
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
    };
    Ok((rights, started))
}

/// Tells the tunnel, before anything else is said.
pub(super) async fn tell(channel: &mut UnixStream, rights: &ProcessRights) -> io::Result<()> {
    let mut line = serde_json::to_vec(rights)?;
    line.push(b'\n');
    channel.write_all(&line).await
}

/// What a process may do, as it says when it begins.
pub async fn told_rights(channel: &mut UnixStream) -> io::Result<ProcessRights> {
    let mut line = Vec::new();
    loop {
        // What comes behind the line is for others.
        match channel.read_u8().await? {
            b'\n' => return Ok(serde_json::from_slice(&line)?),
            _ if line.len() == LINE_MAX => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
}

/// What a line begins with that such a process writes to its standard error when it was refused a system
/// call.
pub const REFUSED: &str = "was refused a system call";
/// How often it looks whether one was.
const LOOK: Duration = Duration::from_secs(1);

/// Writes such a line for each time that there are more of them, to whoever started this process.
pub(super) async fn tell_refused() {
    let mut told = 0;
    loop {
        sleep(LOOK).await;
        let RefusedCalls { count, last } = refused_calls();
        if count > told {
            told = count;
            eprintln!("{REFUSED} (number {last}, {count} in all)");
        }
    }
}

/// No file, no port and no socket of others but what it needs, as far as this kernel can forbid that.
fn forbid_files(needs: &Needs) -> Result<(), String> {
    let forbid = || -> Result<RulesetStatus, RulesetError> {
        let ports = needs.ports.iter();
        let ports =
            ports.map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
        // A directory that isn't there is left out.
        let read = path_beneath_rules(needs.directories, AccessFs::ReadFile);
        let of_device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        let devices = path_beneath_rules(needs.devices, of_device);
        // The newest that this library and an older kernel both know is chosen by itself.
        let all = ABI::V6;
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(all))?
            .handle_access(AccessNet::from_all(all))?
            .scope(Scope::from_all(all))?;
        let ruleset = ruleset.create()?.add_rules(ports)?.add_rules(read)?;
        Ok(ruleset.add_rules(devices)?.restrict_self()?.ruleset)
    };
    match forbid() {
        Ok(RulesetStatus::NotEnforced) => Err("the kernel has no landlock".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("landlock: {error}")),
    }
}

fn forbid_calls(needs: &Needs) -> io::Result<()> {
    let command = |command: libc::c_int| [Argument::Is(1, command.cast_unsigned())];
    // The numbers are small, whatever type a C library has for them.
    let unsent = [Argument::Is(1, libc::TIOCOUTQ as u32)];
    let nonblocking = [Argument::Is(1, libc::FIONBIO as u32)];
    let (flags, set_flags) = (command(libc::F_GETFL), command(libc::F_SETFL));
    let name = [Argument::Is(0, libc::PR_SET_NAME.cast_unsigned())];
    let some: [(libc::c_long, &[Argument]); 5] = [
        (libc::SYS_prctl, &name),
        (libc::SYS_ioctl, &unsent),
        (libc::SYS_ioctl, &nonblocking),
        (libc::SYS_fcntl, &flags),
        (libc::SYS_fcntl, &set_flags),
    ];
    let filter = Filter::new(
        &[CALLS, needs.calls].concat(),
        &[&some[..], needs.some].concat(),
    );
    filter?.restrict_process()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::UdpSocket;
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Set for the child below.
    const VARIABLE: &str = "TALTUN_TEST_RESTRICT";

    /// Not a test of its own: what the child of the test below does. All threads of a process are
    /// restricted, so it takes one.
    #[test]
    fn child_that_is_restricted() {
        const NEEDS: Needs = Needs {
            calls: &[libc::SYS_bind],
            some: &[
                (
                    libc::SYS_openat,
                    &[Argument::Lacks(2, libc::O_ACCMODE.cast_unsigned())],
                ),
                (
                    libc::SYS_socket,
                    &[Argument::Is(0, libc::AF_INET.cast_unsigned())],
                ),
            ],
            directories: &["/etc", "/there is no such directory"],
            devices: &[],
            ports: &[],
        };
        if std::env::var_os(VARIABLE).is_none() {
            return;
        }
        let (ask, asked) = mpsc::channel::<()>();
        let start = || {
            Ok(thread::spawn(move || {
                let _ = asked.recv();
                opens("/dev/null")
            }))
        };
        let (rights, before) = restrict("taltun-test", &NEEDS, start).unwrap();
        assert!(rights.seccomp, "{rights:?}");
        assert_eq!(rights.landlock, rights.reason.is_none(), "{rights:?}");
        // Where the kernel has no Landlock, seccomp alone can't tell files apart.
        if rights.landlock {
            ask.send(()).unwrap();
            assert!(!before.join().unwrap(), "a thread that began before");
            assert!(!opens("/dev/null"));
        }
        assert!(opens("/etc/passwd"));
        assert!(File::create("/etc/taltun-test").is_err());
        assert!(UdpSocket::bind("127.0.0.1:0").is_ok());
        assert!(UdpSocket::bind("[::1]:0").is_err());
        // As libtest itself can't go on.
        std::process::exit(7);
    }

    fn opens(path: &str) -> bool {
        File::open(path).is_ok()
    }

    #[test]
    fn a_process_that_is_restricted_opens_what_it_needs_and_nothing_else() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("server_process::restrict::tests::child_that_is_restricted")
            .env(VARIABLE, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{told}");
    }

    /// Each holds without the other.
    #[test]
    fn without_seccomp_the_kernel_still_refuses_files() {
        let outcome = thread::spawn(|| {
            forbid_files(&Needs::default())?;
            Ok::<_, String>(File::open("/dev/null").map(drop))
        });
        match outcome.join().unwrap() {
            Ok(opened) => assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::PermissionDenied),
            Err(reason) => eprintln!("not tested: {reason}"),
        }
    }

    #[tokio::test]
    async fn what_it_may_do_is_told_before_anything_else() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let rights = ProcessRights {
            name: "taltun-test".to_owned(),
            user: 65534,
            seccomp: true,
            reason: Some("no\nlandlock".to_owned()),
            ..ProcessRights::default()
        };
        tell(&mut theirs, &rights).await.unwrap();
        theirs.write_all(b"next").await.unwrap();
        assert_eq!(told_rights(&mut ours).await.unwrap(), rights);
        let mut next = [0; 4];
        ours.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"next");
        theirs.write_all(&[b'x'; 2 * LINE_MAX]).await.unwrap();
        let error = told_rights(&mut ours).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
