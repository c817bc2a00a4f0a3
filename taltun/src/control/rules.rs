//! The rules of the file, for the workers. They depend on the file and on the addresses
//! that this host has by now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use ipnet::IpNet;
use taltun_common::drops::DropReason;
use taltun_policy::flows::Ticks;
use taltun_policy::{Judge, RuleSet, World};

use crate::accel::Shield;
use crate::config::{Action, Config, Policy};
use crate::dataplane::clock;
use crate::dataplane::rules::{Decisions, Held, Rules};
use crate::protocol::device::Device;
use crate::report::{DefaultStatus, PolicyStatus, RuleAction, RuleStatus};

/// Flows that are known at once, 16 bytes each. A hub of some thousand users has so many.
const FLOWS: usize = 1 << 18;

/// The rules, as the workers have them.
#[derive(Debug)]
pub(super) struct FiledRules {
    rules: Arc<Rules>,
    /// What makes flows unpredictable.
    secret: [u64; 2],
    followed: Option<Followed>,
}

/// What the workers' rules were made of.
#[derive(Debug)]
struct Followed {
    policy: Policy,
    world: World,
}

impl FiledRules {
    /// Without any yet. It needs randomness, without which flows could be foreseen.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut secret = [0; 2];
        for half in &mut secret {
            *half = getrandom::u64()
                .map_err(|error| anyhow!("no randomness for the table of flows: {error}"))?;
        }
        Ok(Self {
            rules: Arc::default(),
            secret,
            followed: None,
        })
    }

    /// What the workers hold packets to.
    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Takes over the rules of a file, if anything has changed that they depend on. `own` are the
    /// addresses of this host, as far as they are known.
    ///
    /// The file's rules are compared if they were read again; otherwise the addresses alone.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        own: &[IpAddr],
        relays: bool,
        shield: &mut Shield,
    ) {
        let policy = &config.policy;
        if !policy.is_any() {
            if self.followed.take().is_some() {
                shield.open_all();
                self.rules.set(None);
            }
            return;
        }
        let compiled = policy.compiled();
        let world = world(config, own, relays);
        let mut same_rules = false;
        if let Some(followed) = &mut self.followed {
            same_rules = Arc::ptr_eq(followed.policy.compiled(), compiled);
            if same_rules && followed.world == world {
                return;
            }
            same_rules = same_rules || followed.policy == *policy;
        }
        let set = RuleSet::new(Arc::clone(compiled), world.clone());
        let held = self.rules.held();
        let judge = match &held {
            Some(held) => held.judge().with_rules(set),
            None => Judge::new(set, self.secret, FLOWS),
        };
        let new = Held::new(judge, policy.all_origins());
        if let Some(held) = held.filter(|_| same_rules) {
            new.go_on_from(&held);
        }
        shield.open_all();
        self.rules.set(Some(new));
        self.followed = Some(Followed {
            policy: policy.clone(),
            world,
        });
    }

    /// The networks of peers with which these rules let nobody on this host or behind it start a
    /// TCP connection.
    pub(super) fn closed(&self, device: &Device) -> BTreeSet<IpNet> {
        match self.rules.held() {
            Some(held) => held.judge().rules().closed_to_host(&device.owners()),
            None => BTreeSet::new(),
        }
    }

    /// What `status` tells.
    pub(super) fn status(&self, shield: &Shield) -> Option<PolicyStatus> {
        let held = self.rules.held()?;
        let policy = &self.followed.as_ref()?.policy;
        let now = Ticks::since_start(Duration::from_nanos(clock::now().as_nanos()));
        let flows = held.judge().flows();
        let mut rules = Vec::new();
        let mut by_default = DefaultStatus::default();
        for (origin, Decisions { allowed, denied }) in held.decisions() {
            match origin {
                Some(origin) => rules.push(RuleStatus {
                    origin: origin.to_owned(),
                    allowed,
                    denied,
                }),
                None => by_default = DefaultStatus { allowed, denied },
            }
        }
        Some(PolicyStatus {
            default: match policy.default {
                Action::Allow => RuleAction::Allow,
                Action::Deny => RuleAction::Deny,
            },
            by_default,
            rules,
            denied_by_tc: shield.drops()[DropReason::Rule],
            flows: flows.count(now) as u64,
            flows_max: flows.capacity() as u64,
            flows_displaced: flows.displaced(),
        })
    }
}

/// What the hub is, with these addresses beside those inside the tunnel.
fn world(config: &Config, own: &[IpAddr], relays: bool) -> World {
    let vips = config.interface.vip.iter().map(IpNet::addr);
    let mut hub: Vec<IpAddr> = vips.chain(own.iter().map(IpAddr::to_canonical)).collect();
    hub.sort_unstable();
    hub.dedup();
    World {
        hub,
        kernel_relays: !relays,
    }
}
