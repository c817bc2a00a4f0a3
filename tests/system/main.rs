//! The whole-system tests: real `taltun` processes in network namespaces, real packets.
//!
//! `cargo xtask test` runs them and gives them the `taltun` they are about. Each has network
//! namespaces of its own, so most run side by side; those that load the machine, or want what
//! it has once, follow one after the other. A few that do little but wait run beside both
//! ([`beside`]). No test depends on how fast the machine is beyond limits that are an order of
//! magnitude away.
//!
//! A test that needs what isn't there (root, a program) is ignored, and says why.

mod af_xdp;
mod af_xdp_changes;
mod af_xdp_exits;
mod af_xdp_marks;
mod audit;
mod bad_wire;
mod bans;
mod bans_meant;
mod beside;
mod capture;
mod chaos;
mod clones;
mod codes;
mod cookies;
mod diagnosis;
mod drawn_lab;
mod ends;
mod explain;
mod flaps;
mod fleet;
mod fleet_group;
mod fleet_keys;
mod fleet_mesh;
mod fleet_nudge;
mod fleet_outage;
mod fleet_relay;
mod forwards;
mod forwards_around;
mod garbage;
mod headers;
mod hooks;
mod hop;
mod hop_bounds;
mod hop_places;
mod hopping;
mod idle;
mod import;
mod in_anothers_name;
mod interop;
mod json;
mod keepalive;
mod keeping;
mod keeping_rules;
mod key_files;
mod kill_switch;
mod kill_switch_inbound;
mod kill_switch_left;
mod kill_switch_seen;
mod led_ports;
mod led_ports_around;
mod led_ports_homes;
mod led_ports_many;
mod led_ports_ways;
mod lifecycle;
mod limits;
mod locked_out;
mod loops;
mod manners;
mod metrics;
mod name_routes;
mod name_routes_around;
mod name_routes_lab;
mod name_routes_refused;
mod name_routes_restart;
mod named_endpoints;
mod names;
mod nat64;
mod network;
mod order;
mod overruled;
mod own_networks;
mod page_walk;
mod peer_log;
mod peers;
mod peers_around;
mod peers_changes;
mod ping;
mod pretenders;
mod printed_once;
mod priority;
mod problems;
mod raw_peer;
mod reach;
mod recipes;
mod refusals;
mod rekey;
mod reloads;
mod restart;
mod rights;
mod rights_silent;
mod roaming;
mod router;
mod router_names;
mod rules;
mod screens;
mod secrecy;
mod secrets;
mod service;
mod shaping;
mod soak;
mod sources;
mod sparse_queue;
mod stuck;
mod support;
mod times;
mod toolkit;
mod tools;
mod trace;
mod trace_reasons;
mod tracer;
mod two_peers;
mod udpgw;
mod udpgw_hub;
mod undo_others;
mod unread_log;
mod usage;
mod vagrant;
mod vagrant_shown;
mod watch;
mod web;
mod wireguard;
mod without_ipv6;
mod words;
mod zero_copy;
mod zero_copy_queues;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use taltun_tests::{lab, sys, topology};

use support::Case;

/// How many tests run side by side. Most of their time they wait, for a timer or for an answer.
const SIDE_BY_SIDE: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if sys::is_root()
        && let Err(error) = topology::remove_remains_of_dead_tests()
    {
        eprintln!("can't clean up after earlier tests: {error:#}");
    }
    let beside = beside::start(&waiting(), &arguments);
    let side_by_side = side_by_side().into_iter().map(|case| trial(case, false));
    let again = side_by_side_over_af_xdp();
    let side_by_side = side_by_side.chain(again.into_iter().map(|case| trial(case, true)));
    let mut alone = alone();
    // They take minutes, so they have to be asked for by name.
    let filter = arguments.filter.as_deref().unwrap_or_default();
    if filter.starts_with(soak::FILTER) {
        alone.extend_from_slice(soak::CASES);
    }
    let alone = alone.into_iter().map(|case| trial(case, false));
    let again = alone_over_af_xdp()
        .into_iter()
        .map(|case| trial(case, true));

    let chosen = arguments.test_threads;
    arguments.test_threads = chosen.or(Some(SIDE_BY_SIDE));
    let together = libtest_mimic::run(&arguments, side_by_side.collect());
    arguments.test_threads = Some(1);
    let in_turn = libtest_mimic::run(&arguments, alone.chain(again).chain(beside).collect());
    times::tell();
    if together.has_failed() || in_turn.has_failed() {
        ExitCode::from(101)
    } else {
        ExitCode::SUCCESS
    }
}

/// Tests that leave the machine to others most of the time.
fn side_by_side() -> Vec<Case> {
    [
        order::CASES,
        sparse_queue::CASES,
        reach::CASES,
        audit::CASES,
        bans::CASES,
        bans_meant::CASES,
        json::CASES,
        led_ports::CASES,
        led_ports_around::CASES,
        led_ports_homes::CASES,
        led_ports_many::CASES,
        led_ports_ways::CASES,
        lifecycle::CASES,
        refusals::CASES,
        words::CASES,
        key_files::CASES,
        peer_log::CASES,
        peers::CASES,
        peers_changes::CASES,
        peers_around::CASES,
        ping::CASES,
        printed_once::CASES,
        restart::CASES,
        rights::CASES,
        rights_silent::CASES,
        roaming::CASES,
        loops::CASES,
        flaps::CASES,
        fleet::CASES,
        fleet_mesh::CASES,
        fleet_keys::CASES,
        fleet_nudge::CASES,
        headers::CASES,
        idle::CASES,
        own_networks::CASES,
        secrecy::CASES,
        secrets::CASES,
        chaos::CASES,
        cookies::CASES,
        locked_out::CASES,
        in_anothers_name::CASES,
        clones::CASES,
        recipes::CASES,
        import::CASES,
        kill_switch::CASES,
        kill_switch_inbound::CASES,
        kill_switch_left::CASES,
        kill_switch_seen::CASES,
        undo_others::CASES,
        stuck::CASES,
        service::CASES,
        keeping::CASES,
        keeping_rules::CASES,
        overruled::CASES,
        name_routes::CASES,
        names::CASES,
        name_routes_around::CASES,
        name_routes_refused::CASES,
        name_routes_restart::CASES,
        named_endpoints::CASES,
        nat64::CASES,
        reloads::CASES,
        router::CASES,
        router_names::CASES,
        network::CASES,
        without_ipv6::CASES,
        vagrant::CASES,
        diagnosis::CASES,
        udpgw::CASES,
        udpgw_hub::CASES,
        metrics::CASES,
        web::FORMS,
        web::ABUSE,
        web::PEERS,
        web::PROCESS,
        web::BROWSER,
        rules::CASES,
        screens::CASES,
        forwards::CASES,
        forwards_around::CASES,
        pretenders::CASES,
        explain::CASES,
        problems::CASES,
        trace::CASES,
        trace_reasons::CASES,
        capture::CASES,
        unread_log::CASES,
        interop::CASES,
        tools::CASES,
        manners::CASES,
        hooks::CASES,
        limits::CASES,
        usage::CASES,
        hop::CASES,
        hop_bounds::CASES,
        hop_places::CASES,
        hopping::CASES,
    ]
    .concat()
}

/// Tests that load the machine, that measure its load, or that use what it has only once.
fn alone() -> Vec<Case> {
    [
        toolkit::CASES,
        drawn_lab::CASES,
        sources::CASES,
        garbage::CASES,
        bad_wire::CASES,
        interop::BULK,
        hopping::ALONE,
        capture::ALONE,
        shaping::CASES,
        fleet_group::CASES,
        fleet_outage::CASES,
        fleet_relay::CASES,
        priority::CASES,
        af_xdp::CASES,
        af_xdp_changes::CASES,
        af_xdp_exits::CASES,
        af_xdp_marks::CASES,
        zero_copy::CASES,
        zero_copy_queues::CASES,
    ]
    .concat()
}

/// Those side by side that are run once more with another back end for what comes in.
fn side_by_side_over_af_xdp() -> Vec<Case> {
    [
        order::CASES,
        reach::CASES,
        bans::CASES,
        own_networks::CASES,
        capture::CASES,
    ]
    .concat()
}

/// Those alone that are.
fn alone_over_af_xdp() -> Vec<Case> {
    [sources::CASES, garbage::CASES, bad_wire::CASES].concat()
}

/// Tests that take minutes in which they do nothing.
fn waiting() -> Vec<Case> {
    [rekey::CASES, keepalive::CASES, manners::WAITING].concat()
}

fn trial(case: Case, over_af_xdp: bool) -> Trial {
    let name = if over_af_xdp {
        format!("over AF_XDP: {}", case.name)
    } else {
        case.name.to_owned()
    };
    let taken = name.clone();
    Trial::ignorable_test(name, move || {
        topology::start_test();
        lab::use_af_xdp(over_af_xdp);
        if let Some(reason) = case.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        // With `#` an error shows what caused it.
        times::taken(&taken, case.run).map_err(|error| Failed::from(format!("{error:#}")))?;
        Ok(Completion::Completed)
    })
}
