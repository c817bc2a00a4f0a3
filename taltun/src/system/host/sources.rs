//! Keeps machines beside the tunnel from sending into it in the name of a peer or of this host.

use super::Host;
use crate::config::Config;
use crate::system::firewall::Sources;

impl Host {
    /// Has what this host forwards into the tunnel come from none of `sources`, nor from an
    /// address of its own; `None` lets everything pass.
    ///
    /// # Errors
    /// Rules are as they were. The reason is a sentence.
    pub async fn refuse_sources(
        &mut self,
        config: &Config,
        sources: Option<Sources>,
    ) -> Result<(), String> {
        let rules = self.rules.with_sources(sources);
        if rules == self.rules {
            return Ok(());
        }
        if self.predecessor.is_some() {
            return Err("an earlier process's kill switch isn't replaced yet".into());
        }
        self.change_rules(config, rules).await
    }
}
