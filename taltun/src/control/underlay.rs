//! The network that the tunnel runs over: whether its datagrams fit, whether there is a way to
//! the endpoints at all, and what goes around a full tunnel.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{debug, info, warn};

use super::look_up::LookUp;
use super::nat64::Prefix;
use super::peers::Peers;
use crate::config::{self, Config, Interface, Mode};
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::protocol::device::{Device, Place};
use crate::protocol::peer::Endpoint;
use crate::report::RouteAround;
use crate::system::{self, Endpoints, Path};

/// Bytes that a tunnel's packet grows by over IPv4: headers of IP and UDP, and WireGuard's own.
const OVERHEAD_V4: usize = 60;
/// The same over IPv6.
const OVERHEAD_V6: usize = 80;
/// How often the ways to endpoints are looked at, where no change of routes makes it sooner.
const INTERVAL: Duration = Duration::from_secs(5);
/// Endpoints that are looked at.
const MOST: usize = 64;
/// How often a network is asked for its translator.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How long that may take where a start waits for it.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Stands for anybody who has IPv6; nothing is sent there.
const ANYBODY: IpAddr = IpAddr::V6(Ipv6Addr::new(0x9fff, 0, 0, 0, 0, 0, 0, 1));
/// Reading all routes may take one part of so many of the time.
const SHARE: u32 = 50;
/// Routes that are named in the log at once.
const NAMED: usize = 8;

/// What is known of the network.
#[derive(Debug, Default)]
pub(super) struct Underlay {
    around: Vec<RouteAround>,
    /// Routes that are being read; they come with how long it took.
    reading: Option<Receiver<(Vec<RouteAround>, Duration)>>,
    /// Routes have changed since they were read.
    stale: bool,
    next_read: Option<Instant>,
    next_look: Option<Instant>,
    unreachable: HashMap<PublicKey, String>,
    /// Endpoints on this machine that were warned of.
    warned_own: HashSet<PublicKey>,
    /// The MTU that was warned of.
    warned_mtu: Option<usize>,
    /// The MTU that we gave the interface last.
    mtu: Option<usize>,
    prefix: Option<Prefix>,
    /// How a translator is asked for: not inside the tunnel.
    look_up: Option<LookUp>,
    asking: Option<Receiver<Option<Prefix>>>,
    asked: Option<Instant>,
}

impl Underlay {
    /// Nothing is known but a translator, perhaps.
    pub(super) fn new(prefix: Option<Prefix>, look_up: LookUp) -> Self {
        Self {
            prefix,
            look_up: Some(look_up),
            stale: true,
            ..Self::default()
        }
    }

    /// What goes around a full tunnel.
    pub(super) fn routes_around(&self) -> &[RouteAround] {
        &self.around
    }

    /// Why nothing can be sent to this peer.
    pub(super) fn unreachable(&self, peer: &PublicKey) -> Option<&str> {
        self.unreachable.get(peer).map(String::as_str)
    }

    /// Takes what a thread has found, and starts one where there is something to find.
    /// `refused` is whether the kill switch keeps packets from it.
    fn read_routes(&mut self, config: &Config, refused: bool, endpoints: Vec<IpAddr>) {
        if let Some(reading) = &self.reading {
            match reading.try_recv() {
                Ok((found, took)) => {
                    // A router's table takes long, and need not be read all the time.
                    self.next_read = Some(Instant::now() + took * SHARE);
                    self.reading = None;
                    self.take_routes(found, refused);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.reading = None,
            }
        }
        let [v4, v6] = [false, true].map(|v6| is_full(config, v6));
        let early = self.next_read.is_some_and(|next| Instant::now() < next);
        if !self.stale || early || !(v4 || v6) {
            return;
        }
        self.stale = false;
        let (found_in, found) = channel();
        let name = config.interface.tun_name.clone();
        self.reading = Some(found);
        std::thread::spawn(move || {
            let start = Instant::now();
            match system::routes_around(&name, v4, v6, &endpoints) {
                // Nobody listens where the tunnel has ended meanwhile.
                Ok(routes) => drop(found_in.send((routes, start.elapsed()))),
                Err(error) => debug!("routes around the tunnel: {error}"),
            }
        });
    }

    fn take_routes(&mut self, found: Vec<RouteAround>, refused: bool) {
        let new: Vec<&RouteAround> = found
            .iter()
            .filter(|route| !self.around.contains(route))
            .collect();
        for route in new.iter().take(NAMED).filter(|_| !refused) {
            if route.is_connected() {
                // Without it this machine would lose its router.
                warn!(
                    "{route} goes around the tunnel, as this machine is on that network itself; \
                     where you don't trust it, set kill_switch = true"
                );
                continue;
            }
            warn!(
                "{route} goes around the tunnel, as it is more specific than its default route; \
                 remove it if you don't know it, or set kill_switch = true"
            );
        }
        if new.len() > NAMED && !refused {
            warn!(
                "{} more go around the tunnel: see `taltun status`",
                new.len() - NAMED
            );
        }
        self.around = found;
    }

    /// Asks for a translator beside, or takes the answer.
    fn ask_for_translator(&mut self) {
        if let Some(asking) = &self.asking {
            match asking.try_recv() {
                Ok(prefix) => self.prefix = prefix,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {}
            }
            self.asking = None;
            return;
        }
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return;
        }
        let Some(look_up) = self.look_up.clone() else {
            return;
        };
        self.asked = Some(Instant::now());
        let (answer, asking) = channel();
        self.asking = Some(asking);
        tokio::spawn(async move {
            // Nobody listens where the tunnel has ended meanwhile.
            let _ = answer.send(Prefix::discover(&look_up).await);
        });
    }
}

impl Underlay {
    /// Looks at the network; call it once a second, and say whether routes have changed,
    /// whether the kill switch refuses what goes around a full tunnel, and which mark our
    /// datagrams have.
    pub(super) fn follow(
        &mut self,
        changed: bool,
        refused: bool,
        mark: u32,
        device: &mut Device,
        peers: &Peers,
        config: &Config,
    ) {
        self.stale |= changed;
        let due = self.next_look.is_none_or(|next| Instant::now() >= next);
        if changed || due {
            self.next_look = Some(Instant::now() + INTERVAL);
            self.look_at_endpoints(mark, device, peers, config);
        }
        let endpoints = endpoints_now(device, peers);
        let endpoints = endpoints.map(|(_, address)| address.ip()).collect();
        self.read_routes(config, refused, endpoints);
    }

    fn look_at_endpoints(
        &mut self,
        mark: u32,
        device: &mut Device,
        peers: &Peers,
        config: &Config,
    ) {
        let full = is_full(config, false) || is_full(config, true);
        let mut least: Option<(usize, IpAddr)> = None;
        let mut unreachable = HashMap::new();
        let (mut moves, mut moves_among) = (Vec::new(), Vec::new());
        for (peer, at) in endpoints_now(device, peers) {
            match system::path(at.ip(), mark) {
                Ok(Path { own: true, .. }) => {
                    if full && self.warned_own.insert(peer.public_key) {
                        warn!(
                            "{}: its endpoint {at} is this machine itself: {}",
                            peer.label(),
                            config::OWN_ENDPOINT
                        );
                    }
                }
                Ok(path) => {
                    let overhead = overhead(at.ip());
                    if least.is_none_or(|(room, _)| path.mtu.saturating_sub(overhead) < room) {
                        least = Some((path.mtu.saturating_sub(overhead), at.ip()));
                    }
                }
                Err(error) => {
                    let address = at.ip().to_canonical();
                    debug!("{}: {address}: {error}", peer.label());
                    let reason = format!("no route to {address}");
                    if !self.unreachable.contains_key(&peer.public_key) {
                        warn!("{}: {reason}", peer.label());
                    }
                    unreachable.insert(peer.public_key, reason);
                    let places = device.places(&peer.public_key);
                    if places.is_empty() {
                        let to = self.translated(peer, at, mark);
                        moves.extend(to.map(|to| (peer.public_key, to)));
                    } else {
                        let to = self.translated_places(places, mark);
                        moves_among.extend(to.map(|to| (peer.public_key, to)));
                    }
                }
            }
        }
        self.unreachable = unreachable;
        let is_client = config.interface.mode == Mode::Client;
        for (peer, to) in moves {
            info!("trying {} by NAT64 at {to}", peers.label(&peer));
            device.set_endpoint(&peer, Some(Endpoint::from(to)));
            if is_client {
                device.initiate(&peer, clock::now());
            }
        }
        for (peer, places) in moves_among {
            let label = peers.label(&peer);
            info!("{label} has no route to addresses of its endpoints: by NAT64 or back");
            device.set_places(&peer, &places, clock::now());
            if is_client {
                device.initiate(&peer, clock::now());
            }
        }
        if is_client && let Some((room, to)) = least {
            self.fit_mtu(room, to, device.tunnel().mtu(), &config.interface);
        }
    }

    /// `room` bytes fit the narrowest way to an endpoint, which is the one to `to`; `now` is the
    /// tunnel's MTU.
    fn fit_mtu(&mut self, room: usize, to: IpAddr, now: usize, interface: &Interface) {
        let path = room + overhead(to);
        let given = !interface.mtu_is_default;
        let wanted = default_mtu(path, &interface.vip);
        let ours = self.mtu.unwrap_or_else(|| usize::from(interface.mtu));
        // Once somebody has changed it by hand it isn't the default any more.
        if given || now != ours {
            if now > room && self.warned_mtu != Some(room) {
                self.warned_mtu = Some(room);
                warn!("{}", too_large(now, path, to));
            }
        } else if usize::from(wanted) != now {
            info!("the way to {to} takes {path} bytes, so the tunnel's MTU becomes {wanted}");
            match system::set_mtu(&interface.tun_name, wanted) {
                Ok(()) => self.mtu = Some(wanted.into()),
                Err(error) => warn!("cannot set the MTU of {}: {error}", interface.tun_name),
            }
        }
    }

    /// The same for a peer that may be at several places.
    fn translated_places(&mut self, places: &[Place], mark: u32) -> Option<Vec<Place>> {
        let Some(prefix) = self.prefix else {
            let mut places = places.iter().map(|place| place.first().ip().to_canonical());
            if places.any(|address| address.is_ipv4()) && system::path(ANYBODY, mark).is_ok() {
                self.ask_for_translator();
            }
            return None;
        };
        let has_route = |address| system::path(address, mark).is_ok();
        let (places, there, back) = through(places, prefix, has_route);
        if back {
            // Another network, without this translator.
            self.prefix = None;
        }
        (there || back).then_some(places)
    }

    /// Where a peer that can't be reached may be by a translator; back to its own address where
    /// that has been tried.
    fn translated(
        &mut self,
        peer: &config::Peer,
        now: SocketAddr,
        mark: u32,
    ) -> Option<SocketAddr> {
        let literal = match &peer.endpoint {
            Some(config::Endpoint::Address(address)) => *address,
            _ => now,
        };
        let IpAddr::V4(address) = literal.ip().to_canonical() else {
            return None;
        };
        let Some(prefix) = self.prefix else {
            if system::path(ANYBODY, mark).is_ok() {
                self.ask_for_translator();
            }
            return None;
        };
        let by_translator = SocketAddr::new(prefix.translate(address).into(), literal.port());
        if now == by_translator {
            // Another network, without this translator.
            self.prefix = None;
            return Some(literal);
        }
        Some(by_translator)
    }
}

/// Each place that there is no route to as the translator knows it, or if it is one of the translator's, as
/// it was before; whether there was any of either.
fn through(
    places: &[Place],
    prefix: Prefix,
    has_route: impl Fn(IpAddr) -> bool,
) -> (Vec<Place>, bool, bool) {
    let (mut there, mut back) = (false, false);
    let place = |place: &Place| {
        let first = place.first();
        let ip = first.ip().to_canonical();
        if has_route(ip) {
            return *place;
        }
        let to: IpAddr = match ip {
            IpAddr::V4(address) => {
                there = true;
                prefix.translate(address).into()
            }
            IpAddr::V6(address) => match prefix.original(address) {
                Some(original) => {
                    back = true;
                    original.into()
                }
                None => return *place,
            },
        };
        Place::new(SocketAddr::new(to, first.port()), place.last_port())
    };
    let places = places.iter().map(place).collect();
    (places, there, back)
}

/// The peers whose endpoint is configured, and where it is now.
fn endpoints_now<'a>(
    device: &Device,
    peers: &'a Peers,
) -> impl Iterator<Item = (&'a config::Peer, SocketAddr)> {
    // Most of a large hub's have none.
    peers
        .with_endpoint()
        .filter_map(|peer| {
            let endpoint = device.peer(&peer.public_key)?.endpoint()?;
            Some((peer, endpoint.remote))
        })
        .take(MOST)
}

/// Before anything is set up: gives a client's tunnel the MTU that fits the ways to its endpoints,
/// where the file doesn't say which, and asks for a translator where there is no other way: once
/// everything goes into the tunnel nobody answers.
pub(super) async fn prepare(
    config: &mut Config,
    names: &Endpoints,
    look_up: &LookUp,
) -> Option<Prefix> {
    let said = config.peers.iter().flat_map(config::Peer::all_endpoints);
    let endpoints = said.filter_map(|endpoint| match endpoint {
        config::Endpoint::Address(address) => Some(address.ip()),
        config::Endpoint::Name(host, port) => {
            names.get(&format!("{host}:{port}")).map(SocketAddr::ip)
        }
    });
    let paths: Vec<_> = endpoints
        .take(MOST)
        .map(|address| (address, system::path(address, 0)))
        .collect();
    let ways = paths.iter().filter_map(|(_, path)| path.as_ref().ok());
    let narrowest = ways.filter(|path| !path.own).map(|path| path.mtu).min();
    if config.interface.mode == Mode::Client
        && config.interface.mtu_is_default
        && let Some(path) = narrowest
    {
        config.interface.mtu = default_mtu(path, &config.interface.vip);
    }
    let lost = |(address, path): &(IpAddr, std::io::Result<Path>)| {
        address.to_canonical().is_ipv4() && path.is_err()
    };
    if !paths.iter().any(lost) || system::path(ANYBODY, 0).is_err() {
        return None;
    }
    let asking = tokio::time::timeout(ASK_LIMIT, Prefix::discover(look_up));
    asking.await.ok()?
}

/// Whether all of a family goes into the tunnel.
fn is_full(config: &Config, v6: bool) -> bool {
    let routes: &[IpNet] = &config.interface.routes;
    routes
        .iter()
        .any(|net| net.prefix_len() <= 1 && net.addr().is_ipv6() == v6)
}

fn overhead(to: IpAddr) -> usize {
    if to.to_canonical().is_ipv4() {
        OVERHEAD_V4
    } else {
        OVERHEAD_V6
    }
}

/// The MTU of a tunnel over a way that takes packets of so many bytes. It fits over IPv6 in any
/// case, which it may come to.
fn default_mtu(path: usize, vip: &[IpNet]) -> u16 {
    let least = if vip.iter().any(|vip| vip.addr().is_ipv6()) {
        1280
    } else {
        576
    };
    path.saturating_sub(OVERHEAD_V6).clamp(least, 65_000) as u16
}

fn too_large(mtu: usize, path: usize, to: IpAddr) -> String {
    let fits = path.saturating_sub(OVERHEAD_V6);
    let more = if to.to_canonical().is_ipv4() {
        format!(
            " (up to {} over IPv4 alone)",
            path.saturating_sub(OVERHEAD_V4)
        )
    } else {
        String::new()
    };
    format!(
        "the tunnel's MTU of {mtu} doesn't fit: the way to {to} takes packets of {path} bytes; set \
         interface.mtu = {fits}{more} on both sides"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_without_a_route_are_led_through_the_translator_and_back() {
        let prefix = Prefix::of_answer("2001:db8:64::192.0.0.170".parse().unwrap()).unwrap();
        let place = |first: &str, last| Place::new(first.parse().unwrap(), last);
        let given = [
            place("203.0.113.1:4096", 8191),
            place("[2001:db8::9]:9000", 9000),
            place("203.0.113.2:9000", 9000),
        ];
        let v6_only = |address: IpAddr| address.is_ipv6();
        let (there, led, back) = through(&given, prefix, v6_only);
        let expected = [
            place("[2001:db8:64::203.0.113.1]:4096", 8191),
            given[1],
            place("[2001:db8:64::203.0.113.2]:9000", 9000),
        ];
        assert_eq!((&there[..], led, back), (&expected[..], true, false));
        let (same, led, back) = through(&there, prefix, v6_only);
        assert_eq!((same, led, back), (there.clone(), false, false));
        let v4_only = |address: IpAddr| address.is_ipv4();
        assert_eq!(
            through(&there, prefix, v4_only),
            (given.to_vec(), false, true)
        );
    }

    #[test]
    fn the_mtu_is_what_the_way_leaves() {
        let v4: [IpNet; 1] = ["10.0.0.1/24".parse().unwrap()];
        let both: [IpNet; 2] = [v4[0], "fd00::1/64".parse().unwrap()];
        for (path, expected) in [(1500, 1420), (1492, 1412), (9000, 8920), (1400, 1320)] {
            assert_eq!(default_mtu(path, &both), expected);
        }
        assert_eq!(default_mtu(1300, &both), 1280);
        assert_eq!(default_mtu(1300, &v4), 1220);
        assert_eq!(default_mtu(65_536, &v4), 65_000);
    }

    #[test]
    fn a_warning_has_the_number_that_fits() {
        let text = too_large(1420, 1400, "203.0.113.1".parse().unwrap());
        assert!(
            text.contains("interface.mtu = 1320 (up to 1340 over IPv4"),
            "{text}"
        );
        let text = too_large(1420, 1492, "2001:db8::1".parse().unwrap());
        assert!(text.contains("interface.mtu = 1412 on both"), "{text}");
    }
}
