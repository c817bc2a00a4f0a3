//! The loaded programs and their maps.
//!
//! The maps are filled before a program is attached, so that no frame meets half of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;

use taltun_common::address::{Address, V4_MAPPED_BITS};
use taltun_common::drops::DropReason;
use taltun_common::maps::{MAX_INDICES, MAX_SOURCES, Settings, SourceCounters, denied};

use super::attach::{Attachment, attach};
use super::choose::{choose, own_addresses};
use super::netlink::{self, Link};
use super::{OBJECT, Request, off};
use crate::report::{Source, XdpStatus};

/// How long our own addresses are taken for unchanged. A new one isn't guarded until
/// then, which is all that can happen.
const ADDRESSES_FRESH: Duration = Duration::from_secs(30);

/// The programs, at least one of them attached, and their maps.
pub(super) struct Programs {
    /// Before `ebpf`: a link refers to its program.
    attachments: Vec<Attachment>,
    maps: Maps,
    ebpf: Ebpf,
    settings: Settings,
    listen: SocketAddr,
    own: BTreeSet<Address>,
    own_read: Instant,
}

struct Maps {
    settings: Array<MapData, Settings>,
    local_addresses: BpfHashMap<MapData, Address, u8>,
    denied: LpmTrie<MapData, Address, u8>,
    indices: BpfHashMap<MapData, u32, u8>,
    sources: PerCpuHashMap<MapData, Address, SourceCounters>,
    drops: PerCpuArray<MapData, u64>,
}

impl Programs {
    /// Loads the programs and attaches them wherever it is wanted and possible.
    pub(super) fn start(request: &Request<'_>) -> (Vec<XdpStatus>, Option<Self>) {
        let links = match netlink::links() {
            Ok(links) => links,
            Err(error) => {
                let reason = format!("the interfaces can't be listed: {error}");
                return (vec![off("", reason)], None);
            }
        };
        let own = own_addresses(request.listen, &links);
        let choices = choose(request, links);
        if choices.iter().all(Result::is_err) {
            return (choices.into_iter().filter_map(Result::err).collect(), None);
        }
        let mut programs = match Self::load(request.listen, own) {
            Ok(programs) => programs,
            Err(error) => {
                let reason = format!("the programs can't be loaded: {}", explain(&*error));
                return (vec![off("", reason)], None);
            }
        };
        for net in request.deny {
            if let Err(error) = programs.ban(*net) {
                tracing::warn!("accel.deny: {error}");
            }
        }
        let status = choices
            .into_iter()
            .map(|choice| {
                choice.map_or_else(|status| status, |link| programs.attach(&link, request))
            })
            .collect();
        let attached = !programs.attachments.is_empty();
        (status, attached.then_some(programs))
    }

    fn load(listen: SocketAddr, own: Vec<IpAddr>) -> Result<Self, Box<dyn Error>> {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        for name in ["taltun_xdp", "taltun_xdp_skb"] {
            program(&mut ebpf, name)?.load()?;
        }
        let maps = Maps {
            settings: map(&mut ebpf, "SETTINGS")?.try_into()?,
            local_addresses: map(&mut ebpf, "LOCAL_ADDRESSES")?.try_into()?,
            denied: map(&mut ebpf, "DENIED")?.try_into()?,
            indices: map(&mut ebpf, "INDICES")?.try_into()?,
            sources: map(&mut ebpf, "SOURCES")?.try_into()?,
            drops: map(&mut ebpf, "DROPS")?.try_into()?,
        };
        let mut programs = Self {
            attachments: Vec::new(),
            maps,
            ebpf,
            settings: Settings {
                check_indices: 1,
                ..Settings::default()
            },
            listen,
            own: BTreeSet::new(),
            own_read: Instant::now(),
        };
        programs.set_own_addresses(own);
        programs.settings.listen_port = listen.port();
        programs.maps.settings.set(0, programs.settings, 0)?;
        Ok(programs)
    }

    fn attach(&mut self, link: &Link, request: &Request<'_>) -> XdpStatus {
        let (status, attachment) = attach(&mut self.ebpf, link, request.mode);
        self.attachments.extend(attachment);
        status
    }

    pub(super) fn allow_index(&mut self, index: u32) {
        // A handshake is when addresses matter, and often enough to notice new ones.
        if self.own_read.elapsed() > ADDRESSES_FRESH {
            self.read_own_addresses();
        }
        if self.settings.check_indices == 0 {
            return;
        }
        if let Err(error) = self.maps.indices.insert(index, 1, 0) {
            tracing::warn!(
                %error, room = MAX_INDICES,
                "XDP can't hold more receiver indices; user space checks them alone from now on"
            );
            // For good: by the time there is room again, indices have been given out that
            // aren't in the map.
            self.settings.check_indices = 0;
            self.write_settings();
        }
    }

    pub(super) fn forget_index(&mut self, index: u32) {
        match self.maps.indices.remove(&index) {
            // Not there, because the map was full when it was given out.
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => tracing::debug!(index, %error, "XDP still lets this index through"),
        }
    }

    pub(super) fn ban(&mut self, net: IpNet) -> Result<(), String> {
        let (key, meant) = prefix(net);
        self.maps
            .denied
            .insert(&key, meant, 0)
            .map_err(|error| format!("{net} can't be denied: {}", explain(&error)))
    }

    pub(super) fn unban(&mut self, net: IpNet) -> Result<(), String> {
        let (key, _) = prefix(net);
        match self.maps.denied.remove(&key) {
            Ok(()) => Ok(()),
            Err(error) if is_absent(&error) => Err(format!("{net} isn't denied")),
            Err(error) => Err(format!("{net} stays denied: {}", explain(&error))),
        }
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        // Entries that make room for others while we read send the kernel's walk back to
        // its start: so it may come by twice, and under a flood it needs an end.
        let mut sources = HashMap::new();
        for (address, counters) in self.maps.sources.iter().take(2 * MAX_SOURCES).flatten() {
            let addr = IpAddr::from(address).to_canonical();
            let mut source = Source {
                addr,
                packets: 0,
                bytes: 0,
                drops: 0,
            };
            for cpu in counters.iter() {
                source.packets += cpu.packets;
                source.bytes += cpu.bytes;
                source.drops += cpu.drops;
            }
            sources.insert(addr, source);
        }
        sources.into_values().collect()
    }

    pub(super) fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut drops = BTreeMap::new();
        for reason in DropReason::ALL {
            match self.maps.drops.get(&(*reason as u32), 0) {
                Ok(cpus) => {
                    let count = cpus.iter().sum::<u64>();
                    if count != 0 {
                        drops.insert(reason.label(), count);
                    }
                }
                Err(error) => tracing::debug!(%error, "XDP's drops can't be read"),
            }
        }
        drops
    }

    pub(super) fn rebind(&mut self, listen: SocketAddr) {
        self.listen = listen;
        self.read_own_addresses();
        self.settings.listen_port = listen.port();
        self.write_settings();
    }

    fn write_settings(&mut self) {
        if let Err(error) = self.maps.settings.set(0, self.settings, 0) {
            tracing::warn!(%error, "XDP goes on as before");
        }
    }

    fn read_own_addresses(&mut self) {
        self.own_read = Instant::now();
        match netlink::links() {
            Ok(links) => self.set_own_addresses(own_addresses(self.listen, &links)),
            Err(error) => tracing::debug!(%error, "XDP goes on with the addresses it has"),
        }
    }

    fn set_own_addresses(&mut self, addresses: Vec<IpAddr>) {
        let new: BTreeSet<Address> = addresses.into_iter().map(key).collect();
        for address in new.difference(&self.own) {
            if let Err(error) = self.maps.local_addresses.insert(address, 1, 0) {
                // Not guarded then, and otherwise as good as any.
                tracing::debug!(%error, "XDP can't hold more addresses of this machine");
            }
        }
        for address in self.own.difference(&new) {
            if let Err(error) = self.maps.local_addresses.remove(address) {
                tracing::debug!(%error, "XDP still holds an address that isn't ours any more");
            }
        }
        self.own = new;
    }
}

/// A program of ours by its name.
pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, ProgramError> {
    ebpf.program_mut(name)
        .ok_or(ProgramError::UnexpectedProgramType)?
        .try_into()
}

/// The first line of an error and of its causes, in one sentence. The kernel's verifier
/// writes pages.
pub(super) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut sentence = String::new();
    match os_error(error) {
        Some(libc::EPERM) => {
            return "not permitted: it takes root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
                .into();
        }
        Some(libc::EACCES) => {
            sentence.push_str("the verifier refuses it, as it does without CAP_PERFMON");
        }
        _ => {}
    }
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        // Some errors already quote their cause.
        if !sentence.contains(line) {
            if !sentence.is_empty() {
                sentence.push_str(": ");
            }
            sentence.push_str(line);
        }
        next = error.source();
    }
    sentence
}

fn is_absent(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(MapError::KeyNotFound))
        || os_error(error) == Some(libc::ENOENT)
}

/// The kernel's error number, wherever in the chain of causes it is.
fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.raw_os_error();
        }
        next = error.source();
    }
    None
}

fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, MapError> {
    ebpf.take_map(name)
        .ok_or_else(|| MapError::InvalidName { name: name.into() })
}

/// An address as the maps have it.
fn key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// A network as the deny list has it, and which family it speaks of.
fn prefix(net: IpNet) -> (Key<Address>, u8) {
    let address = net.network();
    let bits = u32::from(net.prefix_len());
    let (bits, meant) = match address {
        IpAddr::V4(_) => (V4_MAPPED_BITS + bits, denied::V4),
        IpAddr::V6(v6) if bits >= V4_MAPPED_BITS && v6.to_ipv4_mapped().is_some() => {
            (bits, denied::V4)
        }
        IpAddr::V6(_) => (bits, denied::V6),
    };
    (Key::new(bits, key(address)), meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(net: &str) -> (u32, Address, u8) {
        let (key, meant) = prefix(net.parse().unwrap());
        (key.prefix_len(), key.data(), meant)
    }

    #[test]
    fn a_v4_network_is_a_longer_prefix() {
        let mapped = "::ffff:198.51.100.0".parse::<std::net::Ipv6Addr>().unwrap();
        let expected = (96 + 24, mapped.octets(), denied::V4);
        assert_eq!(parts("198.51.100.0/24"), expected);
        // Host bits don't matter, nor which way the network is written.
        assert_eq!(parts("198.51.100.77/24"), expected);
        assert_eq!(parts("::ffff:198.51.100.0/120"), expected);
    }

    #[test]
    fn a_v6_network_that_covers_v4_does_not_mean_v4() {
        assert_eq!(parts("::/0"), (0, [0; 16], denied::V6));
        assert_eq!(parts("0.0.0.0/0").2, denied::V4);
    }

    #[test]
    fn an_error_becomes_one_line_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("loading failed\nand here come pages")]
        struct Outer(#[source] std::io::Error);
        let refused = std::io::Error::from_raw_os_error(libc::ERANGE);
        assert_eq!(
            explain(&Outer(refused)),
            "loading failed: Numerical result out of range (os error 34)"
        );
        let forbidden = std::io::Error::from_raw_os_error(libc::EPERM);
        assert!(explain(&Outer(forbidden)).starts_with("not permitted"));
    }
}
