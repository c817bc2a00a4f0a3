//! Endpoints given by name: looked up beside the controller, which never waits for a name
//! server.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use super::look_up::{LookUp, goes_inside};
use super::runtime_dir;
use crate::config::{Config, Endpoint, RangedEndpoint};
use crate::crypto::PublicKey;
use crate::protocol::device::Place;
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
    pub addresses: Result<Vec<Place>, String>,
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
    endpoints: Vec<RangedEndpoint>,
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

    /// Looks up the names among the endpoints of `peer`, again and again until there is an answer
    /// to one of them. A look-up of the same that isn't at its end yet goes on instead; one of
    /// other names for this peer ends.
    pub(super) fn resolve(&mut self, peer: PublicKey, endpoints: &[RangedEndpoint]) {
        self.tasks.retain(|_, task| !task.running.is_finished());
        let is_same = |task: &Task| task.endpoints == endpoints;
        if self.tasks.get(&peer).is_some_and(is_same) {
            return;
        }
        let (answers, look_up) = (self.answers.clone(), self.look_up.clone());
        let (endpoints, asked) = (endpoints.to_vec(), endpoints.to_vec());
        let running = tokio::spawn(async move {
            let (mut pause, mut told) = (FIRST_RETRY, None);
            loop {
                let mut asking = std::pin::pin!(places(&look_up, &asked));
                let addresses = match tokio::time::timeout(SLOW, &mut asking).await {
                    Ok(addresses) => addresses,
                    Err(_) if told.is_none() => {
                        let reason = format!("cannot look up {}: no answer yet", names(&asked));
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
        let task = Task { endpoints, running };
        self.tasks.insert(peer, task);
    }

    /// Ends all look-ups but those that `wanted` still wants.
    pub(super) fn retain(&mut self, wanted: impl Fn(&PublicKey, &[RangedEndpoint]) -> bool) {
        self.tasks
            .retain(|peer, task| wanted(peer, &task.endpoints));
    }
}

/// Where these endpoints are, in their order: what is known of them, if anything is.
async fn places(look_up: &LookUp, endpoints: &[RangedEndpoint]) -> Result<Vec<Place>, String> {
    let asking = endpoints.iter().map(|endpoint| async move {
        let addresses = match &endpoint.first {
            Endpoint::Address(address) => vec![*address],
            Endpoint::Name(host, port) => look_up.addresses(host, *port).await?,
        };
        let place = |address| Place::new(address, endpoint.last_port);
        Ok::<_, String>(addresses.into_iter().map(place).collect::<Vec<_>>())
    });
    let (mut found, mut failed) = (Vec::new(), None);
    for outcome in futures_util::future::join_all(asking).await {
        match outcome {
            Ok(places) => found.extend(places),
            Err(reason) => failed = failed.or(Some(reason)),
        }
    }
    match failed {
        Some(reason) if found.is_empty() => Err(reason),
        _ => Ok(found),
    }
}

/// The names among these endpoints.
fn names(endpoints: &[RangedEndpoint]) -> String {
    let names = endpoints
        .iter()
        .filter_map(|endpoint| match &endpoint.first {
            Endpoint::Name(host, _) => Some(host.as_str()),
            Endpoint::Address(_) => None,
        });
    names.collect::<Vec<_>>().join(", ")
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
    for (peer, host, port, last_port) in named_endpoints(config) {
        let look_up = look_up.clone();
        asking.spawn(async move {
            let limited = tokio::time::timeout(LOOK_UP_LIMIT, look_up.addresses(&host, port));
            let addresses = match limited.await {
                Ok(answer) => answer.ok(),
                Err(_) => None,
            };
            (peer, format!("{host}:{port}"), last_port, addresses)
        });
    }
    while let Some(Ok((peer, name, last_port, addresses))) = asking.join_next().await {
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
        let places = addresses.iter().map(|at| Place::new(*at, last_port));
        let places: Vec<Place> = places.collect();
        let of_peer = found.1.iter_mut().find(|resolved| resolved.peer == peer);
        match of_peer.map(|resolved| &mut resolved.addresses) {
            Some(Ok(others)) => others.extend(places),
            _ => found.1.push(Resolved {
                peer,
                addresses: Ok(places),
            }),
        }
    }
    found
}

/// The peers of which an endpoint is a name, and each of those, with the last of its ports.
fn named_endpoints(config: &Config) -> impl Iterator<Item = (PublicKey, String, u16, u16)> {
    let peers = config.peers.iter();
    let all = peers.flat_map(|peer| {
        let endpoints = ranged(peer.endpoint.as_ref(), &peer.endpoints);
        endpoints
            .into_iter()
            .map(|endpoint| (peer.public_key, endpoint))
    });
    all.filter_map(|(key, endpoint)| match endpoint.first {
        Endpoint::Name(host, port) => Some((key, host, port, endpoint.last_port)),
        Endpoint::Address(_) => None,
    })
}

/// All endpoints of a peer as if they were several.
pub(super) fn ranged(
    endpoint: Option<&Endpoint>,
    endpoints: &[RangedEndpoint],
) -> Vec<RangedEndpoint> {
    if !endpoints.is_empty() {
        return endpoints.to_vec();
    }
    let one = endpoint.map(|endpoint| RangedEndpoint {
        first: endpoint.clone(),
        last_port: endpoint.port(),
    });
    one.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn named(host: &str) -> RangedEndpoint {
        RangedEndpoint {
            first: Endpoint::Name(host.into(), 9000),
            last_port: 9009,
        }
    }

    fn at(port: u16) -> RangedEndpoint {
        RangedEndpoint {
            first: Endpoint::Address(SocketAddr::from(([192, 0, 2, 1], port))),
            last_port: port,
        }
    }

    fn resolver() -> (Resolver, mpsc::Receiver<Resolved>) {
        let key = crate::crypto::PrivateKey::from_bytes([7; 32]);
        Resolver::new(LookUp::new(&Config::plain("test0", key)))
    }

    #[tokio::test]
    async fn a_name_becomes_its_addresses() {
        let (mut resolver, mut answers) = resolver();
        let peer = PublicKey([1; 32]);
        resolver.resolve(peer, &[named("localhost"), at(7)]);
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer.peer, peer);
        let addresses = answer.addresses.unwrap();
        let [names @ .., last] = &addresses[..] else {
            panic!("nothing was found");
        };
        assert!(!names.is_empty());
        for place in names {
            assert!(place.first().ip().is_loopback());
            assert_eq!(*place, Place::new(place.first(), 9009));
        }
        assert_eq!(last.first().port(), 7);
        // Where one name isn't known, the other endpoints are used.
        let peer = PublicKey([2; 32]);
        resolver.resolve(peer, &[named("nobody.invalid"), at(7)]);
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer.addresses.unwrap(), [*last]);
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_a_reason() {
        let (mut resolver, mut answers) = resolver();
        resolver.resolve(PublicKey([1; 32]), &[named("nobody.invalid")]);
        let reason = answers.recv().await.unwrap().addresses.unwrap_err();
        assert!(reason.contains("nobody.invalid"), "{reason}");
    }

    #[tokio::test]
    async fn look_ups_dont_pile_up_and_end_with_their_peer() {
        let (mut resolver, _answers) = resolver();
        let peers: Vec<PublicKey> = (1..=3).map(|number| PublicKey([number; 32])).collect();
        for _ in 0..50 {
            for peer in &peers {
                resolver.resolve(*peer, &[named("nobody.invalid")]);
            }
        }
        assert_eq!(resolver.tasks.len(), 3);
        // Another name takes the place of the one before.
        resolver.resolve(peers[0], &[named("nobody-else.invalid")]);
        assert_eq!(resolver.tasks.len(), 3);
        let other = [named("nobody-else.invalid")];
        resolver.retain(|peer, endpoints| *peer == peers[0] && *endpoints == other);
        assert_eq!(resolver.tasks.len(), 1);
        resolver.retain(|_, _| false);
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
