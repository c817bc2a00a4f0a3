//! From a file, or flags, or both, to a checked configuration.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use taltun_usage::Day;
use zeroize::Zeroizing;

use super::document::{Document, MOST_MISTAKES};
use super::draft::Draft;
use super::error::{ConfigError, Spot, line_after};
use super::keys::interface::ASSUMED_MTU;
use super::pieces::{PIECE, Pieces};
use super::{Config, Interface, Mode, Overrides, file, limits, permissions, read, rules};
use crate::crypto::PrivateKey;

/// The largest configuration, bytes: a million peers are in less.
const LARGEST: u64 = 512 << 20;
/// Files from this size on are read in pieces, bytes.
const LARGE: usize = 64 * 1024;

/// A configuration that can be used, and what is odd about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each, naming the place as errors do.
    pub warnings: Vec<String>,
    /// Those of them that are about days that are past: a mistake when the file was written just
    /// now, and none when it was written before.
    pub past: Vec<String>,
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
    let Some(path) = path else {
        let file = "command line";
        let mut draft = read::draft(&Document::parse("", file)?, file)?;
        overrides.apply(&mut draft)?;
        return finish(draft);
    };
    load_text(path, &read_text(path)?, overrides)
}

/// The text of the file at `path`.
pub(super) fn read_text(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let file = path.display().to_string();
    let mut bytes = file::read(path, LARGEST).map_err(|error| {
        Spot::file(&file).error(format!(
            "cannot read the configuration: {error}; name another file with --config"
        ))
    })?;
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            let valid_up_to = error.utf8_error().valid_up_to();
            let bytes = Zeroizing::new(error.into_bytes());
            let line = line_after(bytes.get(..valid_up_to).unwrap_or_default());
            Err(Spot::line(&file, line, "").error("not UTF-8 text, as TOML must be"))
        }
    }
}

/// The same as [`load_with`], of a text that is, or will be, in the file at `path`.
pub fn load_text(path: &Path, text: &str, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let mut loaded = check(text, &path.display().to_string(), |draft| {
        if draft.has_secret {
            draft.warnings.extend(permissions::warning(path));
        }
        overrides.apply(draft)
    })?;
    if let Some(fleet) = &mut loaded.config.fleet {
        fleet.text = Arc::new(Zeroizing::new(text.to_owned()));
    }
    Ok(loaded)
}

/// Checks `text` as the contents of a file called `file`; a `private_key_file` in it is
/// looked for beside that file.
pub fn parse(text: &str, file: &str) -> Result<Loaded, ConfigError> {
    check(text, file, |_| Ok(()))
}

impl Config {
    /// The configuration of an interface that is made by name alone, as `wireguard-go`
    /// makes it: nothing is known of it yet but a key that nobody else will ever know.
    pub fn plain(tun_name: &str, private_key: PrivateKey) -> Self {
        let file = "defaults";
        let draft = Document::parse("", file).and_then(|empty| read::draft(&empty, file));
        let draft = draft.expect("a file with nothing in it can be read, as the tests do");
        Self {
            interface: Interface {
                mode: Mode::Server,
                tun_name: tun_name.to_owned(),
                vip: Vec::new(),
                local_addr: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                private_key,
                mtu: ASSUMED_MTU,
                mtu_is_default: true,
                routes: Vec::new(),
                debug: draft.debug,
            },
            peers: Vec::new(),
            accel: draft.accel,
            dataplane: draft.dataplane,
            host: draft.host,
            hooks: draft.hooks,
            dns_routes: None,
            names: None,
            udpgw: None,
            metrics: None,
            web: None,
            fleet: None,
            hop: draft.hop,
            policy: super::Policy::default(),
            forwards: Vec::new(),
            usage: draft.usage,
            audit: draft.audit,
            shaping: super::Shaping::default(),
        }
    }
}

/// Settings that are wrong by themselves only if another is right: the first may need what the
/// second says.
const DEPENDS: &[(&str, &str)] = &[
    ("interface.private_key", "interface.private_key_file"),
    ("interface.kill_switch", "interface.routes"),
    ("nat.out", "nat.masquerade"),
    ("peers.endpoint", "hop.port_range"),
    ("peers.endpoints", "hop.port_range"),
    ("peers.rate_down", "shaping.uplink"),
];

/// Reads and checks `text`, changing what is read by `change`.
fn check(
    text: &str,
    file: &str,
    change: impl Fn(&mut Draft) -> Result<(), ConfigError>,
) -> Result<Loaded, ConfigError> {
    if text.len() >= LARGE
        && let Some(loaded) = in_pieces(text, file, PIECE, &change)
    {
        return Ok(loaded);
    }
    whole(text, file, change)
}

/// Reads and checks `text` as a whole. After a mistake it is read again as if that weren't there,
/// so that all of them are told at once; what only comes of another mistake isn't told.
pub(super) fn whole(
    text: &str,
    file: &str,
    change: impl Fn(&mut Draft) -> Result<(), ConfigError>,
) -> Result<Loaded, ConfigError> {
    let mut document = Document::parse(text, file)?;
    let mut errors: Vec<ConfigError> = Vec::new();
    // Each round reads past one mistake, or past a section that lacks what was one.
    for _ in 0..2 * MOST_MISTAKES {
        let outcome = read::draft(&document, file).and_then(|mut draft| {
            change(&mut draft)?;
            draft.told = errors.iter().map(ConfigError::key_meant).collect();
            finish(draft)
        });
        let error = match outcome {
            Ok(loaded) if errors.is_empty() => return Ok(loaded),
            Ok(_) => break,
            Err(error) => error,
        };
        let spot = error.spot().clone();
        document.ignore(&spot);
        let key = spot.full_key();
        let is_known = |known: &ConfigError| {
            let (other, line) = (known.key_meant(), known.spot().number());
            // What is read past is missing where its section begins.
            let leaves_a_gap = error.is_missing()
                && ((other == key && line > spot.number())
                    || key
                        .strip_prefix(&other)
                        .is_some_and(|rest| rest.starts_with('.')));
            let depends = DEPENDS.contains(&(key.as_str(), other.as_str()));
            *known == error || leaves_a_gap || depends
        };
        let comes_of_another = errors.iter().any(is_known);
        // A peer that isn't read can't be found either.
        let names_peer = ["via", "to"].contains(&spot.key());
        let misses_peer =
            names_peer && errors.iter().any(|error| error.spot().section() == "peers");
        if misses_peer || (comes_of_another && spot.section() != "peers") {
            break;
        }
        if !comes_of_another {
            errors.push(error);
        }
        if errors.len() == MOST_MISTAKES {
            break;
        }
    }
    Err(ConfigError::all(errors).unwrap_or_else(|| {
        // Not reached: a round without mistakes returns.
        Spot::file(file).error("not understood")
    }))
}

/// Reads and checks `text` in pieces of at least `piece` bytes; `None` if there is a mistake in it
/// or it can't be read so: then it is read as a whole, which finds all that is to be said.
pub(super) fn in_pieces(
    text: &str,
    file: &str,
    piece: usize,
    change: impl Fn(&mut Draft) -> Result<(), ConfigError>,
) -> Option<Loaded> {
    let document = Document::in_pieces(text, file, Pieces::of(text, "peers", piece)?)?;
    let mut draft = read::draft(&document, file).ok()?;
    change(&mut draft).ok()?;
    finish(draft).ok()
}

fn finish(draft: Draft) -> Result<Loaded, ConfigError> {
    let spot = draft.spot.clone();
    let is_unnamed = !draft.is_named;
    let today = Day::at(UNIX_EPOCH.elapsed().unwrap_or_default());
    let past = limits::past(&draft.peers, today);
    let (config, mut warnings) = rules::check(draft)?;
    warnings.extend_from_slice(&past);
    let has_no_peers = config.peers.is_empty() && config.fleet.is_none();
    if config.interface.mode == Mode::Server && has_no_peers {
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
        past,
        notes,
    })
}
