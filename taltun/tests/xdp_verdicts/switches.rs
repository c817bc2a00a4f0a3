//! What programs do that know less than all, or have seen more than one frame: switches in the
//! settings, and the token buckets of initiations.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use aya::Ebpf;
use libtest_mimic::Failed;

use taltun_common::bucket::Rate;
use taltun_common::budget::Budget;
use taltun_common::drops::DropReason;
use taltun_common::maps::{MAX_BUCKETS, Settings, family};

use crate::corpus::Expect::{Pass, Untouched};
use crate::corpus::{DENIED, STRANGE_INDEX, run};
use crate::frames::{Ends, OUR_INDEX, V4, V6, handshake, message, udp};
use crate::load::{add_endpoint, use_up, use_up_asked};
use crate::programs::{
    self, BURST, PROGRAMS, XDP_DROP, XDP_PASS, counters, deny, loaded, verdict, write_settings,
};
use crate::{NamedTest, Test};

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 10] = [
        ("switches::before_settings_all_passes", before_settings),
        ("switches::without_index_check", without_index_check),
        (
            "switches::some_data_of_other_hubs_peers_passes",
            some_data_of_other_hubs_peers_passes,
        ),
        ("switches::without_mac1_check", without_mac1_check),
        ("switches::denying_v6_leaves_v4", denying_v6_leaves_v4),
        ("buckets::a_burst_and_no_more", a_burst_and_no_more),
        ("buckets::tokens_come_back", tokens_come_back),
        (
            "buckets::a_v6_network_is_one_source",
            a_v6_network_is_one_source,
        ),
        (
            "buckets::bad_initiations_take_nothing",
            bad_initiations_take_nothing,
        ),
        ("buckets::the_oldest_makes_room", the_oldest_makes_room),
    ];
    tests
        .into_iter()
        .map(|(name, test)| -> Test { (name.into(), Box::new(test)) })
}

fn before_settings() -> Result<(), Failed> {
    let ebpf = &mut Ebpf::load(taltun::accel::OBJECT)?;
    run(
        ebpf,
        PROGRAMS[0],
        &udp(V4, &message(9, 64, 0)),
        V4.source,
        Untouched,
    )
}

fn without_index_check() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let settings = Settings {
        check_indices: 0,
        ..programs::settings(ebpf)?
    };
    write_settings(ebpf, settings)?;
    let messages = [
        handshake(2, STRANGE_INDEX),
        message(3, 64, STRANGE_INDEX),
        message(4, 96, STRANGE_INDEX),
    ];
    for message in messages {
        let kind = message[0];
        let frame = udp(V4, &message);
        if verdict(ebpf, PROGRAMS[0], &frame)? != XDP_PASS {
            return Err(format!("type {kind} was dropped").into());
        }
    }
    // The shape still counts.
    if verdict(ebpf, PROGRAMS[0], &udp(V4, &message(2, 91, 0)))? != XDP_DROP {
        return Err("a bad shape passed".into());
    }
    Ok(())
}

/// Where peers are, and no more than there is a budget for; nothing else of a session that isn't ours.
fn some_data_of_other_hubs_peers_passes() -> Result<(), Failed> {
    for ends in [V4, V6] {
        let ebpf = &mut loaded()?;
        let data = udp(ends, &message(4, 96, STRANGE_INDEX));
        let response = udp(ends, &handshake(2, STRANGE_INDEX));
        add_endpoint(ebpf, ends)?;
        assert_eq!(verdict(ebpf, PROGRAMS[0], &data)?, XDP_DROP, "in no group");
        let settings = Settings {
            pass_misrouted: 1,
            ..programs::settings(ebpf)?
        };
        write_settings(ebpf, settings)?;
        assert_eq!(verdict(ebpf, PROGRAMS[0], &data)?, XDP_PASS);
        assert_eq!(verdict(ebpf, PROGRAMS[0], &response)?, XDP_DROP);
        use_up(ebpf, Budget::Misrouted)?;
        assert_eq!(verdict(ebpf, PROGRAMS[0], &data)?, XDP_DROP, "too many");

        let ebpf = &mut loaded()?;
        write_settings(ebpf, settings)?;
        assert_eq!(verdict(ebpf, PROGRAMS[0], &data)?, XDP_DROP, "a stranger");
    }
    Ok(())
}

fn without_mac1_check() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let settings = Settings {
        check_mac1: 0,
        ..programs::settings(ebpf)?
    };
    write_settings(ebpf, settings)?;
    // The limit stays.
    for _ in 0..BURST {
        assert_eq!(initiation(ebpf, V4, &message(1, 148, 0))?, XDP_PASS);
    }
    use_up_asked(ebpf, V4)?;
    assert_eq!(initiation(ebpf, V4, &message(1, 148, 0))?, XDP_DROP);
    Ok(())
}

fn a_burst_and_no_more() -> Result<(), Failed> {
    for ends in [V4, V6] {
        let ebpf = &mut loaded()?;
        let good = handshake(1, 0);
        for _ in 0..BURST {
            assert_eq!(initiation(ebpf, ends, &good)?, XDP_PASS);
        }
        use_up_asked(ebpf, ends)?;
        assert_eq!(initiation(ebpf, ends, &good)?, XDP_DROP);
        assert_eq!(programs::dropped(ebpf, DropReason::RateLimited)?, 1);
        let counted = counters(ebpf, "SOURCES")?;
        assert_eq!((counted[0].1.packets, counted[0].1.drops), (6, 1));
        // Somebody else isn't concerned, nor is what isn't an initiation.
        let neighbour = Ends {
            source: "198.51.100.8".parse()?,
            ..V4
        };
        assert_eq!(initiation(ebpf, neighbour, &good)?, XDP_PASS);
        let data = message(4, 96, OUR_INDEX);
        assert_eq!(verdict(ebpf, PROGRAMS[0], &udp(ends, &data))?, XDP_PASS);
    }
    Ok(())
}

fn tokens_come_back() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let settings = Settings {
        initiations: Rate::per_second(4),
        ..programs::settings(ebpf)?
    };
    write_settings(ebpf, settings)?;
    let good = handshake(1, 0);
    // Some come back meanwhile, but on no machine as fast as they are taken.
    let passed = |ebpf: &mut Ebpf| initiation(ebpf, V4, &good).map(|verdict| verdict == XDP_PASS);
    let mut tries = 0;
    while passed(ebpf)? {
        tries += 1;
        assert!(tries < 1000, "the bucket has no end");
    }
    sleep(Duration::from_millis(260));
    assert!(passed(ebpf)?, "a token each 250 ms");
    Ok(())
}

fn a_v6_network_is_one_source() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let good = handshake(1, 0);
    let from = |host: u16| -> Result<Ends, Failed> {
        let source = format!("2001:db8:7::{host:x}").parse()?;
        Ok(Ends { source, ..V6 })
    };
    for host in 0..BURST as u16 {
        assert_eq!(initiation(ebpf, from(host)?, &good)?, XDP_PASS);
    }
    use_up_asked(ebpf, from(1)?)?;
    assert_eq!(initiation(ebpf, from(99)?, &good)?, XDP_DROP);
    let other = Ends {
        source: "2001:db8:7:1::1".parse()?,
        ..V6
    };
    assert_eq!(initiation(ebpf, other, &good)?, XDP_PASS);
    Ok(())
}

/// Else anybody could lock anybody out.
fn bad_initiations_take_nothing() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    for _ in 0..3 * BURST {
        assert_eq!(initiation(ebpf, V4, &message(1, 148, 0))?, XDP_DROP);
    }
    assert_eq!(programs::dropped(ebpf, DropReason::RateLimited)?, 0);
    assert_eq!(initiation(ebpf, V4, &handshake(1, 0))?, XDP_PASS);
    Ok(())
}

/// More sources than there is room for: each is limited as soon as it has a bucket, and
/// none is refused for want of one.
fn the_oldest_makes_room() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let good = handshake(1, 0);
    let from = |number: u32| Ends {
        source: IpAddr::V4((0x0a00_0000 + number).into()),
        ..V4
    };
    for number in 0..MAX_BUCKETS as u32 + 1000 {
        assert_eq!(initiation(ebpf, from(number), &good)?, XDP_PASS);
    }
    let newest = from(0x00ff_ffff);
    for _ in 0..BURST {
        assert_eq!(initiation(ebpf, newest, &good)?, XDP_PASS);
    }
    use_up_asked(ebpf, newest)?;
    assert_eq!(initiation(ebpf, newest, &good)?, XDP_DROP);
    Ok(())
}

fn initiation(ebpf: &mut Ebpf, ends: Ends, message: &[u8]) -> Result<u32, Failed> {
    verdict(ebpf, PROGRAMS[0], &udp(ends, message))
}

fn denying_v6_leaves_v4() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    deny(ebpf, "::", 0, family::V6)?;
    run(
        ebpf,
        PROGRAMS[0],
        &udp(V4, &handshake(1, 0)),
        V4.source,
        Pass,
    )?;
    let ebpf = &mut loaded()?;
    deny(ebpf, "::", 0, family::V6)?;
    run(
        ebpf,
        PROGRAMS[0],
        &udp(V6, &message(1, 148, 0)),
        V6.source,
        DENIED,
    )
}
