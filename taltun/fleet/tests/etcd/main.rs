//! The store's client against real etcd, as Debian packages it: one member and three, killed,
//! stopped, compacted, restored, full, and behind a proxy that lets nothing through.
//!
//! All of it is on the loopback interface of a network namespace of its own, in which this
//! program starts itself again. Where something is missing, each test is ignored and says what.

#![allow(
    clippy::unwrap_used,
    reason = "only tests, with helpers that clippy doesn't take for such"
)]

mod cluster;
mod edits;
mod faults;
mod history;
mod load;
mod proxy;
mod seen;
mod tls;
mod work;

use std::env;
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Set where the program is in its namespace.
const INSIDE: &str = "TALTUN_FLEET_NAMESPACE";
/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// A test: what it says, and what it does.
type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Makes the table of tests.
macro_rules! tests {
    ($($test:path),* $(,)?) => {
        &[$((stringify!($test), || Box::pin($test()))),*]
    };
}

const TESTS: &[Test] = tests![
    work::what_is_written_is_listed_watched_and_gone,
    work::a_key_of_a_lease_goes_with_its_hub_and_comes_back_with_etcd,
    work::homes_of_three_hubs_are_written_slowly_and_agree,
    work::records_of_a_newer_version_are_left_alone,
    edits::a_name_and_an_address_are_one_peers,
    edits::a_token_makes_one_hub,
    faults::the_leader_is_killed_and_nothing_is_lost,
    faults::etcd_is_away_and_nothing_is_deleted,
    faults::a_member_without_the_others_changes_nothing_and_says_so,
    faults::a_member_that_hangs_costs_its_limit_once,
    faults::a_store_that_hangs_is_told_as_lost,
    faults::a_full_store_is_told_and_read,
    history::compaction_hides_nothing,
    history::an_old_backup_brings_nobody_back,
    tls::only_who_has_the_certificates_gets_in,
    tls::without_an_etcd_user_nothing_is_read,
    load::ten_thousand_peers,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let obstacle = obstacle();
    if obstacle.is_none() && env::var_os(INSIDE).is_none() && !arguments.list {
        return enter();
    }
    let trials = TESTS.iter().map(|(name, test)| {
        let obstacle = obstacle.clone();
        let name = format!("etcd: {}", name.replace("::", ": ").replace('_', " "));
        Trial::ignorable_test(name, move || match obstacle {
            Some(obstacle) => Ok(Completion::ignored_with(obstacle)),
            None => run(*test).map(|()| Completion::Completed),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run(test: fn() -> Pin<Box<dyn Future<Output = ()>>>) -> Result<(), Failed> {
    // etcdctl is waited for in the test's own thread, and all else goes on meanwhile.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, test()).await });
    // What still looks up a name isn't waited for.
    runtime.shutdown_background();
    ended.map_err(|_| Failed::from("it hangs"))
}

/// What is missing for these tests, if anything is.
fn obstacle() -> Option<String> {
    let programs = ["etcd", "etcdctl", "openssl", "unshare", "ip", "kill"];
    let is_missing = |program: &&str| {
        let paths = env::var_os("PATH").unwrap_or_default();
        !env::split_paths(&paths).any(|dir| dir.join(program).exists())
    };
    if let Some(missing) = programs.into_iter().find(is_missing) {
        return Some(format!("there is no {missing}"));
    }
    let is_root = Command::new("id").arg("-u").output();
    let is_root = is_root.is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    (!is_root).then(|| "it makes a network namespace, which takes root".to_owned())
}

/// Starts this program again in a network namespace of its own.
fn enter() -> ExitCode {
    let program = env::current_exe().unwrap_or_else(|_| Path::new("/proc/self/exe").into());
    let error = Command::new("unshare")
        .args([
            "--net",
            "sh",
            "-c",
            "ip link set lo up && exec \"$@\"",
            "sh",
        ])
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    eprintln!("no namespace: {error}");
    ExitCode::FAILURE
}
