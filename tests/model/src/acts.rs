//! What each transition does to the world.

use std::time::Duration;

use ipnet::IpNet;
use taltun_protocol::device::HopSettings;
use taltun_protocol::messages::Message;

use crate::cast::{self, ALL, GENERATIONS, HUB, MOVABLE, SPOKES, STRANGER};
use crate::mending::{agree, know, learn};
use crate::network::Sent;
use crate::packet::{PORTS, Said};
use crate::rules::SETS;
use crate::script::Script;
use crate::transition::Transition;
use crate::world::World;

/// From one probe of a path to the next is a second or more, so that worlds see many.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The next thing that happens.
pub(crate) fn step(world: &mut World, script: &mut Script<'_>) {
    let transition = Transition::of(script.byte());
    world.tally.transitions += 1;
    act(world, transition, script);
    for who in 0..ALL {
        world.settle(who);
    }
}

fn spoke(script: &mut Script<'_>) -> usize {
    SPOKES.start + script.below(SPOKES.len())
}

/// A spoke and the hub, in either order.
fn link(script: &mut Script<'_>) -> (usize, usize) {
    let spoke = spoke(script);
    if script.flip() {
        (spoke, HUB)
    } else {
        (HUB, spoke)
    }
}

fn act(world: &mut World, transition: Transition, script: &mut Script<'_>) {
    match transition {
        Transition::Talk
        | Transition::HubTalks
        | Transition::TalkToHub
        | Transition::Answer
        | Transition::Spoof => talk(world, transition, script),
        Transition::Deliver
        | Transition::DeliverSome
        | Transition::Copy
        | Transition::Lose
        | Transition::LoseAll
        | Transition::Spoil
        | Transition::Cut
        | Transition::Replay
        | Transition::Reflect
        | Transition::Readdress
        | Transition::Misdeliver
        | Transition::Burst
        | Transition::Garbage => carry(world, transition, script),
        Transition::Run => {
            let end = world.now + u64::from(script.byte()) * 10_000_000;
            while world.now < end {
                world.flow();
            }
        }
        Transition::Milliseconds
        | Transition::Seconds
        | Transition::Minutes
        | Transition::Sleep
        | Transition::Skip
        | Transition::WallClock => pass(world, transition, script),
        Transition::Restart
        | Transition::Rollback
        | Transition::Save
        | Transition::StartOver
        | Transition::Initiate
        | Transition::Stranger
        | Transition::UnderLoad
        | Transition::Keepalive => run(world, transition, script),
        Transition::Roam
        | Transition::ShutPorts
        | Transition::ShutAddress
        | Transition::CutOff
        | Transition::Places
        | Transition::Hop
        | Transition::ForgetLocal => route(world, transition, script),
        Transition::PresharedKey
        | Transition::SpokeKey
        | Transition::HubKey
        | Transition::Learn
        | Transition::MoveNets
        | Transition::Rules
        | Transition::Ban
        | Transition::Remove
        | Transition::Limit
        | Transition::Mend
        | Transition::Relay => {
            configure(world, transition, script);
            for node in &world.nodes {
                node.check_nets();
            }
        }
    }
}

/// Packets of people.
fn talk(world: &mut World, transition: Transition, script: &mut Script<'_>) {
    let number = world.ledger.next();
    if transition == Transition::Answer {
        let asked = world.ledger.last_delivered(script.below(4));
        if let Some(asked) = asked.map(|asked| world.ledger.said(asked)) {
            let who = (0..ALL).find(|who| world.nodes[*who].has(asked.destination));
            let answer = Said {
                source: asked.destination,
                destination: asked.source,
                ports: [asked.ports[1], asked.ports[0]],
                number,
            };
            world.talk(who.unwrap_or(HUB), answer, 0);
        }
        return;
    }
    let (from, to) = match transition {
        Transition::HubTalks => (HUB, spoke(script)),
        Transition::TalkToHub => (spoke(script), HUB),
        _ => (spoke(script), spoke(script)),
    };
    let options = script.byte();
    let v6 = options & 1 == 1;
    let mut said = Said {
        source: cast::inner(from, v6),
        destination: cast::inner(to, v6),
        ports: [1024 + (number % 60_000) as u16, script.of(&PORTS)],
        number,
    };
    let movable: IpNet = script.of(&MOVABLE).parse().expect("it is a network");
    if movable.addr().is_ipv6() == v6 {
        match options >> 1 & 7 {
            0 => said.destination = movable.addr(),
            1 => said.source = movable.addr(),
            _ => {}
        }
    }
    if transition == Transition::Spoof {
        said.source = cast::inner(script.below(ALL), v6);
    }
    let payload = if options & 0x80 == 0 { 0 } else { 300 };
    world.talk(from, said, payload);
}

/// What becomes of messages on their way.
fn carry(world: &mut World, transition: Transition, script: &mut Script<'_>) {
    let at = script.byte();
    match transition {
        Transition::DeliverSome => {
            for _ in 0..=at & 7 {
                let Some(sent) = world.network.first() else {
                    break;
                };
                world.arrive(&sent);
            }
            return;
        }
        Transition::LoseAll => return world.network.clear(),
        Transition::Burst => return burst(world, usize::from(at) % ALL),
        Transition::Garbage => return garbage(world, at, script),
        _ => {}
    }
    let sent = match transition {
        Transition::Replay => world.network.recorded(at),
        _ => world.network.take(at),
    };
    let Some(mut sent) = sent else { return };
    match transition {
        Transition::Lose => return,
        Transition::Copy => world.network.again(sent.clone()),
        Transition::Spoil => {
            let bit = usize::from(script.word());
            let len = sent.bytes.len();
            sent.bytes[bit / 8 % len] ^= 1 << (bit % 8);
            sent.is_spoilt = true;
        }
        Transition::Cut => {
            let keep = usize::from(script.byte()) % sent.bytes.len();
            sent.bytes.truncate(keep);
            sent.is_spoilt = true;
        }
        Transition::Reflect => (sent.from, sent.to) = (sent.to, sent.from),
        Transition::Readdress => {
            // Perhaps that of another spoke.
            sent.from = cast::spoke_address(spoke(script), script.byte());
        }
        Transition::Misdeliver => sent.to = world.nodes[script.below(ALL)].address,
        _ => {}
    }
    world.arrive(&sent);
}

fn burst(world: &mut World, to: usize) {
    let address = world.nodes[to].address;
    let is_for = |sent: &Sent| {
        let is_there = sent.to == address || to == HUB && cast::is_hub(sent.to);
        let is_data = matches!(Message::parse(&sent.bytes), Ok(Message::Data { .. }));
        is_there && !is_data
    };
    let all = world.network.take_all(is_for);
    let all: Vec<&Sent> = all
        .iter()
        .filter(|sent| world.target(sent) == Some(to))
        .collect();
    world.tally.messages += all.len() as u64;
    world.shake_hands(to, &all);
}

fn garbage(world: &mut World, at: u8, script: &mut Script<'_>) {
    let len = usize::from(script.byte());
    let mut bytes: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(31)).collect();
    if let Some(kind) = bytes.first_chunk_mut::<4>() {
        *kind = [at & 7, 0, 0, 0];
    }
    // An index that its receiver has, perhaps.
    let who = script.below(ALL);
    let index = world.nodes[who].indices.first().copied();
    if let (Some(index), Some(place)) = (index, bytes.get_mut(4..8)) {
        place.copy_from_slice(&index.to_le_bytes());
    }
    let sent = Sent {
        author: STRANGER,
        from: world.nodes[STRANGER].address,
        to: world.nodes[who].address,
        bytes,
        is_spoilt: true,
    };
    world.arrive(&sent);
}

/// Time and clocks.
fn pass(world: &mut World, transition: Transition, script: &mut Script<'_>) {
    let much = u64::from(script.byte());
    match transition {
        Transition::Milliseconds => world.pass(Duration::from_millis(much * 4)),
        Transition::Seconds => world.pass(Duration::from_secs(much & 15)),
        Transition::Minutes => world.pass(Duration::from_secs(much)),
        Transition::Sleep => {
            let who = script.below(ALL);
            world.nodes[who].is_asleep = true;
            world.pass(Duration::from_secs(much / 2));
            world.nodes[who].is_asleep = false;
            world.pass(Duration::ZERO);
        }
        Transition::Skip => {
            let who = script.below(ALL);
            world.nodes[who].skip(Duration::from_secs(much * 2));
            world.pass(Duration::ZERO);
        }
        _ => {
            let who = script.below(ALL);
            // Up to four years, ahead or back.
            let wrong = 1 << (much & 0x1f).min(27);
            world.nodes[who].wrong_by = match much >> 5 {
                0..=2 => wrong,
                3..=5 => -wrong,
                _ => 0,
            };
        }
    }
}

/// What people do to a program that runs.
fn run(world: &mut World, transition: Transition, script: &mut Script<'_>) {
    let now = world.now;
    match transition {
        Transition::Restart => {
            let who = script.below(ALL);
            let disk = world.nodes[who].disk.clone();
            world.nodes[who].restart(&disk, now);
        }
        Transition::Rollback => {
            let who = script.below(ALL);
            let disk = world.saved[who].clone();
            world.nodes[who].restart(&disk, now);
        }
        Transition::Save => {
            world.saved = world.nodes.iter().map(|node| node.disk.clone()).collect();
        }
        Transition::StartOver => {
            let node = &mut world.nodes[script.below(ALL)];
            node.tell_time(now);
            node.device.start_over(node.clock(now));
        }
        Transition::Initiate => {
            let (who, peer) = link(script);
            initiate(world, who, peer);
        }
        Transition::Stranger => {
            initiate(world, STRANGER, HUB);
            // It may claim a spoke's address.
            if script.flip() {
                let claimed = world.nodes[spoke(script)].address;
                let own = std::mem::replace(&mut world.nodes[STRANGER].address, claimed);
                world.settle(STRANGER);
                world.nodes[STRANGER].address = own;
            }
        }
        Transition::UnderLoad => {
            let node = &mut world.nodes[script.below(ALL)];
            node.under_load = !node.under_load;
        }
        _ => {
            let (who, peer) = link(script);
            let interval = script.of(&[None, Some(1), Some(5), Some(25)]);
            let node = &mut world.nodes[who];
            if let Some(key) = node.key_of(peer) {
                let interval = interval.map(Duration::from_secs);
                let at = node.clock(now);
                node.device.set_persistent_keepalive(&key, interval, at);
            }
        }
    }
}

fn initiate(world: &mut World, who: usize, peer: usize) {
    let now = world.now;
    let node = &mut world.nodes[who];
    if let Some(key) = node.key_of(peer) {
        node.tell_time(now);
        node.device.initiate(&key, node.clock(now));
    }
}

/// Where they are, and which ways there are.
fn route(world: &mut World, transition: Transition, script: &mut Script<'_>) {
    let now = world.now;
    let much = script.byte();
    match transition {
        Transition::Roam => {
            let who = spoke(script);
            world.nodes[who].address = cast::spoke_address(who, much);
        }
        Transition::ShutPorts => world.network.shut_ports = much,
        Transition::ShutAddress => world.network.shut_addresses = much & 3,
        Transition::CutOff => world.network.cut = if much & 1 == 0 { 0 } else { much >> 1 },
        Transition::Places => {
            let node = &mut world.nodes[spoke(script)];
            node.disk.reach = 1 + much % 6;
            node.find(HUB, now);
        }
        Transition::Hop => {
            let node = &mut world.nodes[spoke(script)];
            let hop = HopSettings {
                interval: Duration::from_secs([0, 2, 10, 30][usize::from(much & 3)]),
                pool: 1 + usize::from(much >> 2 & 7),
                probe_interval: PROBE_INTERVAL * (1 + u32::from(much >> 5)),
                ..HopSettings::default()
            };
            let at = node.clock(now);
            node.device.set_hop(hop, at);
        }
        _ => {
            let (who, peer) = link(script);
            let node = &world.nodes[who];
            if let Some(key) = node.key_of(peer) {
                node.device.forget_local_address(&key);
            }
        }
    }
}

/// What configurations say.
fn configure(world: &mut World, transition: Transition, script: &mut Script<'_>) {
    let now = world.now;
    let much = script.byte();
    match transition {
        Transition::PresharedKey => {
            let (who, peer) = link(script);
            world.nodes[who].set_psk(peer, much & 3);
            if much & 4 == 0 {
                world.nodes[peer].set_psk(who, much & 3);
            }
        }
        Transition::SpokeKey => {
            let who = spoke(script);
            world.nodes[who].set_generation(much % GENERATIONS, now);
            if much & 0x80 == 0 {
                learn(world, HUB, who);
            }
        }
        Transition::HubKey => {
            world.nodes[HUB].set_generation(much % GENERATIONS, now);
            for spoke in SPOKES.filter(|spoke| much >> (spoke + 3) & 1 == 0) {
                learn(world, spoke, HUB);
            }
        }
        Transition::Learn => {
            let (who, peer) = link(script);
            learn(world, who, peer);
        }
        Transition::MoveNets => {
            let who = spoke(script);
            let mut nets = cast::own_nets(who);
            let movable = MOVABLE.iter().enumerate();
            let moved = movable.filter(|(at, _)| much >> at & 1 == 1);
            nets.extend(moved.map(|(_, net)| net.parse::<IpNet>().expect("it is a network")));
            world.nodes[HUB].set_nets(who, nets);
        }
        Transition::Rules => world.rules.change(usize::from(much) % SETS),
        Transition::Ban => {
            let refused = much & 1 == 1;
            let (who, peer) = (HUB, spoke(script));
            world.nodes[who].tell_time(now);
            world.nodes[who].set_refused(peer, refused, now);
        }
        Transition::Remove => {
            let who = spoke(script);
            if world.nodes[HUB].remove(who).is_none() || much & 1 == 1 {
                know(world, who);
            }
        }
        Transition::Mend => agree(world),
        Transition::Limit => {
            let most = [None, Some(1), Some(5)][usize::from(much) % 3];
            world.nodes[HUB].device.set_initiations_per_second(most);
        }
        _ => {
            let hub = &mut world.nodes[HUB];
            hub.relay = much & 1 == 1;
            hub.device.set_relay(hub.relay);
        }
    }
}
