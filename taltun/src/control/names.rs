//! Endpoints given by name: looked up beside the controller, which never waits for a name
//! server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::crypto::PublicKey;

/// How long after a failed look-up the next one is made.
const RETRY: Duration = Duration::from_secs(10);

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
