//! What happens when a map is full.

use std::net::{IpAddr, Ipv4Addr};

use libtest_mimic::Failed;

use taltun_common::drops::DropReason;
use taltun_common::maps::{MAX_SOURCES, SourceCounters};

use crate::frames::{Ends, V4, key, message, udp};
use crate::programs::{PROGRAMS, XDP_DROP, counters, dropped, loaded, pin_to_this_cpu, verdict};
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
    const MORE: u32 = MAX_SOURCES as u32 + 4096;
    /// The kernel makes room in batches, a few more than are needed at once.
    const NEWEST: u32 = 1000;
    // Each CPU has free entries of its own, so that the oldest of all is known for one only.
    pin_to_this_cpu()?;
    let ebpf = &mut loaded()?;
    let bad = message(9, 64, 0);
    let source = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    for number in 0..MORE {
        let ends = Ends {
            source: source(number),
            ..V4
        };
        assert_eq!(verdict(ebpf, PROGRAMS[0], &udp(ends, &bad))?, XDP_DROP);
    }
    assert_eq!(dropped(ebpf, DropReason::Shape)?, u64::from(MORE));

    let counted = counters(ebpf, "SOURCES")?;
    assert!(counted.len() <= MAX_SOURCES, "{} sources", counted.len());
    let one = |number| {
        let expected = SourceCounters {
            packets: 1,
            bytes: udp(V4, &bad).len() as u64,
            drops: 1,
        };
        counted.contains(&(key(source(number)), expected))
    };
    for number in MORE - NEWEST..MORE {
        assert!(one(number), "source {number} of {MORE} isn't counted");
    }
    for number in 0..NEWEST {
        assert!(!one(number), "source {number} of {MORE} is still there");
    }
    Ok(())
}
