//! The maps: settings and lists for the programs, and the programs' counters.
//!
//! Settings say whether a map is complete. A map that is full or in the middle of a change proves
//! nothing; the settings change before the map becomes incomplete.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap as BpfHashMap, MapData, PerCpuArray, PerCpuHashMap};
use ipnet::IpNet;

use taltun_common::address::Address;
use taltun_common::blake2s;
use taltun_common::bucket::Rate;
use taltun_common::drops::DropReason;
use taltun_common::maps::{MAX_INDICES, MAX_SOURCES, Settings, SourceCounters, route};

use super::explain::{explain, is_absent};
use super::keys::{key, prefix};
use super::named::map;
use super::routes::{Room, Routes};
use super::under_load::UnderLoadMaps;
use crate::layer::Layer;
use crate::report::{Drops, Source};

type Prefixes = LpmTrie<MapData, Address, u8>;
type Sources = PerCpuHashMap<MapData, Address, SourceCounters>;

/// The maps of one set of loaded programs.
pub(super) struct Maps {
    settings: Settings,
    /// Whether indices that aren't ours pass: user space knows what to do with some of them.
    passes_misrouted: bool,
    settings_map: Array<MapData, Settings>,
    own: BTreeSet<Address>,
    local_addresses: BpfHashMap<MapData, Address, u8>,
    denied: Prefixes,
    denied_inner: Prefixes,
    indices: BpfHashMap<MapData, u32, u8>,
    /// Indices of ours that the map had no room for. While there are any, nothing is
    /// concluded from the map.
    homeless: BTreeSet<u32>,
    /// The peers' indices of our sessions, by ours.
    remote_indices: HashMap<u32, u32>,
    sessions: BpfHashMap<MapData, u32, u32>,
    mac1_key: Option<[u8; 32]>,
    mac1: Array<MapData, blake2s::State>,
    routes: Routes,
    routes_map: Prefixes,
    /// The routes that are marked as closed by rules.
    closed: BTreeSet<IpNet>,
    /// Whether it isn't known by now which are.
    rules_changed: bool,
    pub(super) under_load: UnderLoadMaps,
    sources: Sources,
    sources_inner: Sources,
    others: PerCpuArray<MapData, SourceCounters>,
    drops: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Takes the maps of these programs, which pass everything until
    /// [`set_listen`](Self::set_listen).
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            settings: Settings {
                check_indices: 1,
                ..Settings::default()
            },
            passes_misrouted: false,
            settings_map: map(ebpf, "SETTINGS")?.try_into()?,
            own: BTreeSet::new(),
            local_addresses: map(ebpf, "LOCAL_ADDRESSES")?.try_into()?,
            denied: map(ebpf, "DENIED")?.try_into()?,
            denied_inner: map(ebpf, "DENIED_INNER")?.try_into()?,
            indices: map(ebpf, "INDICES")?.try_into()?,
            homeless: BTreeSet::new(),
            remote_indices: HashMap::new(),
            sessions: map(ebpf, "SESSIONS")?.try_into()?,
            mac1_key: None,
            mac1: map(ebpf, "MAC1")?.try_into()?,
            routes: Routes::default(),
            routes_map: map(ebpf, "ROUTES")?.try_into()?,
            closed: BTreeSet::new(),
            rules_changed: false,
            under_load: UnderLoadMaps::take(ebpf)?,
            sources: map(ebpf, "SOURCES")?.try_into()?,
            sources_inner: map(ebpf, "SOURCES_INNER")?.try_into()?,
            others: map(ebpf, "OTHER_SOURCES")?.try_into()?,
            drops: map(ebpf, "DROPS")?.try_into()?,
        })
    }

    /// Whether the kernel lets this thread.
    pub(super) fn can_be_read(&self) -> bool {
        self.settings_map.get(&0, 0).is_ok()
    }

    pub(super) fn set_listen(&mut self, listen: SocketAddr) {
        self.settings.listen_port = listen.port();
        self.write_settings();
    }

    /// The ports that are turned into the listen port, the last one included.
    pub(super) fn set_port_range(&mut self, range: Option<(u16, u16)>) {
        let (first, last) = range.unwrap_or_default();
        if (self.settings.hop_first, self.settings.hop_last) != (first, last) {
            (self.settings.hop_first, self.settings.hop_last) = (first, last);
            self.write_settings();
        }
    }

    /// How many workers share the port.
    pub(super) fn set_workers(&mut self, workers: usize) {
        self.settings.workers = u8::try_from(workers).unwrap_or_default();
        self.write_settings();
    }

    pub(super) fn set_initiations_per_second(&mut self, most: u32) {
        self.settings.initiations = Rate::per_second(most);
        self.write_settings();
    }

    pub(super) fn set_mac1_key(&mut self, key: &[u8; 32]) {
        if self.mac1_key == Some(*key) {
            return;
        }
        // Half of one key and half of another would drop what is good.
        self.settings.check_mac1 = 0;
        if !self.write_settings() {
            return;
        }
        match self.mac1.set(0, blake2s::keyed(key), 0) {
            Ok(()) => {
                self.settings.check_mac1 = 1;
                self.write_settings();
                self.mac1_key = Some(*key);
            }
            Err(error) => tracing::warn!(%error, "XDP doesn't check mac1"),
        }
    }

    pub(super) fn allow_index(&mut self, index: u32) {
        if !self.homeless.is_empty() {
            self.homeless.insert(index);
            return;
        }
        if let Err(error) = self.indices.insert(index, 1, 0) {
            tracing::warn!(
                %error, room = MAX_INDICES,
                "XDP can't hold more receiver indices; user space checks them alone for now"
            );
            self.homeless.insert(index);
            self.write_check_indices();
        }
    }

    /// Whether some of it passes, from where peers are.
    pub(super) fn set_expects_misrouted(&mut self, expects: bool) {
        if self.settings.pass_misrouted != u8::from(expects) {
            self.settings.pass_misrouted = expects.into();
            self.write_settings();
        }
    }

    /// Whether data to indices that aren't ours passes.
    pub(super) fn set_passes_misrouted(&mut self, passes: bool) {
        self.passes_misrouted = passes;
        self.write_check_indices();
    }

    /// Only a map with all of ours proves that an index isn't. Whether what is to be is written.
    fn write_check_indices(&mut self) -> bool {
        let checks = u8::from(self.homeless.is_empty() && !self.passes_misrouted);
        if self.settings.check_indices == checks {
            return true;
        }
        self.settings.check_indices = checks;
        self.write_settings()
    }

    pub(super) fn note_session(&mut self, local: u32, remote: u32) {
        match self.sessions.insert(remote, local, 0) {
            Ok(()) => {
                self.remote_indices.insert(local, remote);
            }
            // The port of its answers goes by the peer's socket then.
            Err(error) => tracing::debug!(local, %error, "TC can't hold more sessions"),
        }
    }

    fn forget_session(&mut self, local: u32) {
        if let Some(remote) = self.remote_indices.remove(&local)
            // Two peers may have chosen the same index.
            && self.sessions.get(&remote, 0).is_ok_and(|holder| holder == local)
            && let Err(error) = self.sessions.remove(&remote)
        {
            tracing::debug!(local, %error, "TC still holds a session that is over");
        }
    }

    pub(super) fn forget_index(&mut self, index: u32) {
        self.forget_session(index);
        if self.homeless.remove(&index) {
            // It was never in the map.
        } else if let Err(error) = self.indices.remove(&index) {
            tracing::debug!(index, %error, "XDP still lets this index through");
        }
        if !self.homeless.is_empty() {
            self.house_indices();
        }
    }

    /// Moves indices into the map as far as there is room. Only when none is left outside,
    /// the map proves again that what it lacks was never given out.
    fn house_indices(&mut self) {
        while let Some(index) = self.homeless.first().copied() {
            if self.indices.insert(index, 1, 0).is_err() {
                return;
            }
            self.homeless.remove(&index);
        }
        if self.write_check_indices() {
            tracing::info!("XDP holds all receiver indices again");
        }
    }

    pub(super) fn ban(&mut self, layer: Layer, net: IpNet) -> Result<(), String> {
        insert(self.denied(layer), net)
    }

    pub(super) fn unban(&mut self, layer: Layer, net: IpNet) -> Result<(), String> {
        remove(self.denied(layer), net)
    }

    fn denied(&mut self, layer: Layer) -> &mut Prefixes {
        match layer {
            Layer::Outer => &mut self.denied,
            Layer::Inner => &mut self.denied_inner,
        }
    }

    /// Adds to what peers own.
    pub(super) fn add_routes(&mut self, routes: &[IpNet]) {
        for net in routes {
            self.routes.add(*net, &mut self.routes_map);
        }
        self.write_check_routes();
    }

    /// Takes from what peers own.
    pub(super) fn remove_routes(&mut self, routes: &[IpNet]) {
        for net in routes {
            self.routes.remove(*net, &mut self.routes_map);
            self.closed.remove(net);
        }
        self.routes.house(&mut self.routes_map);
        self.write_check_routes();
    }

    /// Only a map with all of them proves that an address is nobody's.
    fn write_check_routes(&mut self) {
        let complete = u8::from(self.routes.is_complete());
        if self.settings.check_routes != complete {
            self.settings.check_routes = complete;
            self.write_settings();
        }
    }

    /// Rules, or whose the routes are, change: nothing is closed until this is known again.
    pub(super) fn open_all(&mut self) {
        self.rules_changed = true;
        if self.settings.check_rules != 0 {
            self.settings.check_rules = 0;
            self.write_settings();
        }
    }

    /// Whether [`close`](Self::close) is to be called.
    pub(super) fn has_open_all(&self) -> bool {
        self.rules_changed
    }

    /// Marks the routes that rules close, and no others.
    pub(super) fn close(&mut self, closed: BTreeSet<IpNet>) {
        self.rules_changed = false;
        let opened: Vec<IpNet> = self.closed.difference(&closed).copied().collect();
        for net in opened {
            if self.routes.has(&net) && !mark(&mut self.routes_map, net, 0) {
                return;
            }
            self.closed.remove(&net);
        }
        for net in closed {
            if self.routes.has(&net) && !self.closed.contains(&net) {
                if !mark(&mut self.routes_map, net, route::NO_TCP) {
                    return;
                }
                self.closed.insert(net);
            }
        }
        if !self.closed.is_empty() {
            self.settings.check_rules = 1;
            self.write_settings();
        }
    }

    pub(super) fn set_own_addresses(&mut self, addresses: Vec<IpAddr>) {
        let new: BTreeSet<Address> = addresses.into_iter().map(key).collect();
        for address in new.difference(&self.own) {
            if let Err(error) = self.local_addresses.insert(address, 1, 0) {
                // Not guarded then, and otherwise as good as any.
                tracing::debug!(%error, "XDP can't hold more addresses of this machine");
            }
        }
        for address in self.own.difference(&new) {
            if let Err(error) = self.local_addresses.remove(address) {
                tracing::debug!(%error, "XDP still holds an address that isn't ours any more");
            }
        }
        self.own = new;
    }

    pub(super) fn sources(&self, layer: Layer) -> Vec<Source> {
        let side = match layer {
            Layer::Outer => 0,
            Layer::Inner => 1,
        };
        self.with_others(self.some_sources(layer, 2 * MAX_SOURCES), side)
    }

    /// Some of them: not more than `most`, for who has no time to read all.
    pub(super) fn some_sources(&self, layer: Layer, most: usize) -> Vec<Source> {
        match layer {
            Layer::Outer => read(&self.sources, most),
            Layer::Inner => read(&self.sources_inner, most),
        }
    }

    /// Adds what came from sources without an entry, as one whose address is unspecified.
    fn with_others(&self, mut sources: Vec<Source>, side: u32) -> Vec<Source> {
        match self.others.get(&side, 0) {
            Ok(cpus) => {
                let others = sum(Ipv6Addr::UNSPECIFIED.into(), cpus.iter());
                sources.extend((others.packets != 0).then_some(others));
            }
            Err(error) => tracing::debug!(%error, "sources without an entry can't be read"),
        }
        sources
    }

    pub(super) fn drops(&self) -> Drops {
        let mut drops = Drops::default();
        for reason in DropReason::ALL {
            match self.drops.get(&(*reason as u32), 0) {
                Ok(cpus) => drops[*reason] = cpus.iter().sum(),
                Err(error) => tracing::debug!(%error, "the programs' drops can't be read"),
            }
        }
        drops
    }

    /// Whether it worked.
    fn write_settings(&mut self) -> bool {
        let written = self.settings_map.set(0, self.settings, 0);
        if let Err(error) = &written {
            tracing::warn!(%error, "the programs go on as before");
        }
        written.is_ok()
    }
}

impl Room for Prefixes {
    fn put(&mut self, net: IpNet) -> Result<(), String> {
        let (key, meant) = prefix(net);
        self.insert(&key, meant, 0).map_err(|error| explain(&error))
    }

    fn take(&mut self, net: IpNet) {
        if let Err(error) = LpmTrie::remove(self, &prefix(net).0) {
            tracing::debug!(%net, %error, "TC still has this route");
        }
    }
}

/// Says more of a route that is there. Whether it worked.
fn mark(routes: &mut Prefixes, net: IpNet, more: u8) -> bool {
    let (key, family) = prefix(net);
    let marked = routes.insert(&key, family | more, 0);
    if let Err(error) = &marked {
        tracing::warn!(%net, %error, "TC can't be told what rules say; user space judges alone");
    }
    marked.is_ok()
}

fn insert(list: &mut Prefixes, net: IpNet) -> Result<(), String> {
    let (key, meant) = prefix(net);
    list.insert(&key, meant, 0)
        .map_err(|error| format!("{net} can't be denied: {}", explain(&error)))
}

fn remove(list: &mut Prefixes, net: IpNet) -> Result<(), String> {
    let (key, _) = prefix(net);
    match list.remove(&key) {
        Ok(()) => Ok(()),
        Err(error) if is_absent(&error) => Err(format!("{net} isn't denied")),
        Err(error) => Err(format!("{net} stays denied: {}", explain(&error))),
    }
}

fn read(map: &Sources, most: usize) -> Vec<Source> {
    // Entries that make room for others while we read send the kernel's walk back to its
    // start: so it may come by twice, and under a flood it needs an end.
    let mut sources = HashMap::new();
    for (address, counters) in map.iter().take(most).flatten() {
        let addr = IpAddr::from(address).to_canonical();
        sources.insert(addr, sum(addr, counters.iter()));
    }
    sources.into_values().collect()
}

/// What all CPUs have counted.
fn sum<'a>(addr: IpAddr, cpus: impl Iterator<Item = &'a SourceCounters>) -> Source {
    let mut source = Source {
        addr,
        packets: 0,
        bytes: 0,
        drops: 0,
        reason: None,
    };
    let mut last = None;
    for cpu in cpus {
        // The last of all CPUs; in one tick of the clock, that of the one that drops most.
        let drop = (cpu.last_drop, cpu.drops);
        if cpu.reason != 0 && last.is_none_or(|last| last < drop) {
            last = Some(drop);
            source.reason = reason(cpu.reason);
        }
        source.packets += cpu.packets;
        source.bytes += cpu.bytes;
        source.drops += cpu.drops;
    }
    source
}

/// The reason that a source's counters name.
fn reason(code: u64) -> Option<DropReason> {
    let number = usize::try_from(code).ok()?.checked_sub(1)?;
    DropReason::ALL.get(number).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_is_that_of_the_last_drop_on_any_cpu() {
        let cpu = |drops, reason: Option<DropReason>, last_drop| SourceCounters {
            packets: drops + 1,
            bytes: 100,
            drops,
            reason: reason.map_or(0, |reason| 1 + reason as u64),
            last_drop,
        };
        let (mac1, shape) = (Some(DropReason::Mac1), Some(DropReason::Shape));
        let last = |cpus: &[SourceCounters]| sum([192, 0, 2, 1].into(), cpus.iter());
        let two = [cpu(50, mac1, 700), cpu(5, shape, 701), cpu(0, None, 0)];
        assert_eq!(last(&two).reason, shape);
        assert_eq!((last(&two).drops, last(&two).packets), (55, 58));
        // Since the start of a machine whose clock of ticks has just gone round to zero.
        assert_eq!(last(&[cpu(1, mac1, 0)]).reason, mac1);
        let at_once = [cpu(1, shape, 9), cpu(2, mac1, 9)];
        assert_eq!(last(&at_once).reason, mac1);
        assert_eq!(last(&[cpu(0, None, 0)]).reason, None);
    }
}
