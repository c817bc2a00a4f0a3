//! Where a peer is. Where it may be at several places and takes control messages, we choose among
//! these.

use std::net::SocketAddr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::endpoint::Endpoint;
use super::place::Place;
use super::randomness::Randomness;

/// Where a peer is.
#[derive(Debug)]
pub(super) struct At {
    pub(super) endpoint: Option<Endpoint>,
    choice: Option<Box<Choice>>,
}

/// Where a peer may be, for us to choose.
#[derive(Debug)]
struct Choice {
    places: Vec<Place>,
    /// Ports at its address of which each batch takes one.
    ports: Vec<u16>,
    random: ChaCha8Rng,
}

impl At {
    pub(super) fn new(endpoint: Option<Endpoint>) -> Self {
        Self {
            endpoint,
            choice: None,
        }
    }

    /// Where a batch of packets goes: the next port where each takes another one.
    pub(super) fn next(&mut self) -> Option<Endpoint> {
        if let (Some(endpoint), Some(choice)) = (self.endpoint.as_mut(), &mut self.choice)
            && let Some(drawn) = choice
                .random
                .next_u32()
                .checked_rem(choice.ports.len() as u32)
        {
            endpoint.remote.set_port(choice.ports[drawn as usize]);
        }
        self.endpoint
    }

    /// Whether we choose among places of which that is one.
    pub(super) fn is_chosen_among(&self, to: SocketAddr) -> bool {
        let choice = self.choice.as_ref();
        choice.is_some_and(|choice| choice.places.iter().any(|place| place.contains(to)))
    }

    /// From now on we choose among these places. Each batch goes to one of `ports`, if there are
    /// any.
    pub(super) fn choose_among(
        &mut self,
        places: &[Place],
        ports: &[u16],
        random: &mut Randomness,
    ) {
        let is_same = |choice: &Choice| choice.places == places && choice.ports == ports;
        if self.choice.as_deref().is_some_and(is_same) {
            return;
        }
        // Without randomness the next port can be foreseen, and nothing else is lost.
        let seed = random.bytes().unwrap_or_default();
        self.choice = Some(Box::new(Choice {
            places: places.to_vec(),
            ports: ports.to_vec(),
            random: ChaCha8Rng::from_seed(seed),
        }));
    }

    /// It is where it says, as any peer.
    pub(super) fn choose_freely(&mut self) {
        self.choice = None;
    }
}
