//! The clients of a gateway, and the service beyond it that echoes datagrams.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::sys;

/// Bytes of a datagram.
const DATAGRAM: usize = 100;
/// Bytes of its frame.
const FRAME: usize = 2 + 9 + DATAGRAM;
/// How long an answer may take before its datagram counts as lost.
const LOST: Duration = Duration::from_secs(1);
/// How long one is waited for that is late anyhow.
const SHORT: Duration = Duration::from_millis(1);
/// How long the last answers of a phase may take.
const REST: Duration = Duration::from_millis(500);
/// The echo's socket buffers, bytes.
const ECHO_BUFFER: i32 = 32 << 20;
/// How many threads play all clients.
const PLAYERS: usize = 2;
/// A client's thread needs little.
const STACK: usize = 128 << 10;

/// Answers datagrams until the bench ends; where.
pub fn echo() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // All clients send at once, and what the echo loses says nothing of the gateway.
    sys::enlarge_buffers(&socket, ECHO_BUFFER)?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        // It ends with us, as nobody waits for it.
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(address)
}

/// What came of a phase.
#[derive(Debug, Default)]
pub struct Sent {
    /// Datagrams that went there and back.
    pub answered: u64,
    /// Those that didn't come back.
    pub lost: u64,
    /// How long it took.
    pub seconds: f64,
}

/// All clients of a gateway.
pub struct Clients {
    streams: Vec<TcpStream>,
    echo: SocketAddr,
    connections: u16,
    born: Instant,
}

impl Clients {
    /// Connects them.
    pub fn connect(
        gateway: SocketAddr,
        count: usize,
        connections: u16,
        echo: SocketAddr,
    ) -> Result<Self> {
        let mut streams = Vec::new();
        for _ in 0..count {
            let stream = TcpStream::connect(gateway).context("a client can't connect")?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        Ok(Self {
            streams,
            echo,
            connections,
            born: Instant::now(),
        })
    }

    /// As many datagrams as go through: each client sends one on each of its connections as
    /// soon as those before are answered.
    pub fn saturate(&self, seconds: u64) -> Result<Sent> {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(seconds);
        let share = self.streams.len().div_ceil(PLAYERS);
        let parts: Result<Vec<Sent>> = thread::scope(|scope| {
            let parts = self.streams.chunks(share);
            let players: Vec<_> = parts
                .map(|part| scope.spawn(move || self.rounds(part, deadline)))
                .collect();
            let players = players.into_iter();
            players
                .map(|player| player.join().expect("it doesn't panic"))
                .collect()
        });
        let mut all = Sent {
            seconds: start.elapsed().as_secs_f64(),
            ..Sent::default()
        };
        for part in parts? {
            all.answered += part.answered;
            all.lost += part.lost;
        }
        Ok(all)
    }

    fn rounds(&self, streams: &[TcpStream], deadline: Instant) -> Result<Sent> {
        let mut sent = Sent::default();
        let frames: Vec<u8> = (0..self.connections)
            .flat_map(|id| self.frame(id, 0))
            .collect();
        let mut buffer = vec![0; frames.len()];
        while Instant::now() < deadline {
            for mut stream in streams {
                stream.write_all(&frames).context("a client is ended")?;
            }
            // All wait for lost answers at the same time, not one after the other.
            let mut is_late = false;
            for mut stream in streams {
                let patience = if is_late { SHORT } else { LOST };
                stream.set_read_timeout(Some(patience))?;
                let mut read = 0;
                while read < frames.len() {
                    match stream.read(&mut buffer[read..]) {
                        Ok(0) => anyhow::bail!("a client is ended"),
                        Ok(more) => read += more,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            is_late = true;
                            break;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                let answered = (read / FRAME) as u64;
                sent.answered += answered;
                sent.lost += u64::from(self.connections) - answered;
            }
        }
        Ok(sent)
    }

    /// The delays, there and back, of datagrams that are sent `rate` a second, by all clients
    /// in turn; in seconds, sorted. Ends the clients.
    pub fn delays(self, rate: u64, seconds: u64) -> Result<Vec<f64>> {
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for stream in &self.streams {
                stream.set_read_timeout(None)?;
                let read = || self.read(stream);
                let thread = thread::Builder::new().stack_size(STACK);
                readers.push(thread.spawn_scoped(scope, read)?);
            }
            let start = Instant::now();
            let outcome = self.paced(rate, start, rate * seconds);
            sleep(REST);
            for stream in &self.streams {
                // One that is ended already is as good.
                let _ = stream.shutdown(Shutdown::Both);
            }
            let readers = readers.into_iter();
            let mut delays: Vec<f64> = readers
                .flat_map(|reader| reader.join().expect("it doesn't panic"))
                .collect();
            outcome?;
            ensure!(!delays.is_empty(), "no datagram came back");
            delays.sort_by(f64::total_cmp);
            Ok(delays)
        })
    }

    fn paced(&self, rate: u64, start: Instant, count: u64) -> Result<()> {
        for number in 0..count {
            let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
            sleep(due.saturating_duration_since(Instant::now()));
            let turn = number as usize / self.streams.len();
            let mut stream = &self.streams[number as usize % self.streams.len()];
            let id = (turn % usize::from(self.connections)) as u16;
            let now = self.born.elapsed().as_nanos() as u64;
            stream.write_all(&self.frame(id, now))?;
        }
        Ok(())
    }

    /// Reads what comes to a client, until it is ended; the delays.
    fn read(&self, mut stream: &TcpStream) -> Vec<f64> {
        let mut delays = Vec::new();
        let mut frame = [0; FRAME];
        while stream.read_exact(&mut frame).is_ok() {
            let now = self.born.elapsed().as_nanos() as u64;
            let then: [u8; 8] = frame[FRAME - DATAGRAM..][..8]
                .try_into()
                .expect("these are eight bytes");
            let then = u64::from_be_bytes(then);
            // Answers to the phase before have no time.
            if then > 0 {
                delays.push(now.saturating_sub(then) as f64 / 1e9);
            }
        }
        delays
    }

    /// A datagram for the echo, with a time in it.
    fn frame(&self, id: u16, time: u64) -> [u8; FRAME] {
        let mut frame = [0; FRAME];
        frame[..2].copy_from_slice(&((FRAME - 2) as u16).to_le_bytes());
        frame[3..5].copy_from_slice(&id.to_le_bytes());
        frame[5..9].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
        frame[9..11].copy_from_slice(&self.echo.port().to_be_bytes());
        frame[11..19].copy_from_slice(&time.to_be_bytes());
        frame
    }
}
