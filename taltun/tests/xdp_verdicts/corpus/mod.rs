//! Named frames, and what each program must do with them: the verdict, the source's
//! counters and the counter of the reason.
//!
//! The frames are rows of tables, one table for each way of being right or wrong.

mod headers;
mod lengths;
mod merged;
mod messages;

use std::net::IpAddr;

use aya::Ebpf;
use libtest_mimic::Failed;

use taltun_common::drops::DropReason;
use taltun_common::maps::SourceCounters;

use crate::Test;
use crate::frames::{Ends, key};
use crate::programs::{self, PROGRAMS, XDP_DROP, XDP_PASS, counters, verdict, with_fresh_counters};

pub const STRANGE_INDEX: u32 = 0x0bad_0bad;

/// What must happen to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Passes, and nothing is counted.
    Untouched,
    /// Passes, and its source is counted.
    Pass,
    /// Is dropped and counted.
    Drop(DropReason),
}
use Expect::{Drop, Untouched};

pub const SHAPE: Expect = Drop(DropReason::Shape);
pub const UNKNOWN: Expect = Drop(DropReason::UnknownIndex);
pub const DENIED: Expect = Drop(DropReason::Denied);
pub const MAC1: Expect = Drop(DropReason::Mac1);
pub const LIMITED: Expect = Drop(DropReason::RateLimited);

/// A frame, and what is expected of it.
struct Case {
    name: String,
    frame: Vec<u8>,
    source: IpAddr,
    /// In driver mode.
    single: Expect,
    /// In generic mode, where datagrams may be merged.
    merged: Expect,
}

impl Case {
    /// A frame of which both modes make the same.
    fn new(name: impl Into<String>, ends: Ends, frame: Vec<u8>, expect: Expect) -> Self {
        Self {
            name: name.into(),
            frame,
            source: ends.source,
            single: expect,
            merged: expect,
        }
    }
}

/// All frames.
pub fn frames() -> Vec<Vec<u8>> {
    corpus().map(|case| case.frame).collect()
}

fn corpus() -> impl Iterator<Item = Case> {
    headers::cases()
        .into_iter()
        .chain(messages::cases())
        .chain(lengths::cases())
        .chain(merged::cases())
}

pub fn tests() -> impl Iterator<Item = Test> {
    corpus().flat_map(|case| {
        let expects = [case.single, case.merged];
        PROGRAMS
            .into_iter()
            .zip(expects)
            .map(move |(program, expect)| {
                let (frame, source) = (case.frame.clone(), case.source);
                let test = move || check(program, &frame, source, expect);
                let test: Test = (format!("{program}::{}", case.name), Box::new(test));
                test
            })
            .collect::<Vec<_>>()
    })
}

/// Runs one frame through a program that has seen no other.
fn check(program: &str, frame: &[u8], source: IpAddr, expect: Expect) -> Result<(), Failed> {
    with_fresh_counters(|ebpf| run(ebpf, program, frame, source, expect))
}

/// The same with programs that may have been told something in particular.
pub fn run(
    ebpf: &mut Ebpf,
    program: &str,
    frame: &[u8],
    source: IpAddr,
    expect: Expect,
) -> Result<(), Failed> {
    let verdict = verdict(ebpf, program, frame)?;
    let dropped = matches!(expect, Drop(_));
    let expected = if dropped { XDP_DROP } else { XDP_PASS };
    if verdict != expected {
        return Err(format!("verdict {verdict}, expected {expect:?}").into());
    }

    let counted = counters(ebpf, "SOURCES")?;
    let expected = (expect != Untouched).then_some((
        key(source),
        SourceCounters {
            packets: 1,
            bytes: frame.len() as u64,
            drops: u64::from(dropped),
            reason: match expect {
                Drop(reason) => 1 + reason as u64,
                _ => 0,
            },
            last_drop: 0,
        },
    ));
    if counted != Vec::from_iter(expected) {
        return Err(format!("sources counted as {counted:?}, expected {expected:?}").into());
    }

    for reason in DropReason::ALL {
        let count = programs::dropped(ebpf, *reason)?;
        let expected = u64::from(expect == Drop(*reason));
        if count != expected {
            return Err(format!(
                "{} counted {count} times, expected {expected}",
                reason.label()
            )
            .into());
        }
    }
    Ok(())
}

/// The bytes with some of them replaced.
fn with(mut bytes: Vec<u8>, at: usize, replacement: &[u8]) -> Vec<u8> {
    bytes[at..at + replacement.len()].copy_from_slice(replacement);
    bytes
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

/// As a card pads a short frame; a longer one gets some bytes too.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    let length = (frame.len() + 4).max(60);
    frame.resize(length, 0);
    frame
}
