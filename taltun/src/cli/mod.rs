//! The command line: one file a subcommand.
//!
//! Errors are one line, `taltun: …`, on standard error. The exit code is 0 when it is done,
//! 2 when the command line or the configuration is at fault, 1 for everything else.

mod advice;
mod arguments;
mod ban;
mod capture;
mod check;
mod duration;
mod explain;
mod export;
mod failure;
mod fleet;
mod generate;
mod genkey;
mod genpsk;
mod grid;
mod host_line;
mod human;
mod import;
mod interface;
mod kill_switch;
mod log_queue;
mod logging;
mod metrics_process;
mod names_process;
mod output;
mod peer;
mod peers;
mod ping;
mod privileged_process;
mod pubkey;
mod reload;
mod run;
mod screen;
mod secret;
mod stats;
mod status;
mod table;
mod target;
mod top;
mod trace;
mod udpgw;
mod udpgw_process;
mod unban;
mod undo;
mod unknown;
mod usage;
mod watching;
mod web;
mod web_process;
mod width;

use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Parser, Subcommand};

use failure::Failure;

use crate::crypto::aead::NULL_CIPHER;

/// A WireGuard-compatible VPN hub.
///
/// Taltun runs one tunnel from one small TOML file. Any WireGuard client can be its peer.
/// On kernels that allow it, an XDP program counts senders and drops foreign traffic before
/// it costs anything.
#[derive(Parser)]
#[command(name = "taltun", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// How long an end waits for threads that don't come to theirs.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  umask 077; taltun genkey | tee hub.key | taltun pubkey
  taltun check --config hub.toml
  taltun run --config hub.toml
  taltun status
  taltun top
  taltun usage --since 30d
  taltun explain ana 192.168.50.16 tcp/631
  taltun ping ana
  taltun trace ana --drops
  taltun capture ana | wireshark -k -i -
  taltun ban 198.51.100.0/24 --for 10m
  taltun peer new phone --wg --qr
  taltun web token --for 8h   to log in to the page of [web]
  taltun fleet status
  umask 077; taltun import /etc/wireguard/wg0.conf > wg0.toml
  umask 077; taltun export wg0 > wg0.conf
  taltun udpgw --listen-addr 127.0.0.1:7300
  taltun interface wg0      make the interface wg0 for wg and wg-quick

`taltun wg0` and `taltun -f NAME` mean `taltun interface`, for programs that expect
wireguard-go, and so does any `taltun NAME` where WG_QUICK_USERSPACE_IMPLEMENTATION is set.

Exit codes: 0 done; 2 wrong usage or configuration; 1 anything else.
Environment:
  TALTUN_RUNTIME_DIR  directory of the control sockets (default /run/taltun); if set, wg's
                      sockets are below it
  TALTUN_UAPI_DIR     directory of wg's sockets (default /var/run/wireguard)
  TALTUN_STATE_DIR    where peers' endpoints, their usage, addresses of `[dns_routes]` and what a
                      hub knows of its fleet are saved (default /var/lib/taltun)
  NO_COLOR            nothing has colours";

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Genkey(genkey::Genkey),
    Pubkey(pubkey::Pubkey),
    Genpsk(genpsk::Genpsk),
    Check(check::Check),
    Status(status::StatusCommand),
    Top(top::TopCommand),
    Stats(stats::StatsCommand),
    Usage(usage::UsageCommand),
    Explain(explain::Explain),
    Trace(trace::Trace),
    Capture(capture::Capture),
    Ban(ban::Ban),
    Unban(unban::Unban),
    Undo(undo::Undo),
    KillSwitch(kill_switch::KillSwitch),
    Peer(peer::Peer),
    Ping(ping::PingCommand),
    Reload(reload::Reload),
    Import(import::Import),
    Export(export::Export),
    #[command(name = interface::BY_NAME)]
    Interface(interface::Interface),
    Udpgw(udpgw::Udpgw),
    Web(web::Web),
    Fleet(fleet::Fleet),
    #[command(name = crate::metrics::COMMAND, hide = true)]
    MetricsProcess(metrics_process::MetricsProcess),
    #[command(name = crate::privileged::COMMAND, hide = true)]
    PrivilegedProcess(privileged_process::PrivilegedProcess),
    #[command(name = crate::name_service::COMMAND, hide = true)]
    NamesProcess(names_process::NamesProcess),
    #[command(name = crate::gateway::COMMAND, hide = true)]
    UdpgwProcess(udpgw_process::UdpgwProcess),
    #[command(name = crate::web::COMMAND, hide = true)]
    WebProcess(web_process::WebProcess),
    Completions(generate::Completions),
    #[command(hide = true)]
    ManPages(generate::ManPages),
    Version(Version),
}

/// Print the version.
#[derive(clap::Args)]
struct Version {}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
    if NULL_CIPHER {
        let what = "THIS BUILD ENCRYPTS NOTHING: it is for `cargo xtask bench --null-cipher` only";
        output::complain(&format!("\x1b[1;31m{what}\x1b[0m"));
    }
    let definition = <Cli as clap::CommandFactory>::command();
    let commands: Vec<&str> = definition
        .get_subcommands()
        .map(clap::Command::get_name)
        .chain(["help"])
        .collect();
    let caller = arguments::Caller::find();
    let arguments = arguments::modernise(std::env::args_os(), &commands, caller);
    let outcome = match Cli::try_parse_from(arguments) {
        Ok(cli) => {
            // Most commands have a key in memory at some time.
            if let Err(error) = crate::system::keep_secrets() {
                output::complain(&format!("keys may be seen by others: {error}"));
            }
            cli.command.run()
        }
        Err(error) => explain(&error, &commands),
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match &failure {
                Failure::Lines(text) => output::complain_lines(text),
                Failure::Told => {}
                other => output::complain(&other.to_string()),
            }
            failure.exit_code()
        }
    };
    logging::flush();
    code
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Run(command) => command.run(),
            Self::Genkey(_) => genkey::Genkey::run(),
            Self::Pubkey(_) => pubkey::Pubkey::run(),
            Self::Genpsk(_) => genpsk::Genpsk::run(),
            Self::Check(command) => command.run(),
            Self::Status(command) => command.run(),
            Self::Top(command) => command.run(),
            Self::Stats(command) => command.run(),
            Self::Usage(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Trace(command) => command.run(),
            Self::Capture(command) => command.run(),
            Self::Ping(command) => command.run(),
            Self::Ban(command) => command.run(),
            Self::Unban(command) => command.run(),
            Self::Undo(command) => command.run(),
            Self::KillSwitch(command) => command.run(),
            Self::Peer(command) => command.run(),
            Self::Reload(command) => command.run(),
            Self::Import(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Interface(command) => command.run(),
            Self::Udpgw(command) => command.run(),
            Self::Web(command) => command.run(),
            Self::UdpgwProcess(command) => command.run(),
            Self::Fleet(command) => command.run(),
            Self::WebProcess(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::ManPages(command) => command.run(),
            Self::MetricsProcess(_) => metrics_process::MetricsProcess::run(),
            Self::NamesProcess(command) => command.run(),
            Self::PrivilegedProcess(command) => command.run(),
            Self::Version(_) => output::print(concat!("taltun ", env!("CARGO_PKG_VERSION"), "\n")),
        }
    }
}

/// Help and version go to standard output; a wrong command line becomes one line.
fn explain(error: &clap::Error, commands: &[&str]) -> Result<(), Failure> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::InvalidSubcommand if unknown::word(error).is_some() => {
            let word = unknown::word(error).unwrap_or_default();
            Err(Failure::Usage(match command_of(error) {
                Some(above) => unknown::below(&above, word, error),
                None => unknown::explain(word, commands),
            }))
        }
        ErrorKind::UnknownArgument if unknown::option(error, commands).is_some() => Err(
            Failure::Usage(unknown::option(error, commands).unwrap_or_default()),
        ),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => output::print(&text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Failure::Usage(
            "no command given; see `taltun --help`".into(),
        )),
        _ => Err(Failure::Usage(one_line(
            &text,
            command_of(error).as_deref(),
        ))),
    }
}

/// The command whose own help has the options that this error is about.
fn command_of(error: &clap::Error) -> Option<String> {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string);
    let usage = usage.unwrap_or_default();
    let named = std::env::args().nth(1).is_some_and(|word| word == "udpgw");
    // Of the others `taltun --help` says enough.
    command_in(&usage).or_else(|| named.then(|| "udpgw".to_owned()))
}

/// The command of a usage text, if it has commands of its own or is one of another's.
fn command_in(usage: &str) -> Option<String> {
    let (_, words) = usage.split_once("taltun ")?;
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let words: Vec<&str> = words
        .split_whitespace()
        .take_while(|word| is_word(word) && !word.starts_with('-'))
        .collect();
    let definition = <Cli as clap::CommandFactory>::command();
    let first = definition.find_subcommand(words.first()?)?;
    first.has_subcommands().then(|| words.join(" "))
}

/// The message of a clap error without its usage text, which `--help` shows better.
fn one_line(text: &str, command: Option<&str>) -> String {
    let message: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let message = message.join(" ").replace(" tip: ", "; ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    match command {
        Some(command) => format!("{message}; see `taltun {command} --help`"),
        None => format!("{message}; see `taltun --help`"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_asked_of_a_tunnel_has_a_command() {
        let definition = Cli::command();
        let commands: Vec<&str> = definition
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        for name in crate::control::Request::COMMANDS {
            assert!(commands.contains(name), "{name}");
        }
    }

    #[test]
    fn a_usage_error_is_one_line() {
        for arguments in [
            &["taltun", "ban"][..],
            &["taltun", "statsu"],
            &["taltun", "status", "--jsno"],
            &["taltun", "ban", "10.0.0.0/33"],
            &["taltun", "ban", "10.0.0.0/8", "--for", "soon"],
            &["taltun", "run", "--mtu"],
            &["taltun", "udpgw", "--max-clients", "0"],
            &["taltun", "udpgw", "--loglevel", "6"],
            &["taltun", "udpgw", "--local-udp-addrs", "1.1.1.1:1"],
        ] {
            let error = Cli::try_parse_from(arguments).err().unwrap();
            let failure = explain(&error, &["status"]).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)));
            let text = failure.to_string();
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains("error:"), "{text}");
        }
    }

    #[test]
    fn a_command_of_a_command_leads_to_the_help_of_its_own() {
        for (arguments, expected) in [
            (
                &["taltun", "peer", "neww", "x"][..],
                "there is no command peer neww; did you mean `taltun peer new`?",
            ),
            (
                &["taltun", "peer", "zzzzzz"],
                "there is no command peer zzzzzz; see `taltun peer --help`",
            ),
            (&["taltun", "peer", "new"], "see `taltun peer new --help`"),
            (
                &["taltun", "web", "revoke"],
                "see `taltun web revoke --help`",
            ),
            (
                &["taltun", "peer", "new", "x", "--qr=x.jpg"],
                "name a file that ends in .png",
            ),
            (
                &["taltun", "peer", "new", "phone", "--qr", "x.png"],
                "to name the picture of a code: --qr=x.png",
            ),
            (
                &["taltun", "peer", "set", "x", "--allowed", "office"],
                "expected a network such as",
            ),
            (&["taltun", "ban"], "see `taltun --help`"),
            (&["taltun", "statsu"], "(to make an interface called statsu"),
        ] {
            let error = Cli::try_parse_from(arguments).err().unwrap();
            let text = explain(&error, &["status"]).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
