//! What `status` says of the host's set-up.

use super::human;
use crate::report::{HostPart, HostStatus};
use crate::system::{LeftSwitch, SwitchState};

/// One line a subject, the set-up first.
pub(super) fn render(host: &HostStatus) -> Vec<String> {
    let switch = |on| if on { "on" } else { "off" };
    let list = |texts: Vec<String>| {
        if texts.is_empty() {
            "–".to_owned()
        } else {
            texts.join(", ")
        }
    };
    let open = host
        .missing
        .iter()
        .any(|missing| missing.what == HostPart::FirewallRules);
    let kill_switch = if host.kill_switch && open {
        "OPEN, its rules are missing"
    } else {
        switch(host.kill_switch)
    };
    let mut lines = vec![format!(
        "kill switch {} · default route {} · dns {} · forwarding {}",
        kill_switch,
        list(
            host.default_routes
                .iter()
                .map(ToString::to_string)
                .collect()
        ),
        list(host.dns.iter().map(ToString::to_string).collect()),
        switch(host.ip_forward)
    )];
    for family in &host.not_relayed {
        lines.push(format!(
            "{family} NOT RELAYED between peers: relay = false leaves it to the kernel, which forwards none"
        ));
    }
    for put_back in &host.put_back {
        let times = match put_back.times {
            0 => continue,
            1 => "once".to_owned(),
            times => format!("{} times", human::count(times)),
        };
        lines.push(format!(
            "{} put back {times}, last {} ago: somebody else changes them",
            put_back.what,
            human::span(put_back.seconds_ago)
        ));
    }
    for missing in &host.missing {
        lines.push(format!(
            "{} MISSING, and can't be put back: {}",
            missing.what, missing.reason
        ));
    }
    lines
}

/// The kill switch of another tunnel, which doesn't run, where it holds on this host.
pub(super) fn of_another(left: &LeftSwitch) -> Option<String> {
    if left.elsewhere || left.state != SwitchState::Holds {
        return None;
    }
    let name = &left.interface;
    let start = if left.start.is_empty() {
        String::new()
    } else {
        format!("start: {}; ", left.start)
    };
    Some(format!(
        "KILL SWITCH OF {name} HOLDS: nothing leaves, this tunnel's own datagrams neither; \
         {start}release: taltun undo {name}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Missing, PutBack};

    #[test]
    fn the_host_line_tells_what_is_set_up_and_what_others_did_to_it() {
        assert_eq!(
            render(&HostStatus::default()),
            ["kill switch off · default route – · dns – · forwarding off"]
        );
        let host = HostStatus {
            kill_switch: true,
            default_routes: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            dns: vec!["10.8.0.1".parse().unwrap()],
            ip_forward: true,
            not_relayed: vec!["IPv6".into()],
            put_back: vec![PutBack {
                what: HostPart::FirewallRules,
                times: 2,
                seconds_ago: 65,
            }],
            missing: vec![Missing {
                what: HostPart::Routes,
                reason: "no".into(),
            }],
        };
        assert_eq!(
            render(&host),
            [
                "kill switch on · default route 0.0.0.0/0, ::/0 · dns 10.8.0.1 · forwarding on",
                "IPv6 NOT RELAYED between peers: relay = false leaves it to the kernel, which forwards none",
                "firewall rules put back 2 times, last 1 min 5 s ago: somebody else \
                 changes them",
                "routes MISSING, and can't be put back: no",
            ]
        );
    }
}
