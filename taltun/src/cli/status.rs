//! `taltun status`

mod limits;
mod text;

use clap::Args;
use serde::Serialize;

use self::text::render;
use super::failure::Failure;
use super::output;
use super::target::Subject;
use crate::control::{self, ControlError, request};
use crate::dataplane::clock;
use crate::report::{NotRunning, Status, SwitchLeft, SwitchLeftState, UnixTime, VERSION};
use crate::system::{LeftSwitch, LeftSwitches, SwitchState};

/// Show a running tunnel and its peers.
#[derive(Args)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    subject: Subject,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let answer = self.subject.ask(request::Status);
        if self.json
            && let Err(ControlError::NotRunning { left, .. }) = &answer
        {
            output::print_json(&not_running(left))?;
        }
        let status = answer?;
        let left = control::left_switches();
        if self.json {
            return output::print_json(&Running::with(&status, &left));
        }
        output::print(&render(&status, &left))
    }
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
