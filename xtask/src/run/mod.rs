//! `cargo xtask run`: the lab, from nothing to a tunnel with traffic in it and back to
//! nothing.

mod console;
mod draw;
mod flow;
mod keys;
mod listing;
mod lock;
mod looks;
mod model;
mod ping_watch;
mod places;
mod print;
mod recipe;
mod report;
mod scenario;
mod screen;
mod seen;
mod shell;
mod stage;
mod trials;
mod units;
mod view;
mod watch;
mod wrap;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use taltun_tests::command::find;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::recipes::Recipe;
use taltun_tests::sys::{self, Signal};

use crate::build;
use crate::setup;
use report::{Check, Report};

/// How long it runs with `--json` and no `--duration`: somebody is waiting for the result.
const JSON_DURATION: u64 = 12;

/// What is to be known of the drawing before one sees it.
const KEYS: &str = "\
On a terminal the lab is drawn. Keys:
  b  ban a spoke, or unban it
  f  flood the hub's port, or end that
  k  kill the hub; it is started again after three seconds
  s  open a shell on a machine, in which `taltun` finds its tunnel
  q  end: print every check, take everything down";

/// The arguments of `cargo xtask run`.
#[derive(clap::Args)]
#[command(after_help = KEYS)]
pub struct Arguments {
    /// Seconds to run; never less than the 8 that a ban and its end take. Default: until `q` or
    /// Ctrl-C; with --json 12.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Print nothing but the result, as JSON; exit code 0 only if every check is ok.
    #[arg(long)]
    json: bool,
    /// Open a shell on this machine instead of driving traffic; `taltun` finds its tunnel there.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["json", "duration"])]
    shell: Option<Node>,
    /// How to attach the XDP program.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        conflicts_with = "recipe"
    )]
    xdp: Xdp,
    /// Whether packets go past the kernel's network stack.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        conflicts_with = "recipe"
    )]
    af_xdp: OnOff,
    /// Run one of the manual's recipes instead: A, client and server; B, road warriors; C,
    /// full tunnel; D, site to site; E, client to client; F, an office under rules and limits.
    /// It is drawn while it is checked, goes on until the duration is over, and is taken down.
    #[arg(
        long,
        value_name = "LETTER",
        ignore_case = true,
        conflicts_with = "shell"
    )]
    recipe: Option<RecipeLetter>,
    /// What the names of the namespaces begin with, so that two labs can run at a time.
    #[arg(long, value_name = "NAME", default_value = "taltun", hide = true)]
    prefix: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum RecipeLetter {
    A,
    B,
    C,
    D,
    E,
    F,
}

#[derive(Clone, Copy, ValueEnum)]
enum OnOff {
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum Node {
    Hub,
    A,
    B,
}

#[derive(Clone, Copy, ValueEnum)]
enum Xdp {
    Auto,
    Driver,
    Generic,
    Off,
}

/// Runs the lab.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::programs(setup::LAB)?;
    let taltun = build::taltun()?;
    if !sys::is_root() {
        return as_root(&taltun);
    }
    let _lock = lock::take(&arguments.prefix)?;
    // From here on there is something to clean up.
    sys::remember_stop_signals()?;
    setup::step("starting the lab");
    let options = Options {
        xdp: arguments.xdp.into(),
        af_xdp: arguments.af_xdp.into(),
        ..Options::default()
    };
    if let Some(node) = arguments.shell {
        let lab = Lab::start(&arguments.prefix, &taltun, options)?;
        let code = shell::open(&lab, node.into(), &taltun)?;
        lab.stop(Signal::Terminate)?.into_result()?;
        return Ok(code);
    }

    let report = match arguments.recipe {
        None => play(arguments, &taltun, options),
        Some(letter) => {
            setup::programs(setup::RECIPES)?;
            let duration = arguments.duration.or_else(|| arguments.json.then_some(0));
            let duration = duration.map(Duration::from_secs);
            let prefix = &arguments.prefix;
            recipe::play(letter.into(), prefix, &taltun, duration, arguments.json)
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print::report(&report);
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts the lab, plays the scenario in it, takes it down and checks that nothing is left.
fn play(arguments: &Arguments, taltun: &Path, options: Options) -> Report {
    let duration = arguments
        .duration
        .or_else(|| arguments.json.then_some(JSON_DURATION))
        .map(|seconds| Duration::from_secs(seconds).max(scenario::SHORTEST));
    let mut lab = match Lab::start(&arguments.prefix, taltun, options) {
        Ok(lab) => lab,
        Err(error) => {
            return Report::of(vec![Check::failed("lab starts", format!("{error:#}"))]);
        }
    };
    let mut view = view::View::new(arguments.json);
    let mut report = scenario::play(&mut lab, options, taltun, duration, &mut view);
    // From here on there is something to be read again.
    drop(view);
    setup::step("taking the lab down");
    match lab.stop(Signal::Terminate) {
        Ok(end) => {
            report.add(Check::nothing_in(
                "daemons stop in order",
                "all three, with exit code 0",
                &end.disorderly,
            ));
            report.add(Check::nothing_in(
                "nothing left behind",
                "no namespace, link, route, process, file or program",
                &end.left,
            ));
        }
        Err(error) => report.add(Check::failed("nothing left behind", format!("{error:#}"))),
    }
    report
}

/// Namespaces need root. What was built as a user stays the user's, so only the lab itself
/// runs by `sudo`, which keeps our PATH for the programs that aren't the system's.
pub fn as_root(taltun: &Path) -> Result<ExitCode> {
    let Some(sudo) = find("sudo") else {
        bail!("the lab makes network namespaces and needs root: run this as root");
    };
    setup::step("the lab needs root: going on by sudo");
    let mut variable = std::ffi::OsString::from("TALTUN_BIN=");
    variable.push(taltun);
    let mut path = std::ffi::OsString::from("PATH=");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    // What sudo would keep from us, and a drawing needs to know.
    let no_colour = std::env::var_os("NO_COLOR")
        .filter(|value| !value.is_empty())
        .map(|_| "NO_COLOR=1");
    let status = Command::new(sudo)
        .arg("env")
        .arg(variable)
        .arg(path)
        .args(no_colour)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .status()
        .context("can't run sudo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

impl From<RecipeLetter> for Recipe {
    fn from(letter: RecipeLetter) -> Self {
        match letter {
            RecipeLetter::A => Self::A,
            RecipeLetter::B => Self::B,
            RecipeLetter::C => Self::C,
            RecipeLetter::D => Self::D,
            RecipeLetter::E => Self::E,
            RecipeLetter::F => Self::F,
        }
    }
}

impl From<Node> for Role {
    fn from(node: Node) -> Self {
        match node {
            Node::Hub => Self::Hub,
            Node::A => Self::A,
            Node::B => Self::B,
        }
    }
}

impl From<OnOff> for AfXdp {
    fn from(mode: OnOff) -> Self {
        match mode {
            OnOff::Auto => Self::Auto,
            OnOff::On => Self::On,
            OnOff::Off => Self::Off,
        }
    }
}

impl From<Xdp> for XdpMode {
    fn from(mode: Xdp) -> Self {
        match mode {
            Xdp::Auto => Self::Auto,
            Xdp::Driver => Self::Driver,
            Xdp::Generic => Self::Generic,
            Xdp::Off => Self::Off,
        }
    }
}
