//! `taltun peer show`

use std::fmt::Write;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::peers::limits;
use crate::cli::target::Target;
use crate::cli::width::{printable, shown};
use crate::cli::{human, output};
use crate::control::request;
use crate::report::PeerStatus;

/// Show a peer of a running tunnel.
#[derive(Args)]
pub(super) struct Show {
    /// Its name or public key.
    peer: String,

    /// Print JSON: the peer as `taltun status --json` has it.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let status = self.target.ask(request::Status)?;
        let peer = meant(&status.peers, &self.peer);
        let peer = peer.map_err(|reason| Failure::Other(self.target.advice(&reason)))?;
        if self.json {
            output::print_json(peer)
        } else {
            output::print(&render(peer))
        }
    }
}

/// The peer with this name or key.
fn meant<'a>(peers: &'a [PeerStatus], word: &str) -> Result<&'a PeerStatus, String> {
    let is_named = |peer: &&PeerStatus| peer.name.as_deref() == Some(word);
    let by_key = peers.iter().find(|peer| peer.public_key == word);
    let mut named = peers.iter().filter(is_named);
    match (by_key.or_else(|| named.next()), named.next()) {
        (Some(peer), None) => Ok(peer),
        (Some(_), Some(_)) => Err(format!(
            "several peers are called {word:?}; give the public key of one"
        )),
        (None, _) => Err(format!(
            "{:?} is no peer's name or key; `taltun peer list` lists them",
            shown(word)
        )),
    }
}

fn render(peer: &PeerStatus) -> String {
    let none = || "–".to_owned();
    let endpoint = match (&peer.endpoint_name, peer.endpoint) {
        (Some(name), Some(at)) => format!("{name} ({at})"),
        (Some(name), None) => name.clone(),
        (None, at) => at.map_or_else(none, |at| at.to_string()),
    };
    let mut lines = vec![
        (
            "name",
            peer.name
                .as_deref()
                .map_or_else(none, |name| printable(name).into_owned()),
        ),
        ("public key", peer.public_key.clone()),
        (
            "preshared key",
            if peer.preshared_key { "yes" } else { "none" }.to_owned(),
        ),
        ("addresses", addresses(peer)),
        ("endpoint", endpoint),
        ("last handshake", last_handshake(peer)),
        ("received", human::bytes(peer.rx_bytes)),
        ("sent", human::bytes(peer.tx_bytes)),
    ];
    lines.extend(limits(peer).into_iter().map(|limit| ("limit", limit)));
    if let Some(problem) = &peer.problem {
        lines.push(("problem", problem.message.clone()));
    }
    let mut text = String::new();
    for (what, value) in lines {
        let _ = writeln!(text, "{:<16}{value}", format!("{what}:"));
    }
    text
}

/// What a peer owns, as short as can be: single addresses without their prefix.
pub(super) fn addresses(peer: &PeerStatus) -> String {
    let short = |net: &ipnet::IpNet| {
        if net.prefix_len() == net.max_prefix_len() {
            net.addr().to_string()
        } else {
            net.to_string()
        }
    };
    let all: Vec<String> = peer.allowed_ips.iter().map(short).collect();
    if all.is_empty() {
        return "–".to_owned();
    }
    all.join(", ")
}

/// How long ago its last handshake was.
pub(super) fn last_handshake(peer: &PeerStatus) -> String {
    match peer.latest_handshake_seconds {
        Some(seconds) => human::ago(seconds),
        None => "never".to_owned(),
    }
}
