//! `taltun status`

#[cfg(test)]
pub(super) mod example;
mod long;
pub(super) mod peer;
mod peer_table;
mod short;
mod words;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::screen::Screen;
use super::target::Target;
use super::width::shown;
use super::{advice, output, watching};
use crate::control::{self, ControlError, request};
use crate::dataplane::clock;
use crate::report::{
    NotRunning, PeerStatus, Status, SwitchLeft, SwitchLeftState, UnixTime, VERSION,
};
use crate::system::{LeftSwitch, LeftSwitches, SwitchState, for_the_shell};

/// Show a running tunnel and its peers.
///
/// What the tunnel is and what is amiss, and its peers as a table: those with a session first (●), by
/// what they move, then those that were there before (○) and those that never were (✗). ↓ is what came
/// from a peer, ↑ what went to it. A terminal gets as many peers as it has room for; --all and a pipe
/// get all of them. Of one peer everything is shown, the last problem that is over, too.
#[derive(Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(super) struct StatusCommand {
    /// The tunnel's interface, needed only where several are running, or the only peer to show, by
    /// its name or public key.
    #[arg(value_name = "IFACE|PEER")]
    subject: Option<String>,

    /// The only peer to show, where an interface has its name, too.
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,

    #[command(flatten)]
    target: Target,

    /// Print JSON.
    #[arg(long, conflicts_with_all = ["long", "all"])]
    json: bool,

    /// Show everything of each peer and of the tunnel, with reasons.
    #[arg(long)]
    long: bool,

    /// Show all peers, however many there are.
    #[arg(long, conflicts_with = "long")]
    all: bool,

    /// Repeat every second, until interrupted; with --json, an object per line.
    #[arg(long)]
    watch: bool,
}

impl StatusCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (asked, answer) = self.ask();
        if !self.watch {
            return self.print(&asked, answer);
        }
        let mut first = Some(answer);
        let mut look = || {
            let answer = first.take().unwrap_or_else(|| asked.again());
            asked.only_peer(*asked.told(answer)?)
        };
        if self.json {
            // Each with the switches that hold by then.
            return watching::watch_json(|| Ok(Running::with(look()?, &control::left_switches())));
        }
        watching::watch(|screen| Ok(self.render(&asked, &look()?, screen)))
    }

    fn print(&self, asked: &Asked, answer: Answer) -> Result<(), Failure> {
        // One that runs has no such peer: that it doesn't run would be wrong.
        if self.json
            && asked.unknown.is_none()
            && let Err(ControlError::NotRunning { left, .. }) = &answer
        {
            output::print_json(&not_running(left))?;
        }
        let status = asked.only_peer(*asked.told(answer)?)?;
        if self.json {
            return output::print_json(&Running::with(status, &control::left_switches()));
        }
        output::print(&self.render(asked, &status, &Screen::of_stdout()))
    }

    fn render(&self, asked: &Asked, status: &Status, screen: &Screen) -> String {
        if asked.peer.is_some() {
            return peer::alone(&status.peers);
        }
        let left = control::left_switches();
        let text = if self.long {
            long::render(status, &left)
        } else {
            short::render(status, &left, self.all, screen)
        };
        if status.peers.is_empty() {
            // It says what adds one.
            return advice::for_tunnel(&text, asked.interface.as_deref());
        }
        text
    }

    /// What is asked for, and the answer.
    fn ask(&self) -> (Asked, Answer) {
        let asked = |interface: Option<&str>, peer: Option<&str>| {
            let asked = Asked {
                interface: interface.map(str::to_owned),
                peer: peer.map(str::to_owned),
                unknown: None,
            };
            let answer = asked.again();
            (asked, answer)
        };
        let (interface, peer) = (self.target.interface(), self.peer.as_deref());
        let Some(word) = self.subject.as_deref() else {
            return asked(interface, peer);
        };
        if interface.is_some() {
            return asked(interface, peer.or(Some(word)));
        }
        let mut as_interface = asked(Some(word), peer);
        let unknown = matches!(
            as_interface.1,
            Err(ControlError::NotRunning { .. } | ControlError::Name(_))
        );
        if !unknown || peer.is_some() {
            return as_interface;
        }
        // No interface has this name: a peer may.
        match asked(None, Some(word)) {
            (asked, Ok(status)) if status.peers.iter().any(|peer| is_called(peer, word)) => {
                (asked, Ok(status))
            }
            (_, Ok(status)) => {
                as_interface.0.unknown = Some(Unknown::PeerOf(status.interface));
                as_interface
            }
            (_, Err(ControlError::Several(running))) => {
                as_interface.0.unknown = Some(Unknown::PeerOfSeveral(running));
                as_interface
            }
            _ => as_interface,
        }
    }
}

/// A tunnel's status, or why there is none.
type Answer = Result<Box<Status>, ControlError>;

/// What is asked for.
struct Asked {
    /// The tunnel, where it is named.
    interface: Option<String>,
    /// The only peer to show.
    peer: Option<String>,
    /// What else the word isn't, where no tunnel is called so.
    unknown: Option<Unknown>,
}

/// What a word isn't that may have meant a peer.
enum Unknown {
    /// A peer of the only tunnel that runs.
    PeerOf(String),
    /// It may be a peer of any of these.
    PeerOfSeveral(Vec<String>),
}

impl Asked {
    /// The status, or what to say in its place.
    fn told(&self, answer: Answer) -> Result<Box<Status>, Failure> {
        match (&self.unknown, &self.interface) {
            (Some(Unknown::PeerOf(running)), Some(word)) => Err(Failure::Other(format!(
                "{:?} is neither a running tunnel nor a peer of {running}; `taltun status` lists its peers",
                shown(word)
            ))),
            (Some(Unknown::PeerOfSeveral(running)), Some(word)) => {
                let word = shown(word);
                Err(Failure::Usage(format!(
                    "{word:?} is no running tunnel; these are: {}; for a peer of one: \
                     `taltun status -i NAME {}`",
                    running.join(", "),
                    for_the_shell(&word)
                )))
            }
            (_, interface) => Ok(advised(answer?, interface.as_deref())),
        }
    }

    fn again(&self) -> Answer {
        control::call(self.interface.as_deref(), request::Status)
    }

    /// The status without the other peers, where one alone is asked for.
    fn only_peer(&self, mut status: Status) -> Result<Status, Failure> {
        let Some(word) = &self.peer else {
            return Ok(status);
        };
        status.peers.retain(|peer| is_called(peer, word));
        if status.peers.is_empty() {
            return Err(Failure::Other(format!(
                "{:?} is no peer's name or key; `taltun status` lists the peers",
                shown(word)
            )));
        }
        Ok(status)
    }
}

/// The status, in which what ends a ban names the tunnel that was named.
fn advised(mut status: Box<Status>, interface: Option<&str>) -> Box<Status> {
    for ban in status.peers.iter_mut().flat_map(|it| &mut it.banned) {
        ban.remedy = advice::for_tunnel(&ban.remedy, interface);
    }
    status
}

/// Whether a peer has this name or key.
fn is_called(peer: &PeerStatus, word: &str) -> bool {
    peer.name.as_deref() == Some(word) || peer.public_key == word
}

/// What `--json` prints of a running tunnel.
#[derive(Debug, Serialize)]
struct Running {
    #[serde(flatten)]
    status: Status,
    /// Those of other tunnels, which don't run: they refuse this one's datagrams, too.
    kill_switches: Vec<SwitchLeft>,
}

impl Running {
    fn with(status: Status, left: &LeftSwitches) -> Self {
        Self {
            status,
            kill_switches: left.found.iter().map(switch_left).collect(),
        }
    }
}

fn switch_left(left: &LeftSwitch) -> SwitchLeft {
    let (state, reason) = match &left.state {
        SwitchState::Holds => (SwitchLeftState::Holds, None),
        SwitchState::Open(missing) => (SwitchLeftState::Open, Some((*missing).to_owned())),
        SwitchState::Unknown(reason) => (SwitchLeftState::Unknown, Some(reason.clone())),
    };
    SwitchLeft {
        interface: left.interface.clone(),
        state,
        reason,
        start: (!left.start.is_empty()).then(|| left.start.clone()),
        elsewhere: left.elsewhere,
    }
}

fn not_running(left: &LeftSwitches) -> NotRunning {
    NotRunning {
        version: VERSION,
        timestamp: UnixTime::at(clock::wall()),
        running: false,
        kill_switches: left.found.iter().map(switch_left).collect(),
        cannot_look: left.cannot_look.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::example::hub;
    use super::*;

    #[test]
    fn a_switch_of_another_tunnel_that_holds_is_told() {
        let switch = |interface: &str, state, elsewhere| LeftSwitch {
            interface: interface.into(),
            start: "taltun run --config x.toml".into(),
            elsewhere,
            state,
        };
        let left = LeftSwitches {
            found: vec![
                switch("tun9", SwitchState::Holds, false),
                switch("tun8", SwitchState::Holds, true),
                switch("tun7", SwitchState::Open("its rules are gone"), false),
            ],
            cannot_look: None,
        };
        let expected = "KILL SWITCH OF tun9 HOLDS: nothing leaves, this tunnel's own datagrams \
                        neither; start: taltun run --config x.toml; release: taltun undo tun9";
        // On no terminal is it cut.
        let narrow = Screen {
            size: Some((40, 24)),
            colour: false,
        };
        for text in [
            long::render(&hub(), &left),
            short::render(&hub(), &left, false, &Screen::NONE),
            short::render(&hub(), &left, false, &narrow),
        ] {
            let told: Vec<&str> = text.lines().filter(|line| line.contains("HOLDS")).collect();
            assert_eq!(told.len(), 1, "{text}");
            let told = told[0].trim_start();
            let told = told.strip_prefix("host").unwrap();
            assert_eq!(told.trim_start_matches([':', ' ']), expected);
        }
        let json = serde_json::to_value(Running::with(hub(), &left)).unwrap();
        assert_eq!(json["interface"], "hub");
        assert_eq!(json["kill_switches"][0]["interface"], "tun9");
        assert_eq!(json["kill_switches"][0]["state"], "holds");
        assert_eq!(json["kill_switches"][2]["state"], "open");
    }
}
