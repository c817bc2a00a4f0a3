//! What people are told of kill switches whose tunnels don't run.

use std::fmt::Write;

use crate::system::{LeftSwitch, LeftSwitches, SwitchState};

/// Adds a line for each to `text`, with what to do.
pub(super) fn tell(text: &mut String, left: &LeftSwitches) {
    for (at, switch) in left.found.iter().enumerate() {
        let LeftSwitch {
            interface,
            start,
            elsewhere,
            state,
        } = switch;
        let place = if *elsewhere {
            ", in another network namespace"
        } else {
            ""
        };
        text.push(if at == 0 { ' ' } else { '\n' });
        // Writing to a String can't fail.
        let _ = match state {
            SwitchState::Holds => {
                write!(
                    text,
                    "KILL SWITCH OF {interface} HOLDS: nothing leaves{place}."
                )
            }
            SwitchState::Open(missing) => write!(
                text,
                "KILL SWITCH OF {interface} IS OPEN{place}: {missing}, so packets leave outside of \
                 the tunnel."
            ),
            SwitchState::Unknown(reason) => write!(
                text,
                "KILL SWITCH OF {interface} MAY HOLD, which can't be seen{place}: {reason}."
            ),
        };
        text.push_str("\n  ");
        if !start.is_empty() {
            let _ = write!(text, "start: {start}   ");
        }
        let undo = match state {
            SwitchState::Open(_) => "undo the rest",
            SwitchState::Holds | SwitchState::Unknown(_) => "release",
        };
        let _ = write!(text, "{undo}: taltun undo {interface}");
    }
    if let (true, Some(reason)) = (left.found.is_empty(), &left.cannot_look) {
        let _ = write!(
            text,
            "; whether a kill switch holds can't be seen: {reason}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(found: &[(&str, &str, bool, SwitchState)], cannot_look: Option<&str>) -> String {
        let found = found.iter().cloned();
        let left = LeftSwitches {
            found: found
                .map(|(interface, start, elsewhere, state)| LeftSwitch {
                    interface: interface.into(),
                    start: start.into(),
                    elsewhere,
                    state,
                })
                .collect(),
            cannot_look: cannot_look.map(str::to_owned),
        };
        let mut text = String::new();
        tell(&mut text, &left);
        text
    }

    #[test]
    fn each_state_is_told_with_what_to_do() {
        let start = "systemctl start taltun@hub";
        assert_eq!(
            told(&[("taltun0", start, false, SwitchState::Holds)], None),
            " KILL SWITCH OF taltun0 HOLDS: nothing leaves.\n  \
             start: systemctl start taltun@hub   release: taltun undo taltun0"
        );
        let open = SwitchState::Open("its rules are gone");
        let unknown = SwitchState::Unknown("no nft".into());
        assert_eq!(
            told(
                &[("a", start, true, open), ("b", "", false, unknown)],
                Some("no nft")
            ),
            " KILL SWITCH OF a IS OPEN, in another network namespace: its rules are gone, so \
             packets leave outside of the tunnel.\n  \
             start: systemctl start taltun@hub   undo the rest: taltun undo a\n\
             KILL SWITCH OF b MAY HOLD, which can't be seen: no nft.\n  \
             release: taltun undo b"
        );
        assert_eq!(told(&[], None), "");
        assert_eq!(
            told(&[], Some("run as root")),
            "; whether a kill switch holds can't be seen: run as root"
        );
    }
}
