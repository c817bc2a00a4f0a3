//! Names: a resolver that knows a few, and a client that asks as programs do, by what
//! `resolv.conf` says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Namespace;

/// The port of name servers.
pub const PORT: u16 = 53;
/// How often a resolver looks whether it is to end.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes before the first question.
const HEADER: usize = 12;

/// Seconds that an answer may be remembered for, where nobody cares.
const MINUTE: u32 = 60;
/// The number of questions for IPv4 addresses, and of those for IPv6 addresses.
const KINDS: [u8; 2] = [1, 28];

/// Where a name is; an empty name is any.
type Name = (String, IpAddr);

/// A resolver that knows some names; dropping it ends it.
#[derive(Debug)]
pub struct Resolver {
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Answers at `address`, port 53, in `namespace`, that all names are at `answer`.
    pub fn start(namespace: &Namespace, address: IpAddr, answer: Ipv4Addr) -> Result<Self> {
        Self::with_names(namespace, address, vec![("", answer.into())], MINUTE)
    }

    /// The same for these names, which may be remembered for `ttl` seconds; of others it says
    /// that they have no address.
    pub fn with_names(
        namespace: &Namespace,
        address: IpAddr,
        names: Vec<(&str, IpAddr)>,
        ttl: u32,
    ) -> Result<Self> {
        let names: Vec<Name> = names
            .into_iter()
            .map(|(name, address)| (name.to_owned(), address))
            .collect();
        let socket = namespace.udp((address, PORT))?;
        socket.set_read_timeout(Some(PAUSE))?;
        let asked = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, ended) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                if let Some(reply) = reply(&buffer[..length], &names, ttl) {
                    count.fetch_add(1, Ordering::Relaxed);
                    // The asker asks again, or notices.
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Ok(Self {
            asked,
            stop,
            thread: Some(thread),
        })
    }

    /// How many questions it has answered.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks the first name server of `resolv_conf` where `name` is, from `namespace`. Returns the
/// address, and who was asked.
pub fn look_up(
    namespace: &Namespace,
    resolv_conf: &Path,
    name: &str,
    limit: Duration,
) -> Result<(Ipv4Addr, IpAddr)> {
    let text = std::fs::read_to_string(resolv_conf)
        .with_context(|| format!("can't read {}", resolv_conf.display()))?;
    let server: IpAddr = text
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "))
        .with_context(|| format!("no name server in {text:?}"))?
        .trim()
        .parse()?;
    match ask(namespace, server, name, false, limit)? {
        Some(IpAddr::V4(address)) => Ok((address, server)),
        _ => bail!("{server} knows no address of {name}"),
    }
}

/// Asks `server` for the IPv4 or IPv6 address of `name`; `None` if it has none.
pub fn ask(
    namespace: &Namespace,
    server: IpAddr,
    name: &str,
    v6: bool,
    limit: Duration,
) -> Result<Option<IpAddr>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = namespace.udp((any, 0))?;
    socket.set_read_timeout(Some(limit))?;
    let question = question(name, v6);
    socket
        .send_to(&question, SocketAddr::new(server, PORT))
        .with_context(|| format!("can't ask {server}"))?;
    let mut buffer = [0; 512];
    let (length, _) = socket
        .recv_from(&mut buffer)
        .with_context(|| format!("{server} didn't answer"))?;
    let answer = &buffer[..length];
    let is_answer =
        length >= question.len() && answer[..2] == question[..2] && answer[2] & 0x80 != 0;
    ensure!(is_answer, "{server} answered nonsense");
    if answer[7] == 0 {
        return Ok(None);
    }
    // The address stands at the end.
    Ok(Some(if v6 {
        IpAddr::from(<[u8; 16]>::try_from(&answer[length - 16..])?)
    } else {
        IpAddr::from(<[u8; 4]>::try_from(&answer[length - 4..])?)
    }))
}

/// A question for the addresses of `name` (RFC 1035, section 4.1).
fn question(name: &str, v6: bool) -> Vec<u8> {
    // Its number, "recursion desired", one question.
    let mut message = vec![0x7a, 0x17, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, KINDS[usize::from(v6)], 0, 1]);
    message
}

/// The answer to `question`, if it is one.
fn reply(question: &[u8], names: &[Name], ttl: u32) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).into_owned());
        at += length;
    }
    let kind = *question.get(at + 1)?;
    let asked = labels.join(".").to_ascii_lowercase();
    let known = names.iter().find(|(name, address)| {
        (name.is_empty() || *name == asked) && KINDS[usize::from(address.is_ipv6())] == kind
    });
    let mut message = question.get(..at + 4)?.to_vec();
    message[2] = 0x81; // an answer
    message[3] = 0x80;
    message[6..12].copy_from_slice(&[0, u8::from(known.is_some()), 0, 0, 0, 0]);
    if let Some((_, address)) = known {
        // The name of the question, an address.
        message.extend([0xc0, 0x0c, 0, kind, 0, 1]);
        message.extend(ttl.to_be_bytes());
        match address {
            IpAddr::V4(v4) => message.extend([[0, 4].as_slice(), &v4.octets()].concat()),
            IpAddr::V6(v6) => message.extend([[0, 16].as_slice(), &v6.octets()].concat()),
        }
    }
    Some(message)
}
