//! From a file, or flags, or both, to a checked configuration.

use std::path::Path;

use zeroize::Zeroizing;

use super::draft::Draft;
use super::error::{ConfigError, Spot, line_after};
use super::{Config, Mode, Overrides, permissions, rules};

/// A configuration that can be used, and what is odd about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each, naming the place as errors do.
    pub warnings: Vec<String>,
    /// What was decided where the file doesn't say, and whoever comes from another version
    /// may miss; a line each.
    pub notes: Vec<String>,
}

/// Reads and checks the file at `path`. Nothing but files is touched.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    load_with(Some(path), &Overrides::default())
}

/// Reads the file at `path`, if one is given, applies `overrides` and checks the outcome.
pub fn load_with(path: Option<&Path>, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let mut draft = match path {
        Some(path) => read(path)?,
        None => Draft::empty(Spot::flag("command line")),
    };
    overrides.apply(&mut draft)?;
    finish(draft)
}

/// Checks `text` as the contents of a file called `file`; a `private_key_file` in it is
/// looked for beside that file.
pub fn parse(text: &str, file: &str) -> Result<Loaded, ConfigError> {
    finish(Draft::from_toml(text, file)?)
}

fn read(path: &Path) -> Result<Draft, ConfigError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map(Zeroizing::new).map_err(|error| {
        Spot::file(&file).error(format!(
            "cannot read the configuration: {error}; name another file with --config"
        ))
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = line_after(&bytes[..error.valid_up_to()]);
        Spot::line(&file, line, "").error("not UTF-8 text, as TOML must be")
    })?;
    let mut draft = Draft::from_toml(text, &file)?;
    draft.warnings.extend(permissions::warning(path));
    Ok(draft)
}

fn finish(draft: Draft) -> Result<Loaded, ConfigError> {
    let spot = draft.spot.clone();
    let is_unnamed = draft.tun_name.is_none();
    let (config, mut warnings) = rules::check(draft)?;
    if config.interface.mode == Mode::Server && config.peers.is_empty() {
        warnings.push(spot.sibling("interface.mode").say(
            "mode is server, and there are no peers: nobody can connect; add [[peers]], each \
             with its public_key",
        ));
    }
    let mut notes = Vec::new();
    if is_unnamed {
        let name = &config.interface.tun_name;
        notes.push(spot.sibling("interface.tun_name").say(format!(
            "not given, so the interface is called {name} (it was tun0 with the Go version)"
        )));
    }
    Ok(Loaded {
        config,
        warnings,
        notes,
    })
}
