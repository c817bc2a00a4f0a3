//! How long the programs take for a verdict, by its reason: nanoseconds a frame, the
//! harness's share included, which the verdict on a frame that isn't ours shows.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{TestRun, TestRunOptions, Xdp};
use libtest_mimic::{Failed, Measurement, Trial};
use taltun_common::bucket::Rate;
use taltun_common::budget::Budget;
use taltun_common::maps::{Settings, family};

use crate::frames::{
    Ends, MAC1_KEY, OUR_INDEX, PORT, SOURCE_PORT, V4, V6, handshake, message, udp, udp_to,
    unfinished,
};
use crate::load::{SECRET, bare, no_replies, set_under_load, use_up, use_up_asked, with_cookie};
use crate::programs::{
    PROGRAMS, allow_index, deny, loaded_for, pin_to_this_cpu, settings, write_settings,
};

/// How often a frame is judged for one measurement.
const OFTEN: u32 = 100_000;
/// The same where more would use up the budget for wrong first MACs, or for second ones.
const WITHIN_MAC1: u32 = 400;
const WITHIN_MAC2: u32 = 80;
/// How long it takes for a budget to be whole again.
const REFILL: Duration = Duration::from_millis(15);

/// The same for frames that are judged one by one.
const SINGLY: usize = 50_000;
/// A port of a range of 4,096.
const HOP: u16 = 5000;

/// One measurement.
struct Case {
    name: &'static str,
    program: &'static str,
    frame: Vec<u8>,
    prepare: fn(&mut Ebpf) -> Result<(), Failed>,
    initiations: Rate,
    repeat: u32,
}

impl Case {
    fn new(name: &'static str, frame: Vec<u8>) -> Self {
        Self {
            name,
            program: PROGRAMS[0],
            frame,
            prepare: |_| Ok(()),
            initiations: Rate::default(),
            repeat: OFTEN,
        }
    }

    fn within(self, repeat: u32) -> Self {
        Self { repeat, ..self }
    }

    fn generic(self) -> Self {
        Self {
            program: PROGRAMS[1],
            ..self
        }
    }

    fn after(self, prepare: fn(&mut Ebpf) -> Result<(), Failed>) -> Self {
        Self { prepare, ..self }
    }
}

/// The measurements; none where the programs can't be run.
pub fn benches(possible: bool) -> impl Iterator<Item = Trial> {
    let cases = if possible { cases() } else { Vec::new() };
    let by_new_sources = possible.then(|| {
        Trial::bench("latency::new_source_without_budget", |test_mode| {
            new_sources(if test_mode { 1 } else { OFTEN }).map(Some)
        })
    });
    // One by one, as a turned frame isn't to a port of the range any more.
    let by_ports = possible.then(|| {
        let cases: [(&str, bool, u16); 3] = [
            ("without_a_range", false, PORT),
            ("to_our_port", true, PORT),
            ("to_the_range", true, HOP),
        ];
        cases.map(|(name, range, port)| {
            Trial::bench(format!("latency::hop_data_{name}"), move |test_mode| {
                one_by_one(range, port, if test_mode { 1 } else { SINGLY }).map(Some)
            })
        })
    });
    cases
        .into_iter()
        .map(|case| {
            Trial::bench(format!("latency::{}", case.name), move |test_mode| {
                measure(&case, test_mode).map(Some)
            })
        })
        .chain(by_new_sources)
        .chain(by_ports.into_iter().flatten())
}

fn cases() -> Vec<Case> {
    let mut other_port = udp(V4, &message(4, 96, OUR_INDEX));
    other_port[36..38].copy_from_slice(&53_u16.to_be_bytes());
    let denied = Ends {
        source: IpAddr::from([203, 0, 113, 77]),
        ..V4
    };
    let batch = [message(1, 148, 0), message(1, 148, 0)].concat();
    let wrong = |ends| udp(ends, &message(1, 148, 0));
    let cookie = |secret| udp(V4, &with_cookie(V4, SOURCE_PORT, secret));
    let never_again = Rate {
        token: u64::MAX / 2,
        bucket: 1,
    };
    vec![
        Case::new("not_ours", other_port),
        Case::new("pass_data", udp(V4, &message(4, 1452, OUR_INDEX))),
        Case::new("pass_initiation", udp(V4, &handshake(1, 0))),
        Case::new("pass_cookie", cookie(&SECRET)).after(under_load),
        Case::new("denied", udp(denied, &message(4, 96, OUR_INDEX))),
        Case::new("shape", udp(V4, &message(9, 96, 0))),
        Case::new("unknown_index", udp(V4, &message(4, 96, 1))),
        Case {
            initiations: never_again,
            ..Case::new("rate_limited", udp(V4, &handshake(1, 0)))
                .after(|ebpf| use_up_asked(ebpf, V4))
        },
        Case::new("unverified", wrong(V4)).after(|ebpf| use_up(ebpf, Budget::Mac1)),
        Case::new("no_cookie", udp(V4, &bare())).after(under_load),
        Case::new("no_cookie_wrong_one", cookie(&[9; 32]))
            .after(under_load)
            .within(WITHIN_MAC2),
        Case::new("no_cookie_wrong_one_without_budget", cookie(&[9; 32])).after(|ebpf| {
            use_up(ebpf, Budget::Mac2)?;
            under_load(ebpf)
        }),
        Case::new("mac1_initiation", wrong(V4)).within(WITHIN_MAC1),
        Case::new("mac1_initiation_v6", wrong(V6)).within(WITHIN_MAC1),
        Case::new("mac1_initiation_generic", wrong(V4))
            .generic()
            .within(WITHIN_MAC1),
        Case::new("mac1_two_merged", unfinished(V4, &batch))
            .generic()
            .within(WITHIN_MAC1 / 2),
        Case::new("mac1_response", udp(V4, &message(2, 92, OUR_INDEX))),
    ]
}

fn under_load(ebpf: &mut Ebpf) -> Result<(), Failed> {
    no_replies(ebpf)?;
    set_under_load(ebpf)
}

fn measure(case: &Case, test_mode: bool) -> Result<Measurement, Failed> {
    pin_to_this_cpu()?;
    let mut ebpf = loaded_for(&MAC1_KEY, case.initiations)?;
    allow_index(&mut ebpf, OUR_INDEX)?;
    deny(&mut ebpf, "203.0.113.0", 96 + 24, family::V4)?;
    (case.prepare)(&mut ebpf)?;
    let program = load(&mut ebpf, case.program)?;
    // The best of several: whatever else the machine does only adds. Short runs need more.
    let (repeat, rounds) = match case.repeat {
        _ if test_mode => (1, 1),
        OFTEN => (OFTEN, 5),
        short => (short, 50),
    };
    let mut nanoseconds = Vec::new();
    for _ in 0..rounds {
        nanoseconds.push(run(program, &case.frame, repeat)?);
        if repeat < OFTEN && !test_mode {
            sleep(REFILL);
        }
    }
    let avg = nanoseconds.iter().copied().min().unwrap_or_default();
    let variance = nanoseconds.iter().copied().max().unwrap_or_default() - avg;
    Ok(Measurement { avg, variance })
}

/// What a frame of a source takes that has no entry and gets none; one by one, so that the
/// harness's share is larger.
fn new_sources(rounds: u32) -> Result<Measurement, Failed> {
    pin_to_this_cpu()?;
    let mut ebpf = loaded_for(&MAC1_KEY, Rate::default())?;
    use_up(&mut ebpf, Budget::Sources)?;
    let program = load(&mut ebpf, PROGRAMS[0])?;
    let mut total = 0;
    for round in 0..rounds {
        let source = IpAddr::from((round | 1 << 30).to_be_bytes());
        total += run(program, &udp(Ends { source, ..V4 }, &message(9, 96, 0)), 1)?;
    }
    Ok(Measurement {
        avg: total / u64::from(rounds),
        variance: 0,
    })
}

/// What data takes, to this port, with a range of ports or without. The median of single frames:
/// the harness's share is larger than in a row of them, and alike in all that are measured so.
fn one_by_one(range: bool, port: u16, rounds: usize) -> Result<Measurement, Failed> {
    pin_to_this_cpu()?;
    let mut ebpf = loaded_for(&MAC1_KEY, Rate::default())?;
    allow_index(&mut ebpf, OUR_INDEX)?;
    if range {
        let before = settings(&mut ebpf)?;
        let range = Settings {
            hop_first: 4096,
            hop_last: 8191,
            ..before
        };
        write_settings(&mut ebpf, range)?;
    }
    let frame = udp_to(V4, port, &message(4, 1452, OUR_INDEX));
    let program = load(&mut ebpf, PROGRAMS[0])?;
    let mut took = (0..rounds)
        .map(|_| run(program, &frame, 1))
        .collect::<Result<Vec<_>, _>>()?;
    took.sort_unstable();
    let (avg, last) = (took[rounds / 2], took[rounds * 9 / 10]);
    Ok(Measurement {
        avg,
        variance: last - avg,
    })
}

fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Failed> {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .ok_or("no such program")?
        .try_into()?;
    program.load()?;
    Ok(program)
}

/// Nanoseconds that the kernel says one of so many runs took.
fn run(program: &mut Xdp, frame: &[u8], repeat: u32) -> Result<u64, Failed> {
    let mut data_out = vec![0; frame.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut data_out),
        repeat,
        ..TestRunOptions::default()
    })?;
    Ok(result.duration.as_nanos() as u64)
}
