//! Endpoints given by name: looked up beside the controller, which never waits for a name
//! server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use super::runtime_dir;
use crate::config::{Config, Endpoint};
use crate::crypto::PublicKey;
use crate::system::{self, Endpoints};

/// How long after a failed look-up the next one is made.
const RETRY: Duration = Duration::from_secs(10);
/// How long a name that has to be looked up before the start may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(5);

/// What became of a look-up.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Whose endpoint it is.
    pub peer: PublicKey,
    /// Where it is, or why that isn't known. A failed look-up goes on being tried.
    pub address: Result<SocketAddr, String>,
}

/// Looks names up in tasks of their own.
#[derive(Debug)]
pub(super) struct Resolver {
    answers: mpsc::Sender<Resolved>,
}

impl Resolver {
    /// A resolver, and where its answers arrive.
    pub(super) fn new() -> (Self, mpsc::Receiver<Resolved>) {
        let (answers, receiver) = mpsc::channel(16);
        (Self { answers }, receiver)
    }

    /// Looks `host` up for `peer`, again and again until there is an answer.
    pub(super) fn resolve(&self, peer: PublicKey, host: &str, port: u16) {
        let answers = self.answers.clone();
        let host = host.to_owned();
        tokio::spawn(async move {
            loop {
                let address = match tokio::net::lookup_host((host.as_str(), port)).await {
                    Ok(mut addresses) => addresses
                        .next()
                        .ok_or_else(|| format!("the name {host} has no address")),
                    Err(error) => Err(format!("cannot look up {host}: {error}")),
                };
                let found = address.is_ok();
                if answers.send(Resolved { peer, address }).await.is_err() || found {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }
}

/// Looks up where the peers are that are given by name, before everything goes into the
/// tunnel, the questions to a name server among it. Where nothing does, there is no hurry,
/// and nothing is looked up. A name that can't be looked up now is where it was when the
/// tunnel was last set up, if that is remembered.
pub(super) async fn look_up(config: &Config) -> Endpoints {
    let everything = config.host.kill_switch || config.routes_around(&[]).next().is_some();
    if !everything {
        return Endpoints::new();
    }
    let mut known = system::remembered_endpoints(&runtime_dir(), &config.interface.tun_name);
    let mut found = Endpoints::new();
    for name in named_endpoints(config).map(|(_, name)| name) {
        let answer =
            tokio::time::timeout(LOOK_UP_LIMIT, tokio::net::lookup_host(name.clone())).await;
        let address = match answer {
            Ok(Ok(mut addresses)) => addresses.next(),
            Ok(Err(_)) | Err(_) => known.remove(&name),
        };
        if let Some(address) = address {
            found.insert(name, address);
        } else {
            warn!("cannot look up {name} before everything goes into the tunnel");
        }
    }
    found
}

/// What was found out of the peers' endpoints, as the resolver would tell it.
pub(super) fn answers(config: &Config, found: &Endpoints) -> Vec<Resolved> {
    named_endpoints(config)
        .filter_map(|(peer, name)| {
            let address = Ok(*found.get(&name)?);
            Some(Resolved { peer, address })
        })
        .collect()
}

/// The peers whose endpoint is a name, and that as `HOST:PORT`.
fn named_endpoints(config: &Config) -> impl Iterator<Item = (PublicKey, String)> {
    config.peers.iter().filter_map(|peer| match &peer.endpoint {
        Some(Endpoint::Name(host, port)) => Some((peer.public_key, format!("{host}:{port}"))),
        Some(Endpoint::Address(_)) | None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_becomes_an_address() {
        let (resolver, mut answers) = Resolver::new();
        let peer = PublicKey([1; 32]);
        resolver.resolve(peer, "localhost", 9000);
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer.peer, peer);
        let address = answer.address.unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), 9000);
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_a_reason() {
        let (resolver, mut answers) = Resolver::new();
        resolver.resolve(PublicKey([1; 32]), "nobody.invalid", 9000);
        let reason = answers.recv().await.unwrap().address.unwrap_err();
        assert!(reason.contains("nobody.invalid"), "{reason}");
    }
}
