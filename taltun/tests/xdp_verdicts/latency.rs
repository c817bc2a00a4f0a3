//! How long the programs take for a verdict, by its reason: nanoseconds a frame, the
//! harness's share included, which the verdict on a frame that isn't ours shows.

use std::net::IpAddr;

use aya::programs::{TestRun, TestRunOptions, Xdp};
use libtest_mimic::{Failed, Measurement, Trial};
use taltun_common::bucket::Rate;
use taltun_common::maps::family;

use crate::frames::{Ends, MAC1_KEY, OUR_INDEX, V4, V6, handshake, message, udp, unfinished};
use crate::programs::{PROGRAMS, allow_index, deny, loaded_for, pin_to_this_cpu};

const REPEAT: u32 = 100_000;

/// The measurements; none where the programs can't be run.
pub fn benches(possible: bool) -> impl Iterator<Item = Trial> {
    let mut other_port = udp(V4, &message(4, 96, OUR_INDEX));
    other_port[36..38].copy_from_slice(&53_u16.to_be_bytes());
    let denied = Ends {
        source: IpAddr::from([203, 0, 113, 77]),
        ..V4
    };
    let batch = [message(1, 148, 0), message(1, 148, 0)].concat();
    let frames = [
        ("not_ours", PROGRAMS[0], other_port),
        (
            "pass_data",
            PROGRAMS[0],
            udp(V4, &message(4, 1452, OUR_INDEX)),
        ),
        ("pass_initiation", PROGRAMS[0], udp(V4, &handshake(1, 0))),
        (
            "denied",
            PROGRAMS[0],
            udp(denied, &message(4, 96, OUR_INDEX)),
        ),
        ("shape", PROGRAMS[0], udp(V4, &message(9, 96, 0))),
        ("unknown_index", PROGRAMS[0], udp(V4, &message(4, 96, 1))),
        ("mac1_initiation", PROGRAMS[0], udp(V4, &message(1, 148, 0))),
        (
            "mac1_initiation_v6",
            PROGRAMS[0],
            udp(V6, &message(1, 148, 0)),
        ),
        (
            "mac1_initiation_generic",
            PROGRAMS[1],
            udp(V4, &message(1, 148, 0)),
        ),
        ("mac1_two_merged", PROGRAMS[1], unfinished(V4, &batch)),
        (
            "mac1_response",
            PROGRAMS[0],
            udp(V4, &message(2, 92, OUR_INDEX)),
        ),
    ];
    let unlimited = frames
        .into_iter()
        .map(|(name, program, frame)| (name, program, frame, Rate::default()));
    let never_again = Rate {
        token: u64::MAX / 2,
        bucket: 1,
    };
    let limited = (
        "rate_limited",
        PROGRAMS[0],
        udp(V4, &handshake(1, 0)),
        never_again,
    );
    unlimited
        .chain([limited])
        .filter(move |_| possible)
        .map(|(name, program, frame, rate)| {
            Trial::bench(format!("latency::{name}"), move |test_mode| {
                let repeat = if test_mode { 1 } else { REPEAT };
                measure(program, &frame, rate, repeat).map(Some)
            })
        })
}

fn measure(program: &str, frame: &[u8], rate: Rate, repeat: u32) -> Result<Measurement, Failed> {
    pin_to_this_cpu()?;
    let mut ebpf = loaded_for(&MAC1_KEY, rate)?;
    allow_index(&mut ebpf, OUR_INDEX)?;
    deny(&mut ebpf, "203.0.113.0", 96 + 24, family::V4)?;
    let program: &mut Xdp = ebpf
        .program_mut(program)
        .ok_or("no such program")?
        .try_into()?;
    program.load()?;
    let mut data_out = vec![0; frame.len()];
    // The best of five: whatever else the machine does only adds.
    let mut nanoseconds = Vec::new();
    for _ in 0..5 {
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut data_out),
            repeat,
            ..TestRunOptions::default()
        })?;
        nanoseconds.push(result.duration.as_nanos() as u64);
    }
    let avg = nanoseconds.iter().copied().min().unwrap_or_default();
    let variance = nanoseconds.iter().copied().max().unwrap_or_default() - avg;
    Ok(Measurement { avg, variance })
}
