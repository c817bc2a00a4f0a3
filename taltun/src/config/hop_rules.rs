//! What must hold of endpoints and `[hop]`, and what is odd about them.

use std::collections::HashSet;

use super::draft::{Draft, PeerDraft};
use super::error::ConfigError;
use super::hop::RangedEndpoint;
use super::{Endpoint, FirewallChoice, Mode, XdpMode};
use crate::protocol::device::MOST_PLACES;

/// Those of its keys that tell a client how to hop.
const OF_HOPS: [&str; 2] = ["hop_interval", "hop_pool"];

/// A peer has no more endpoints than are tried.
pub(super) fn check(peers: &[PeerDraft]) -> Result<(), ConfigError> {
    for peer in peers {
        let found = peer.endpoints.len();
        if found > MOST_PLACES
            && let Some(spot) = &peer.endpoints_spot
        {
            return Err(spot.error(format!(
                "expected at most {MOST_PLACES} endpoints, found {found}; name the ports of one \
                 address as a range, HOST:FIRST-LAST"
            )));
        }
    }
    Ok(())
}

/// What is odd about endpoints and `[hop]`.
pub(super) fn questionable(draft: &Draft) -> Vec<String> {
    let mut warnings: Vec<String> = draft.peers.iter().filter_map(overlapping).collect();
    warnings.extend(match draft.mode {
        Mode::Server => questionable_range(draft),
        Mode::Client => unused_range(draft),
    });
    warnings.extend(without_effect(draft));
    warnings
}

/// A server's range of ports that nothing leads to it, or that leaves too few to others.
fn questionable_range(draft: &Draft) -> Option<String> {
    let range = draft.hop.port_range?;
    let is_led = draft.host.firewall != FirewallChoice::None || draft.accel.xdp != XdpMode::Off;
    let says = if !is_led {
        "nothing can lead the range to this hub, as firewall is \"none\" and xdp is \"off\"; set \
         one of the two to \"auto\""
    } else if draft.local_addr.ip().to_canonical().is_loopback() {
        "interface.local_addr is an address of this host alone, so nobody outside reaches the range; \
         listen at an address that they reach, such as \"[::]:9000\""
    } else if range.outside().is_some() {
        return None;
    } else if draft.host.masquerade.is_some() {
        "the range leaves fewer than 4,096 ports in a row to the connections that nat.masquerade \
         translates, so they may have ports of it, where answers to them may be taken for messages \
         of peers; choose a smaller range"
    } else {
        "the range leaves fewer than 4,096 ports in a row to this host's other programs, which \
         ask name servers from such; choose a smaller range"
    };
    Some(draft.port_range.as_ref()?.say(says))
}

/// A client's range that no endpoint has.
fn unused_range(draft: &Draft) -> Option<String> {
    let range = draft.hop.port_range?;
    let has_it = |endpoint: &RangedEndpoint| {
        endpoint.first.port() == range.first && endpoint.last_port == range.last
    };
    let mut all = draft.peers.iter().flat_map(|peer| &peer.endpoints);
    let says = "no endpoint has these ports, as each names its own; leave the port out of the \
                endpoint, such as endpoint = \"hub.example.net\"";
    (!all.any(has_it)).then_some(draft.port_range.as_ref()?.say(says))
}

/// Keys that tell a client how to choose, where there is nothing to choose.
fn without_effect(draft: &Draft) -> Vec<String> {
    let all = || draft.peers.iter().flat_map(|peer| &peer.endpoints);
    let has_ports = all().any(|endpoint| !endpoint.is_single());
    let has_places = draft.peers.iter().any(|peer| peer.endpoints.len() > 1);
    // A name may have several addresses.
    let has_names = all().any(|endpoint| matches!(endpoint.first, Endpoint::Name(..)));
    let is_idle = |name: &str| {
        let has_choice = has_ports || !OF_HOPS.contains(&name) && (has_places || has_names);
        !has_choice
    };
    let says = |name: &str| match (draft.mode, OF_HOPS.contains(&name)) {
        (Mode::Server, _) => "without effect: this is for a client's file, as clients choose",
        (Mode::Client, true) => {
            "without effect, as no endpoint has several ports; write the endpoint as \
             \"HOST:FIRST-LAST\""
        }
        (Mode::Client, false) => {
            "without effect, as there is one address with one port; give the peer several \
             endpoints, or a range of ports"
        }
    };
    let given = draft.hop_choices.iter();
    given
        .filter(|(name, _)| is_idle(name))
        .map(|(name, spot)| spot.say(says(name)))
        .collect()
}

/// A place that is there twice, or within another.
fn overlapping(peer: &PeerDraft) -> Option<String> {
    let spot = peer.endpoints_spot.as_ref()?;
    let mut seen = HashSet::new();
    for (at, one) in peer.endpoints.iter().enumerate() {
        if !seen.insert(one.to_string()) {
            return Some(spot.say(format!("{one} is there twice; keep one of the two")));
        }
        let others = peer.endpoints.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != at);
        if let Some((_, other)) = others.find(|(_, other)| other != &one && other.covers(one)) {
            return Some(spot.say(format!("{one} lies within {other}; leave it out")));
        }
    }
    None
}
