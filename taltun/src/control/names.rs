//! Endpoints given by name: looked up beside the controller, which never waits for a name
//! server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use super::look_up::{LookUp, goes_inside};
use super::runtime_dir;
use crate::config::{Config, Endpoint};
use crate::crypto::PublicKey;
use crate::system::{self, Endpoints};

/// How long after a failed look-up the next one is made: from the first to the longest, twice
/// as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A look-up that takes longer is told of, though it goes on.
const SLOW: Duration = Duration::from_secs(10);
/// How long names that have to be looked up before the start may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(5);

/// What became of a look-up.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Whose endpoint it is.
    pub peer: PublicKey,
    /// Where it may be, the first one to be tried first, or why that isn't known. A failed
    /// look-up goes on being tried.
    pub addresses: Result<Vec<SocketAddr>, String>,
}

/// Looks names up in tasks of their own, one for each peer at the most.
#[derive(Debug)]
pub(super) struct Resolver {
    look_up: LookUp,
    answers: mpsc::Sender<Resolved>,
    tasks: HashMap<PublicKey, Task>,
}

#[derive(Debug)]
struct Task {
    host: String,
    port: u16,
    running: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Resolver {
    /// A resolver, and where its answers arrive.
    pub(super) fn new(look_up: LookUp) -> (Self, mpsc::Receiver<Resolved>) {
        let (answers, receiver) = mpsc::channel(16);
        let resolver = Self {
            look_up,
            answers,
            tasks: HashMap::new(),
        };
        (resolver, receiver)
    }

    /// Marks questions that it asks itself.
    pub(super) fn set_mark(&self, mark: u32) {
        self.look_up.set_mark(mark);
    }

    /// Looks `host` up for `peer`, again and again until there is an answer. A look-up of the
    /// same that isn't at its end yet goes on instead; one of another name for this peer ends.
    pub(super) fn resolve(&mut self, peer: PublicKey, host: &str, port: u16) {
        self.tasks.retain(|_, task| !task.running.is_finished());
        let is_same = |task: &Task| task.host == host && task.port == port;
        if self.tasks.get(&peer).is_some_and(is_same) {
            return;
        }
        let (answers, look_up, name) =
            (self.answers.clone(), self.look_up.clone(), host.to_owned());
        let running = tokio::spawn(async move {
            let (mut pause, mut told) = (FIRST_RETRY, None);
            loop {
                let mut asking = std::pin::pin!(look_up.addresses(&name, port));
                let addresses = match tokio::time::timeout(SLOW, &mut asking).await {
                    Ok(addresses) => addresses,
                    Err(_) if told.is_none() => {
                        let reason = format!("cannot look up {name}: no answer yet");
                        told = Some(reason.clone());
                        let addresses = Err(reason);
                        if answers.send(Resolved { peer, addresses }).await.is_err() {
                            return;
                        }
                        asking.await
                    }
                    Err(_) => asking.await,
                };
                let failed = addresses.as_ref().err().cloned();
                let is_news = failed.is_none() || failed != told;
                if is_news {
                    let resolved = Resolved { peer, addresses };
                    if answers.send(resolved).await.is_err() {
                        return;
                    }
                }
                let Some(reason) = failed else { return };
                debug!("{reason}");
                told = Some(reason);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_RETRY);
            }
        });
        let task = Task {
            host: host.to_owned(),
            port,
            running,
        };
        self.tasks.insert(peer, task);
    }

    /// Ends all look-ups but those that `wanted` still wants.
    pub(super) fn retain(&mut self, wanted: impl Fn(&PublicKey, &str, u16) -> bool) {
        self.tasks
            .retain(|peer, task| wanted(peer, &task.host, task.port));
    }
}

/// Looks up where the peers are that are given by name, before everything goes into the
/// tunnel, the questions to a name server among it. Where nothing does, there is no hurry,
/// and nothing is looked up. A name that can't be looked up now is where it was when the
/// tunnel was last set up, if that is remembered; and it is looked up again later.
pub(super) async fn look_up(config: &Config, look_up: &LookUp) -> (Endpoints, Vec<Resolved>) {
    let mut found = (Endpoints::new(), Vec::new());
    if !goes_inside(config) {
        return found;
    }
    let mut known = system::remembered_endpoints(&runtime_dir(), &config.interface.tun_name);
    let mut asking = JoinSet::new();
    for (peer, host, port) in named_endpoints(config) {
        let look_up = look_up.clone();
        asking.spawn(async move {
            let limited = tokio::time::timeout(LOOK_UP_LIMIT, look_up.addresses(&host, port));
            let addresses = match limited.await {
                Ok(answer) => answer.ok(),
                Err(_) => None,
            };
            (peer, format!("{host}:{port}"), addresses)
        });
    }
    while let Some(Ok((peer, name, addresses))) = asking.join_next().await {
        let addresses = addresses.or_else(|| Some(vec![known.remove(&name)?]));
        let Some(addresses) = addresses else {
            warn!(
                "cannot look up {name} before everything goes into the tunnel; going on, and \
                 trying again outside of it"
            );
            continue;
        };
        if let Some(first) = addresses.first() {
            found.0.insert(name, *first);
        }
        let addresses = Ok(addresses);
        found.1.push(Resolved { peer, addresses });
    }
    found
}

/// The peers whose endpoint is a name, and that.
fn named_endpoints(config: &Config) -> impl Iterator<Item = (PublicKey, String, u16)> {
    config.peers.iter().filter_map(|peer| match &peer.endpoint {
        Some(Endpoint::Name(host, port)) => Some((peer.public_key, host.clone(), *port)),
        Some(Endpoint::Address(_)) | None => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver() -> (Resolver, mpsc::Receiver<Resolved>) {
        let key = crate::crypto::PrivateKey::from_bytes([7; 32]);
        Resolver::new(LookUp::new(&Config::plain("test0", key)))
    }

    #[tokio::test]
    async fn a_name_becomes_its_addresses() {
        let (mut resolver, mut answers) = resolver();
        let peer = PublicKey([1; 32]);
        resolver.resolve(peer, "localhost", 9000);
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer.peer, peer);
        let addresses = answer.addresses.unwrap();
        assert!(!addresses.is_empty());
        for address in addresses {
            assert!(address.ip().is_loopback());
            assert_eq!(address.port(), 9000);
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_a_reason() {
        let (mut resolver, mut answers) = resolver();
        resolver.resolve(PublicKey([1; 32]), "nobody.invalid", 9000);
        let reason = answers.recv().await.unwrap().addresses.unwrap_err();
        assert!(reason.contains("nobody.invalid"), "{reason}");
    }

    #[tokio::test]
    async fn look_ups_dont_pile_up_and_end_with_their_peer() {
        let (mut resolver, _answers) = resolver();
        let peers: Vec<PublicKey> = (1..=3).map(|number| PublicKey([number; 32])).collect();
        for _ in 0..50 {
            for peer in &peers {
                resolver.resolve(*peer, "nobody.invalid", 9000);
            }
        }
        assert_eq!(resolver.tasks.len(), 3);
        // Another name takes the place of the one before.
        resolver.resolve(peers[0], "nobody-else.invalid", 9000);
        assert_eq!(resolver.tasks.len(), 3);
        resolver.retain(|peer, host, _| *peer == peers[0] && host == "nobody-else.invalid");
        assert_eq!(resolver.tasks.len(), 1);
        resolver.retain(|_, _, _| false);
        // What was ended really ends.
        let metrics = tokio::runtime::Handle::current().metrics();
        let ended = tokio::time::timeout(Duration::from_secs(20), async {
            while metrics.num_alive_tasks() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        ended.await.unwrap();
    }
}
