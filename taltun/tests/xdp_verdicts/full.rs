//! What happens when a map is full.

use std::net::{IpAddr, Ipv4Addr};

use aya::Ebpf;
use aya::maps::{PerCpuHashMap, PerCpuValues};
use aya::util::nr_cpus;
use libtest_mimic::Failed;

use taltun_common::address::Address;
use taltun_common::drops::DropReason;
use taltun_common::maps::{MAX_SOURCES, SourceCounters};

use crate::frames::{Ends, V4, key, message, udp};
use crate::programs::{
    PROGRAMS, XDP_DROP, counters, dropped, loaded, map, pin_to_this_cpu, verdict,
};
use crate::{NamedTest, Test};

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 1] = [(
        "full::the_oldest_sources_go_and_counting_goes_on",
        the_oldest_sources_go,
    )];
    tests
        .into_iter()
        .map(|(name, test)| -> Test { (name.into(), Box::new(test)) })
}

/// More sources than there is room for.
fn the_oldest_sources_go() -> Result<(), Failed> {
    const NEW: u32 = 1000;
    // Each CPU has free entries of its own, so that who goes is known for one only.
    pin_to_this_cpu()?;
    let ebpf = &mut loaded()?;
    let bad = message(9, 64, 0);
    let source = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    let old = MAX_SOURCES as u32;
    fill(ebpf, (0..old).map(source))?;
    for number in old..old + NEW {
        let ends = Ends {
            source: source(number),
            ..V4
        };
        assert_eq!(verdict(ebpf, PROGRAMS[0], &udp(ends, &bad))?, XDP_DROP);
    }
    assert_eq!(dropped(ebpf, DropReason::Shape)?, u64::from(NEW));

    let counted = counters(ebpf, "SOURCES")?;
    assert!(counted.len() <= MAX_SOURCES, "{} sources", counted.len());
    let expected = SourceCounters {
        packets: 1,
        bytes: udp(V4, &bad).len() as u64,
        drops: 1,
        reason: 1 + DropReason::Shape as u64,
        last_drop: 0,
    };
    for number in old..old + NEW {
        let entry = (key(source(number)), expected);
        assert!(
            counted.contains(&entry),
            "new source {number} isn't counted"
        );
    }
    Ok(())
}

/// Counts these sources, as if each had sent something.
fn fill(ebpf: &mut Ebpf, sources: impl Iterator<Item = IpAddr>) -> Result<(), Failed> {
    let mut counted: PerCpuHashMap<_, Address, SourceCounters> =
        map(ebpf, "SOURCES")?.try_into()?;
    let cpus = nr_cpus().map_err(|(_, error)| error)?;
    for source in sources {
        let nothing = vec![SourceCounters::default(); cpus];
        counted.insert(key(source), PerCpuValues::try_from(nothing)?, 0)?;
    }
    Ok(())
}
