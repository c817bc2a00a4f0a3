//! What is known of peers beyond what the device knows: what the file says of them, what `wg`
//! said since, and which of them may differ from the file because of that.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::crypto::PublicKey;
use crate::protocol::device::{Device, PeerSettings};
use crate::protocol::peer::{Endpoint, Peer};

/// The peers of a file.
pub(super) type PeerList = Arc<Vec<config::Peer>>;

/// What a peer is called, and where it was said to be, which may be a name.
#[derive(Debug, Default)]
pub(super) struct PeerInfo {
    pub name: Option<String>,
    pub endpoint: Option<config::Endpoint>,
    /// See [`config::Peer::endpoints`].
    pub endpoints: Vec<config::RangedEndpoint>,
    /// Which of the file's peers it is.
    pub place: Option<usize>,
}

/// What the file says of each of its peers.
pub(super) type PeerInfos = HashMap<PublicKey, PeerInfo>;

/// The peers as they were described. Which there are is the device's to know.
#[derive(Debug)]
pub(super) struct Peers {
    /// Those that the file had when it was last read.
    filed: PeerList,
    /// Where in `filed` those are whose endpoint the file gives.
    with_endpoint: Vec<usize>,
    /// Likewise of those with limits.
    with_limits: Vec<usize>,
    infos: PeerInfos,
    /// The other hubs of the fleet, which no file has.
    hubs: PeerInfos,
    touched: Touched,
}

/// The peers that may be otherwise than the file says, because of `wg`.
#[derive(Debug, Default)]
pub(super) enum Touched {
    /// None.
    #[default]
    None,
    /// Some.
    Some(HashSet<PublicKey>),
    /// Any peer may.
    All,
}

/// More touched peers than that are as good as all.
const MOST_TOUCHED: usize = 10_000;

impl Peers {
    /// Those of a file that was just read.
    pub(super) fn new(filed: PeerList) -> Self {
        Self {
            infos: infos(&filed),
            with_endpoint: with_endpoint(&filed),
            with_limits: with_limits(&filed),
            filed,
            hubs: PeerInfos::new(),
            touched: Touched::default(),
        }
    }

    /// The peers of the file.
    pub(super) fn filed(&self) -> &PeerList {
        &self.filed
    }

    /// Those of them whose endpoint the file gives: of a large hub's, few.
    pub(super) fn with_endpoint(&self) -> impl Iterator<Item = &config::Peer> {
        let places = self.with_endpoint.iter();
        places.filter_map(|place| self.filed.get(*place))
    }

    /// Those of them that have limits.
    pub(super) fn with_limits(&self) -> impl Iterator<Item = &config::Peer> {
        let places = self.with_limits.iter();
        places.filter_map(|place| self.filed.get(*place))
    }

    /// What to call a peer.
    pub(super) fn label(&self, key: &PublicKey) -> String {
        self.name(key)
            .map_or_else(|| key.to_string(), str::to_owned)
    }

    /// What a peer is called, if it has a name.
    pub(super) fn name(&self, key: &PublicKey) -> Option<&str> {
        self.info(key)?.name.as_deref()
    }

    /// Where a peer is said to be.
    pub(super) fn endpoint(&self, key: &PublicKey) -> Option<&config::Endpoint> {
        self.info(key)?.endpoint.as_ref()
    }

    /// All places where a peer is said to be, where they are several.
    pub(super) fn endpoints(&self, key: &PublicKey) -> &[config::RangedEndpoint] {
        self.info(key).map_or(&[], |info| &info.endpoints)
    }

    fn info(&self, key: &PublicKey) -> Option<&PeerInfo> {
        self.infos.get(key).or_else(|| self.hubs.get(key))
    }

    /// Whether this is another hub of the fleet.
    pub(super) fn is_hub(&self, key: &PublicKey) -> bool {
        self.hubs.contains_key(key)
    }

    /// This is another hub of the fleet from now on.
    #[cfg(feature = "fleet")]
    pub(super) fn set_hub(&mut self, key: PublicKey, info: PeerInfo) {
        self.hubs.insert(key, info);
    }

    /// This is no hub of the fleet any more.
    #[cfg(feature = "fleet")]
    pub(super) fn forget_hub(&mut self, key: &PublicKey) {
        self.hubs.remove(key);
    }

    /// The peer with this name or key, if there is one. A key is never taken for a name.
    pub(super) fn meant<'d>(
        &self,
        text: &str,
        device: &'d Device,
    ) -> Result<Option<&'d Arc<Peer>>, String> {
        let by_key = text.parse::<PublicKey>().ok();
        let named = self.named(text).filter(|_| by_key.is_none());
        let keys = by_key.iter().chain(named);
        let mut meant = keys.filter_map(|key| device.peer(key));
        let found = meant.next();
        if meant.next().is_some() {
            return Err(format!(
                "several peers are called {text:?}; give the public key of one"
            ));
        }
        Ok(found)
    }

    /// The peers with this name. A hub is meant where no other peer has it.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &PublicKey> {
        let named =
            |(key, info): (_, &PeerInfo)| (info.name.as_deref() == Some(name)).then_some(key);
        let peers: Vec<&PublicKey> = self.infos.iter().filter_map(named).collect();
        let hubs = self.hubs.iter().filter_map(named);
        let hubs: Vec<&PublicKey> = hubs.filter(|_| peers.is_empty()).collect();
        peers.into_iter().chain(hubs)
    }

    /// Whether a peer is described, and it wasn't said where it is.
    pub(super) fn has_no_endpoint(&self, key: &PublicKey) -> bool {
        let info = self.infos.get(key);
        info.is_some_and(|info| info.endpoint.is_none())
    }

    /// Which of the file's peers it is.
    pub(super) fn place(&self, key: &PublicKey) -> Option<usize> {
        self.infos.get(key)?.place
    }

    /// What the file says of a peer.
    pub(super) fn in_file(&self, key: &PublicKey) -> Option<&config::Peer> {
        self.filed.get(self.place(key)?)
    }

    /// A peer is said to be there.
    pub(super) fn set_endpoint(&mut self, key: PublicKey, address: SocketAddr) {
        let endpoint = config::Endpoint::Address(address);
        let info = self.infos.entry(key).or_default();
        info.endpoint = Some(endpoint);
        info.endpoints.clear();
    }

    /// Forgets what was said of a peer that is none any more.
    pub(super) fn forget(&mut self, key: &PublicKey) {
        self.infos.remove(key);
    }

    /// These may differ from the file.
    pub(super) fn touch(&mut self, keys: impl IntoIterator<Item = PublicKey>) {
        self.touched.add(keys);
    }

    /// Any peer may differ from the file.
    pub(super) fn touch_all(&mut self) {
        self.touched = Touched::All;
    }

    /// Those that may differ from the file, which are forgotten until they are given back.
    pub(super) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// These may differ from the file, and no others.
    pub(super) fn set_touched(&mut self, touched: Touched) {
        self.touched = touched;
    }

    /// Those that may differ from the file.
    pub(super) fn touched(&self) -> &Touched {
        &self.touched
    }

    /// Makes what another file says of peers tell what `wg` did to them since, except for those of which
    /// it was now `said` where they are.
    pub(super) fn keep_by_wg(
        &self,
        infos: &mut PeerInfos,
        device: &Device,
        said: &HashSet<PublicKey>,
    ) {
        let keys: Vec<PublicKey> = match &self.touched {
            Touched::None => return,
            Touched::Some(keys) => keys.iter().copied().collect(),
            Touched::All => {
                let live = device.peers().map(|peer| *peer.public_key());
                live.chain(infos.keys().copied()).collect()
            }
        };
        for key in keys.iter().filter(|key| !said.contains(key)) {
            if device.peer(key).is_none() {
                infos.remove(key);
                continue;
            }
            let (endpoint, endpoints) = match self.infos.get(key) {
                Some(info) => (info.endpoint.clone(), info.endpoints.clone()),
                None => (None, Vec::new()),
            };
            if let Some(info) = infos.get_mut(key) {
                (info.endpoint, info.endpoints) = (endpoint, endpoints);
            } else if endpoint.is_some() {
                let info = PeerInfo {
                    endpoint,
                    endpoints,
                    ..PeerInfo::default()
                };
                infos.insert(*key, info);
            }
        }
    }

    /// From now on they are as the file says, with `infos` of it.
    pub(super) fn are_as_filed(&mut self) {
        self.touched = Touched::None;
    }

    /// Takes over another file. Returns what there was, which takes a while to drop.
    pub(super) fn replace(&mut self, filed: PeerList, infos: PeerInfos) -> (PeerList, PeerInfos) {
        self.with_endpoint = with_endpoint(&filed);
        self.with_limits = with_limits(&filed);
        (
            std::mem::replace(&mut self.filed, filed),
            std::mem::replace(&mut self.infos, infos),
        )
    }
}

impl Touched {
    fn add(&mut self, keys: impl IntoIterator<Item = PublicKey>) {
        let mut some = match std::mem::take(self) {
            Self::All => {
                *self = Self::All;
                return;
            }
            Self::None => HashSet::new(),
            Self::Some(some) => some,
        };
        some.extend(keys);
        *self = match some.len() {
            0 => Self::None,
            number if number > MOST_TOUCHED => Self::All,
            _ => Self::Some(some),
        };
    }
}

/// What a file says of each of its peers. It goes through all of them.
pub(super) fn infos(peers: &[config::Peer]) -> PeerInfos {
    let info = |(place, peer): (usize, &config::Peer)| {
        let info = PeerInfo {
            name: peer.name.clone(),
            endpoint: peer.endpoint.clone(),
            endpoints: peer.endpoints.clone(),
            place: Some(place),
        };
        (peer.public_key, info)
    };
    peers.iter().enumerate().map(info).collect()
}

fn with_endpoint(peers: &[config::Peer]) -> Vec<usize> {
    let peers = peers.iter().enumerate();
    let with_endpoint = peers.filter(|(_, peer)| peer.endpoint.is_some());
    with_endpoint.map(|(place, _)| place).collect()
}

fn with_limits(peers: &[config::Peer]) -> Vec<usize> {
    let peers = peers.iter().enumerate();
    let with_limits = peers.filter(|(_, peer)| !peer.limits.is_none());
    with_limits.map(|(place, _)| place).collect()
}

/// A configured peer as the protocol knows it.
pub(super) fn settings(peer: &config::Peer) -> PeerSettings {
    PeerSettings {
        public_key: peer.public_key,
        preshared_key: peer.preshared_key.clone(),
        endpoint: literal_endpoint(peer),
        allowed_ips: peer.allowed_ips.clone(),
        persistent_keepalive: keepalive(peer),
    }
}

/// A peer's endpoint where the configuration gives one address; a name comes later, and so do
/// several places.
pub(super) fn literal_endpoint(peer: &config::Peer) -> Option<Endpoint> {
    match peer.endpoint {
        Some(_) if !peer.endpoints.is_empty() => None,
        Some(config::Endpoint::Address(address)) => Some(Endpoint::from(address)),
        Some(config::Endpoint::Name(..)) | None => None,
    }
}

/// A peer's keepalive interval.
pub(super) fn keepalive(peer: &config::Peer) -> Option<Duration> {
    peer.persistent_keepalive
        .map(|seconds| Duration::from_secs(u64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PublicKey {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        PublicKey(key)
    }

    fn filed() -> PeerList {
        let peer = |number: u32, name: Option<&str>, endpoint| config::Peer {
            name: name.map(str::to_owned),
            public_key: key(number),
            preshared_key: crate::crypto::PresharedKey::default(),
            vip: Vec::new(),
            endpoint,
            endpoints: Vec::new(),
            allowed_ips: Vec::new(),
            persistent_keepalive: None,
            limits: config::PeerLimits::default(),
            origin: config::Origin::default(),
            rates: config::PeerRates::default(),
        };
        let name = config::Endpoint::Name("hub.example.net".into(), 9000);
        Arc::new(vec![
            peer(1, Some("ana"), None),
            peer(2, None, Some(name)),
            peer(3, Some("bob"), None),
        ])
    }

    #[test]
    fn a_peer_is_called_by_its_name_or_else_its_key() {
        let mut peers = Peers::new(filed());
        assert_eq!(peers.label(&key(1)), "ana");
        assert_eq!(peers.label(&key(2)), key(2).to_string());
        assert!(peers.named("bob").eq([&key(3)]));
        assert_eq!(peers.in_file(&key(3)).unwrap().name.as_deref(), Some("bob"));
        let with_endpoint: Vec<PublicKey> = peers.with_endpoint().map(|it| it.public_key).collect();
        assert_eq!(with_endpoint, [key(2)]);
        // What `wg` says comes before what the file says.
        assert!(peers.has_no_endpoint(&key(1)) && !peers.has_no_endpoint(&key(9)));
        let address = "192.0.2.1:9000".parse().unwrap();
        peers.set_endpoint(key(1), address);
        let expected = config::Endpoint::Address(address);
        assert_eq!(peers.endpoint(&key(1)), Some(&expected));
        peers.forget(&key(1));
        assert_eq!(peers.label(&key(1)), key(1).to_string());
        assert!(peers.in_file(&key(1)).is_none());
    }

    #[test]
    fn more_touched_peers_than_are_kept_are_all() {
        let mut peers = Peers::new(filed());
        peers.touch([]);
        assert!(matches!(peers.touched(), Touched::None));
        peers.touch([key(1), key(2), key(1)]);
        assert!(matches!(peers.touched(), Touched::Some(keys) if keys.len() == 2));
        peers.touch((0..=MOST_TOUCHED as u32).map(key));
        assert!(matches!(peers.touched(), Touched::All));
        peers.touch([key(1)]);
        assert!(matches!(peers.touched(), Touched::All));
        peers.are_as_filed();
        assert!(matches!(peers.touched(), Touched::None));
    }
}
