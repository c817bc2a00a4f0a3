//! What the programs need while too many handshakes come: that we are under load, the secret of
//! our cookies, the sources that were given one, and where peers were last heard.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap as BpfHashMap, MapData};

use taltun_common::address::Address;
use taltun_common::blake2s;
use taltun_common::hints::{HINT_WORDS, Hint};
use taltun_common::maps::Load;

use super::keys::key;
use super::named::map;
use crate::os::monotonic;

/// A load that the programs know of is told again when it lasts so much longer than they
/// know: every message adds to it, and a call a message would be part of the load.
const STEP: Duration = Duration::from_millis(250);

/// The maps of that.
pub(super) struct UnderLoadMaps {
    load: Load,
    load_map: Array<MapData, Load>,
    secret: Option<[u8; 32]>,
    invited: BpfHashMap<MapData, Address, u8>,
    endpoints: BTreeSet<Address>,
    endpoints_map: BpfHashMap<MapData, Address, u8>,
    hints: Vec<u64>,
    hints_map: Array<MapData, u64>,
}

impl UnderLoadMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            load: Load::default(),
            load_map: map(ebpf, "LOAD")?.try_into()?,
            secret: None,
            invited: map(ebpf, "INVITED")?.try_into()?,
            endpoints: BTreeSet::new(),
            endpoints_map: map(ebpf, "ENDPOINTS")?.try_into()?,
            hints: vec![0; HINT_WORDS],
            hints_map: map(ebpf, "ENDPOINT_HINTS")?.try_into()?,
        })
    }

    /// We are under load for so long from now on.
    pub(super) fn set_under_load(&mut self, lasting: Duration) {
        // Never later than we ourselves are: then the programs would drop what we accept.
        let until = nanos(monotonic() + lasting);
        if until >= self.load.until.saturating_add(nanos(STEP)) {
            self.load.until = until;
            self.write();
        }
    }

    /// This source was given a cookie, made of a secret that is good for so long.
    pub(super) fn give_cookie(&mut self, source: IpAddr, secret: &[u8; 32], lasting: Duration) {
        if self.secret != Some(*secret) {
            // Nobody has a cookie of the new one yet, and the old one is dead: it doesn't
            // matter that a program may see half of each for a moment.
            self.secret = Some(*secret);
            self.load.secret = blake2s::keyed(secret);
            self.load.secret_until = nanos(monotonic() + lasting);
            self.write();
        }
        if let Err(error) = self.invited.insert(key(source), 1, 0) {
            tracing::debug!(%error, "XDP doesn't know who was given a cookie");
        }
    }

    /// Peers were last heard at these addresses.
    pub(super) fn set_endpoints(&mut self, endpoints: impl Iterator<Item = IpAddr>) {
        let new: BTreeSet<Address> = endpoints.map(key).collect();
        for address in self.endpoints.difference(&new) {
            if let Err(error) = self.endpoints_map.remove(address) {
                tracing::debug!(%error, "XDP takes an address for a peer's that isn't any more");
            }
        }
        for address in new.difference(&self.endpoints) {
            if let Err(error) = self.endpoints_map.insert(address, 1, 0) {
                // An unknown sender's then, as all are where no peer was heard.
                tracing::debug!(%error, "XDP can't hold more addresses of peers");
            }
        }
        self.hint_at(&new);
        self.endpoints = new;
    }

    /// Has the programs look for these addresses, and for few others.
    fn hint_at(&mut self, endpoints: &BTreeSet<Address>) {
        let mut hints = vec![0; HINT_WORDS];
        for hint in endpoints.iter().map(Hint::of) {
            hints[hint.word as usize] |= hint.bit;
        }
        for (place, (old, new)) in self.hints.iter_mut().zip(hints).enumerate() {
            if *old == new {
                continue;
            }
            match self.hints_map.set(place as u32, new, 0) {
                Ok(()) => *old = new,
                // As above: unknown senders', as long as that lasts.
                Err(error) => tracing::debug!(%error, "XDP overlooks addresses of peers"),
            }
        }
    }

    fn write(&mut self) {
        if let Err(error) = self.load_map.set(0, self.load, 0) {
            tracing::debug!(%error, "XDP doesn't know of the load");
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
