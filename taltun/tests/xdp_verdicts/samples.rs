//! Samples of dropped packets: what they say, that there are few, and none that nobody asked
//! for.

use aya::maps::RingBuf;
use aya::{Ebpf, EbpfLoader};
use libtest_mimic::Failed;

use taltun_common::drops::DropReason;
use taltun_common::maps::Sample;

use crate::frames::{OUR_INDEX, SOURCE_PORT, V4, V6, key, message, udp};
use crate::programs::{PROGRAMS, XDP_DROP, XDP_PASS, allow_index, loaded, prepared, verdict};
use crate::{NamedTest, Test};

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 2] = [
        ("tell_of_drops", tell_of_drops),
        ("are_not_taken_unasked", are_not_taken_unasked),
    ];
    tests
        .into_iter()
        .map(|(name, test)| (format!("samples::{name}"), Box::new(test) as Box<_>))
}

fn tell_of_drops() -> Result<(), Failed> {
    for (program, ends) in PROGRAMS.into_iter().zip([V4, V6]) {
        let mut loader = EbpfLoader::new();
        loader.override_global("TALTUN_SAMPLES", &1_u8, true);
        let ebpf = &mut prepared(loader.load(taltun::accel::OBJECT)?)?;
        allow_index(ebpf, OUR_INDEX)?;
        let passes = udp(ends, &message(4, 96, OUR_INDEX));
        assert_eq!(verdict(ebpf, program, &passes)?, XDP_PASS);
        let falls = udp(ends, &message(9, 96, 0));
        for _ in 0..30 {
            assert_eq!(verdict(ebpf, program, &falls)?, XDP_DROP);
        }
        let samples = samples(ebpf)?;
        // Ten at once; and another for each tenth of a second that all this took.
        assert!((10..30).contains(&samples.len()), "{}", samples.len());
        let mut expected = key(ends.source).to_vec();
        // On the loopback, where such runs take place.
        for number in [
            DropReason::Shape as u32,
            1,
            falls.len() as u32,
            u32::from(SOURCE_PORT),
        ] {
            expected.extend(number.to_ne_bytes());
        }
        assert_eq!(expected.len(), size_of::<Sample>());
        assert!(
            samples.iter().all(|sample| *sample == expected),
            "{samples:?}"
        );
    }
    Ok(())
}

fn are_not_taken_unasked() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut loaded()?;
        let falls = udp(V4, &message(9, 96, 0));
        assert_eq!(verdict(ebpf, program, &falls)?, XDP_DROP);
        assert!(samples(ebpf)?.is_empty());
    }
    Ok(())
}

fn samples(ebpf: &mut Ebpf) -> Result<Vec<Vec<u8>>, Failed> {
    let mut ring: RingBuf<_> = ebpf.take_map("SAMPLES").ok_or("no such map")?.try_into()?;
    let mut samples = Vec::new();
    while let Some(sample) = ring.next() {
        samples.push(sample.to_vec());
    }
    Ok(samples)
}
