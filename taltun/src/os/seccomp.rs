//! Restricts the system calls of a thread for good (seccomp).
//!
//! | a call | what becomes of it |
//! |---|---|
//! | that the thread needs | allowed |
//! | that only an intruder makes: to run a program, to load code, to reach into other processes | the process ends |
//! | any other | fails with `EPERM`, and is counted |
//!
//! A thread that runs code of an intruder must not go on. But no list of what a C library does in
//! rare cases is complete, and it copes with an error: a hub must not end for a call that is harmless.
//! What is counted is told, so that the list can be mended.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Once;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustix::thread::set_no_new_privs;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

/// What nobody calls by mistake.
const OF_INTRUDERS: &[libc::c_long] = &[
    // Other programs and their memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Code in the kernel.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    // Parts of the kernel that are attacked often.
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Other rights, another view of the machine.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_capset,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_reboot,
];

/// What Rust and the C library need in every thread. None of it opens anything.
const OF_EVERY_THREAD: &[libc::c_long] = &[
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Clocks, where they aren't read without the kernel.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    // Memory, of which some more has conditions.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getrandom,
    // glibc asks how many cores there are before it makes an arena.
    libc::SYS_sched_getaffinity,
    // The end of a thread, signals, and an orderly end of the process after a fault.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_getpid,
    libc::SYS_gettid,
];

/// Condition on an argument of a call, of which the lower 32 bits count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    /// The argument of this number is this.
    Is(u8, u32),
    /// The argument of this number has none of these bits.
    Lacks(u8, u32),
}

/// Memory that is no code, of calls whose third argument says so.
const NO_CODE: &[Argument] = &[Argument::Lacks(2, libc::PROT_EXEC.cast_unsigned())];

/// What a thread may call.
#[derive(Debug)]
pub(crate) struct Filter {
    /// The kernel runs all of them, and does the worst that one says.
    programs: [BpfProgram; 2],
}

impl Filter {
    /// Allows what every thread of this process needs, `calls`, and each of `some` whose arguments are
    /// all as is said.
    ///
    /// # Errors
    /// `Unsupported` on a kind of processor that isn't known here.
    pub(crate) fn new(
        calls: &[libc::c_long],
        some: &[(libc::c_long, &[Argument])],
    ) -> io::Result<Self> {
        let calls = OF_EVERY_THREAD.iter().chain(calls);
        let mut allowed: Rules = calls.map(|call| (*call, Vec::new())).collect();
        let this_process = Argument::Is(0, std::process::id());
        let signal = |argument, signal: libc::c_int| Argument::Is(argument, signal.cast_unsigned());
        let of_every_thread: [(libc::c_long, &[Argument]); 8] = [
            // Memory that isn't code.
            (libc::SYS_mmap, NO_CODE),
            (libc::SYS_mprotect, NO_CODE),
            // Rust's own library looks whether a file that it closes is open, where it checks itself.
            (
                libc::SYS_fcntl,
                &[Argument::Is(1, libc::F_GETFD.cast_unsigned())],
            ),
            // A panic ends in `abort`, which is a signal to this thread; a stack that overflows in
            // another. Both first go back to what the kernel does by itself.
            (libc::SYS_tgkill, &[this_process, signal(2, libc::SIGABRT)]),
            (libc::SYS_tkill, &[signal(1, libc::SIGABRT)]),
            (libc::SYS_rt_sigaction, &[signal(0, libc::SIGABRT)]),
            (libc::SYS_rt_sigaction, &[signal(0, libc::SIGSEGV)]),
            (libc::SYS_rt_sigaction, &[signal(0, libc::SIGBUS)]),
        ];
        for (call, arguments) in of_every_thread.iter().chain(some) {
            let conditions = arguments.iter().map(|argument| argument.condition());
            let conditions: Result<Vec<_>, _> = conditions.collect();
            let rule = SeccompRule::new(conditions.map_err(odd)?).map_err(odd)?;
            allowed.entry(*call).or_default().push(rule);
        }
        let denied = OF_INTRUDERS.iter().map(|call| (*call, Vec::new()));
        let denied = denied.collect();
        Ok(Self {
            programs: [
                program(denied, SeccompAction::Allow, SeccompAction::KillProcess)?,
                program(allowed, SeccompAction::Trap, SeccompAction::Allow)?,
            ],
        })
    }

    /// Restricts all threads of this process, and each that they start.
    ///
    /// # Errors
    /// As [`Filter::restrict`], or where a thread has a filter that this one has not.
    pub(crate) fn restrict_process(&self) -> io::Result<()> {
        self.restrict_with(libc::SECCOMP_FILTER_FLAG_TSYNC)
    }

    /// Restricts this thread, and each that it starts.
    ///
    /// # Errors
    /// `EINVAL` or `ENOSYS` where the kernel can't (`CONFIG_SECCOMP_FILTER`), `EACCES` or `EPERM` where
    /// this process may not.
    pub(crate) fn restrict(&self) -> io::Result<()> {
        self.restrict_with(0)
    }

    fn restrict_with(&self, flags: libc::c_ulong) -> io::Result<()> {
        answer_traps()?;
        set_no_new_privs(true)?;
        let mut programs = self.programs.iter();
        programs.try_for_each(|program| attach(program, flags))
    }
}

impl Argument {
    fn condition(self) -> Result<SeccompCondition, BackendError> {
        let (number, operator, value) = match self {
            Self::Is(number, value) => (number, SeccompCmpOp::Eq, value),
            Self::Lacks(number, bits) => (number, SeccompCmpOp::MaskedEq(bits.into()), 0),
        };
        SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value.into())
    }
}

/// Calls that were refused in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RefusedCalls {
    /// How many.
    pub(crate) count: u64,
    /// The number of the last one.
    pub(crate) last: i64,
}

static REFUSED: AtomicU64 = AtomicU64::new(0);
static LAST_REFUSED: AtomicI64 = AtomicI64::new(0);

/// Those since this process began.
pub(crate) fn refused_calls() -> RefusedCalls {
    RefusedCalls {
        count: REFUSED.load(Ordering::Relaxed),
        last: LAST_REFUSED.load(Ordering::Relaxed),
    }
}

/// By a call's number, when it is meant; for all, without any.
type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// What is done with the calls of `rules`, and with all others.
fn program(rules: Rules, others: SeccompAction, these: SeccompAction) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH);
    let arch = arch.map_err(|_| io::ErrorKind::Unsupported)?;
    let filter = SeccompFilter::new(rules, others, these, arch).map_err(odd)?;
    filter.try_into().map_err(odd)
}

fn odd(error: BackendError) -> io::Error {
    io::Error::other(error)
}

/// By the call itself, as no library has its flag: without it, kernels before 5.16 make this thread's
/// every wrong guess of the processor dear (Spectre, version 4), which is for those that run programs of
/// others.
fn attach(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel reads `len` instructions at `filter`, which are laid out as it has them and
    // outlive the call, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | flags,
            &raw const program,
        )
    };
    match result {
        0 => Ok(()),
        1.. => Err(io::Error::other(format!(
            "thread {result} has another filter"
        ))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a call that a filter traps fail and be counted, from now on.
fn answer_traps() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut outcome = Ok(());
    ONCE.call_once(|| {
        // SAFETY: all-zero is a valid sigaction: no flags, no signal blocked.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        let handler: extern "C" fn(_, _, _) = on_trap;
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: `action` is initialised and outlives the call; its handler has the form that
        // SA_SIGINFO asks for, and does nothing but what a signal's handler may.
        let result =
            unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
        if result != 0 {
            outcome = Err(io::Error::last_os_error());
        }
    });
    outcome
}

/// Runs in the thread whose call was trapped, in place of the call.
extern "C" fn on_trap(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    /// `SYS_SECCOMP` of `asm-generic/siginfo.h`: a filter has trapped a call.
    const OF_FILTER: libc::c_int = 1;
    // SAFETY: the kernel gives a handler with SA_SIGINFO both, and they are its alone until it
    // returns.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    if info.si_code == OF_FILTER {
        let call = fail(&mut context.uc_mcontext);
        LAST_REFUSED.store(call, Ordering::Relaxed);
        REFUSED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Has the call that these registers are of fail with `EPERM`. Returns its number.
#[cfg(target_arch = "x86_64")]
fn fail(registers: &mut libc::mcontext_t) -> i64 {
    let result = &mut registers.gregs[libc::REG_RAX as usize];
    mem::replace(result, -i64::from(libc::EPERM))
}

/// As above.
#[cfg(target_arch = "aarch64")]
fn fail(registers: &mut libc::mcontext_t) -> i64 {
    registers.regs[0] = (-i64::from(libc::EPERM)).cast_unsigned() as _;
    registers.regs[8] as i64
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn what_is_not_allowed_fails_and_is_counted() {
        let before = refused_calls();
        let filter = Filter::new(&[libc::SYS_getppid], &[]).unwrap();
        let (opened, parent) = thread::spawn(move || {
            filter.restrict().unwrap();
            // SAFETY: the call has no arguments.
            (File::open("/dev/null"), unsafe { libc::getppid() })
        })
        .join()
        .unwrap();
        let refused = opened.unwrap_err().raw_os_error();
        assert_eq!(refused, Some(libc::EPERM));
        assert!(parent >= 0);
        let after = refused_calls();
        assert!(after.count > before.count);
        // Other threads go on.
        File::open("/dev/null").unwrap();
    }

    #[test]
    fn arguments_decide_where_they_are_asked_for() {
        let of_first_file: &[Argument] = &[
            Argument::Is(0, 1),
            Argument::Is(1, libc::F_GETFL.cast_unsigned()),
        ];
        let filter = Filter::new(&[], &[(libc::SYS_fcntl, of_first_file)]).unwrap();
        let answers = thread::spawn(move || {
            filter.restrict().unwrap();
            let protect = |how| {
                // SAFETY: a length of zero changes no page.
                unsafe { libc::mprotect(std::ptr::null_mut(), 0, how) }
            };
            let flags = |fd, command| {
                // SAFETY: both commands only read flags.
                unsafe { libc::fcntl(fd, command) >= 0 }
            };
            [
                protect(libc::PROT_READ) == 0,
                protect(libc::PROT_READ | libc::PROT_EXEC) == 0,
                flags(1, libc::F_GETFL),
                flags(2, libc::F_GETFL),
                flags(2, libc::F_GETFD),
            ]
        });
        assert_eq!(answers.join().unwrap(), [true, false, true, false, true]);
    }

    /// Set for the child below.
    const VARIABLE: &str = "TALTUN_TEST_SECCOMP";

    /// Not a test of its own: what the child of the test below does.
    #[test]
    fn child_that_runs_a_program() {
        if std::env::var_os(VARIABLE).is_none() {
            return;
        }
        let filter = Filter::new(&[], &[]).unwrap();
        let _ = thread::spawn(move || {
            filter.restrict().unwrap();
            let path = c"/bin/true".as_ptr();
            // SAFETY: the path is a C string, and both lists are empty.
            unsafe {
                libc::execve(
                    path,
                    [std::ptr::null()].as_ptr(),
                    [std::ptr::null()].as_ptr(),
                )
            }
        })
        .join();
    }

    #[test]
    fn who_would_run_a_program_ends_with_the_process() {
        use std::os::unix::process::ExitStatusExt;
        let test = "os::seccomp::tests::child_that_runs_a_program";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(VARIABLE, "1")
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
    }
}
