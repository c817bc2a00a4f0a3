//! The system calls and files of such a process, once all that it uses is open: what it takes to talk to
//! clients and to the tunnel, and no file at all.

use std::io;
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
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
];

/// The longest line in which a process says what it may do, bytes.
const LINE_MAX: usize = 4096;

/// From now on this thread, which is the only one, can open nothing. What the kernel can't forbid is
/// told; nothing else is less safe for that.
pub(super) fn restrict(name: &str) -> ProcessRights {
    // Seccomp refuses what all this takes, so it comes last.
    let user = getuid().as_raw();
    let capabilities = capabilities::held().map_or_else(|_| Vec::new(), capabilities::names);
    let landlock = forbid_files();
    let seccomp = forbid_calls().map_err(|error| format!("seccomp: {error}"));
    let reasons = [&landlock, &seccomp].map(|outcome| outcome.as_ref().err().cloned());
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    ProcessRights {
        name: name.to_owned(),
        user,
        capabilities,
        seccomp: seccomp.is_ok(),
        landlock: landlock.is_ok(),
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
    }
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

/// No file, no port and no socket of others, as far as this kernel can forbid that.
fn forbid_files() -> Result<(), String> {
    let forbid = || -> Result<RulesetStatus, RulesetError> {
        // The newest that this library and an older kernel both know is chosen by itself.
        let all = ABI::V6;
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(all))?
            .handle_access(AccessNet::from_all(all))?
            .scope(Scope::from_all(all))?;
        Ok(ruleset.create()?.restrict_self()?.ruleset)
    };
    match forbid() {
        Ok(RulesetStatus::NotEnforced) => Err("the kernel has no landlock".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("landlock: {error}")),
    }
}

fn forbid_calls() -> io::Result<()> {
    let command = |command: libc::c_int| [Argument::Is(1, command.cast_unsigned())];
    // The numbers are small, whatever type a C library has for them.
    let unsent = [Argument::Is(1, libc::TIOCOUTQ as u32)];
    let nonblocking = [Argument::Is(1, libc::FIONBIO as u32)];
    let filter = Filter::new(
        CALLS,
        &[
            (libc::SYS_ioctl, &unsent),
            (libc::SYS_ioctl, &nonblocking),
            (libc::SYS_fcntl, &command(libc::F_GETFL)),
            (libc::SYS_fcntl, &command(libc::F_SETFL)),
        ],
    );
    filter?.restrict()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_process_that_is_restricted_opens_nothing() {
        let opened = thread::spawn(|| {
            let rights = restrict("taltun-test");
            let opened = File::open("/dev/null").map(drop);
            (rights, opened, TcpListener::bind("127.0.0.1:0").map(drop))
        });
        let (rights, opened, bound) = opened.join().unwrap();
        assert!(rights.seccomp, "{rights:?}");
        assert_eq!(rights.landlock, rights.reason.is_none(), "{rights:?}");
        for outcome in [opened, bound] {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
    }

    /// Each holds without the other.
    #[test]
    fn without_seccomp_the_kernel_still_refuses_files() {
        let outcome = thread::spawn(|| {
            forbid_files()?;
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
