//! Whom the words of groups and rules mean.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use taltun_policy::groups::{Cycle, Groups};
use taltun_policy::idle::{Idle, Reason};
use taltun_policy::{Owners, Party, Rule, RuleSet, Service, Side, World};

use super::draft::{Draft, GroupDraft, PeerDraft, PolicyDraft, Written};
use super::error::ConfigError;
use super::{Action, Policy, suggest, values};
use crate::crypto::PublicKey;
use crate::protocol::allowed_ips::AllowedIps;

/// Words that stand for no name.
const EVERYBODY: &str = "any";
use super::names::HUB;
/// How many rules are named that have the same fault.
const MOST_OF_A_KIND: usize = 100;
/// The port of name servers.
const DNS: u16 = 53;

/// `[policy]` with its groups and rules, all names found.
pub(super) fn finish(draft: &mut Draft) -> Result<Policy, ConfigError> {
    let PolicyDraft {
        section,
        groups,
        rules,
    } = &mut draft.policy;
    let (groups, rules) = (std::mem::take(groups), std::mem::take(rules));
    let unread: Vec<&str> = draft
        .told
        .iter()
        .filter_map(|told| told.strip_prefix("groups."))
        .collect();
    let mut names = Names::of(&draft.peers, &groups, &unread)?;
    names.may_come = draft.fleet.is_some();
    let names = names;
    let members = groups.iter().map(|group| names.parties(&group.members));
    let mut members: Vec<Vec<Party>> = members.collect::<Result<_, _>>()?;
    members.extend(unread.iter().map(|_| Vec::new()));
    let mut policy = Policy {
        groups: grouped(&groups, members)?,
        ..section.clone()
    };
    for rule in rules {
        policy.rules.push(Rule {
            from: names.parties(&rule.from)?,
            to: names.parties(&rule.to)?,
            services: rule.services,
            action: rule.action,
            log: rule.log,
        });
        policy.origins.push(rule.spot.origin());
    }
    Ok(policy)
}

/// Lets everybody ask the resolver of that `section`, which listens on `vip`, unless a rule of the
/// file denies it: it comes after all of these.
pub(super) fn allow_resolver(policy: &mut Policy, section: &str, vip: &[Written<IpNet>]) {
    if !policy.is_any() {
        return;
    }
    let vips = vip.iter().map(|vip| IpNet::from(vip.value.addr()));
    let rule = Rule {
        from: vec![Party::Any],
        to: vips.map(Party::Net).collect(),
        services: vec![Service::Udp(DNS, DNS), Service::Tcp(DNS, DNS)],
        action: Action::Allow,
        log: false,
    };
    policy.implied.push((rule, section.to_owned()));
}

/// Warns of networks that aren't written as what they are.
pub(super) fn written_otherwise(draft: &Draft) -> Vec<String> {
    let PolicyDraft { groups, rules, .. } = &draft.policy;
    let members = groups.iter().flat_map(|group| &group.members);
    let sides = rules
        .iter()
        .flat_map(|rule| rule.from.iter().chain(&rule.to));
    let warning = |Written { value, spot }: &Written<String>| match values::network(value) {
        Ok((net, true)) => Some(spot.say(format!("{value} is taken as {net}"))),
        _ => None,
    };
    members.chain(sides).filter_map(warning).collect()
}

/// Warns of rules without effect: that can never decide, or that allow what passes without them.
pub(super) fn without_effect(policy: &Policy, draft: &Draft) -> Vec<String> {
    if policy.rules.is_empty() {
        return Vec::new();
    }
    let owners = Owned::of(&draft.peers);
    let networks: Vec<IpNet> = draft.peers.iter().flat_map(networks).collect();
    let Idle {
        never,
        too_many,
        mut allowed_anyway,
    } = rules(policy, draft).idle(&networks, &owners);
    let never = never.iter().filter_map(|(rule, reason)| {
        let origin = policy.origins.get(*rule)?;
        let reason = match reason {
            Reason::Before => "those before it do",
            Reason::Families => "nothing goes from IPv4 to IPv6 or back, nor ICMP of the other one",
            Reason::Nobody => "nothing goes through the tunnel from and to those that it names",
        };
        Some(format!(
            "{origin}: rules: this rule never decides: {reason}"
        ))
    });
    let mut warnings = at_most(never.collect(), "never decide");
    if let (true, Some(origin)) = (too_many, policy.origins.first()) {
        warnings.push(format!(
            "{origin}: rules: nobody has looked for rules that never decide: there are too many \
             rules, peers and services for that"
        ));
    }
    // The last ones may be those of other sections.
    allowed_anyway.retain(|rule| *rule < policy.rules.len());
    let denies = |rule: &Rule| rule.action == Action::Deny;
    let origins = allowed_anyway
        .iter()
        .filter_map(|rule| policy.origins.get(*rule));
    if let (Some(origin), false) = (origins.clone().next(), policy.rules.iter().any(denies)) {
        warnings.push(format!(
            "{origin}: rules: no rule denies anything, and [policy] default = \"allow\" lets \
             everything pass: rules that allow something limit nobody; set default = \"deny\""
        ));
        return warnings;
    }
    let anyway = origins.map(|origin| {
        format!(
            "{origin}: rules: this rule changes nothing: [policy] default = \"allow\" lets pass \
             what it allows, and no rule after it denies any of that; leave it out, or set \
             default = \"deny\""
        )
    });
    warnings.extend(at_most(anyway.collect(), "change nothing"));
    warnings
}

/// Warnings of one kind, of which very many would hide all others; the last says how many more
/// rules do `what`.
fn at_most(mut warnings: Vec<String>, what: &str) -> Vec<String> {
    let more = warnings.len().saturating_sub(MOST_OF_A_KIND);
    if more > 0 {
        warnings.truncate(MOST_OF_A_KIND);
        warnings.push(format!("rules: {more} more {what}"));
    }
    warnings
}

/// The rules for the hub that this file describes.
pub(super) fn rules(policy: &Policy, draft: &Draft) -> RuleSet {
    let world = World {
        hub: draft.vip.iter().map(|vip| vip.value.addr()).collect(),
        kernel_relays: !draft.host.relays(draft.mode),
    };
    RuleSet::new(Arc::clone(policy.compiled()), world)
}

/// All that a peer has.
pub(super) fn networks(peer: &PeerDraft) -> impl Iterator<Item = IpNet> {
    let vips = peer.vip.iter().map(|vip| IpNet::from(vip.value));
    vips.chain(peer.allowed_ips.iter().map(|net| net.value))
}

/// Whose the addresses of the peers are.
#[derive(Default)]
pub(super) struct Owned(AllowedIps<PublicKey>);

impl Owned {
    pub(super) fn of(peers: &[PeerDraft]) -> Self {
        let mut owned = Self::default();
        for peer in peers {
            for net in networks(peer) {
                owned.0.insert(net, peer.public_key.value);
            }
        }
        owned
    }

    /// Whose an address is by a network that isn't everywhere.
    pub(super) fn of_network(&self, address: IpAddr) -> Option<PublicKey> {
        let found = self.0.lookup(address).filter(|found| found.prefix_len > 0);
        found.map(|found| *found.value)
    }
}

impl Owners for Owned {
    fn owner(&self, _: Side, address: IpAddr) -> Option<PublicKey> {
        Some(*self.0.lookup(address)?.value)
    }
}

/// Who is called what.
struct Names<'d> {
    groups: HashMap<&'d str, usize>,
    /// The peers with a name; several are a mistake only if a rule uses it.
    peers: HashMap<&'d str, Vec<PublicKey>>,
    keys: HashSet<PublicKey>,
    /// Whether who isn't there may come from the fleet, or was there.
    may_come: bool,
}

/// Nobody's key: no private key belongs to it.
const NOBODY: PublicKey = PublicKey([0; 32]);

impl<'d> Names<'d> {
    /// A group that isn't read, as there is a mistake in it that is told already, is known by its
    /// name all the same.
    fn of(
        peers: &'d [PeerDraft],
        groups: &'d [GroupDraft],
        unread: &[&'d str],
    ) -> Result<Self, ConfigError> {
        let mut named: HashMap<&str, Vec<PublicKey>> = HashMap::new();
        for peer in peers {
            if let Some(name) = &peer.name {
                named.entry(name).or_default().push(peer.public_key.value);
            }
        }
        for GroupDraft { name, .. } in groups {
            let Written { value, spot } = name;
            if [EVERYBODY, HUB].contains(&value.as_str()) {
                return Err(spot.error(format!(
                    "{value:?} means the same in all files; give the group another name"
                )));
            }
            if named.contains_key(value.as_str()) {
                return Err(
                    spot.error("a peer is called that, too; give one of the two another name")
                );
            }
            if network(value).is_some() {
                return Err(spot.error("that is a network; give the group a name"));
            }
        }
        let groups = groups.iter().map(|group| group.name.value.as_str());
        let groups = groups.chain(unread.iter().copied()).enumerate();
        Ok(Self {
            groups: groups.map(|(place, name)| (name, place)).collect(),
            peers: named,
            keys: peers.iter().map(|peer| peer.public_key.value).collect(),
            may_come: false,
        })
    }

    fn parties(&self, words: &[Written<String>]) -> Result<Vec<Party>, ConfigError> {
        let parties = words
            .iter()
            .map(|Written { value, spot }| self.party(value).map_err(|reason| spot.error(reason)));
        parties.collect()
    }

    fn party(&self, word: &str) -> Result<Party, String> {
        let peers = self.peers.get(word).map_or(&[][..], Vec::as_slice);
        if word == EVERYBODY || word == HUB {
            if !peers.is_empty() {
                return Err(format!(
                    "{word:?} doesn't mean the peer of that name here; give that another name, or \
                     its public key here"
                ));
            }
            return Ok(if word == HUB { Party::Hub } else { Party::Any });
        }
        if let Some(group) = self.groups.get(word) {
            return Ok(Party::Group(*group));
        }
        match peers {
            [peer] => return Ok(Party::Peer(*peer)),
            [] => {}
            several => {
                return Err(format!(
                    "{} peers are called {word:?}; give the public key of one",
                    several.len()
                ));
            }
        }
        if let Some(net) = network(word) {
            return Ok(Party::Net(net));
        }
        if let Ok(key) = word.parse::<PublicKey>() {
            if self.keys.contains(&key) || self.may_come {
                return Ok(Party::Peer(key));
            }
            return Err(format!("no peer has the key {word}"));
        }
        // A file that is right stays so when a peer of the fleet goes.
        if self.may_come && values::label(word).is_ok() {
            return Ok(Party::Peer(NOBODY));
        }
        let names = self.groups.keys().chain(self.peers.keys()).copied();
        let mut known: Vec<&str> = names.chain([EVERYBODY, HUB]).collect();
        known.sort_unstable();
        let hint = match suggest::nearest(word, &known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "write the name or the public key of one of [[peers]], one of [groups], a \
                     network, \"hub\" or \"any\""
                .to_owned(),
        };
        Err(format!("there is nobody called {word:?}; {hint}"))
    }
}

fn network(word: &str) -> Option<IpNet> {
    let (net, _) = values::network(word).ok()?;
    Some(net)
}

/// Groups with these members, of which none may be in itself.
fn grouped(drafts: &[GroupDraft], members: Vec<Vec<Party>>) -> Result<Groups, ConfigError> {
    Groups::new(members).map_err(|Cycle { group, by }| {
        let called = |group: usize| drafts.get(group).map(|group| &group.name);
        let Some(Written { value: name, spot }) = called(group) else {
            unreachable!("only groups of the file have members");
        };
        spot.error(if by == group {
            format!("the group {name:?} is a member of itself; leave it out there")
        } else {
            let by = called(by).map_or("", |by| &by.value);
            format!(
                "the group {name:?} is a member of itself, by way of {by:?}; leave it out of one \
                 of the two"
            )
        })
    })
}
