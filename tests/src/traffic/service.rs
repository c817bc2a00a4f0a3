//! A small TCP service, as ssh or a database is one: it says hello, and who it sees.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::netns::Namespace;

/// How often a service looks whether it is to end.
const PAUSE: Duration = Duration::from_millis(10);

/// A running service; dropping it ends it.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Listens at `address` in `namespace` and greets everybody by the address that they
    /// come from.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = namespace.tcp(address)?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, from)) => drop(greet(stream, from)),
                    Err(_) => sleep(PAUSE),
                }
            }
        });
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A service that panicked has served nobody, which its clients have told.
            let _ = thread.join();
        }
    }
}

/// Connects from `namespace` to a [`Service`] and returns the address that it sees.
pub fn visit(namespace: &Namespace, to: SocketAddr, limit: Duration) -> Result<IpAddr> {
    let said = namespace.run(|| -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    })?;
    let said = said.with_context(|| format!("can't reach {to} from {}", namespace.name()))?;
    said.trim()
        .parse()
        .map_err(|_| anyhow!("{to} answered {said:?}"))
}

/// Expects that nobody answers at `to`, and returns how that shows.
pub fn ensure_closed(namespace: &Namespace, to: SocketAddr, limit: Duration) -> Result<String> {
    let outcome = namespace.run(|| TcpStream::connect_timeout(&to, limit))?;
    match outcome {
        Ok(_) => bail!("{to} can be reached from {}", namespace.name()),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok("no answer".to_owned()),
        Err(error) => Ok(error.to_string()),
    }
}

fn greet(mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let ip = match from.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(from.ip(), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    writeln!(stream, "{ip}")
}
