//! `cargo xtask`: the tasks of this repository that are more than one command.

mod apt;
mod backports;
mod bench;
mod build;
mod built_of;
mod chaos;
mod deny;
mod dist;
mod fuzz;
mod instructions;
mod inventory;
mod kani;
mod miri;
mod mutants;
mod pictures;
mod run;
mod sanitizers;
mod scale;
mod setup;
mod soak;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sanitizers::Sanitizer;

/// The tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs the lab: a hub and two spokes with real traffic, drawn, with keys to ban, flood and kill.
    Run(run::Arguments),
    /// Runs every test: unit tests, then the whole-system tests, which need root.
    Test(test::Arguments),
    /// Measures Taltun beside every other WireGuard found on PATH, as root.
    Bench(Box<bench::Arguments>),
    /// Counts the instructions that a packet costs and compares with the committed limits.
    Instructions(instructions::Arguments),
    /// Simulates what a hub would carry on 8, 32 and 64 cores.
    Scale(scale::Arguments),
    /// Looks for data races in what threads share, with the thread sanitizer.
    Tsan(sanitizers::Arguments),
    /// Looks for misused memory in all library tests, with the address sanitizer.
    Asan(sanitizers::Arguments),
    /// Looks for what Rust doesn't allow, with Miri, where the toolchain has it.
    Miri(miri::Arguments),
    /// Proves small things for all values at once, with Kani, where there is Kani.
    Kani(kani::Arguments),
    /// Looks for inputs that break a parser, with libFuzzer.
    Fuzz(fuzz::Arguments),
    /// Writes the pages about `unsafe` and dependencies, and checks licences and sources.
    Inventory(inventory::Arguments),
    /// Has cargo-deny look at licences, sources and known weaknesses of what the program is built of.
    Deny(deny::Arguments),
    /// Puts faults into copies of the protocol, each of which the model has to find.
    Mutants(mutants::Arguments),
    /// Makes faults around a tunnel, and looks at what comes of each.
    Chaos(chaos::Arguments),
    /// Has traffic and changes for hours, and looks whether memory and descriptors grow.
    Soak(soak::Arguments),
    /// Runs tests on other kernels, each in a virtual machine.
    Vm(vm::Arguments),
    /// Makes packages, an archive and their sums, and tries the package for Debian.
    Dist(dist::Arguments),
    /// Makes the pictures of the README from what runs, as root.
    Pictures(pictures::Arguments),
    /// Installs what building the eBPF programs needs, where it is missing.
    Ebpf,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Run(arguments) => run::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Instructions(arguments) => instructions::run(&arguments),
        Task::Scale(arguments) => scale::run(&arguments),
        Task::Tsan(arguments) => sanitizers::run(Sanitizer::Thread, &arguments),
        Task::Asan(arguments) => sanitizers::run(Sanitizer::Address, &arguments),
        Task::Miri(arguments) => miri::run(&arguments),
        Task::Kani(arguments) => kani::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Inventory(arguments) => inventory::run(&arguments),
        Task::Deny(arguments) => deny::run(&arguments),
        Task::Mutants(arguments) => mutants::run(&arguments),
        Task::Chaos(arguments) => chaos::run(&arguments),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Vm(arguments) => vm::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Pictures(arguments) => pictures::run(&arguments),
        Task::Ebpf => setup::ebpf_toolchain().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
