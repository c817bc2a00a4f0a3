//! The programs of the host that a configuration takes, before anything is done with them.

use super::{SystemError, dns, firewall};
use crate::config::Config;

/// What `config` takes and this host lacks, a half sentence each with its remedy.
pub fn missing_programs(config: &Config) -> Vec<String> {
    let leads_around = config.routes_around(&[]).next().is_some();
    let rules = firewall::Rules::of(config, config.mark(&[]), leads_around);
    let failures = [
        dns::choose(&config.host.dns).err(),
        firewall::choose(config, &rules).err(),
    ];
    let texts = failures.iter().flatten().map(SystemError::to_string);
    texts.collect()
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
