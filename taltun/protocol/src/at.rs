//! Where a peer is. Where it may be at several places and takes control messages, we choose among
//! these.

use std::net::{IpAddr, SocketAddr};

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
    /// The address whose ports are a batch's to choose from: where it was when these were chosen.
    address: Option<IpAddr>,
    /// Ports at that address of which each batch takes one.
    ports: Vec<u16>,
    /// Whether where it is works.
    works: bool,
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
            && choice.address == Some(endpoint.remote.ip())
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

    /// Whether where it is works, and that is another port of one of the places that we choose among: a
    /// hub that chooses among our ports, too, speaks from its own one.
    pub(super) fn is_needless(&self, to: SocketAddr) -> bool {
        let Some(choice) = self.choice.as_ref().filter(|choice| choice.works) else {
            return false;
        };
        let mut places = choice.places.iter();
        places.any(|place| place.first().ip() == to.ip())
    }

    /// From now on we choose among these places; where it is `works`, as far as is known. Each batch goes
    /// to one of `ports`, if there are any.
    pub(super) fn choose_among(
        &mut self,
        places: &[Place],
        ports: &[u16],
        works: bool,
        random: &mut Randomness,
    ) {
        let address = self.endpoint.map(|endpoint| endpoint.remote.ip());
        let is_same = |choice: &Choice| {
            choice.address == address && choice.places == places && choice.ports == ports
        };
        if let Some(choice) = self.choice.as_mut().filter(|choice| is_same(choice)) {
            choice.works = works;
            return;
        }
        // Without randomness the next port can be foreseen, and nothing else is lost.
        let seed = random.bytes().unwrap_or_default();
        self.choice = Some(Box::new(Choice {
            places: places.to_vec(),
            address,
            ports: ports.to_vec(),
            works,
            random: ChaCha8Rng::from_seed(seed),
        }));
    }

    /// It is where it says, as any peer.
    pub(super) fn choose_freely(&mut self) {
        self.choice = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_one_address_are_never_taken_at_another() {
        let at = |last: u8, port: u16| Endpoint::from(SocketAddr::from(([192, 0, 2, last], port)));
        let random = &mut Randomness::seeded([7; 32]);
        let mut peer = At::new(Some(at(1, 9000)));
        let place = Place::new(at(1, 9000).remote, 9009);
        peer.choose_among(&[place], &[9003, 9004], true, random);
        for _ in 0..20 {
            let port = peer.next().unwrap().remote.port();
            assert!([9003, 9004].contains(&port));
        }
        // It roams elsewhere, where nobody chose anything.
        peer.endpoint = Some(at(9, 1234));
        assert_eq!(peer.next(), Some(at(9, 1234)));
        // It is said to be elsewhere, and the choice is made anew.
        peer.endpoint = Some(at(2, 9000));
        assert_eq!(peer.next(), Some(at(2, 9000)));
        peer.choose_among(&[place], &[9003, 9004], true, random);
        assert_ne!(peer.next(), Some(at(2, 9000)));
    }
}
