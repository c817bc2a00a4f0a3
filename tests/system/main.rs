//! The whole-system tests: real `taltun` processes in network namespaces, real packets.
//!
//! `cargo xtask test` runs them and gives them the `taltun` they are about. They run one
//! after the other, as each wants the machine for itself, but for a few that do little but
//! wait ([`beside`]). No test depends on how fast the machine is beyond limits that are an
//! order of magnitude away.
//!
//! A test that needs what isn't there (root, a program) is ignored, and says why.

mod af_xdp;
mod af_xdp_changes;
mod af_xdp_exits;
mod af_xdp_marks;
mod af_xdp_polling;
mod bad_wire;
mod bans;
mod bans_meant;
mod beside;
mod clones;
mod cookies;
mod ends;
mod flaps;
mod garbage;
mod headers;
mod hooks;
mod import;
mod in_anothers_name;
mod interop;
mod keepalive;
mod keeping;
mod kill_switch;
mod kill_switch_inbound;
mod kill_switch_left;
mod lifecycle;
mod locked_out;
mod loops;
mod manners;
mod name_routes;
mod name_routes_refused;
mod name_routes_restart;
mod named_endpoints;
mod network;
mod own_networks;
mod peer_log;
mod reach;
mod recipes;
mod refusals;
mod rekey;
mod reloads;
mod restart;
mod roaming;
mod router;
mod router_names;
mod secrecy;
mod soak;
mod sources;
mod support;
mod toolkit;
mod tools;
mod vagrant;
mod watch;
mod wireguard;
mod words;
mod zero_copy;
mod zero_copy_queues;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use taltun_tests::{lab, sys, topology};

use support::Case;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if sys::is_root()
        && let Err(error) = topology::remove_remains_of_dead_tests()
    {
        eprintln!("can't clean up after earlier tests: {error:#}");
    }
    let mut cases: Vec<Case> = [
        toolkit::CASES,
        reach::CASES,
        bans::CASES,
        bans_meant::CASES,
        sources::CASES,
        lifecycle::CASES,
        refusals::CASES,
        words::CASES,
        peer_log::CASES,
        restart::CASES,
        garbage::CASES,
        bad_wire::CASES,
        interop::CASES,
        tools::CASES,
        roaming::CASES,
        loops::CASES,
        manners::CASES,
        flaps::CASES,
        headers::CASES,
        own_networks::CASES,
        secrecy::CASES,
        cookies::CASES,
        locked_out::CASES,
        in_anothers_name::CASES,
        clones::CASES,
        recipes::CASES,
        hooks::CASES,
        import::CASES,
        kill_switch::CASES,
        kill_switch_inbound::CASES,
        kill_switch_left::CASES,
        keeping::CASES,
        name_routes::CASES,
        name_routes_refused::CASES,
        name_routes_restart::CASES,
        named_endpoints::CASES,
        reloads::CASES,
        router::CASES,
        router_names::CASES,
        network::CASES,
        vagrant::CASES,
        af_xdp::CASES,
        af_xdp_changes::CASES,
        af_xdp_exits::CASES,
        af_xdp_marks::CASES,
        af_xdp_polling::CASES,
        zero_copy::CASES,
        zero_copy_queues::CASES,
    ]
    .concat();
    // The same again with another back end for what comes in.
    let over_af_xdp: Vec<Case> = [
        reach::CASES,
        bans::CASES,
        sources::CASES,
        garbage::CASES,
        bad_wire::CASES,
        own_networks::CASES,
    ]
    .concat();
    // They take minutes, so they have to be asked for by name.
    let filter = arguments.filter.as_deref().unwrap_or_default();
    if filter.starts_with(soak::FILTER) {
        cases.extend_from_slice(soak::CASES);
    }
    let waiting = [rekey::CASES, keepalive::CASES, manners::WAITING].concat();
    let beside = beside::start(&waiting, &arguments);
    let trials = cases.into_iter().map(|case| trial(case, false));
    let again = over_af_xdp.into_iter().map(|case| trial(case, true));
    let trials = trials.chain(again).chain(beside).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(case: Case, over_af_xdp: bool) -> Trial {
    let name = if over_af_xdp {
        format!("over AF_XDP: {}", case.name)
    } else {
        case.name.to_owned()
    };
    Trial::ignorable_test(name, move || {
        if let Some(reason) = case.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        // Tests run one after the other.
        lab::use_af_xdp(over_af_xdp);
        // With `#` an error shows what caused it.
        (case.run)().map_err(|error| Failed::from(format!("{error:#}")))?;
        Ok(Completion::Completed)
    })
}
