//! `taltun status`

mod limits;
mod text;

use clap::Args;
use serde::Serialize;

use self::text::{render, render_peers};
use super::failure::Failure;
use super::output;
use super::target::Target;
use crate::control::{self, ControlError, request};
use crate::dataplane::clock;
use crate::report::{
    NotRunning, PeerStatus, Status, SwitchLeft, SwitchLeftState, UnixTime, VERSION,
};
use crate::system::{LeftSwitch, LeftSwitches, SwitchState};

/// Show a running tunnel and its peers.
///
/// Of one peer it shows the last problem, too, if that is over.
#[derive(Args)]
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
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (answer, peer) = self.ask();
        if self.json
            && let Err(ControlError::NotRunning { left, .. }) = &answer
        {
            output::print_json(&not_running(left))?;
        }
        let mut status = answer?;
        if let Some(word) = &peer {
            status.peers.retain(|peer| is_called(peer, word));
            if status.peers.is_empty() {
                return Err(Failure::Other(format!(
                    "{word:?} is no peer's name or key; `taltun status` lists the peers"
                )));
            }
            if !self.json {
                return output::print(&render_peers(&status.peers));
            }
        }
        let left = control::left_switches();
        if self.json {
            return output::print_json(&Running::with(&status, &left));
        }
        output::print(&render(&status, &left))
    }
}

impl StatusCommand {
    /// The status that is asked for, and the only peer to show of it.
    fn ask(&self) -> (Result<Box<Status>, ControlError>, Option<String>) {
        let ask = |interface: Option<&str>| control::call(interface, request::Status);
        let interface = self.target.interface();
        let Some(word) = self.subject.as_deref() else {
            return (ask(interface), self.peer.clone());
        };
        if interface.is_some() {
            return (ask(interface), self.peer.clone().or(Some(word.to_owned())));
        }
        let answer = ask(Some(word));
        let unknown = matches!(
            answer,
            Err(ControlError::NotRunning { .. } | ControlError::Name(_))
        );
        if !unknown || self.peer.is_some() {
            return (answer, self.peer.clone());
        }
        // No interface has this name: a peer may.
        match ask(None) {
            Ok(status) if status.peers.iter().any(|peer| is_called(peer, word)) => {
                (Ok(status), Some(word.to_owned()))
            }
            _ => (answer, None),
        }
    }
}

/// Whether a peer has this name or key.
fn is_called(peer: &PeerStatus, word: &str) -> bool {
    peer.name.as_deref() == Some(word) || peer.public_key == word
}

/// What `--json` prints of a running tunnel.
#[derive(Debug, Serialize)]
struct Running<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// Those of other tunnels, which don't run: they refuse this one's datagrams, too.
    kill_switches: Vec<SwitchLeft>,
}

impl<'a> Running<'a> {
    fn with(status: &'a Status, left: &LeftSwitches) -> Self {
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
    use super::text::tests::hub;
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
        let (text, hub) = (render(&hub(), &left), hub());
        let told: Vec<&str> = text.lines().filter(|line| line.contains("HOLDS")).collect();
        assert_eq!(
            told,
            [
                "  host:             KILL SWITCH OF tun9 HOLDS: nothing leaves, this tunnel's own \
                 datagrams neither; start: taltun run --config x.toml; release: taltun undo tun9"
            ]
        );
        let json = serde_json::to_value(Running::with(&hub, &left)).unwrap();
        assert_eq!(json["interface"], "hub");
        assert_eq!(json["kill_switches"][0]["interface"], "tun9");
        assert_eq!(json["kill_switches"][0]["state"], "holds");
        assert_eq!(json["kill_switches"][2]["state"], "open");
    }
}
