//! What must hold between the values of a configuration: keys and addresses belong to one
//! peer each, and what is required is there.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use taltun_udpgw::listens_twice;

use super::PeerLimits;
use super::denied_forwards;
use super::draft::{DnsRoutesDraft, Draft, PeerDraft, UdpgwDraft, Written};
use super::error::{ConfigError, Spot};
use super::forward_rules::{self, Services};
use super::hop_rules;
use super::keys::interface::ASSUMED_MTU;
use super::limits;
use super::names;
use super::nets::Nets;
use super::parties;
use super::places::{overlap, refuse_twice};
use super::rates;
use super::web_rules;
use super::{
    Config, DnsRoutes, Endpoint, FirewallChoice, Interface, ListenAt, Metrics, Mode, Peer, Udpgw,
};
use crate::crypto::{PrivateKey, PublicKey};

/// What to do where a wrapper on this machine carries a full tunnel's datagrams.
pub const OWN_ENDPOINT: &str = "what wraps its datagrams (wstunnel, udp2raw) sends its own packets \
    into the tunnel again; give its server a route of its own, \
    `ip route add SERVER via GATEWAY`, or its socket our fwmark";
/// The least MTU a link may have for IPv6 (RFC 8200, section 5), bytes.
const MTU_MIN_V6: u16 = 1280;

/// Checks the whole of `draft` and makes a [`Config`] and warnings of it.
pub(super) fn check(mut draft: Draft) -> Result<(Config, Vec<String>), ConfigError> {
    let private_key = draft.private_key.take().ok_or_else(|| {
        draft.spot.sibling("interface.private_key").error(
            "missing; make one with `umask 077; taltun genkey > key` and add \
             private_key_file = \"key\" to [interface]",
        )
    });
    let is_told = |keys: &[&str]| draft.told.iter().any(|told| keys.contains(&told.as_str()));
    if let Err(missing) = &private_key
        && !is_told(&["interface.private_key", "interface.private_key_file"])
    {
        return Err(missing.clone());
    }
    let own_vip = check_own_vip(&draft.vip, &draft.spot);
    if let Err(mistake) = &own_vip
        && !is_told(&["interface.vip"])
    {
        return Err(mistake.clone());
    }
    let mtu_is_default = draft.mtu.is_none();
    let mtu = check_mtu(draft.mtu.take(), &draft.vip)?;
    check_keys(&draft.peers, private_key.as_ref().ok())?;
    check_addresses(&draft.peers, &draft.vip)?;
    hop_rules::check(&draft.peers)?;

    rates::check(&draft)?;
    check_host(&draft)?;
    let mut more = Vec::new();
    let resolver = resolver(&draft);
    let udpgw = finish_udpgw(&mut draft, &mut more)?;
    let metrics = finish_metrics(&mut draft, udpgw.as_ref(), &mut more)?;
    let web = web_rules::finish(&mut draft, udpgw.as_ref(), metrics.as_ref(), &mut more)?;
    let services = Services {
        gateway: udpgw.as_ref(),
        metrics: metrics.as_ref(),
        web: web.as_ref(),
    };
    let forwards = forward_rules::finish(&draft, services, &mut more)?;
    let names = names::finish(&mut draft, &mut more)?;
    let dns_routes = draft
        .dns_routes
        .take()
        .map(|routes| finish_dns_routes(routes, &draft.peers))
        .transpose()?;
    let otherwise = parties::written_otherwise(&draft);
    let mut policy = parties::finish(&mut draft)?;
    if let Some(section) = resolver {
        parties::allow_resolver(&mut policy, section, &draft.vip);
    }
    // What was told before all the rest was checked.
    let private_key = private_key?;
    own_vip?;
    // Last of all, as it takes longest.
    let mut idle = parties::without_effect(&policy, &draft);
    idle.extend(denied_forwards::warnings(&policy, &draft, &forwards));
    let mode = draft.mode;
    let mut warnings = questionable_host(&draft);
    warnings.splice(0..0, std::mem::take(&mut draft.warnings));
    warnings.extend(questionable_peers(&draft));
    warnings.extend(unused_routes(&draft.peers, &draft.routes));
    warnings.append(&mut more);
    warnings.extend(hop_rules::questionable(&draft));
    warnings.extend(otherwise);
    warnings.extend(idle);
    warnings.extend(limits::forgotten(&draft));
    if mode == Mode::Client && draft.peers.iter().all(|peer| peer.endpoints.is_empty()) {
        warnings.push(draft.spot.sibling("interface.mode").say(
            "mode is client, but no peer has an endpoint: nothing will start a handshake from \
             here; give the peer an endpoint, or set mode = \"server\"",
        ));
    }

    let interface = Interface {
        mode,
        tun_name: draft.tun_name,
        vip: values(&draft.vip),
        local_addr: draft.local_addr,
        private_key,
        mtu,
        mtu_is_default,
        routes: unique(values(&draft.routes)),
        debug: draft.debug,
    };
    let config = Config {
        interface,
        peers: draft.peers.into_iter().map(finish_peer).collect(),
        accel: draft.accel,
        dataplane: draft.dataplane,
        host: draft.host,
        hooks: draft.hooks,
        dns_routes,
        names,
        udpgw,
        metrics,
        web,
        fleet: draft.fleet,
        hop: draft.hop,
        policy,
        forwards,
        usage: draft.usage,
        audit: draft.audit,
        shaping: draft.shaping,
    };
    Ok((config, warnings))
}

fn check_own_vip(vip: &[Written<IpNet>], missing: &Spot) -> Result<(), ConfigError> {
    if vip.is_empty() {
        return Err(missing.sibling("interface.vip").error(
            "missing; add this machine's address in the tunnel, such as vip = \"10.0.0.1/24\"",
        ));
    }
    let mut seen: Nets<IpNet> = Nets::default();
    for one in vip {
        if let Some(other) = seen.overlapping(&one.value) {
            return Err(one.spot.error(format!(
                "{other} and {} overlap; give one address a subnet",
                one.value
            )));
        }
        seen.insert(&one.value, one.value);
    }
    Ok(())
}

fn check_mtu(mtu: Option<Written<u16>>, vip: &[Written<IpNet>]) -> Result<u16, ConfigError> {
    let Some(mtu) = mtu else {
        return Ok(ASSUMED_MTU);
    };
    let v6 = vip.iter().find(|vip| vip.value.addr().is_ipv6());
    match v6 {
        Some(v6) if mtu.value < MTU_MIN_V6 => Err(mtu.spot.error(format!(
            "expected at least {MTU_MIN_V6}, as IPv6 needs it and {} is a vip, found {}",
            v6.value.addr(),
            mtu.value
        ))),
        _ => Ok(mtu.value),
    }
}

fn check_keys(peers: &[PeerDraft], private_key: Option<&PrivateKey>) -> Result<(), ConfigError> {
    let own = private_key.map(PrivateKey::public_key);
    let mut seen: HashMap<PublicKey, &PeerDraft> = HashMap::with_capacity(peers.len());
    for peer in peers {
        let key = &peer.public_key;
        if Some(key.value) == own {
            return Err(key.spot.error(
                "this is our own public key; give the peer its own, made with `taltun genkey` there",
            ));
        }
        if !key.value.is_usable() {
            return Err(key.spot.error(
                "no private key belongs to this one; run `taltun pubkey < key` on that peer",
            ));
        }
        if let Some(first) = seen.insert(key.value, peer) {
            return Err(key.spot.error(format!(
                "this key is also that of {} ({}); every peer needs its own",
                label(first),
                first.public_key.spot.origin()
            )));
        }
    }
    Ok(())
}

/// Every address and every prefix belongs to one peer, and none to us and a peer.
fn check_addresses(peers: &[PeerDraft], own: &[Written<IpNet>]) -> Result<(), ConfigError> {
    let ours: HashSet<IpAddr> = own.iter().map(|own| own.value.addr()).collect();
    let mut owners: HashMap<IpNet, (usize, &Spot)> = HashMap::with_capacity(peers.len());
    for (i, peer) in peers.iter().enumerate() {
        for vip in &peer.vip {
            if ours.contains(&vip.value) {
                return Err(vip.spot.error(format!(
                    "{} is our own address (interface.vip); give the peer another",
                    vip.value
                )));
            }
            if let Some((_, first)) = owners
                .insert(IpNet::from(vip.value), (i, &vip.spot))
                .filter(|(owner, _)| *owner != i)
            {
                return Err(vip.spot.error(format!(
                    "{} is given to another peer too ({}); every peer needs its own",
                    vip.value,
                    first.origin()
                )));
            }
        }
    }
    for (i, peer) in peers.iter().enumerate() {
        for allowed in &peer.allowed_ips {
            if let Some((owner, first)) = owners.insert(allowed.value, (i, &allowed.spot))
                && owner != i
            {
                return Err(allowed.spot.error(format!(
                    "{} is given to another peer too ({}); a prefix can lead to one peer only",
                    allowed.value,
                    first.origin()
                )));
            }
        }
    }
    Ok(())
}

/// The section that has a resolver listen on our vips, if one has.
fn resolver(draft: &Draft) -> Option<&'static str> {
    match (&draft.dns_routes, &draft.names) {
        (Some(_), _) => Some("[dns_routes]"),
        (None, Some(_)) => Some("[names]"),
        (None, None) => None,
    }
}

/// The peer that names are reached through is found, and there is something to look up.
fn finish_dns_routes(draft: DnsRoutesDraft, peers: &[PeerDraft]) -> Result<DnsRoutes, ConfigError> {
    let via = &draft.via;
    let is_meant = |peer: &&PeerDraft| {
        peer.name.as_ref() == Some(&via.value)
            || via
                .value
                .parse::<PublicKey>()
                .is_ok_and(|key| key == peer.public_key.value)
    };
    let Some(peer) = peers.iter().find(is_meant) else {
        return Err(via.spot.error(format!(
            "there is no peer {:?}; give the name or the public key of one of [[peers]]",
            via.value
        )));
    };
    Ok(DnsRoutes {
        domains: draft.domains,
        via: peer.public_key.value,
        upstream: draft.upstream,
        keep: Duration::from_secs(draft.keep.into()),
    })
}

/// `[udpgw]`, checked against the rest.
fn finish_udpgw(
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) -> Result<Option<Udpgw>, ConfigError> {
    let Some(UdpgwDraft { listen, rest }) = draft.udpgw.take() else {
        return Ok(None);
    };
    let is_vip = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        draft.vip.iter().any(|vip| vip.value.addr() == ip)
    };
    for (place, Written { value, spot }) in listen.iter().enumerate() {
        let before = listen.iter().take(place).map(|other| other.value);
        refuse_twice(*value, spot, "[udpgw]", listens_twice, before)?;
        let any = value.ip().is_unspecified();
        if let Some(section) = resolver(draft)
            && value.port() == 53
            && (any || is_vip(value))
        {
            return Err(spot.error(format!(
                "the resolver of {section} listens on port 53 of our vips; give another port than \
                 that of {value}, such as 7300"
            )));
        }
        if !value.ip().to_canonical().is_loopback() && !is_vip(value) {
            warnings.push(spot.say(format!(
                "whoever reaches {value} can send UDP from this host; listen on our vip or on \
                 127.0.0.1, or let a firewall allow only your own clients"
            )));
        }
    }
    warn_of_allow(&rest, draft, warnings);
    Ok(Some(Udpgw {
        listen: listen.into_iter().map(|listen| listen.value).collect(),
        ..rest
    }))
}

/// `[metrics]`, checked against the rest.
fn finish_metrics(
    draft: &mut Draft,
    gateway: Option<&Udpgw>,
    warnings: &mut Vec<String>,
) -> Result<Option<Metrics>, ConfigError> {
    let Some(written) = draft.metrics.take() else {
        return Ok(None);
    };
    let others = gateway.map_or(&[][..], |gateway| &gateway.listen);
    let mut listen: Vec<ListenAt> = Vec::new();
    for Written { value, spot } in written {
        match &value {
            ListenAt::Address(address) => {
                refuse_twice(*address, &spot, "[udpgw]", overlap, others.iter().copied())?;
                let before = listen.iter().filter_map(ListenAt::address);
                refuse_twice(*address, &spot, "[metrics]", overlap, before)?;
                let ip = address.ip().to_canonical();
                let is_vip = draft.vip.iter().any(|vip| vip.value.addr() == ip);
                if !ip.is_loopback() && !is_vip {
                    warnings.push(spot.say(format!(
                        "all who reach {address} can read the peers' names, public keys and \
                         traffic; listen on 127.0.0.1 or on our vip, or let a firewall allow your \
                         Prometheus only"
                    )));
                }
            }
            ListenAt::File(path) if listen.contains(&value) => {
                let path = path.display();
                return Err(spot.error(format!("{path} is there twice; keep one of them")));
            }
            ListenAt::File(_) => {}
        }
        listen.push(value);
    }
    Ok(Some(Metrics { listen }))
}

/// Warns of what `allow` seems to open and doesn't, and of what seems to be the Internet and is
/// taken for the tunnel's.
fn warn_of_allow(gateway: &Udpgw, draft: &Draft, warnings: &mut Vec<String>) {
    let peers = || draft.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let own = draft.vip.iter().map(|vip| vip.value.trunc());
    let tunnel: Vec<IpNet> = own
        .chain(peers().map(|net| net.value))
        .filter(|net| !taltun_udpgw::is_everywhere(net.addr(), net.prefix_len()))
        .collect();
    for allow in &gateway.allow {
        // What counts for an address is the widest network of the tunnel that it is in.
        let widest = |net: &IpNet| {
            tunnel
                .iter()
                .filter(|it| it.contains(net))
                .map(IpNet::prefix_len)
                .min()
        };
        let stays_closed = |net: &&IpNet| {
            allow.contains(*net) && widest(net).is_some_and(|widest| allow.prefix_len() < widest)
        };
        if let Some(inner) = tunnel.iter().find(stays_closed) {
            warnings.push(format!(
                "udpgw.allow: {allow} doesn't let clients into the tunnel, to {inner}; name a \
                 network within that if they may send there"
            ));
        }
    }
    let wide = peers().find(|net| {
        let net = net.value;
        let wide = match net {
            IpNet::V4(_) => net.prefix_len() < 8,
            // Of the Internet, which 2000::/3 is.
            IpNet::V6(v6) => net.prefix_len() < 16 && v6.addr().segments()[0] >> 13 == 1,
        };
        wide && !taltun_udpgw::is_everywhere(net.addr(), net.prefix_len())
            && !gateway.allow.contains(&net)
    });
    if let Some(wide) = wide {
        warnings.push(format!(
            "udpgw: {} of a peer is a network of the tunnel for the gateway, so its clients don't \
             reach the Internet there; route 0.0.0.0/0 or ::/0 to that peer, or name the networks \
             in udpgw.allow",
            wide.value
        ));
    }
}

/// What the host is asked for makes sense, and can be done.
fn check_host(draft: &Draft) -> Result<(), ConfigError> {
    let host = &draft.host;
    let spot = |key| draft.host_spots.get(key).unwrap_or(&draft.spot);
    let tun_name = draft.tun_name.as_str();
    let out = || {
        host.masquerade
            .iter()
            .flat_map(|nat| nat.out.iter().flatten())
    };
    if out().any(|name| name == tun_name) {
        return Err(spot("out").error(format!(
            "{tun_name} is the tunnel itself; give the interface that packets leave by, such as \
             \"eth0\", or \"tunnel\" to translate what goes into the tunnel"
        )));
    }
    let needs_firewall = host.needs_firewall(!draft.forwards.is_empty());
    if let Some(key) = needs_firewall
        && host.firewall == FirewallChoice::None
    {
        return Err(spot("firewall").error(format!(
            "{key} takes firewall rules; set firewall = \"auto\", or leave out {key}"
        )));
    }
    // A default route brings rules of its own.
    let everything = default_route(&draft.routes, false) || default_route(&draft.routes, true);
    if needs_firewall.is_some() || everything && host.firewall != FirewallChoice::None {
        let names = out().map(|name| ("out", name.as_str()));
        let mut names = [("tun_name", tun_name)].into_iter().chain(names);
        if let Some((key, name)) = names.find(|(_, name)| !is_plain(name)) {
            return Err(spot(key).error(format!(
                "firewall rules can't name {name:?}: use letters, digits, dots, dashes and \
                 underscores"
            )));
        }
    }
    if host.kill_switch
        && !default_route(&draft.routes, false)
        && !default_route(&draft.routes, true)
    {
        return Err(spot("kill_switch").error(
            "nothing would leave this machine at all, as no route leads everything into the \
             tunnel; add routes = [\"0.0.0.0/0\", \"::/0\"]",
        ));
    }
    if host.dns.servers.is_empty() && !host.dns.search.is_empty() {
        return Err(spot("dns").error(
            "there are only domains to search; add the address of a name server such as \
             \"10.0.0.1\"",
        ));
    }
    Ok(())
}

/// What the host is asked for, and may not do what was meant.
fn questionable_host(draft: &Draft) -> Vec<String> {
    let mut warnings = Vec::new();
    let host = &draft.host;
    let spot = |key| draft.host_spots.get(key).unwrap_or(&draft.spot);
    if default_route(&draft.routes, false)
        && !default_route(&draft.routes, true)
        && !host.kill_switch
    {
        let at = draft.routes.iter().find(|route| is_default(route, false));
        let spot = at.map_or(&draft.spot, |route| &route.spot);
        warnings.push(spot.say(
            "all IPv4 goes into the tunnel, and IPv6 goes on around it; add \"::/0\", or \
             kill_switch = true",
        ));
    }
    let full = default_route(&draft.routes, false) || default_route(&draft.routes, true);
    for peer in draft.peers.iter().filter(|_| full) {
        for endpoint in &peer.endpoints {
            let Endpoint::Address(address) = &endpoint.first else {
                continue;
            };
            if !address.ip().to_canonical().is_loopback() {
                continue;
            }
            warnings.push(peer.spot.say(format!(
                "the endpoint {address} is this machine itself: {OWN_ENDPOINT}"
            )));
        }
    }
    if host.masquerade.is_some() && !host.ip_forward {
        warnings.push(spot("masquerade").say(
            "there is nothing to translate unless this machine forwards; add ip_forward = true \
             to [interface]",
        ));
    }
    warnings
}

/// Whether the routes lead all of a family into the tunnel, whole or in halves.
fn default_route(routes: &[Written<IpNet>], v6: bool) -> bool {
    let of_family = || routes.iter().filter(|route| is_default(route, v6));
    let whole = of_family().any(|route| route.value.prefix_len() == 0);
    let halves: HashSet<IpNet> = of_family().map(|route| route.value).collect();
    whole || halves.len() == 2
}

/// Whether a route is a default route, or half of one.
fn is_default(route: &Written<IpNet>, v6: bool) -> bool {
    route.value.prefix_len() <= 1 && route.value.addr().is_ipv6() == v6
}

/// Whether a name means the same to every tool.
fn is_plain(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Peers that nothing can reach.
fn questionable_peers(draft: &Draft) -> Vec<String> {
    let routed = draft.vip.iter().chain(&draft.routes);
    let routed: Nets<()> = routed.map(|net| net.value).collect();
    let no_route = |net: &dyn std::fmt::Display| {
        format!(
            "{net} is outside our vip's subnet and interface.routes: this machine has no route to \
             it; add it to routes"
        )
    };
    let needs_routes = needs_routes(draft);
    let mut warnings = Vec::new();
    for peer in &draft.peers {
        if peer.vip.is_empty() && peer.allowed_ips.is_empty() {
            warnings.push(peer.spot.say(format!(
                "{} has neither a vip nor allowed_ips: no packet will go to it",
                label(peer)
            )));
        }
        for vip in &peer.vip {
            if routed.containing(&vip.value.into()).is_none() {
                warnings.push(vip.spot.say(no_route(&vip.value)));
            }
        }
        // A part may be all that is wanted of what the peer has.
        let nets = peer.allowed_ips.iter().filter(|_| needs_routes);
        for net in nets.filter(|net| routed.overlapping(&net.value).is_none()) {
            warnings.push(net.spot.say(no_route(&net.value)));
        }
    }
    warnings
}

/// Whether this machine sends to all that its peers have: a hub may only relay it, and commands
/// of the file may make routes of their own.
fn needs_routes(draft: &Draft) -> bool {
    let only_relays = draft.mode == Mode::Server && draft.host.relays(draft.mode);
    !only_relays && draft.hooks.before_up.is_empty() && draft.hooks.on_up.is_empty()
}

/// Routes that lead into the tunnel and no further.
fn unused_routes(peers: &[PeerDraft], routes: &[Written<IpNet>]) -> Vec<String> {
    if routes.is_empty() {
        return Vec::new();
    }
    let vips = peers.iter().flat_map(|peer| &peer.vip);
    let nets = peers.iter().flat_map(|peer| &peer.allowed_ips);
    let used: Nets<()> = vips
        .map(|vip| IpNet::from(vip.value))
        .chain(nets.map(|net| net.value))
        .collect();
    routes
        .iter()
        .filter(|route| used.overlapping(&route.value).is_none())
        .map(|route| {
            route.spot.say(format!(
                "{} overlaps no peer's vip or allowed_ips: packets to it will be dropped; add it \
                 to the allowed_ips of the peer that has it",
                route.value
            ))
        })
        .collect()
}

fn finish_peer(draft: PeerDraft) -> Peer {
    let vip: Vec<IpAddr> = unique(values(&draft.vip));
    let allowed_ips = vip.iter().copied().map(IpNet::from);
    let allowed_ips = unique(allowed_ips.chain(values(&draft.allowed_ips)).collect());
    Peer {
        name: draft.name,
        origin: draft.public_key.spot.origin().into(),
        public_key: draft.public_key.value,
        preshared_key: draft.preshared_key,
        vip,
        endpoint: draft.endpoints.first().map(|first| first.first.clone()),
        endpoints: match &draft.endpoints[..] {
            [one] if one.is_single() => Vec::new(),
            _ => draft.endpoints,
        },
        allowed_ips,
        persistent_keepalive: draft.persistent_keepalive,
        limits: PeerLimits {
            quota: draft.quota.map(|written| written.value),
            expires: draft.expires.map(|written| written.value),
        },
        rates: draft.rates,
    }
}

fn label(peer: &PeerDraft) -> String {
    match &peer.name {
        Some(name) => format!("peer {name:?}"),
        None => format!("peer {}", peer.public_key.value),
    }
}

fn values<T: Clone>(written: &[Written<T>]) -> Vec<T> {
    written.iter().map(|one| one.value.clone()).collect()
}

/// Without repetitions, in the same order.
fn unique<T: Copy + Eq + std::hash::Hash>(values: Vec<T>) -> Vec<T> {
    // Nearly every peer has one address.
    if values.len() < 2 {
        return values;
    }
    let mut seen = HashSet::new();
    values
        .into_iter()
        .filter(|value| seen.insert(*value))
        .collect()
}
