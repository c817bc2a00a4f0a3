//! What the eBPF programs drop, by how their counters rise.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use taltun_common::drops::DropReason;

use crate::accel::Shield;
use crate::dataplane::clock;
use crate::dataplane::tap::{Fate, Place, Seen, Taps};
use crate::layer::Layer;
use crate::report::Drops;

/// Senders that are looked through for who had something dropped. The controller does it, so it
/// has to be short.
const SOURCES: usize = 512;

/// What the counters were when they were last read.
#[derive(Debug, Default)]
pub(super) struct KernelDrops {
    drops: Drops,
    sources: HashMap<(Layer, IpAddr), u64>,
}

impl KernelDrops {
    /// Whatever was dropped before isn't told.
    pub(super) fn begin(&mut self, shield: &Shield) {
        self.drops = shield.drops();
        self.sources = HashMap::new();
        for (layer, addr, drops, _) in sources(shield) {
            self.sources.insert((layer, addr), drops);
        }
    }

    /// Tells what was dropped since, with the senders where they are known.
    pub(super) fn look(&mut self, taps: &Taps, shield: &Shield) {
        let drops = shield.drops();
        let mut risen: Vec<(DropReason, u64)> = drops
            .iter()
            .map(|(reason, count)| (reason, count.saturating_sub(self.drops[reason])))
            .filter(|(_, more)| *more > 0)
            .collect();
        self.drops = drops;
        if risen.is_empty() {
            return;
        }
        // Only these are remembered, or a flood from ever new senders would take more and more memory.
        let before = std::mem::take(&mut self.sources);
        for (layer, addr, drops, reason) in sources(shield) {
            self.sources.insert((layer, addr), drops);
            let before = before.get(&(layer, addr));
            let more = drops.saturating_sub(before.copied().unwrap_or_default());
            let place = risen.iter_mut().find(|(risen, _)| Some(*risen) == reason);
            let Some((reason, left)) = place.filter(|_| more > 0 && !addr.is_unspecified()) else {
                continue;
            };
            let more = more.min(*left);
            *left -= more;
            tell(taps, *reason, more, Some(addr));
        }
        for (reason, left) in risen {
            tell(taps, reason, left, None);
        }
    }
}

/// Senders on either side, with their drops and the reason of the last.
fn sources(shield: &Shield) -> Vec<(Layer, IpAddr, u64, Option<DropReason>)> {
    let of = |layer| {
        let sources = shield.some_sources(layer, SOURCES).into_iter();
        sources.map(move |source| (layer, source.addr, source.drops, source.reason))
    };
    of(Layer::Outer).chain(of(Layer::Inner)).collect()
}

fn tell(taps: &Taps, reason: DropReason, packets: u64, from: Option<IpAddr>) {
    if packets == 0 {
        return;
    }
    let mut seen = Seen::new(clock::now(), Place::Kernel, Fate::Dropped(reason));
    seen.packets = packets;
    seen.remote = from.map(|addr| SocketAddr::new(addr, 0));
    taps.tell(seen, &[]);
}
