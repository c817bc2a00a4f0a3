//! `cargo xtask soak`: hours of traffic and changes, and whether memory and descriptors stay as they are.
//! What a round is: `tests/src/soak`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use taltun_tests::soak::{Growth, Soak};
use taltun_tests::sys;

use crate::build;
use crate::setup;

/// The namespaces' names begin with it.
const PREFIX: &str = "taltun-soak";
/// From one line of figures to the next.
const TELL: Duration = Duration::from_mins(1);

/// No session goes on for longer without another handshake: they are renewed each 120 s.
const RENEWED: Duration = Duration::from_mins(3);

/// The arguments of `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How long it goes on, such as 2 or 0.1.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    hours: f64,
}

/// Rounds, one after the other; one that fails ends it.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lasting = Duration::try_from_secs_f64(arguments.hours * 3600.0)
        .context("--hours takes a number of hours")?;
    if !sys::is_root() {
        bail!("soak makes network namespaces and needs root: run this as root");
    }
    let taltun = build::taltun()?;
    setup::programs(setup::LAB)?;
    let mut soak = Soak::start(PREFIX, &taltun)?;
    let begun = Instant::now();
    let mut told = begun;
    let (mut hub, mut client) = (Vec::new(), Vec::new());
    let (mut rounds, mut bytes, mut datagrams) = (0_u64, 0_u64, [0_u64; 2]);
    while begun.elapsed() < lasting {
        let moved = soak
            .round()
            .with_context(|| format!("round {} after {:?}", rounds + 1, begun.elapsed()))?;
        rounds += 1;
        bytes += moved.bytes;
        for (sum, more) in datagrams.iter_mut().zip(moved.datagrams) {
            *sum += more;
        }
        let [of_hub, of_client] = soak.samples()?;
        hub.push(of_hub);
        client.push(of_client);
        if told.elapsed() >= TELL {
            told = Instant::now();
            println!(
                "{} min: {rounds} rounds, {:.1} GiB; hub {} KiB, {} files; client {} KiB, {} files",
                begun.elapsed().as_secs() / 60,
                gib(bytes),
                of_hub.memory_kib,
                of_hub.files,
                of_client.memory_kib,
                of_client.files
            );
        }
    }
    let handshakes = soak.handshakes()?;
    soak.stop()?;
    println!(
        "{rounds} rounds in {:.1} min, {:.1} GiB of TCP, {} of {} datagrams, {handshakes} handshakes",
        begun.elapsed().as_secs_f64() / 60.0,
        gib(bytes),
        datagrams[1],
        datagrams[0]
    );
    let renewals = begun.elapsed().as_secs() / RENEWED.as_secs();
    let mut failed = handshakes <= renewals;
    if failed {
        println!("FAILED: {handshakes} handshakes, so sessions weren't renewed");
    }
    for (who, samples) in [("hub", hub), ("client", client)] {
        let growth = Growth::of(&samples).context("too short to tell: three rounds at least")?;
        let (first, last) = (growth.first, growth.last);
        println!(
            "{who}: {} KiB and {} files in the first third, {} KiB and {} files in the last",
            first.memory_kib, first.files, last.memory_kib, last.files
        );
        if let Some(trouble) = growth.trouble() {
            println!("{who}: FAILED: {trouble}");
            failed = true;
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
