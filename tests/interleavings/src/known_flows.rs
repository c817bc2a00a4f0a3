//! The table of flows: whoever finds a flow finds its own state, while others take its slot.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use crate::flows::{Flow, Flows, Key, Phase, Secret, Ticks};
use crate::in_each_order;
use crate::rules::{Ends, Side};
use crate::tuple::Tuple;

/// Flows in a bucket, which is all that the table has here.
const SLOTS: u8 = 4;

/// A time at which all of them live.
fn now() -> Ticks {
    Ticks::since_start(Duration::from_secs(10))
}

fn key(number: u8) -> Key {
    Secret::new([1, 2]).key(&Tuple {
        source: number.into(),
        destination: 200,
        ports: 1,
        protocol: 17,
        is_v6: false,
    })
}

/// The state of a flow, by which it is known again.
fn flow(number: u8, phase: Phase) -> Flow {
    Flow {
        last: now(),
        generation: number.into(),
        phase,
        started_downwards: false,
        ends: Ends {
            from: Side::Peer,
            to: Side::Peer,
        },
    }
}

/// A table in which there is room for no more: each new flow takes the slot of the first.
fn full() -> Flows {
    let flows = Flows::with_capacity(SLOTS.into());
    flows.insert(&key(0), flow(0, Phase::OneWay));
    for number in 1..SLOTS {
        flows.insert(&key(number), flow(number, Phase::Established));
    }
    flows
}

/// Whose state is found by a key, if one is.
fn found(flows: &Flows, number: u8) -> Option<u16> {
    flows
        .find(&key(number), now())
        .map(|found| found.flow().generation)
}

/// One looks for a flow while another thread takes its slot.
pub fn nobody_sees_another_flows_state_as_its_own() {
    in_each_order(2, || {
        let flows = Arc::new(full());
        let others = Arc::clone(&flows);
        // Loom tries more orders where the thread that writes is the one that it runs first.
        let other = thread::spawn(move || found(&others, 0));
        flows.insert(&key(9), flow(9, Phase::OneWay));
        let seen = other.join().expect("it ends");
        assert!(matches!(seen, None | Some(0)), "{seen:?} of another flow");
        assert_eq!(found(&flows, 9), Some(9));
        assert_eq!(found(&flows, 0), None);
        assert_eq!(flows.displaced(), 1);
    });
}

/// Two new flows want the slot of a third.
pub fn two_that_want_one_slot_both_find_one() {
    in_each_order(2, || {
        let flows = Arc::new(full());
        let others = Arc::clone(&flows);
        let other = thread::spawn(move || others.insert(&key(9), flow(9, Phase::OneWay)));
        flows.insert(&key(8), flow(8, Phase::Established));
        other.join().expect("it ends");
        // The later one may have displaced the earlier one.
        let both = [8, 9].map(|number| found(&flows, number));
        for (number, state) in [8, 9].into_iter().zip(both) {
            assert!(state.is_none_or(|state| state == number), "{both:?}");
        }
        assert!(both.iter().any(Option::is_some), "{both:?}");
    });
}
