//! `taltun explain`: what would happen to the first packet of something, and why.
//!
//! It is asked step by step what packets are asked: the same tables of bans, prefixes and rules,
//! by the functions that workers call. Nothing is sent, and nothing is counted.
//!
//! ```text
//! from a peer   outside → session → source → ban → rules → route ─┬─ to this host, or the kernel
//!                                                                 └─ to a peer: session → limits
//! from here                                          route → rules ── to a peer: session → limits
//! ```
//!
//! Where the kernel relays (`relay = false`), what a peer sends to another passes twice: on its
//! way to this host, and from it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use taltun_common::drops::DropReason;
use taltun_common::headers::protocol;
use taltun_policy::rules::Start;
use taltun_policy::{Action, Ends, Service, Side};

use super::reporting::View;
use super::request;
use super::words::span;
use crate::config::HUB;
use crate::dataplane::clock;
use crate::dataplane::rules::PeersOf;
use crate::layer::Layer;
use crate::protocol::batch::Batch;
use crate::protocol::messages::REJECT_AFTER_TIME;
use crate::protocol::peer::Peer;
use crate::report::{
    ExplainedStep, Explanation, RefusedBy, StepKind, UnixTime, VERSION, XdpAttachment,
};

/// Says what would happen to the packet that was asked about. `own` are this host's addresses
/// outside.
pub(super) fn explain(
    asked: &request::Explain,
    view: View<'_>,
    own: &[IpAddr],
) -> Result<Explanation, String> {
    let batch = view.device.tunnel().batch(clock::now());
    let world = World {
        view,
        own,
        batch: &batch,
    };
    let (from, packet) = world.packet(asked)?;
    let mut trial = Trial {
        world: &world,
        packet: &packet,
        steps: Vec::new(),
    };
    let outcome = match &from {
        Sender::Peer(peer) => trial.sent_by_peer(peer, asked.outer),
        Sender::Host => trial.sent_by_host(),
    };
    Ok(Explanation {
        version: VERSION,
        timestamp: UnixTime::at(clock::wall()),
        interface: view.config.interface.tun_name.clone(),
        from: match &from {
            Sender::Peer(peer) => view.peers.label(peer.public_key()),
            Sender::Host => HUB.to_owned(),
        },
        source: packet.source,
        destination: packet.destination,
        service: packet.service.to_string(),
        passes: outcome.is_ok(),
        reason: outcome.err(),
        steps: trial.steps,
    })
}

/// What the steps look at.
struct World<'a, 't> {
    view: View<'a>,
    own: &'a [IpAddr],
    batch: &'a Batch<'t>,
}

/// Who sends.
enum Sender {
    Peer(Arc<Peer>),
    /// This host, or what is behind it.
    Host,
}

/// A word of the question.
enum Party {
    Peer(Arc<Peer>),
    Hub,
    Address(IpAddr),
}

/// The packet that is asked about.
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    service: Service,
}

impl World<'_, '_> {
    /// Who sends, and what.
    fn packet(&self, asked: &request::Explain) -> Result<(Sender, Packet), String> {
        let service = service(&asked.service)?;
        let from = self.party(&asked.from)?;
        let to = self.party(&asked.to)?;
        let sources = match asked.source {
            Some(source) => vec![source.to_canonical()],
            None => self.addresses(&from),
        };
        let destinations = self.addresses(&to);
        // IPv4 if both have it.
        let pair = destinations.iter().find_map(|destination| {
            let is_same = |source: &&IpAddr| source.is_ipv4() == destination.is_ipv4();
            Some((*sources.iter().find(is_same)?, *destination))
        });
        let (source, destination) = pair.ok_or_else(|| {
            let (from, to) = (&asked.from, &asked.to);
            match (sources.is_empty(), destinations.is_empty()) {
                (true, _) => format!("{from} has no address inside the tunnel"),
                (_, true) => format!("{to} has no address inside the tunnel"),
                _ => format!("{from} and {to} have no addresses of the same family, IPv4 or IPv6"),
            }
        })?;
        let sender = match from {
            Party::Peer(peer) => Sender::Peer(peer),
            Party::Hub => Sender::Host,
            Party::Address(address) => match self.batch.peer_behind(address) {
                Some((peer, _)) if !self.is_ours(address) => Sender::Peer(Arc::clone(peer)),
                _ => Sender::Host,
            },
        };
        let packet = Packet {
            source,
            destination,
            service,
        };
        Ok((sender, packet))
    }

    fn party(&self, word: &str) -> Result<Party, String> {
        if word == HUB {
            return Ok(Party::Hub);
        }
        if let Ok(address) = word.parse::<IpAddr>() {
            return Ok(Party::Address(address.to_canonical()));
        }
        match self.view.peers.meant(word, self.view.device)? {
            Some(peer) => Ok(Party::Peer(Arc::clone(peer))),
            None => Err(format!(
                "{word:?} is neither an address nor a peer's name or key, nor {HUB:?}; `taltun \
                 status` lists the peers"
            )),
        }
    }

    /// The addresses inside the tunnel that somebody speaks by, IPv4 first.
    fn addresses(&self, party: &Party) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = match party {
            Party::Address(address) => vec![*address],
            Party::Hub => {
                let vips = self.view.config.interface.vip.iter();
                vips.map(IpNet::addr).collect()
            }
            Party::Peer(peer) => {
                let filed = self.view.peers.in_file(peer.public_key());
                let vips = filed.map(|filed| filed.vip.clone()).unwrap_or_default();
                // Of one that `wg` added, those that are a host's.
                let owned = self.view.device.allowed_ips_of(peer.id());
                let hosts = owned.filter(|net| net.prefix_len() == net.max_prefix_len());
                let mut all = vips;
                all.extend(hosts.map(|net| net.addr()));
                all
            }
        };
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses
    }

    /// Whether an address is this host's, inside or outside.
    fn is_ours(&self, address: IpAddr) -> bool {
        let mut vips = self.view.config.interface.vip.iter();
        vips.any(|vip| vip.addr() == address) || self.own.contains(&address)
    }

    fn label(&self, peer: &Peer) -> String {
        self.view.peers.label(peer.public_key())
    }

    /// Where the file has a peer.
    fn origin(&self, peer: &Peer) -> Option<String> {
        let filed = self.view.peers.in_file(peer.public_key())?;
        filed.origin.place().map(str::to_owned)
    }
}

/// What a packet is asked, one step after the other.
struct Trial<'a, 'w, 't> {
    world: &'a World<'w, 't>,
    packet: &'a Packet,
    steps: Vec<ExplainedStep>,
}

/// A packet goes on, or it is dropped.
type Outcome = Result<(), DropReason>;

impl Trial<'_, '_, '_> {
    fn sent_by_peer(&mut self, peer: &Arc<Peer>, outer: Option<IpAddr>) -> Outcome {
        self.outside(peer, outer)?;
        self.may_have_session(peer)?;
        self.session(peer, "it begins one by itself");
        self.source(peer)?;
        self.ban()?;
        let destination = self.packet.destination;
        let is_relayed = self.world.batch.goes_to_another_peer(peer, destination);
        let to = if is_relayed { Side::Peer } else { Side::Host };
        self.rules(Ends {
            from: Side::Peer,
            to,
        })?;
        if is_relayed {
            return self.for_peer("relayed");
        }
        if self.world.is_ours(destination) {
            self.goes_on(
                StepKind::Route,
                "to this host: the address is its own",
                None,
            );
            return Ok(());
        }
        let behind = self.world.batch.peer_behind(destination);
        let comes_back = behind.is_some_and(|(owner, _)| !Arc::ptr_eq(owner, peer))
            && self.world.batch.owner_behind_host(destination).is_some();
        if comes_back {
            let why = "to the kernel, which sends it back into the tunnel if it forwards";
            self.goes_on(StepKind::Route, why, None);
            return self.sent_by_host();
        }
        let why = "to the kernel, which routes it on if it forwards: no other peer has the address";
        self.goes_on(StepKind::Route, why, None);
        Ok(())
    }

    fn sent_by_host(&mut self) -> Outcome {
        let destination = self.packet.destination;
        if self.world.is_ours(destination) {
            let why = "it stays on this host: the address is its own";
            self.goes_on(StepKind::Route, why, None);
            return Ok(());
        }
        if self.world.batch.peer_behind(destination).is_none() {
            let why = format!("no peer has {destination} in its allowed_ips");
            return self.dropped(StepKind::Route, DropReason::NoPeer, why, None);
        }
        self.rules(Ends {
            from: Side::Host,
            to: Side::Peer,
        })?;
        self.for_peer("sealed, where the kernel routes it into the tunnel,")
    }

    /// Its destination is a peer's.
    fn for_peer(&mut self, how: &str) -> Outcome {
        let Some((peer, length)) = self.world.batch.peer_behind(self.packet.destination) else {
            return Err(DropReason::NoPeer);
        };
        let peer = Arc::clone(peer);
        let label = self.world.label(&peer);
        let net = IpNet::new(self.packet.destination, length).map(|net| net.trunc());
        let net = net.map_or_else(|_| String::new(), |net| format!(", which has {net}"));
        let why = format!("{how} for {label}{net}");
        self.goes_on(StepKind::Route, why, self.world.origin(&peer));
        self.may_have_session(&peer)?;
        if peer.endpoint().is_none() {
            let why = format!("{label} was never heard from, and no endpoint is given for it");
            let origin = self.world.origin(&peer);
            return self.dropped(StepKind::Session, DropReason::NoEndpoint, why, origin);
        }
        self.session(&peer, "a handshake begins, and the packet waits for it");
        let rates = self.world.view.peers.in_file(peer.public_key());
        if let Some(rate) = rates.and_then(|filed| filed.rates.rate_down) {
            let why = format!("waits for its turn at {label}'s rate_down of {rate}");
            self.goes_on(StepKind::Limits, why, self.world.origin(&peer));
        }
        if let Some(uplink) = self.world.view.config.shaping.uplink {
            let why = format!("waits for its turn at the uplink's {uplink}");
            self.goes_on(StepKind::Limits, why, None);
        }
        Ok(())
    }

    /// Its datagram's source.
    fn outside(&mut self, peer: &Peer, outer: Option<IpAddr>) -> Outcome {
        let heard = peer.endpoint().map(|endpoint| endpoint.remote.ip());
        let Some(address) = outer.or(heard) else {
            let why = "it was never heard from";
            self.goes_on(StepKind::Outside, why, None);
            return Ok(());
        };
        let address = address.to_canonical();
        let bans = self.world.view.bans;
        let denied = bans.filter().read().denies(Layer::Outer, address);
        if !denied {
            let why = format!("nothing bans {address}");
            self.goes_on(StepKind::Outside, why, None);
            return Ok(());
        }
        let by = if self.has_xdp() {
            "by XDP, before the kernel sees it"
        } else {
            "by a worker, as there is no XDP program"
        };
        let why = match bans.of_address(address, Layer::Outer) {
            Some(ban) => format!("{} is banned, {by}; to end that: {}", ban.net, ban.remedy),
            None => format!("{address} is banned, {by}"),
        };
        self.dropped(StepKind::Outside, DropReason::Denied, why, None)
    }

    fn has_xdp(&self) -> bool {
        let status = self.world.view.shield.status();
        let mut modes = status.iter().map(|xdp| xdp.mode);
        modes.any(|mode| mode != XdpAttachment::Off)
    }

    /// Whether limits let a peer have a session.
    fn may_have_session(&mut self, peer: &Peer) -> Outcome {
        let Some(refusal) = self.world.view.limits.refusal(peer.public_key()) else {
            return Ok(());
        };
        let label = self.world.label(peer);
        let why = match refusal.word() {
            RefusedBy::Expired => format!("{label} is refused: its last day is over"),
            RefusedBy::Quota => format!("{label} is refused: its quota is used up"),
            RefusedBy::Unread => {
                format!("{label} is refused until it is read how much it has moved")
            }
        };
        let origin = self.world.origin(peer);
        self.dropped(StepKind::Session, DropReason::PeerRefused, why, origin)
    }

    /// Whether a peer has a session; `without` is what happens if not.
    fn session(&mut self, peer: &Peer, without: &str) {
        let label = self.world.label(peer);
        let ago = peer.last_handshake().map(|at| clock::now().since(at));
        let why = match ago {
            Some(ago) if ago < REJECT_AFTER_TIME => {
                let place = peer.endpoint().map_or_else(String::new, |endpoint| {
                    format!(", {} is where it is", endpoint.remote)
                });
                format!("{label} has one, {} old{place}", span(ago.as_secs()))
            }
            Some(ago) => format!(
                "{label} has none since its last handshake {} ago; {without}",
                span(ago.as_secs())
            ),
            None => format!("{label} never had one; {without}"),
        };
        self.goes_on(StepKind::Session, why, None);
    }

    /// Whether its source is the peer's.
    fn source(&mut self, peer: &Arc<Peer>) -> Outcome {
        let (source, label) = (self.packet.source, self.world.label(peer));
        let origin = self.world.origin(peer);
        let batch = self.world.batch;
        if batch.may_send_from(peer, source) {
            let why = format!("{source} is {label}'s");
            self.goes_on(StepKind::Source, why, origin);
            return Ok(());
        }
        let why = match batch.peer_behind(source) {
            _ if self.world.is_ours(source) => {
                format!("{source} is this host's own, and never {label}'s")
            }
            Some((owner, _)) if !Arc::ptr_eq(owner, peer) => {
                format!(
                    "{source} is {}'s, and not {label}'s",
                    self.world.label(owner)
                )
            }
            Some(_) => format!("{source} is no host's address"),
            None => format!("{source} isn't in {label}'s allowed_ips"),
        };
        self.dropped(StepKind::Source, DropReason::InnerSource, why, origin)
    }

    /// Whether its source inside is banned.
    fn ban(&mut self) -> Outcome {
        let source = self.packet.source;
        let bans = self.world.view.bans;
        if !bans.filter().read().denies(Layer::Inner, source) {
            let why = format!("nothing bans {source}");
            self.goes_on(StepKind::Ban, why, None);
            return Ok(());
        }
        let why = match bans.of_address(source, Layer::Inner) {
            Some(ban) => format!("{} is banned; to end that: {}", ban.net, ban.remedy),
            None => format!("{source} is banned"),
        };
        self.dropped(StepKind::Ban, DropReason::InnerDenied, why, None)
    }

    /// What rules say about who starts this.
    fn rules(&mut self, ends: Ends) -> Outcome {
        let Some(held) = self.world.view.rules.rules().held() else {
            return Ok(());
        };
        let (protocol, port) = self.packet.numbers();
        let start = Start {
            ends,
            source: self.packet.source,
            destination: self.packet.destination,
            protocol,
            port,
        };
        let rules = held.judge().rules();
        let decision = rules.decide(&start, &PeersOf(self.world.batch));
        let origin = decision.rule.and_then(|rule| held.origin(rule));
        let origin = origin.map(str::to_owned);
        let who = match decision.rule {
            Some(_) => "the first rule that matches",
            None => "no rule matches, and policy.default",
        };
        match decision.action {
            Action::Allow => {
                self.goes_on(StepKind::Rules, format!("{who} allows it"), origin);
                Ok(())
            }
            Action::Deny => {
                let why = format!("{who} denies it, unless it answers something");
                self.dropped(StepKind::Rules, DropReason::Rule, why, origin)
            }
        }
    }

    fn goes_on(&mut self, step: StepKind, why: impl Into<String>, origin: Option<String>) {
        self.steps.push(ExplainedStep {
            step,
            passes: true,
            why: why.into(),
            origin,
        });
    }

    fn dropped(
        &mut self,
        step: StepKind,
        reason: DropReason,
        why: String,
        origin: Option<String>,
    ) -> Outcome {
        self.steps.push(ExplainedStep {
            step,
            passes: false,
            why,
            origin,
        });
        Err(reason)
    }
}

impl Packet {
    /// Its protocol, and the port that it goes to.
    fn numbers(&self) -> (u8, u16) {
        match self.service {
            Service::Tcp(port, _) => (protocol::TCP, port),
            Service::Udp(port, _) => (protocol::UDP, port),
            Service::Protocol(number) => (number, 0),
            Service::Icmp | Service::Any if self.source.is_ipv4() => (protocol::ICMP, 0),
            Service::Icmp | Service::Any => (protocol::ICMPV6, 0),
        }
    }
}

/// One service: a packet has one port.
fn service(text: &str) -> Result<Service, String> {
    let service: Service = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    let one = |first, last| first == last;
    match service {
        Service::Tcp(first, last) | Service::Udp(first, last) if !one(first, last) => Err(format!(
            "{text:?}: a packet goes to one port; ask about one of them"
        )),
        Service::Protocol(protocol::TCP | protocol::UDP) => {
            Err(format!("{text:?}: name a port, as in \"{text}/443\""))
        }
        Service::Any => Err(
            "a packet is of one protocol: \"tcp/443\", \"udp/53\", \"icmp\" or \"ip/47\"".into(),
        ),
        service => Ok(service),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_one_protocol_and_one_port() {
        for (text, numbers) in [
            ("tcp/443", (6, 443)),
            ("udp/53", (17, 53)),
            ("icmp", (1, 0)),
            ("gre", (47, 0)),
        ] {
            let packet = Packet {
                source: [10, 0, 0, 2].into(),
                destination: [10, 0, 0, 1].into(),
                service: service(text).unwrap(),
            };
            assert_eq!(packet.numbers(), numbers, "{text}");
        }
        for (text, says) in [
            ("tcp", "name a port"),
            ("any", "of one protocol"),
            ("tcp/80-90", "one port"),
            ("tcp/0", "from 1 to 65535"),
            ("http", "no protocol is called that"),
        ] {
            let error = service(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
