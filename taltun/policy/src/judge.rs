//! The verdict on a packet: a known flow passes, a new one asks the rules.
//!
//! Who starts is who sends the first packet; of TCP, who sends SYN without ACK. A connection that
//! isn't known, say because the hub was restarted, may go on by a packet of a side that may start.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use taltun_common::headers::protocol;

use crate::flows::{Flow, Flows, Found, Key, Phase, Secret, Ticks};
use crate::packet::{Content, Packet, Ports, Quoted, flags};
use crate::rules::{Action, Decision, Ends, Owners, Side, Start};
use crate::set::RuleSet;
use crate::tuple::Tuple;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to something that may pass.
    Pass,
    /// It starts something, which may pass.
    Start(Decision),
    /// Nothing that it could belong to may pass.
    Denied(Decision),
    /// A later fragment whose first didn't pass, or comes behind it.
    LostFragment,
    /// It isn't a packet that rules can be asked about.
    Malformed,
}

impl Verdict {
    /// Whether the packet passes.
    pub fn passes(self) -> bool {
        matches!(self, Self::Pass | Self::Start(_))
    }
}

/// Rules, and the flows that they let start. Many threads may ask it at once.
#[derive(Debug)]
pub struct Judge {
    rules: RuleSet,
    generation: u16,
    secret: Secret,
    flows: Arc<Flows>,
}

/// A judge's verdicts on the packets of one batch. Neighbours of one flow cost little.
#[derive(Debug)]
pub struct Session<'j> {
    judge: &'j Judge,
    now: Ticks,
    /// The ordinary packet that passed last.
    last: Option<(Tuple, Ends)>,
}

/// What a packet belongs to, and which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Talk {
    ends: Ends,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: Ports,
}

impl Judge {
    /// Rules without any flow yet, for about so many of them. The secret must be random.
    pub fn new(rules: RuleSet, secret: [u64; 2], flows: usize) -> Self {
        Self {
            rules,
            generation: 0,
            secret: Secret::new(secret),
            flows: Arc::new(Flows::with_capacity(flows)),
        }
    }

    /// The same with other rules. They are asked again about each flow, at its next packet.
    #[must_use]
    pub fn with_rules(&self, rules: RuleSet) -> Self {
        Self {
            rules,
            generation: self.generation.wrapping_add(1),
            secret: self.secret,
            flows: Arc::clone(&self.flows),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The flows.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Begins a batch at a time since some start, which is the same for all batches.
    pub fn session(&self, now: Duration) -> Session<'_> {
        Session {
            judge: self,
            now: Ticks::since_start(now),
            last: None,
        }
    }
}

impl Session<'_> {
    /// The verdict on a packet, which begins with its IP header.
    #[inline]
    pub fn judge(&mut self, packet: &[u8], ends: Ends, owners: &impl Owners) -> Verdict {
        let Some(tuple) = Tuple::of_ordinary(packet) else {
            self.last = None;
            return self.verdict(packet, ends, owners);
        };
        if self.last == Some((tuple, ends)) {
            return Verdict::Pass;
        }
        let verdict = if self.goes_on(&tuple) {
            Verdict::Pass
        } else {
            self.verdict(packet, ends, owners)
        };
        self.last = verdict.passes().then_some((tuple, ends));
        verdict
    }

    /// Whether an ordinary packet belongs to a flow that these rules let pass already.
    #[inline]
    fn goes_on(&self, tuple: &Tuple) -> bool {
        let key = self.judge.secret.key(tuple);
        let Some(found) = self.judge.flows.find(&key, self.now) else {
            return false;
        };
        let flow = found.flow();
        if flow.generation != self.judge.generation {
            return false;
        }
        let is_starters = key.downwards == flow.started_downwards;
        let phase = flow.phase.after_ordinary(is_starters);
        // Most often nothing has changed: a quarter of a second hasn't gone by.
        if (phase, self.now) != (flow.phase, flow.last) {
            found.set(Flow {
                last: self.now,
                phase,
                ..flow
            });
        }
        true
    }

    /// The verdict on any packet.
    fn verdict(&self, packet: &[u8], ends: Ends, owners: &impl Owners) -> Verdict {
        let Some(packet) = Packet::parse(packet) else {
            return Verdict::Malformed;
        };
        let talk = Talk::of(&packet, ends);
        let Some(id) = packet.fragment else {
            return self.whole(&packet, &talk, owners);
        };
        let key = self.judge.secret.key_of_fragments(&talk.tuple(), id);
        if packet.content == Content::LaterFragment {
            return match self.judge.flows.find(&key, self.now) {
                Some(_) => Verdict::Pass,
                None => Verdict::LostFragment,
            };
        }
        let verdict = self.whole(&packet, &talk, owners);
        if verdict.passes() {
            let flow = self.new_flow(Phase::Fragments, &key, talk.ends);
            self.judge.flows.insert(&key, flow);
        }
        verdict
    }

    /// The verdict on a packet that has all headers.
    fn whole(&self, packet: &Packet, talk: &Talk, owners: &impl Owners) -> Verdict {
        if let Content::Error(quoted) = packet.content
            && self.is_about_a_flow(packet, &quoted, talk.ends, owners)
        {
            return Verdict::Pass;
        }
        let key = self.judge.secret.key(&talk.tuple());
        let starts = match packet.content {
            Content::Tcp { flags, .. } => flags & (flags::SYN | flags::ACK) == flags::SYN,
            _ => false,
        };
        let known = (!starts).then(|| self.known(talk, &key, owners)).flatten();
        let Some((found, flow)) = known else {
            return self.start(packet, talk, &key, owners);
        };
        let is_starters = key.downwards == flow.started_downwards;
        // Who is asked may answer, which isn't to ask.
        if !is_starters && matches!(packet.content, Content::Query(_)) {
            return self.start(packet, talk, &key, owners);
        }
        found.set(Flow {
            last: self.now,
            generation: self.judge.generation,
            phase: next_phase(flow.phase, &packet.content, is_starters),
            ..flow
        });
        Verdict::Pass
    }

    /// The flow of a packet, if the rules still let it pass.
    fn known(&self, talk: &Talk, key: &Key, owners: &impl Owners) -> Option<(Found<'_>, Flow)> {
        let found = self.judge.flows.find(key, self.now)?;
        let flow = found.flow();
        if flow.generation != self.judge.generation {
            let mut start = talk.of_start(key.downwards == flow.started_downwards);
            start.ends = flow.ends;
            if self.decide(&start, owners).action == Action::Deny {
                found.remove(key);
                return None;
            }
        }
        Some((found, flow))
    }

    /// The verdict on a packet of no known flow: it would start one.
    fn start(&self, packet: &Packet, talk: &Talk, key: &Key, owners: &impl Owners) -> Verdict {
        let decision = self.decide(talk, owners);
        if decision.action == Action::Deny {
            return Verdict::Denied(decision);
        }
        let is_icmp = matches!(talk.protocol, protocol::ICMP | protocol::ICMPV6);
        let phase = match packet.content {
            // Nothing follows.
            Content::Tcp { flags, .. } if flags & flags::RST != 0 => None,
            Content::Tcp { flags, .. } if flags & flags::FIN != 0 => Some(Phase::Closing),
            Content::Tcp { .. } => Some(Phase::Opening),
            Content::Query(_) => Some(Phase::Query),
            // ICMP that isn't asked for has no answer.
            _ if is_icmp => None,
            _ => Some(Phase::OneWay),
        };
        if let Some(phase) = phase {
            let flow = self.new_flow(phase, key, talk.ends);
            self.judge.flows.insert(key, flow);
        }
        Verdict::Start(decision)
    }

    fn decide(&self, talk: &Talk, owners: &impl Owners) -> Decision {
        let start = Start {
            ends: talk.ends,
            source: talk.source,
            destination: talk.destination,
            protocol: talk.protocol,
            port: talk.ports.destination,
        };
        self.judge.rules.decide(&start, owners)
    }

    /// Whether an error tells a sender of a flow about a packet of its own, and comes from the way that
    /// this took: from the host, or from the very peer that it was for. Else any peer could end the
    /// connections of others.
    fn is_about_a_flow(
        &self,
        error: &Packet,
        quoted: &Quoted,
        ends: Ends,
        owners: &impl Owners,
    ) -> bool {
        let talk = Talk {
            ends: ends.reversed(),
            source: quoted.source,
            destination: quoted.destination,
            protocol: quoted.protocol,
            ports: quoted.ports,
        };
        let key = self.judge.secret.key(&talk.tuple());
        let is_on_the_way = ends.from == Side::Host
            || owners.owner(Side::Peer, error.source)
                == owners.owner(Side::Peer, quoted.destination);
        error.destination == quoted.source
            && is_on_the_way
            && self.known(&talk, &key, owners).is_some()
    }

    fn new_flow(&self, phase: Phase, key: &Key, ends: Ends) -> Flow {
        Flow {
            last: self.now,
            generation: self.judge.generation,
            phase,
            started_downwards: key.downwards,
            ends,
        }
    }
}

impl Talk {
    fn of(packet: &Packet, ends: Ends) -> Self {
        let ports = match packet.content {
            Content::Tcp { ports, .. } | Content::Udp(ports) => ports,
            Content::Query(identifier) | Content::Answer(identifier) => Ports {
                source: identifier,
                destination: identifier,
            },
            Content::Error(_) | Content::Other | Content::LaterFragment => Ports::default(),
        };
        Self {
            ends,
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            ports,
        }
    }

    fn tuple(&self) -> Tuple {
        Tuple::new(self.source, self.destination, self.protocol, self.ports)
    }

    /// The same, from who started it to the other.
    fn of_start(&self, is_starters: bool) -> Self {
        if is_starters {
            return *self;
        }
        Self {
            ends: self.ends.reversed(),
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            ports: Ports {
                source: self.ports.destination,
                destination: self.ports.source,
            },
        }
    }
}

/// What a flow has shown once a packet of it has passed.
fn next_phase(phase: Phase, content: &Content, is_starters: bool) -> Phase {
    match (phase, content) {
        (_, Content::Tcp { flags, .. }) if flags & flags::RST != 0 => Phase::Reset,
        (Phase::Reset, _) => Phase::Reset,
        (_, Content::Tcp { flags, .. }) if flags & flags::FIN != 0 => Phase::Closing,
        _ => phase.after_ordinary(is_starters),
    }
}
