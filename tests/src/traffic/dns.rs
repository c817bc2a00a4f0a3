//! Names: a resolver that knows one answer, and a client that asks as programs do, by what
//! `resolv.conf` says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// The port of name servers.
pub const PORT: u16 = 53;
/// How often a resolver looks whether it is to end.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes before the first question.
const HEADER: usize = 12;

/// A resolver that answers each question with the same address; dropping it ends it.
#[derive(Debug)]
pub struct Resolver {
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Answers at `address`, port 53, in `namespace`, that all names are at `answer`.
    pub fn start(namespace: &Namespace, address: IpAddr, answer: Ipv4Addr) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind((address, PORT)))?
            .with_context(|| format!("can't listen on {address} in {}", namespace.name()))?;
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
                if let Some(reply) = reply(&buffer[..length], answer) {
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
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = namespace.run(|| UdpSocket::bind((any, 0)))??;
    socket.set_read_timeout(Some(limit))?;
    let question = question(name);
    socket
        .send_to(&question, SocketAddr::new(server, PORT))
        .with_context(|| format!("can't ask {server}"))?;
    let mut buffer = [0; 512];
    let (length, _) = socket
        .recv_from(&mut buffer)
        .with_context(|| format!("{server} didn't answer"))?;
    let answer = &buffer[..length];
    ensure!(
        length >= question.len() + 16 && answer[..2] == question[..2] && answer[7] == 1,
        "{server} answered nonsense"
    );
    let address: [u8; 4] = answer[length - 4..].try_into()?;
    Ok((Ipv4Addr::from(address), server))
}

/// A question for the IPv4 addresses of `name` (RFC 1035, section 4.1).
fn question(name: &str) -> Vec<u8> {
    // Its number, "recursion desired", one question.
    let mut message = vec![0x7a, 0x17, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The answer to `question`, if it is one.
fn reply(question: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let end = question.get(HEADER..)?.iter().position(|byte| *byte == 0)? + HEADER + 5;
    let mut message = question.get(..end)?.to_vec();
    message[2] = 0x81; // an answer
    message[3] = 0x80;
    message[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    // The name of the question, an address, for a minute, four bytes.
    message.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    message.extend(answer.octets());
    Some(message)
}
