//! Runs a tunnel from its configuration until told to stop.

use std::path::PathBuf;

use crate::config::Config;

/// Runs `config` until SIGINT or SIGTERM. `path` is the file it came from, if there is
/// one, for `reload`.
pub async fn run(config: Config, path: Option<PathBuf>) -> anyhow::Result<()> {
    let _ = (config, path);
    anyhow::bail!("the engine is not built yet")
}
