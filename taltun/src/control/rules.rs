//! The rules of the file, compiled for the workers. They depend on the file and on the addresses
//! that this host has by now.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use taltun_policy::flows::Ticks;
use taltun_policy::{Judge, RuleSet, World};
use tracing::error;

use crate::config::{Action, Config, Policy};
use crate::dataplane::clock;
use crate::dataplane::rules::{Decisions, Held, Rules};
use crate::report::{DefaultStatus, PolicyStatus, RuleAction, RuleStatus};

/// Flows that are known at once, 16 bytes each. A hub of some thousand users has so many.
const FLOWS: usize = 1 << 18;

/// The rules, as they were last compiled.
#[derive(Debug, Default)]
pub(super) struct FiledRules {
    rules: Arc<Rules>,
    compiled: Option<(Policy, World)>,
}

impl FiledRules {
    /// What the workers hold packets to.
    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Compiles the rules of a file, if anything has changed that they depend on. `own` are the
    /// addresses of this host, as far as they are known.
    pub(super) fn follow(&mut self, config: &Config, own: &[IpAddr], relays: bool) {
        let policy = &config.policy;
        if !policy.is_any() {
            self.compiled = None;
            if self.rules.held().is_some() {
                self.rules.set(None);
            }
            return;
        }
        let mut hub: Vec<IpAddr> = config
            .interface
            .vip
            .iter()
            .map(ipnet::IpNet::addr)
            .collect();
        hub.extend(own.iter().map(IpAddr::to_canonical));
        hub.sort_unstable();
        hub.dedup();
        let world = World {
            hub,
            kernel_relays: !relays,
        };
        if let Some((compiled, before)) = &self.compiled
            && compiled == policy
            && *before == world
        {
            return;
        }
        let set = RuleSet::compile(&policy.to_compile(), &world);
        let held = self.rules.held();
        let judge = match &held {
            Some(held) => held.judge().with_rules(set),
            None => Judge::new(set, secret(), FLOWS),
        };
        let same_rules = self.compiled.as_ref().is_some_and(|(old, _)| old == policy);
        let new = Held::new(judge, policy.all_origins());
        if let Some(held) = held.filter(|_| same_rules) {
            new.go_on_from(&held);
        }
        self.rules.set(Some(new));
        self.compiled = Some((policy.clone(), world));
    }

    /// What `status` tells.
    pub(super) fn status(&self) -> Option<PolicyStatus> {
        let held = self.rules.held()?;
        let (policy, _) = self.compiled.as_ref()?;
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
            flows: flows.count(now) as u64,
            flows_max: flows.capacity() as u64,
            flows_displaced: flows.displaced(),
        })
    }
}

/// What makes flows unpredictable.
fn secret() -> [u64; 2] {
    let mut secret = [0; 16];
    if let Err(reason) = getrandom::fill(&mut secret) {
        // Asked for at the start, and there then.
        error!("no randomness for the table of flows: {reason}");
    }
    let (first, second) = secret.split_at(8);
    [first, second].map(|half| {
        half.iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    })
}
