//! The eBPF programs, run for real: each frame of a named corpus through the kernel by
//! `BPF_PROG_TEST_RUN`; conversations of two protocol cores, of which nothing that is accepted
//! may be dropped; and the whole shield on a veth pair between two network namespaces.
//!
//! With `--bench`, how long each verdict takes.
//!
//! This needs root and a kernel that lets it use `bpf()`; otherwise every test says so and
//! is counted as ignored.

mod corpus;
mod frames;
mod full;
mod hop;
mod latency;
mod load;
mod programs;
mod property;
mod redirect;
mod samples;
mod shield;
mod switches;
mod tun_queue;
mod tunnel;

use std::error::Error;

use aya::Ebpf;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let obstacle = obstacle();
    let trials = corpus::tests()
        .chain(switches::tests())
        .chain(load::tests())
        .chain(tunnel::tests())
        .chain(tun_queue::tests())
        .chain(samples::tests())
        .chain(full::tests())
        .chain(hop::tests())
        .chain(property::tests())
        .chain(redirect::tests())
        .chain(shield::tests())
        .map(|(name, test)| {
            let obstacle = obstacle.clone();
            Trial::ignorable_test(name, move || match obstacle {
                Some(obstacle) => Ok(Completion::ignored_with(obstacle)),
                None => test().map(|()| Completion::Completed),
            })
        })
        .chain(latency::benches(obstacle.is_none()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test's name and what it does.
type Test = (String, Box<dyn FnOnce() -> Result<(), Failed> + Send>);

/// The same for a test that needs nothing.
type NamedTest = (&'static str, fn() -> Result<(), Failed>);

/// Why nothing here can run, if so. A program that the verifier refuses isn't a reason: it
/// is a failure.
fn obstacle() -> Option<String> {
    // SAFETY: geteuid has no arguments and can't fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root".into());
    }
    let error = Ebpf::load(taltun::accel::OBJECT).err()?;
    let mut next: Option<&dyn Error> = Some(&error);
    while let Some(error) = next {
        let os_error = error.downcast_ref().and_then(std::io::Error::raw_os_error);
        if matches!(os_error, Some(libc::EPERM | libc::ENOSYS)) {
            return Some(format!("this kernel doesn't let root use bpf(): {error}"));
        }
        next = error.source();
    }
    None
}
