//! The programs of the host that a configuration needs, checked before any of them runs.

use super::{SystemError, dns, firewall, program};
use crate::config::{Config, Hooks};

/// What `config` takes and this host lacks, a half sentence each with its remedy.
pub fn missing_programs(config: &Config) -> Vec<String> {
    let leads_around = config.routes_around(&[]).next().is_some();
    let rules = firewall::Rules::of(config, config.mark(&[]), leads_around);
    let failures = [
        dns::choose(&config.host.dns).err(),
        firewall::choose(config, &rules).err(),
    ];
    let texts = failures.iter().flatten().map(SystemError::to_string);
    texts.chain(missing_shell(&config.hooks)).collect()
}

/// Why no firewall rules of ours can be made on this host, a half sentence.
pub fn firewall_lack(config: &Config) -> Option<String> {
    firewall::choose_late(config).err()
}

/// Without its shell no hook runs, and what one was to protect isn't.
fn missing_shell(hooks: &Hooks) -> Option<String> {
    let shell = hooks.shell.program();
    let any = [
        &hooks.before_up,
        &hooks.on_up,
        &hooks.on_down,
        &hooks.after_down,
        &hooks.on_peer_up,
        &hooks.on_peer_down,
        &hooks.on_peer_refused,
        &hooks.on_peer_allowed,
    ];
    let wanted = any.iter().any(|commands| !commands.is_empty());
    (wanted && program::find(shell).is_none()).then(|| {
        format!("interface.shell: no hook will run, as {shell} isn't installed; install it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PrivateKey;

    #[test]
    fn a_file_that_takes_nothing_lacks_nothing() {
        let config = Config::plain("hub", PrivateKey::from_bytes([7; 32]));
        assert!(missing_programs(&config).is_empty());
    }
}
