//! What must hold of `[[forward]]`: each port leads to one peer that has an address, and nobody else
//! has it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::draft::{Draft, ForwardDraft, PeerDraft, Written};
use super::error::{ConfigError, Spot};
use super::nets::Nets;
use super::parties::Owned;
use super::{
    Forward, ForwardListen, ForwardProtocol, ForwardTo, ListenAt, Metrics, Mode, Udpgw, Web,
    suggest, values,
};
use crate::crypto::PublicKey;

/// The most ports of a range that leads to other ports: each is an entry of a rule.
const MOST_MOVED: u32 = 1024;

/// What else listens by TCP.
#[derive(Debug, Clone, Copy)]
pub(super) struct Services<'a> {
    pub(super) gateway: Option<&'a Udpgw>,
    pub(super) metrics: Option<&'a Metrics>,
    pub(super) web: Option<&'a Web>,
}

impl Services<'_> {
    /// Where they do, with the section that says so.
    fn places(&self) -> impl Iterator<Item = (SocketAddr, &'static str)> {
        let gateway = self.gateway.into_iter().flat_map(|it| &it.listen);
        let metrics = self.metrics.into_iter().flat_map(|it| &it.listen);
        let web = self.web.into_iter().flat_map(|it| &it.listen);
        let gateway = gateway.map(|place| (*place, "[udpgw]"));
        let metrics = metrics.filter_map(ListenAt::address);
        let metrics = metrics.map(|place| (place, "[metrics]"));
        let web = web.map(|place| (*place, "[web]"));
        gateway.chain(metrics).chain(web)
    }
}

/// `[[forward]]`, its peers found and checked against the rest.
pub(super) fn finish(
    draft: &Draft,
    services: Services<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Forward>, ConfigError> {
    let Some(first) = draft.forwards.first() else {
        return Ok(Vec::new());
    };
    if draft.mode == Mode::Client {
        return Err(first.listen.spot.error(
            "ports lead to peers of a hub, and mode is \"client\"; set mode = \"server\" in \
             [interface], or leave out [[forward]]",
        ));
    }
    let peers = Peers::of(draft);
    let mut forwards: Vec<(Forward, &Spot)> = Vec::new();
    for ForwardDraft { listen, to, source } in &draft.forwards {
        check_ranges(listen, to)?;
        if let Some(warning) = peers.may_come(to) {
            warnings.push(warning);
            continue;
        }
        let forward = Forward {
            listen: listen.value,
            to: to.value.clone(),
            addresses: of_one_family(&peers.addresses(to, warnings)?, listen, to, draft)?,
            source: *source,
        };
        let mut before = forwards.iter();
        if let Some((_, spot)) = before.find(|(other, _)| other.overlaps(&forward)) {
            return Err(listen.spot.error(format!(
                "{} leads elsewhere already ({}); a port leads to one peer",
                listen.value,
                spot.origin()
            )));
        }
        check_own(listen, draft, services)?;
        forwards.push((forward, &listen.spot));
    }
    Ok(forwards.into_iter().map(|(forward, _)| forward).collect())
}

/// As many ports here as there.
fn check_ranges(
    listen: &Written<ForwardListen>,
    to: &Written<ForwardTo>,
) -> Result<(), ConfigError> {
    let (here, there) = (listen.value.ports, to.value.ports);
    if here.count() != there.count() {
        return Err(to.spot.error(format!(
            "{} and {} at the peer ({}); give both ranges the same length",
            count(here.count()),
            count(there.count()),
            there.short()
        )));
    }
    if here != there && here.count() > MOST_MOVED {
        return Err(to.spot.error(format!(
            "a range of more than 1,024 ports can't lead to others; give the peer's ports the \
             numbers {here}, or cut the range"
        )));
    }
    Ok(())
}

fn count(ports: u32) -> String {
    match ports {
        1 => "1 port".to_owned(),
        _ => format!("{ports} ports"),
    }
}

/// Nothing of ours listens there.
fn check_own(
    Written { value, spot }: &Written<ForwardListen>,
    draft: &Draft,
    services: Services<'_>,
) -> Result<(), ConfigError> {
    let (tcp, udp) = (ForwardProtocol::Tcp, ForwardProtocol::Udp);
    let own = draft.local_addr;
    if own.port() != 0 && value.takes(udp, own) {
        return Err(spot.error(format!(
            "the tunnel itself listens on UDP port {} (interface.local_addr); take another",
            own.port()
        )));
    }
    if let Some(range) = draft.hop.port_range
        && value.protocol == udp
        && value.ports.overlaps(range)
    {
        let origin = draft.port_range.as_ref().map(Spot::origin);
        return Err(spot.error(format!(
            "the ports {range} lead to the tunnel itself (hop.port_range, {}); take others",
            origin.unwrap_or_default()
        )));
    }
    let is_vip = |ip: IpAddr| draft.vip.iter().any(|vip| vip.value.addr() == ip);
    // What listens inside is not reached from outside.
    let is_outside = |place: &SocketAddr| {
        let ip = place.ip().to_canonical();
        !ip.is_loopback() && !is_vip(ip)
    };
    let mut taken = services
        .places()
        .filter(|(place, _)| is_outside(place) && value.takes(tcp, *place));
    match taken.next() {
        Some((place, section)) => Err(spot.error(format!(
            "{section} listens on {place}; take another port for one of the two"
        ))),
        None => Ok(()),
    }
}

/// Those of the addresses that can be led to.
fn of_one_family(
    addresses: &[IpAddr],
    listen: &Written<ForwardListen>,
    to: &Written<ForwardTo>,
    draft: &Draft,
) -> Result<Vec<IpAddr>, ConfigError> {
    let family = |v6| if v6 { "IPv6" } else { "IPv4" };
    let mut kept = addresses.to_vec();
    if let Some(at) = listen.value.at {
        kept.retain(|address| address.is_ipv6() == at.is_ipv6());
        if kept.is_empty() {
            return Err(listen.spot.error(format!(
                "{at} is of {}, and {} has no such address; leave out one of the two",
                family(at.is_ipv6()),
                to.value.whom
            )));
        }
    }
    let has_vip = |v6| draft.vip.iter().any(|vip| vip.value.addr().is_ipv6() == v6);
    kept.retain(|address| has_vip(address.is_ipv6()));
    if kept.is_empty() && !draft.vip.is_empty() {
        let v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
        return Err(to.spot.error(format!(
            "this hub has no vip of {}, which it would send from; add one to interface.vip",
            family(v6)
        )));
    }
    Ok(kept)
}

/// Who can be named.
struct Peers<'d> {
    draft: &'d Draft,
    named: HashMap<&'d str, Vec<&'d PeerDraft>>,
    owned: Owned,
    by_key: HashMap<PublicKey, &'d PeerDraft>,
}

impl<'d> Peers<'d> {
    fn of(draft: &'d Draft) -> Self {
        let mut named: HashMap<&str, Vec<&PeerDraft>> = HashMap::new();
        for peer in &draft.peers {
            if let Some(name) = &peer.name {
                named.entry(name).or_default().push(peer);
            }
        }
        let by_key = draft.peers.iter().map(|peer| (peer.public_key.value, peer));
        Self {
            draft,
            named,
            owned: Owned::of(&draft.peers),
            by_key: by_key.collect(),
        }
    }

    /// A warning where a port leads to nobody, as a fleet doesn't have that peer, yet or any more: a
    /// file that is right stays so when a peer of the fleet goes.
    fn may_come(&self, Written { value, spot }: &Written<ForwardTo>) -> Option<String> {
        let whom = value.whom.as_str();
        let is_there = match (whom.parse::<IpAddr>(), whom.parse::<PublicKey>()) {
            (Ok(address), _) => self.has(address).is_ok(),
            (_, Ok(key)) => self.by_key.contains_key(&key),
            _ => {
                let mut groups = self.draft.policy.groups.iter();
                self.named.contains_key(whom)
                    || groups.any(|group| group.name.value == whom)
                    || values::label(whom).is_err()
            }
        };
        (self.draft.fleet.is_some() && !is_there).then(|| {
            spot.say(format!(
                "this port leads to nobody: neither the file nor the fleet has {whom} now"
            ))
        })
    }

    /// The addresses that `to` means, at most one of each family.
    fn addresses(
        &self,
        Written { value, spot }: &Written<ForwardTo>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<IpAddr>, ConfigError> {
        let whom = value.whom.as_str();
        if let Ok(address) = whom.parse::<IpAddr>() {
            warnings.extend(self.has(address).map_err(|reason| spot.error(reason))?);
            return Ok(vec![address]);
        }
        let peer = self.peer(whom).map_err(|reason| spot.error(reason))?;
        let vip = |v6| {
            let mut vips = peer.vip.iter().map(|vip| vip.value);
            vips.find(|vip| vip.is_ipv6() == v6)
        };
        let vips: Vec<IpAddr> = [false, true].into_iter().filter_map(vip).collect();
        if vips.is_empty() {
            return Err(spot.error(format!(
                "{whom} has no vip; give it one, or write an address of its allowed_ips in place of \
                 its name"
            )));
        }
        Ok(vips)
    }

    /// Whether a peer has an address; if so, perhaps with a warning.
    fn has(&self, address: IpAddr) -> Result<Option<String>, String> {
        let Draft { vip, routes, .. } = self.draft;
        if vip.iter().any(|vip| vip.value.addr() == address) {
            return Err(format!(
                "{address} is this hub itself; name a peer, or let the program listen on all \
                 addresses"
            ));
        }
        if self.owned.of_network(address).is_none() {
            return Err(format!(
                "no peer has {address}; write the name or an address of one of [[peers]]"
            ));
        }
        let routed: Nets<()> = vip.iter().chain(routes).map(|net| net.value).collect();
        let is_routed = routed.containing(&IpNet::from(address)).is_some();
        Ok((!is_routed).then(|| {
            format!(
                "forward.to: {address} is outside our vip's subnet and interface.routes: this \
                 machine has no route to it; add it to routes"
            )
        }))
    }

    fn peer(&self, whom: &str) -> Result<&'d PeerDraft, String> {
        let is_group = |group: &&super::draft::GroupDraft| group.name.value == whom;
        if self
            .draft
            .policy
            .groups
            .iter()
            .any(|group| is_group(&group))
        {
            return Err(format!(
                "{whom:?} is a group, and a port leads to one peer; write the name of one"
            ));
        }
        match self.named.get(whom).map_or(&[][..], Vec::as_slice) {
            [peer] => return Ok(peer),
            [] => {}
            several => {
                return Err(format!(
                    "{} peers are called {whom:?}; give the public key of one",
                    several.len()
                ));
            }
        }
        if let Ok(key) = whom.parse::<PublicKey>() {
            let peer = self.by_key.get(&key).copied();
            return peer.ok_or_else(|| format!("no peer has the key {whom}"));
        }
        let mut known: Vec<&str> = self.named.keys().copied().collect();
        known.sort_unstable();
        let hint = match suggest::nearest(whom, &known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "write the name, the public key or an address of one of [[peers]]".to_owned(),
        };
        Err(format!("there is no peer called {whom:?}; {hint}"))
    }
}
