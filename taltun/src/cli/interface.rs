//! `taltun interface NAME`, and `taltun IFACE`

use std::cell::Cell;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::failure::Failure;
use super::{logging, output, secret};
use crate::config::{self, Config};
use crate::control::{self, Origin, TunnelKind};
use crate::crypto::PrivateKey;
use crate::os;
use crate::system::{self, Fork, SystemError};

/// What the command is called.
pub(super) const BY_NAME: &str = "interface";

/// Make an interface for wg and wg-quick, and serve it in the background.
///
/// A drop-in for wireguard-go: the interface has no key, no peers and no addresses until `wg`
/// and `ip` give it some, which is what wg-quick does. It ends when somebody deletes the interface
/// or its socket in /var/run/wireguard. `LOG_LEVEL` (silent, error, verbose) sets what is logged;
/// with it the log stays on standard error. Programs that expect wireguard-go may leave out the
/// word `interface`: `taltun wg0`, `taltun -f NAME`.
#[derive(Args)]
pub(super) struct Interface {
    /// Stay in the foreground.
    #[arg(long, short)]
    foreground: bool,

    /// The interface to make.
    #[arg(value_name = "IFACE")]
    name: String,
}

impl Interface {
    pub(super) fn run(self) -> Result<(), Failure> {
        config::interface_name(&self.name).map_err(Failure::Usage)?;
        let asked = std::env::var("LOG_LEVEL").ok();
        let level = asked.as_deref().map(log_level);
        if self.foreground {
            logging::start_at(level.unwrap_or(LevelFilter::INFO));
            return self.serve(|| Ok(()));
        }
        let forked = system::fork();
        let forked =
            forked.map_err(|error| Failure::Other(format!("cannot go to the background: {error}")));
        let ready = match forked? {
            Fork::Parent(waiting) => {
                let child = waiting.child();
                waiting.wait().map_err(|reason| {
                    Failure::Other(if reason.is_empty() {
                        "the process in the background ended before it was up".into()
                    } else {
                        reason
                    })
                })?;
                output::note(&format!(
                    "made the interface {name}; process {child} serves it in the background. \
                     Give it keys and peers with `wg`, remove it with `ip link delete {name}`",
                    name = self.name
                ));
                return Ok(());
            }
            Fork::Child(ready) => Cell::new(Some(ready)),
        };
        let level = level.unwrap_or(LevelFilter::OFF);
        let quiet = level == LevelFilter::OFF;
        // A quiet one keeps nobody's pipe open.
        if !quiet {
            logging::start_at(level);
        }
        let outcome = self.serve(|| match ready.take() {
            Some(ready) => Ok(ready.up(quiet)?),
            None => Ok(()),
        });
        match (outcome, ready.take()) {
            // The parent says it, where somebody listens.
            (Err(failure), Some(ready)) => ready.failed(&failure.to_string()),
            // Nobody listens any more but the log.
            (Err(failure), None) => tracing::error!("{failure}"),
            (Ok(()), _) => {}
        }
        Ok(())
    }

    fn serve(&self, up: impl FnOnce() -> anyhow::Result<()>) -> Result<(), Failure> {
        let key = secret::random()?;
        let config = Config::plain(&self.name, PrivateKey::from_bytes(*key));
        check(&config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let origin = Origin {
            flush_log: Some(logging::flush),
            ..Origin::default()
        };
        let run = control::run(config, origin, TunnelKind::Plain, up);
        let ended = runtime.block_on(run);
        // A thread may wait for something that never comes.
        runtime.shutdown_timeout(super::LAST_WAIT);
        Ok(ended?)
    }
}

/// Checks that the tunnel can be made. Where its name is taken by a process that can be
/// named, that is what the operator wants to know.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    os::open_files::check().map_err(Failure::Other)?;
    match system::check(config) {
        Err(SystemError::InterfaceExists(name)) => match control::holder(&name) {
            Some(holder) => Err(holder.into()),
            None if os::interface::goes(&name) => Ok(()),
            None => Err(SystemError::InterfaceExists(name).into()),
        },
        other => Ok(other?),
    }
}

/// The words of wireguard-go, and those of everybody else.
fn log_level(word: &str) -> LevelFilter {
    match word {
        "silent" | "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "info" => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    }
}
