//! What must hold of any input: a function for each thing that reads bytes of others.
//!
//! A target takes bytes, does with them what the program does, and compares: with a naive
//! reference, with what comes of the way back, or with what must always be so. It panics where
//! that doesn't hold. Three run them:
//!
//! * `tests/corpora.rs`, with each input of `corpus/NAME`, and some seconds with inputs made of
//!   those: a part of `cargo xtask test`;
//! * `libfuzzer/src/main.rs`, which libFuzzer leads to where nobody has been: `cargo xtask fuzz`;
//! * the same, with its corpus alone: `cargo xtask fuzz --coverage` tells what was never reached.

// Bytes of an input become numbers of any width, and a reference is written to be compared.
#![allow(
    clippy::unwrap_used,
    clippy::cast_lossless,
    reason = "a target is a test, of which a panic is the outcome"
)]

pub mod allocations;
mod checksums;
mod choices;
mod coalesce;
mod control;
mod dns;
mod filter;
mod fleet;
mod frames;
mod handshake;
mod headers;
mod hub_and_spokes;
mod hub_messages;
mod icmp;
mod inner;
mod inner_policy;
mod messages;
mod netlink;
mod pcapng;
mod replay;
mod request;
mod routes;
mod rules;
mod split;
mod tc_verdicts;
mod toml;
mod uapi;
mod udpgw;
mod verbs;
pub mod verdicts;
mod wgquick;
mod zone;

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called, and the directory of its corpus.
    pub name: &'static str,
    /// Runs it with an input.
    pub run: fn(&[u8]),
    /// Whether it runs eBPF programs, for which it takes root.
    pub loads_programs: bool,
}

/// Makes the list of targets, each in the module of its name: first those that run eBPF programs.
macro_rules! targets {
    ($($loads:ident),*; $($name:ident),*) => {
        &[$(Target {
            name: stringify!($loads),
            run: $loads::run,
            loads_programs: true,
        },)* $(Target {
            name: stringify!($name),
            run: $name::run,
            loads_programs: false,
        },)*]
    };
}

/// All of them.
pub const TARGETS: &[Target] = targets![
    tc_verdicts,
    verdicts;
    coalesce,
    control,
    dns,
    filter,
    fleet,
    frames,
    handshake,
    headers,
    hub_and_spokes,
    hub_messages,
    icmp,
    inner,
    inner_policy,
    messages,
    netlink,
    pcapng,
    replay,
    request,
    routes,
    rules,
    split,
    toml,
    uapi,
    udpgw,
    verbs,
    wgquick,
    zone
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
