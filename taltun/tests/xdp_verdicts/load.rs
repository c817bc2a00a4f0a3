//! What initiations must show while user space is under load, and what a flood may cost:
//! cookies, cookie replies, budgets.

use std::net::{IpAddr, SocketAddr};

use aya::Ebpf;
use aya::maps::{Array, HashMap, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use libtest_mimic::Failed;

use taltun_common::address::Address;
use taltun_common::blake2s::keyed;
use taltun_common::budget::{Budget, SOURCE_REPLIES};
use taltun_common::drops::DropReason;
use taltun_common::hints::Hint;
use taltun_common::maps::{Load, SourceCounters};
use taltun_common::wire::INITIATION_MAC2;

use crate::frames::{Ends, SOURCE_PORT, V4, V6, handshake, key, message, udp, unfinished};
use crate::programs::{
    BURST, PROGRAMS, XDP_DROP, XDP_PASS, counters, dropped, loaded, map, verdict,
};
use crate::{NamedTest, Test};

/// What cookies are made of.
pub const SECRET: [u8; 32] = [0x77; 32];
/// No bucket is full again before this, and none holds a token until then.
pub const NEVER: u64 = u64::MAX / 2;

const NEIGHBOUR: Ends = Ends {
    source: IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 8)),
    ..V4
};

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 16] = [
        ("a_cookie_is_asked_for", a_cookie_is_asked_for),
        (
            "only_right_mac1s_cost_replies",
            only_right_mac1s_cost_replies,
        ),
        ("one_source_has_few_replies", one_source_has_few_replies),
        ("a_good_cookie_passes", a_good_cookie_passes),
        ("a_bad_cookie_is_none", a_bad_cookie_is_none),
        (
            "an_empty_bucket_asks_for_a_cookie",
            an_empty_bucket_asks_for_a_cookie,
        ),
        ("a_load_ends_by_itself", a_load_ends_by_itself),
        ("a_dead_secret_proves_nothing", a_dead_secret_proves_nothing),
        ("endpoints_need_no_reply_left", endpoints_need_no_reply_left),
        (
            "a_cookie_has_a_bucket_of_its_own",
            a_cookie_has_a_bucket_of_its_own,
        ),
        (
            "merged_initiations_have_no_cookie",
            merged_initiations_have_no_cookie,
        ),
        ("responses_and_data_go_on", responses_and_data_go_on),
        ("wrong_mac1s_have_a_budget", wrong_mac1s_have_a_budget),
        ("wrong_cookies_have_a_budget", wrong_cookies_have_a_budget),
        ("new_sources_have_a_budget", new_sources_have_a_budget),
        ("budgets_flow_in_again", budgets_flow_in_again),
    ];
    tests
        .into_iter()
        .map(|(name, test)| (format!("load::{name}"), Box::new(test) as Box<_>))
}

fn a_cookie_is_asked_for() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        let initiation = udp(ends, &bare());
        assert_eq!(verdict(ebpf, program, &initiation)?, XDP_PASS);
        assert_ne!(replies(ebpf)?, 0, "a reply was taken");
        no_replies(ebpf)?;
        assert_eq!(verdict(ebpf, program, &initiation)?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::NoCookie)?, 1);
    }
    Ok(())
}

/// Else who doesn't know our key would keep those who do from getting a cookie.
fn only_right_mac1s_cost_replies() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        let mut wrong = bare();
        wrong[20] ^= 1;
        assert_eq!(verdict(ebpf, program, &udp(ends, &wrong))?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::Mac1)?, 1);
        assert_eq!(replies(ebpf)?, 0, "a reply was taken");
    }
    Ok(())
}

/// Else one source could keep all others from getting a cookie.
fn one_source_has_few_replies() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        for sort in [bare(), with_cookie(ends, SOURCE_PORT, &[0x78; 32])] {
            let ebpf = &mut under_load()?;
            let frame = udp(ends, &sort);
            for _ in 0..BURST {
                assert_eq!(verdict(ebpf, program, &frame)?, XDP_PASS);
            }
            use_up_asked(ebpf, ends)?;
            let taken = replies(ebpf)?;
            for _ in 0..BURST {
                assert_eq!(verdict(ebpf, program, &frame)?, XDP_DROP);
            }
            assert_eq!(dropped(ebpf, DropReason::RateLimited)?, u64::from(BURST));
            assert_eq!(replies(ebpf)?, taken, "replies for what was dropped");
        }
    }
    Ok(())
}

fn a_good_cookie_passes() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        no_replies(ebpf)?;
        let good = with_cookie(ends, SOURCE_PORT, &SECRET);
        assert_eq!(verdict(ebpf, program, &udp(ends, &good))?, XDP_PASS);
        let counted = counters(ebpf, "SOURCES")?;
        assert_eq!((counted[0].1.packets, counted[0].1.drops), (1, 0));
    }
    Ok(())
}

fn a_bad_cookie_is_none() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let good = with_cookie(ends, SOURCE_PORT, &SECRET);
        let mut bad = vec![
            with_cookie(ends, SOURCE_PORT + 1, &SECRET),
            with_cookie(
                if ends.source == V4.source {
                    NEIGHBOUR
                } else {
                    V4
                },
                SOURCE_PORT,
                &SECRET,
            ),
            with_cookie(ends, SOURCE_PORT, &[0x78; 32]),
        ];
        for at in INITIATION_MAC2..good.len() {
            let mut spoilt = good.clone();
            spoilt[at] ^= 0x10;
            bad.push(spoilt);
        }
        let ebpf = &mut under_load()?;
        no_replies(ebpf)?;
        for message in &bad {
            assert_eq!(verdict(ebpf, program, &udp(ends, message))?, XDP_DROP);
        }
        assert_eq!(dropped(ebpf, DropReason::NoCookie)?, bad.len() as u64);
        // A wrong one is no worse than none: it may be answered with a right one.
        let ebpf = &mut under_load()?;
        assert_eq!(verdict(ebpf, program, &udp(ends, &bad[0]))?, XDP_PASS);
        assert_ne!(replies(ebpf)?, 0);
    }
    Ok(())
}

fn a_load_ends_by_itself() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        no_replies(ebpf)?;
        set_load(ebpf, 1, NEVER)?;
        assert_eq!(verdict(ebpf, program, &udp(ends, &bare()))?, XDP_PASS);
        let other = with_cookie(ends, SOURCE_PORT, &[0x78; 32]);
        assert_eq!(verdict(ebpf, program, &udp(ends, &other))?, XDP_PASS);
    }
    Ok(())
}

fn a_dead_secret_proves_nothing() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        no_replies(ebpf)?;
        set_load(ebpf, NEVER, 1)?;
        let good = with_cookie(ends, SOURCE_PORT, &SECRET);
        assert_eq!(verdict(ebpf, program, &udp(ends, &good))?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::NoCookie)?, 1);
    }
    Ok(())
}

fn endpoints_need_no_reply_left() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        no_replies(ebpf)?;
        add_endpoint(ebpf, ends)?;
        let initiation = udp(ends, &bare());
        for _ in 0..BURST {
            assert_eq!(verdict(ebpf, program, &initiation)?, XDP_PASS);
        }
        use_up_asked(ebpf, ends)?;
        assert_eq!(verdict(ebpf, program, &initiation)?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::RateLimited)?, 1);
    }
    Ok(())
}

/// Who floods us in a peer's name doesn't lock it out: it is asked for a cookie, which then
/// gets it in, without any load.
fn an_empty_bucket_asks_for_a_cookie() -> Result<(), Failed> {
    const ASKED: u64 = SOURCE_REPLIES.bucket / SOURCE_REPLIES.token;
    for (program, ends) in everywhere() {
        let ebpf = &mut loaded()?;
        // No load, but a secret.
        set_load(ebpf, 0, NEVER)?;
        let frame = udp(ends, &bare());
        for _ in 0..BURST {
            assert_eq!(verdict(ebpf, program, &frame)?, XDP_PASS);
        }
        assert_eq!(replies(ebpf)?, 0, "a reply without need");
        for _ in 0..3 * BURST {
            assert_eq!(verdict(ebpf, program, &frame)?, XDP_PASS, "it is asked");
        }
        assert_ne!(replies(ebpf)?, 0, "a reply was taken");
        let passed = (0..2 * ASKED)
            .filter(|_| verdict(ebpf, program, &frame).is_ok_and(|verdict| verdict == XDP_PASS))
            .count() as u64;
        assert!(passed < 2 * ASKED, "one source has its share of replies");
        let good = with_cookie(ends, SOURCE_PORT, &SECRET);
        assert_eq!(verdict(ebpf, program, &udp(ends, &good))?, XDP_PASS);
        // A wrong cookie is worth as much as none.
        use_up_asked(ebpf, ends)?;
        let wrong = with_cookie(ends, SOURCE_PORT, &[0x78; 32]);
        assert_eq!(verdict(ebpf, program, &udp(ends, &wrong))?, XDP_DROP);
    }
    Ok(())
}

/// Who floods us in a peer's name takes nothing from the peer, once that has a cookie.
fn a_cookie_has_a_bucket_of_its_own() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        use_up_asked(ebpf, ends)?;
        for _ in 0..2 * BURST {
            verdict(ebpf, program, &udp(ends, &bare()))?;
        }
        assert_eq!(dropped(ebpf, DropReason::RateLimited)?, u64::from(BURST));
        let good = udp(ends, &with_cookie(ends, SOURCE_PORT, &SECRET));
        for _ in 0..BURST {
            assert_eq!(verdict(ebpf, program, &good)?, XDP_PASS);
        }
        // The limit holds even with a good cookie (paper §5.3).
        assert_eq!(verdict(ebpf, program, &good)?, XDP_DROP);
        assert_eq!(
            dropped(ebpf, DropReason::RateLimited)?,
            u64::from(BURST) + 1
        );
    }
    Ok(())
}

fn merged_initiations_have_no_cookie() -> Result<(), Failed> {
    for ends in [V4, V6] {
        let good = with_cookie(ends, SOURCE_PORT, &SECRET);
        let two = unfinished(ends, &[good.clone(), good].concat());
        let ebpf = &mut under_load()?;
        assert_eq!(verdict(ebpf, PROGRAMS[1], &two)?, XDP_PASS);
        assert_ne!(replies(ebpf)?, 0);
        no_replies(ebpf)?;
        assert_eq!(verdict(ebpf, PROGRAMS[1], &two)?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::NoCookie)?, 1);
    }
    Ok(())
}

fn responses_and_data_go_on() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        no_replies(ebpf)?;
        let index = crate::frames::OUR_INDEX;
        for good in [
            handshake(2, index),
            message(3, 64, index),
            message(4, 96, index),
        ] {
            assert_eq!(verdict(ebpf, program, &udp(ends, &good))?, XDP_PASS);
        }
    }
    Ok(())
}

fn wrong_mac1s_have_a_budget() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut loaded()?;
        let wrong = udp(ends, &message(1, 148, 0));
        let right = udp(ends, &handshake(1, 0));
        assert_eq!(verdict(ebpf, program, &right)?, XDP_PASS);
        assert_eq!(spent(ebpf, Budget::Mac1)?, 0, "what is right costs nothing");
        assert_eq!(verdict(ebpf, program, &wrong)?, XDP_DROP);
        assert_ne!(spent(ebpf, Budget::Mac1)?, 0);

        use_up(ebpf, Budget::Mac1)?;
        assert_eq!(verdict(ebpf, program, &right)?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::Unverified)?, 1);
        // Where a peer was heard there is another one.
        add_endpoint(ebpf, ends)?;
        assert_eq!(verdict(ebpf, program, &right)?, XDP_PASS);
        assert_eq!(spent(ebpf, Budget::Mac1Known)?, 0);
        assert_eq!(verdict(ebpf, program, &wrong)?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::Mac1)?, 2);
        assert_ne!(spent(ebpf, Budget::Mac1Known)?, 0);
        use_up(ebpf, Budget::Mac1Known)?;
        assert_eq!(verdict(ebpf, program, &right)?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::Unverified)?, 2);
    }
    Ok(())
}

fn wrong_cookies_have_a_budget() -> Result<(), Failed> {
    for (program, ends) in everywhere() {
        let ebpf = &mut under_load()?;
        no_replies(ebpf)?;
        let good = udp(ends, &with_cookie(ends, SOURCE_PORT, &SECRET));
        let wrong = udp(ends, &with_cookie(ends, SOURCE_PORT, &[0x78; 32]));
        assert_eq!(verdict(ebpf, program, &good)?, XDP_PASS);
        assert_eq!(spent(ebpf, Budget::Mac2)?, 0, "what is right costs nothing");
        assert_eq!(verdict(ebpf, program, &wrong)?, XDP_DROP);
        assert_ne!(spent(ebpf, Budget::Mac2)?, 0);

        use_up(ebpf, Budget::Mac2)?;
        assert_eq!(verdict(ebpf, program, &good)?, XDP_DROP);
        assert_eq!(dropped(ebpf, DropReason::NoCookie)?, 2);
        // Who was given a cookie has another one.
        add_to(ebpf, "INVITED", ends)?;
        assert_eq!(verdict(ebpf, program, &good)?, XDP_PASS);
        assert_eq!(verdict(ebpf, program, &wrong)?, XDP_DROP);
        assert_ne!(spent(ebpf, Budget::Mac2Known)?, 0);
        use_up(ebpf, Budget::Mac2Known)?;
        assert_eq!(verdict(ebpf, program, &good)?, XDP_DROP);
    }
    Ok(())
}

fn new_sources_have_a_budget() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut loaded()?;
        let frame = udp(V4, &message(9, 96, 0));
        verdict(ebpf, program, &frame)?;
        use_up(ebpf, Budget::Sources)?;
        verdict(ebpf, program, &frame)?;
        verdict(ebpf, program, &udp(NEIGHBOUR, &message(9, 96, 0)))?;
        let counted = counters(ebpf, "SOURCES")?;
        assert_eq!(counted.len(), 1, "{counted:?}");
        assert_eq!((counted[0].1.packets, counted[0].1.drops), (2, 2));
        let others: PerCpuArray<_, SourceCounters> = map(ebpf, "OTHER_SOURCES")?.try_into()?;
        let (mut packets, mut bytes, mut drops) = (0, 0, 0);
        for cpu in others.get(&0, 0)?.iter() {
            packets += cpu.packets;
            bytes += cpu.bytes;
            drops += cpu.drops;
        }
        assert_eq!((packets, bytes, drops), (1, frame.len() as u64, 1));
        assert_eq!(dropped(ebpf, DropReason::Shape)?, 3);
    }
    Ok(())
}

/// The clock of the programs is the one that buckets go by.
fn budgets_flow_in_again() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    use_up(ebpf, Budget::Mac1)?;
    let good = udp(V4, &handshake(1, 0));
    assert_eq!(verdict(ebpf, PROGRAMS[0], &good)?, XDP_DROP);
    set_budget(ebpf, Budget::Mac1, 1)?;
    assert_eq!(verdict(ebpf, PROGRAMS[0], &good)?, XDP_PASS);
    Ok(())
}

/// Each program, with a packet of each family.
fn everywhere() -> [(&'static str, Ends); 4] {
    let [driver, generic] = PROGRAMS;
    [(driver, V4), (driver, V6), (generic, V4), (generic, V6)]
}

/// An initiation with a right mac1 and without mac2.
pub fn bare() -> Vec<u8> {
    let mut message = handshake(1, 0);
    message[INITIATION_MAC2..].fill(0);
    message
}

/// The same with the cookie that this source gets.
pub fn with_cookie(ends: Ends, port: u16, secret: &[u8; 32]) -> Vec<u8> {
    let address = SocketAddr::new(ends.source, port);
    let cookie = taltun::crypto::mac(secret, &[&key(address.ip()), &address.port().to_be_bytes()]);
    let mut message = bare();
    let mac2 = taltun::crypto::mac(&cookie, &[&message[..INITIATION_MAC2]]);
    message[INITIATION_MAC2..].copy_from_slice(&mac2);
    message
}

/// The programs, told that we are under load.
fn under_load() -> Result<Ebpf, Failed> {
    let mut ebpf = loaded()?;
    set_under_load(&mut ebpf)?;
    Ok(ebpf)
}

/// From now on we are under load, and the secret is good.
pub fn set_under_load(ebpf: &mut Ebpf) -> Result<(), Failed> {
    set_load(ebpf, NEVER, NEVER)
}

fn set_load(ebpf: &mut Ebpf, until: u64, secret_until: u64) -> Result<(), Failed> {
    write_load(ebpf, until, Some((&SECRET, secret_until)))
}

/// Tells the programs until when there is a load, and what cookies are made of.
pub fn write_load(
    ebpf: &mut Ebpf,
    until: u64,
    secret: Option<(&[u8; 32], u64)>,
) -> Result<(), Failed> {
    let mut load = Load {
        until,
        ..Load::default()
    };
    if let Some((secret, secret_until)) = secret {
        load.secret = keyed(secret);
        load.secret_until = secret_until;
    }
    let mut map: Array<_, Load> = map(ebpf, "LOAD")?.try_into()?;
    Ok(map.set(0, load, 0)?)
}

/// From now on there are no cookie replies left.
pub fn no_replies(ebpf: &mut Ebpf) -> Result<(), Failed> {
    let mut map: Array<_, u64> = map(ebpf, "REPLIES")?.try_into()?;
    Ok(map.set(0, NEVER, 0)?)
}

fn replies(ebpf: &mut Ebpf) -> Result<u64, Failed> {
    let map: Array<_, u64> = map(ebpf, "REPLIES")?.try_into()?;
    Ok(map.get(&0, 0)?)
}

/// From now on there is nothing left of this budget.
pub fn use_up(ebpf: &mut Ebpf, budget: Budget) -> Result<(), Failed> {
    set_budget(ebpf, budget, NEVER)
}

fn set_budget(ebpf: &mut Ebpf, budget: Budget, full_at: u64) -> Result<(), Failed> {
    let cpus = nr_cpus().map_err(|(_, error)| error)?;
    let mut map: PerCpuArray<_, u64> = map(ebpf, "BUDGET")?.try_into()?;
    let values = PerCpuValues::try_from(vec![full_at; cpus])?;
    Ok(map.set(budget as u32, values, 0)?)
}

/// From now on this source isn't asked for a cookie any more, once its tokens are used up.
pub fn use_up_asked(ebpf: &mut Ebpf, ends: Ends) -> Result<(), Failed> {
    let mut source = key(ends.source);
    if ends.source.is_ipv6() {
        source[8..].fill(0);
    }
    let mut map: HashMap<_, Address, u64> = map(ebpf, "ASKED_BUCKETS")?.try_into()?;
    Ok(map.insert(source, NEVER, 0)?)
}

fn spent(ebpf: &mut Ebpf, budget: Budget) -> Result<u64, Failed> {
    let map: PerCpuArray<_, u64> = map(ebpf, "BUDGET")?.try_into()?;
    Ok(map.get(&(budget as u32), 0)?.iter().sum())
}

/// From now on a peer is known to be at this source.
pub fn add_endpoint(ebpf: &mut Ebpf, ends: Ends) -> Result<(), Failed> {
    add_to(ebpf, "ENDPOINTS", ends)?;
    let hint = Hint::of(&key(ends.source));
    let mut hints: Array<_, u64> = map(ebpf, "ENDPOINT_HINTS")?.try_into()?;
    Ok(hints.set(hint.word, hint.bit, 0)?)
}

fn add_to(ebpf: &mut Ebpf, name: &str, ends: Ends) -> Result<(), Failed> {
    let mut map: HashMap<_, Address, u8> = map(ebpf, name)?.try_into()?;
    Ok(map.insert(key(ends.source), 1, 0)?)
}
