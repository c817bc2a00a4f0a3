//! `taltun run`

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use tracing::{info, warn};

use super::failure::Failure;
use super::{logging, output};
use crate::config::{self, Overrides};
use crate::control::{self, Origin, TunnelKind};
use crate::os::service_manager;
use crate::system::SwitchState;

/// What is read when no file is named, as the Go version does.
const DEFAULT_FILE: &str = "config.toml";

/// Run a tunnel in the foreground until SIGINT or SIGTERM.
///
/// The file can set everything; the options override it. Without --config, Taltun reads config.toml
/// in the current directory if it is there; with --key and --vip it needs no file. The options may
/// have a single dash, as in the Go version.
#[derive(Args)]
pub(super) struct Run {
    /// The configuration file [default: config.toml].
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Wait for peers, or start handshakes with them: server or client.
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,

    /// Where to listen, such as `0.0.0.0:9000` or `[::]:9000`.
    #[arg(long, value_name = "ADDRESS:PORT")]
    local: Option<String>,

    /// Our private key. Others on this machine may see it in the process list; prefer
    /// `private_key_file`.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Our address in the tunnel, such as 10.0.0.1/24; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    vip: Vec<String>,

    /// A peer in addition to those of the file; leave HOST:PORT empty for a peer that starts the
    /// handshake itself. May be repeated.
    #[arg(long, value_name = "VIP,HOST:PORT,PUBLIC_KEY")]
    peer: Vec<String>,

    /// Name of the interface to create.
    #[arg(long, value_name = "NAME")]
    tun: Option<String>,

    /// MTU of the tunnel, bytes.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<String>,

    /// Log more: refused handshakes and why, look-ups, hooks, samples of drops.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    debug: Option<bool>,

    /// Leave the kill switch closed at SIGTERM, as at every end but Ctrl-C: for units that
    /// restart. `taltun undo NAME` releases it.
    #[arg(long)]
    keep_kill_switch: bool,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.attempt().inspect_err(|failure| {
            service_manager().status(&failure.to_string());
            say_what_holds();
        })
    }

    fn attempt(self) -> Result<(), Failure> {
        let overrides = Overrides {
            mode: self.mode,
            local: self.local,
            key: self.key,
            vip: self.vip,
            peers: self.peer,
            tun: self.tun,
            mtu: self.mtu,
            debug: self.debug,
            ..Overrides::default()
        };
        let path = match self.config {
            Some(path) => Some(path),
            None => default_file(Path::new(DEFAULT_FILE), overrides.suffice())?,
        };
        let loaded = config::load_with(path.as_deref(), &overrides)?;
        logging::start(loaded.config.interface.debug);
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        for note in &loaded.notes {
            info!("{note}");
        }
        super::interface::check(&loaded.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let origin = Origin {
            path,
            overrides,
            keep_kill_switch: self.keep_kill_switch,
            debug_switch: Some(logging::set_debug),
            flush_log: Some(logging::flush),
        };
        let run = control::run(loaded.config, origin, TunnelKind::Configured, || Ok(()));
        let ended = runtime.block_on(run);
        // A thread may wait for a file that never comes.
        runtime.shutdown_timeout(super::LAST_WAIT);
        Ok(ended?)
    }
}

/// After a start that failed, or an end out of order: whoever is cut off learns why, and whoever
/// believes in a kill switch that isn't there learns that.
fn say_what_holds() {
    for left in control::left_switches().found {
        let name = left.interface;
        output::complain(&match left.state {
            SwitchState::Holds => format!(
                "the kill switch of {name} holds: nothing leaves until the tunnel runs again or \
                 `taltun undo {name}` releases it"
            ),
            SwitchState::Open(missing) => format!(
                "the kill switch of {name} is open: {missing}, so packets leave outside of the \
                 tunnel until it runs again; `taltun undo {name}` takes back the rest"
            ),
            SwitchState::Unknown(reason) => format!(
                "the kill switch of {name} may hold, which can't be seen: {reason}; \
                 `taltun undo {name}` releases it"
            ),
        });
    }
}

/// The file to read when none is named: `file` if it is there, none if the options say
/// enough without one.
fn default_file(file: &Path, options_suffice: bool) -> Result<Option<PathBuf>, Failure> {
    if file.exists() {
        Ok(Some(file.to_owned()))
    } else if options_suffice {
        Ok(None)
    } else {
        Err(Failure::Usage(format!(
            "no configuration: there is no {} here; name one with --config FILE, or give --key \
             and --vip",
            file.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn parse(line: &str) -> Run {
        let words = super::super::arguments::modernise(
            line.split(' ').map(Into::into),
            &["run"],
            super::super::arguments::Caller::Other,
        );
        Line::try_parse_from(words.into_iter().filter(|word| word != "run"))
            .unwrap()
            .run
    }

    #[test]
    fn the_flags_of_the_go_version_are_understood() {
        let run = parse(
            "taltun -config F -mode server -local :9000 -key K -vip 10.0.0.1/24 -peer a,b,c \
             -peer d,e,f -tun tun0 -mtu 1300 -debug",
        );
        assert_eq!(run.config.as_deref(), Some(Path::new("F")));
        assert_eq!(run.mode.as_deref(), Some("server"));
        assert_eq!(run.local.as_deref(), Some(":9000"));
        assert_eq!(run.key.as_deref(), Some("K"));
        assert_eq!(run.vip, ["10.0.0.1/24"]);
        assert_eq!(run.peer, ["a,b,c", "d,e,f"]);
        assert_eq!(run.tun.as_deref(), Some("tun0"));
        assert_eq!(run.mtu.as_deref(), Some("1300"));
        assert_eq!(run.debug, Some(true));
    }

    #[test]
    fn what_starts_it_again_says_the_same_but_for_the_key() {
        let run = parse(
            "taltun --config F --mode client --local :9000 --key K --vip 10.0.0.1/24 --vip \
             fd00::1/64 --peer a,b,c --tun tun0 --mtu 1300 --debug",
        );
        let words = Overrides {
            mode: run.mode,
            local: run.local,
            key: run.key,
            vip: run.vip,
            peers: run.peer,
            tun: run.tun,
            mtu: run.mtu,
            debug: run.debug,
            ..Overrides::default()
        }
        .words();
        let again = parse(&format!("taltun --config F {}", words.join(" ")));
        assert_eq!(again.key.as_deref(), Some("KEY"));
        assert_eq!(again.mode.as_deref(), Some("client"));
        assert_eq!(again.local.as_deref(), Some(":9000"));
        assert_eq!(again.vip, ["10.0.0.1/24", "fd00::1/64"]);
        assert_eq!(again.peer, ["a,b,c"]);
        assert_eq!(again.tun.as_deref(), Some("tun0"));
        assert_eq!(again.mtu.as_deref(), Some("1300"));
        assert_eq!(again.debug, Some(true));
    }

    #[test]
    fn debug_is_a_flag_that_may_be_taken_back() {
        assert_eq!(parse("taltun -debug=false").debug, Some(false));
        assert_eq!(parse("taltun --debug --mode client").debug, Some(true));
        assert_eq!(parse("taltun --mode client").debug, None);
    }

    #[test]
    fn the_file_of_the_current_directory_is_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        assert!(default_file(&file, true).unwrap().is_none());
        let message = default_file(&file, false).unwrap_err().to_string();
        assert!(message.contains("name one with --config FILE"), "{message}");
        std::fs::write(&file, "").unwrap();
        assert_eq!(default_file(&file, false).unwrap(), Some(file));
    }
}
