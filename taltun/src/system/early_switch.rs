//! A kill switch that closes before its tunnel starts, such as at boot before the network.
//!
//! It is what a tunnel leaves that was killed: rules, and a journal that tells of them. So the start
//! takes it over, `taltun status` shows it and `taltun undo` opens it.

use std::path::Path;

use super::host;
use super::journal::Journal;
use super::predecessor::Left;
use super::{SystemError, check, firewall};
use crate::config::Config;

/// Closes the kill switch of `config`, whose tunnel doesn't run. `directory` is where to remember
/// it, `start` the command that starts the tunnel.
///
/// # Errors
/// What was there before still stands.
pub async fn close_kill_switch(
    config: &Config,
    directory: &Path,
    start: String,
) -> Result<(), SystemError> {
    if !check::may_administer() {
        return Err(SystemError::NotPermitted);
    }
    let name = &config.interface.tun_name;
    let left = Left::find(directory, name).await?.journal;
    let before = left.as_ref().and_then(|journal| journal.mark);
    // Names can't be looked up yet; the default routes, which it takes, decide without them.
    let mark = host::mark(config, &[], before).await?;
    let rules = firewall::Rules::of(config, mark, true);
    let Some(tool) = firewall::choose(config, &rules)? else {
        return Err(SystemError::Firewall(
            "interface.firewall = \"none\" leaves nothing to close it with".into(),
        ));
    };
    let was_there = left.is_some();
    let old = left.unwrap_or_else(|| Journal::new(name));
    let new = Journal {
        mark,
        firewall: Some(tool),
        kill_switch: true,
        start,
        ..old.clone()
    };
    let refused = |reason| SystemError::Refused {
        action: format!(
            "write {}",
            Journal::path(directory, name, new.namespace).display()
        ),
        reason,
    };
    new.write(directory).map_err(refused)?;
    if let Err(error) = firewall::apply(tool, &rules).await {
        let restored = if was_there {
            old.write(directory)
        } else {
            new.remove(directory);
            Ok(())
        };
        restored.map_err(refused)?;
        return Err(error);
    }
    match old.firewall {
        Some(other) if other != tool => firewall::remove(other, name).await,
        _ => Ok(()),
    }
}
