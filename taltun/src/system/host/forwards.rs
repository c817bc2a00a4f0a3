//! `[[forward]]` on the host: rules that lead ports to peers, and what lets it pass packets on.

use tracing::warn;

use super::Host;
use crate::config::{Config, Forward};
use crate::system::firewall::{self, FirewallTool};
use crate::system::sysctl;

impl Host {
    /// Has these ports lead to peers, and no others. Says what tool the rules are made with.
    ///
    /// # Errors
    /// Rules are as they were. The reason is a sentence.
    pub async fn forward_ports(
        &mut self,
        config: &Config,
        forwards: &[Forward],
    ) -> Result<Option<&'static str>, String> {
        let rules = self.rules.with_forwards(forwards);
        if rules != self.rules {
            if self.predecessor.is_some() {
                return Err("an earlier process's kill switch isn't replaced yet".into());
            }
            self.pass_on(config)?;
            let is_new = !self.rules.has_forwards() && rules.has_forwards();
            self.change_rules(config, rules).await?;
            if is_new {
                firewall::warn_of_others(config).await;
            }
        }
        let tool = self.firewall.filter(|_| self.rules.has_forwards());
        Ok(tool.map(FirewallTool::word))
    }

    /// Has the host pass packets on where `config` wants it by now. Where nobody wants it any more
    /// it isn't kept up, and stays as it is: others may rely on it.
    fn pass_on(&mut self, config: &Config) -> Result<(), String> {
        let mut wanted = sysctl::forwarding(config);
        self.settings
            .retain(|name, _| wanted.contains_key(name) || !sysctl::is_forwarding(name));
        wanted.retain(|name, _| !self.settings.contains_key(name));
        if wanted.is_empty() {
            return Ok(());
        }
        let before = sysctl::before(&wanted);
        for (name, value) in &before {
            // What an earlier wish of ours has found is what there was.
            let known = self.journal.settings.entry(name.clone());
            known.or_insert_with(|| value.clone());
        }
        let outcome = self
            .remember()
            .and_then(|()| sysctl::set(&wanted, &before))
            .map_err(|error| error.to_string());
        match &outcome {
            Ok(()) => self.settings.extend(wanted),
            Err(error) => warn!("{error}"),
        }
        self.tell_keeper();
        outcome
    }
}
