//! Under load, senders first prove their address (paper §5.3, §5.4.7 and §6.6).

use taltun_common::drops::DropReason;

use super::super::cookie::Sealer;
use zerocopy::FromBytes;

use super::super::messages::{CookieReply, Message};
use super::pair::*;

/// An initiation of [`A`] number `n`, sealed with what `sealer` has.
fn sealed(world: &World, sealer: &mut Sealer, n: u64) -> Vec<u8> {
    let (_, mut message) = initiation(A, B, n as u32, WALL_CLOCK + secs(n));
    message[116..].fill(0);
    sealer.seal(&mut message, world.now);
    message
}

/// The last cookie reply that [`B`] sent.
fn last_reply(world: &World) -> [u8; 64] {
    let replies = world.sent_by(B, COOKIE_REPLY);
    replies.last().unwrap().payload.clone().try_into().unwrap()
}

/// A sealer that holds a cookie for `from`, given by [`B`] under load.
fn with_cookie(world: &mut World, from: std::net::SocketAddr) -> Sealer {
    let mut sealer = Sealer::new(&public_key(B));
    world.nodes[B].under_load = true;
    let message = sealed(world, &mut sealer, 1);
    let asked = Err(DropReason::NoCookie);
    assert_eq!(world.inject(B, from, &message), asked);
    let reply = last_reply(world);
    assert!(sealer.receive(CookieReply::ref_from_bytes(&reply).unwrap(), world.now));
    sealer
}

/// §6.6: a cookie reply makes the next retry carry the second MAC, and that gets through.
#[test]
fn handshake_completes_under_load_via_cookie_retry() {
    let mut world = World::pair();
    world.nodes[B].under_load = true;
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.sent_by(B, COOKIE_REPLY).len(), 1);
    assert!(world.sent_by(B, RESPONSE).is_empty());
    world.run(secs(5));
    assert_eq!(world.nodes[B].ids(), [1]);
    let initiations = world.sent_by(A, INITIATION);
    assert_eq!(initiations[0].payload[132..], [0; 16]);
    assert_ne!(initiations[1].payload[132..], [0; 16]);
}

/// §6.6: a cookie reply is no reason to send at once, or to stop retrying.
#[test]
fn a_cookie_reply_changes_no_timer() {
    let mut world = World::pair();
    world.nodes[B].under_load = true;
    world.ping(A, B, 1).unwrap_err();
    world.run(millis(4990));
    assert_eq!(world.sent_by(A, INITIATION).len(), 1);
    world.run(millis(400));
    assert_eq!(world.sent_by(A, INITIATION).len(), 2);
}

/// §5.4.7: an initiator under load asks the same of a responder.
#[test]
fn a_response_under_load_needs_a_cookie_too() {
    let mut world = World::pair();
    world.nodes[A].under_load = true;
    world.ping(A, B, 1).unwrap_err();
    world.run(secs(1));
    assert_eq!(world.sent_by(A, COOKIE_REPLY).len(), 1);
    assert!(world.nodes[B].inbox.is_empty());
    world.run(secs(5));
    assert_eq!(world.nodes[B].ids(), [1]);
    let responses = world.sent_by(B, RESPONSE);
    assert_ne!(responses.last().unwrap().payload[76..], [0; 16]);
}

/// §5.3: a wrong first MAC costs one hash and gets no answer, under load or not.
#[test]
fn a_wrong_first_mac_is_never_answered() {
    for under_load in [false, true] {
        let mut world = World::pair();
        world.nodes[B].under_load = under_load;
        let (_, mut message) = initiation(A, B, 1, WALL_CLOCK);
        message[120] ^= 1;
        assert_eq!(world.inject(B, outer(A), &message), Err(DropReason::Mac1));
        assert!(world.sent.is_empty());
    }
}

/// §5.3: under load, nothing is kept and no key computed for who has no cookie.
#[test]
fn under_load_a_cookie_reply_is_all_that_happens() {
    let mut world = World::pair();
    world.nodes[B].under_load = true;
    for n in 1..100 {
        let (_, message) = initiation(A, B, n, WALL_CLOCK + secs(u64::from(n)));
        let outcome = world.inject(B, outer(A), &message);
        assert_eq!(outcome, Err(DropReason::NoCookie));
        world.run(millis(50));
    }
    assert_eq!(
        world.sent.len(),
        99,
        "one reply each, smaller than what asked"
    );
    assert!(world.nodes[B].births.is_empty());
    assert_eq!(world.nodes[B].peer(A).rx_bytes(), 0);
}

/// §5.4.7: a cookie is good for the address and port it was given to, and for no other.
#[test]
fn a_cookie_is_bound_to_address_and_port() {
    let mut world = World::pair();
    let mut sealer = with_cookie(&mut world, outer(A));
    let message = sealed(&world, &mut sealer, 2);
    for other in ["192.0.2.1:51821", "192.0.2.9:51820", "[2001:db8::1]:51820"] {
        let outcome = world.inject(B, other.parse().unwrap(), &message);
        assert_eq!(outcome, Err(DropReason::NoCookie), "{other}");
    }
    assert!(world.sent_by(B, RESPONSE).is_empty());
    assert_eq!(world.inject(B, outer(A), &message), Ok(()));
}

/// §5.3: a good cookie proves an address, and that address still has its limit.
#[test]
fn the_rate_limit_holds_even_with_a_good_cookie() {
    let mut world = World::pair();
    let mut sealer = with_cookie(&mut world, outer(A));
    let mut admitted = 0;
    for n in 2..102 {
        let message = sealed(&world, &mut sealer, n);
        // Too soon after the one before is another rule; here only the limit counts.
        if world.inject(B, outer(A), &message) != Err(DropReason::RateLimited) {
            admitted += 1;
        }
        world.run(millis(10));
    }
    // A burst of 5, and 20 a second for the second it took.
    assert!((24..=26).contains(&admitted), "{admitted} were admitted");
}

/// §5.4.7: after 120 s a cookie is worth nothing.
#[test]
fn a_cookie_dies_with_the_secret_it_was_made_of() {
    let mut world = World::pair();
    let mut sealer = with_cookie(&mut world, outer(A));
    let message = sealed(&world, &mut sealer, 2);
    world.run(secs(120));
    let outcome = world.inject(B, outer(A), &message);
    assert_eq!(outcome, Err(DropReason::NoCookie));
    assert!(world.sent_by(B, RESPONSE).is_empty());
}

/// §2.1: a cookie reply isn't authenticated by the peer: it moves nobody.
#[test]
fn a_cookie_reply_does_not_roam() {
    let mut world = World::pair();
    world.nodes[B].under_load = true;
    world.ping(A, B, 1).unwrap_err();
    world.run(millis(15));
    let reply = last_reply(&world);
    let elsewhere = "203.0.113.5:5".parse().unwrap();
    assert_eq!(world.inject(A, elsewhere, &reply), Ok(()));
    assert_eq!(world.nodes[A].peer(B).endpoint().unwrap().remote, outer(B));
    assert_eq!(world.nodes[A].peer(B).rx_bytes(), 0);
}

/// §5.4.7: a reply counts once, and only for the message it answers.
#[test]
fn forged_and_repeated_cookie_replies_are_refused() {
    let mut world = World::pair();
    world.nodes[B].under_load = true;
    world.ping(A, B, 1).unwrap_err();
    world.run(millis(15));
    let reply = last_reply(&world);
    for at in 8..64 {
        let mut forged = reply;
        forged[at] ^= 1;
        let outcome = world.inject(A, outer(B), &forged);
        assert_eq!(outcome, Err(DropReason::Handshake), "byte {at}");
    }
    let mut unknown = reply;
    unknown[4] ^= 1;
    let outcome = world.inject(A, outer(B), &unknown);
    assert_eq!(outcome, Err(DropReason::UnknownIndex));
    assert_eq!(world.inject(A, outer(B), &reply), Ok(()));
    let again = world.inject(A, outer(B), &reply);
    assert_eq!(again, Err(DropReason::Handshake));
}

/// §5.4.7: the reply names the index of the message it answers.
#[test]
fn a_cookie_reply_addresses_who_asked() {
    let mut world = World::pair();
    world.nodes[B].under_load = true;
    let (_, message) = initiation(A, B, 0xdead_beef, WALL_CLOCK);
    let _ = world.inject(B, outer(A), &message);
    let reply = last_reply(&world);
    let Ok(Message::CookieReply(reply)) = Message::parse(&reply) else {
        panic!("not a cookie reply");
    };
    assert_eq!(reply.receiver.get(), 0xdead_beef);
    assert_eq!(world.last_sent(B).to, outer(A));
}

/// Who sends in a peer's name uses up what that address may send. The peer is asked for a
/// cookie then, and gets in with it.
#[test]
fn what_is_sent_in_a_peers_name_does_not_lock_it_out() {
    let mut world = World::pair();
    world.with(B, |device, _| device.set_initiations_per_second(Some(20)));
    let mut cookies = 0;
    for number in 0..1000_u32 {
        let (_, mut forged) = initiation(C, B, number, WALL_CLOCK);
        Sealer::new(&public_key(B)).seal(&mut forged, world.now);
        match world.inject(B, outer(A), &forged) {
            Err(DropReason::NoCookie) => cookies += 1,
            // A stranger's.
            outcome => assert_eq!(outcome, Err(DropReason::Handshake)),
        }
    }
    assert_eq!(cookies, 1000 - 20);
    // Wrong first MACs take nothing.
    world.run(secs(2));
    for _ in 0..100 {
        let garbage = Err(DropReason::Mac1);
        let (_, mut wrong) = initiation(C, B, 1, WALL_CLOCK);
        wrong[120] ^= 1;
        assert_eq!(world.inject(B, outer(A), &wrong), garbage);
    }
    // The flood goes on while the peer comes.
    world.ping(A, B, 7).unwrap_err();
    for round in 0..700_u32 {
        let (_, forged) = initiation(C, B, round, WALL_CLOCK);
        let _ = world.inject(B, outer(A), &forged);
        world.run(millis(10));
    }
    assert_eq!(world.nodes[B].ids(), [7]);
}
