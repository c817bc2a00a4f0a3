//! One look-up of an endpoint's name: by the host's resolver, or where that asks inside the
//! tunnel, by ourselves, with the mark of our own datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::name_servers::Host;
use crate::config::{Config, no_host};
use crate::name_service::dns_message::{
    Section, TYPE_A, TYPE_AAAA, ask_for, is_answer_to, question, records,
};
use crate::os::sockets;

/// How long a name server may take before the next is asked.
const SERVER_LIMIT: Duration = Duration::from_secs(2);
/// How long the host's resolver may take.
const RESOLVER_LIMIT: Duration = Duration::from_secs(30);
/// The largest message of UDP.
const LARGEST: usize = 65_535;

/// How names are looked up.
#[derive(Debug, Clone)]
pub(super) struct LookUp {
    /// Where the host's resolver can't be relied on: it asks inside the tunnel, which may be
    /// down until the answer is there.
    around: Option<Host>,
    mark: Arc<AtomicU32>,
}

impl LookUp {
    /// As `config` needs it. Made before anything of the host is changed.
    pub(super) fn new(config: &Config) -> Self {
        let host = &config.host;
        let inside = goes_inside(config) || !host.dns.servers.is_empty();
        Self {
            around: inside.then(|| Host::look_around(&host.dns.servers)),
            mark: Arc::default(),
        }
    }

    /// Marks questions from now on; 0 for no mark.
    pub(super) fn set_mark(&self, mark: u32) {
        self.mark.store(mark, Ordering::Relaxed);
    }

    /// All addresses of a name, in the order in which they are to be tried; never none.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let Some(around) = &self.around else {
            return by_resolver(host, port).await;
        };
        let found = self.ask_around(around, host).await;
        let found = found.map_err(|reason| format!("cannot look up {host}: {reason}"))?;
        let found = of_hosts(host, found)?;
        let mark = self.mark.load(Ordering::Relaxed);
        let reachable =
            |address: &IpAddr| sockets::ask(SocketAddr::new(*address, port.max(1)), mark).is_ok();
        Ok(in_turn(found, reachable, port))
    }

    /// Asks the host's own name servers, outside of the tunnel.
    async fn ask_around(&self, around: &Host, host: &str) -> Result<Vec<IpAddr>, String> {
        let known = around.in_hosts(host);
        if !known.is_empty() {
            return Ok(known);
        }
        let servers = around.servers();
        if servers.is_empty() {
            return Err("this machine has no name server yet, besides those in the tunnel".into());
        }
        let mark = self.mark.load(Ordering::Relaxed);
        let mut reason = String::new();
        for server in servers {
            let (v6, v4) = tokio::join!(
                ask(server, mark, host, TYPE_AAAA),
                ask(server, mark, host, TYPE_A)
            );
            let mut found = Vec::new();
            for answer in [v6, v4] {
                match answer {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => reason = format!("{}: {error}", server.ip()),
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
            if reason.is_empty() {
                reason = format!("{} knows no address of it", server.ip());
            }
        }
        Err(reason)
    }
}

/// Asks as every program does, which has the addresses in order.
async fn by_resolver(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let asking = timeout(RESOLVER_LIMIT, tokio::net::lookup_host((host, port)));
    let found: Vec<IpAddr> = match asking.await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        Ok(Err(error)) => return Err(format!("cannot look up {host}: {error}")),
        Err(_) => {
            return Err(format!(
                "cannot look up {host}: the resolver doesn't answer"
            ));
        }
    };
    if found.is_empty() {
        return Err(format!("the name {host} has no address"));
    }
    Ok(in_turn(of_hosts(host, found)?, |_| true, port))
}

/// Those of a name's addresses that one host can have. Filters of names answer with 0.0.0.0, which would
/// be this machine itself.
fn of_hosts(name: &str, mut found: Vec<IpAddr>) -> Result<Vec<IpAddr>, String> {
    let first = found.first().copied();
    found.retain(|address| no_host(*address).is_none());
    match first.and_then(|first| Some((first, no_host(first)?))) {
        Some((first, why)) if found.is_empty() => {
            Err(format!("the name {name} leads to {first}, which {why}"))
        }
        _ => Ok(found),
    }
}

/// Whether everything goes into the tunnel, questions to a name server among it.
pub(super) fn goes_inside(config: &Config) -> bool {
    config.host.kill_switch || config.routes_around(&[]).next().is_some()
}

/// Asks one server for one kind of address.
async fn ask(server: SocketAddr, mark: u32, host: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let asking = async {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let id = u16::from_be_bytes(id);
        let asked =
            ask_for(host, kind, id).ok_or_else(|| io::Error::other("it is no name of DNS"))?;
        let socket = sockets::ask(server, mark)?;
        socket.send(&asked).await?;
        let mut buffer = vec![0; LARGEST];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let answer = &buffer[..length];
            if is_answer_to(answer, id, &asked, asked.len()) {
                return io::Result::Ok(answer.to_vec());
            }
        }
    };
    let answer = timeout(SERVER_LIMIT, asking)
        .await
        .map_err(|_| io::Error::other("it doesn't answer"))??;
    match answer[3] & 0x0f {
        0 => {}
        3 => return Err(io::Error::other("it says that there is no such name")),
        code => {
            return Err(io::Error::other(format!(
                "it answers with the error {code}"
            )));
        }
    }
    // Names on the way come with those that they lead to.
    let records = records(&answer)
        .filter(|_| question(&answer).is_some())
        .ok_or_else(|| io::Error::other("its answer isn't understood"))?;
    let answers = records
        .iter()
        .filter(|record| record.section == Section::Answer);
    Ok(answers
        .filter_map(|record| record.address(&answer).ok()?)
        .collect())
}

/// Addresses in the order in which they are tried: those that can be sent to before others,
/// and from there the two families by turns (RFC 8305, section 4), so that a broken one costs
/// one attempt.
fn in_turn(found: Vec<IpAddr>, reachable: impl Fn(&IpAddr) -> bool, port: u16) -> Vec<SocketAddr> {
    let mut unique = Vec::new();
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let (first, last): (Vec<IpAddr>, Vec<IpAddr>) = unique.into_iter().partition(reachable);
    [first, last]
        .into_iter()
        .flat_map(interleaved)
        .map(|address| SocketAddr::new(address, port))
        .collect()
}

fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let Some(first) = addresses.first().copied() else {
        return addresses;
    };
    let (one, other): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first.is_ipv4());
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        let before = turns.len();
        turns.extend(one.next());
        turns.extend(other.next());
        if turns.len() == before {
            return turns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_that_no_host_has_are_left_out() {
        let of = |texts: &[&str]| of_hosts("hub.example", addresses(texts));
        let some = of(&["0.0.0.0", "192.0.2.1", "::", "255.255.255.255"]);
        assert_eq!(some, Ok(addresses(&["192.0.2.1"])));
        let none = of(&["0.0.0.0", "::"]).unwrap_err();
        assert_eq!(
            none,
            "the name hub.example leads to 0.0.0.0, which means \"any address\""
        );
    }

    #[test]
    fn families_take_turns_and_what_cant_be_reached_comes_last() {
        let found = addresses(&["2001:db8::1", "2001:db8::2", "192.0.2.1", "2001:db8::1"]);
        let turns = |reachable: fn(&IpAddr) -> bool| -> Vec<String> {
            let turns = in_turn(found.clone(), reachable, 7);
            turns.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            turns(|_| true),
            ["[2001:db8::1]:7", "192.0.2.1:7", "[2001:db8::2]:7"]
        );
        assert_eq!(
            turns(IpAddr::is_ipv4),
            ["192.0.2.1:7", "[2001:db8::1]:7", "[2001:db8::2]:7"]
        );
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_a_reason() {
        let server = "127.0.0.1:9".parse().unwrap();
        assert!(ask(server, 0, "a.example.net", TYPE_A).await.is_err());
        assert!(ask(server, 0, "a..b", TYPE_A).await.is_err());
    }
}
