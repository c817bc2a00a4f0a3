//! A gateway beside clients that open connections without end: it holds no more files than it
//! says, and others get their turn. Each test counts the files of the whole process, so they take
//! turns.

#![allow(
    clippy::unwrap_used,
    reason = "only tests, with helpers that clippy doesn't take for such"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use taltun_udpgw::codec::REBIND;
use taltun_udpgw::{Destinations, Options, Server, Watch};
use tokio::sync::oneshot;

static TURNS: Mutex<()> = Mutex::new(());

/// Runs `test` beside a gateway, with its address and its counters.
fn beside(options: Options, test: impl FnOnce(SocketAddr, &Watch)) {
    let _turn = TURNS.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let server = Server::bind(options).unwrap();
    let address = server.addresses().unwrap()[0];
    let watch = server.watch();
    let (stop, stopped) = oneshot::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            let stopped = async { drop(stopped.await) };
            runtime.block_on(server.run(stopped)).unwrap();
        });
        // Dropped if the test fails, which ends the gateway as well.
        let _stop = stop;
        test(address, &watch);
    });
}

fn options() -> Options {
    let loopback = "127.0.0.1/32".parse().unwrap();
    Options {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        max_connections: 5,
        destinations: Destinations::new(vec![loopback], Vec::new()),
        ..Options::default()
    }
}

/// Somebody who answers with what came; dropped with its socket's owner.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    address
}

fn frame(flags: u8, id: u16, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(to) = to else {
        panic!("IPv4 alone")
    };
    let length = 9 + payload.len() as u16;
    let mut frame = length.to_le_bytes().to_vec();
    frame.push(flags);
    frame.extend(id.to_le_bytes());
    frame.extend(to.ip().octets());
    frame.extend(to.port().to_be_bytes());
    frame.extend(payload);
    frame
}

fn connect(gateway: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit).unwrap();
    stream
}

/// Sends a datagram and waits until it is back.
fn round_trip(stream: &mut TcpStream, id: u16, to: SocketAddr) -> Duration {
    let start = Instant::now();
    let sent = frame(0, id, to, b"there and back");
    stream.write_all(&sent).unwrap();
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, sent);
    start.elapsed()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sends as fast as the gateway takes it, until `stop`.
fn flood(gateway: SocketAddr, frames: &[u8], stop: &AtomicBool) {
    let mut stream = connect(gateway);
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&frames[sent..]) {
            Ok(count) => sent = (sent + count) % frames.len(),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn clients_that_open_without_end_hold_what_they_may_and_leave_others_their_turn() {
    const HOSTILE: usize = 3;
    let (to, nobody) = (echo(), echo());
    for by_id in [false, true] {
        beside(options(), |gateway, watch| {
            let frame_of = |id: u16| {
                if by_id {
                    frame(0, id, nobody, b"")
                } else {
                    frame(REBIND, 1, nobody, b"")
                }
            };
            let frames: Vec<u8> = (0..20_000).flat_map(frame_of).collect();
            let stop = AtomicBool::new(false);
            let mut user = connect(gateway);
            round_trip(&mut user, 1, to);
            let before = open_files();
            let mut times = Vec::new();
            let mut most = 0;
            thread::scope(|scope| {
                for _ in 0..HOSTILE {
                    scope.spawn(|| flood(gateway, &frames, &stop));
                }
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(2) {
                    times.push(round_trip(&mut user, 1, to));
                    times.push(round_trip(&mut user, 2, to));
                    most = most.max(open_files());
                }
                stop.store(true, Ordering::Relaxed);
            });
            // Theirs and the gateway's end of each connection, one for a moment, and one to look.
            let allowed = before + HOSTILE * (2 + 5) + 1 + 1 + 1;
            assert!(most <= allowed, "{most} files, {before} before");
            times.sort_unstable();
            let typical = times[times.len() / 2];
            assert!(typical < Duration::from_millis(150), "{typical:?}");
            let counted = watch.stats().counted;
            assert!(counted.opened > 1000, "{}", counted.opened);
            assert_eq!(counted.dropped_no_file, 0);
        });
    }
}

#[test]
fn clients_that_send_large_datagrams_leave_others_their_turn() {
    const LARGEST: usize = 65_507;
    let to = echo();
    // Nobody reads there, so all that happens to these is that they are sent.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let frames = frame(0, 1, nobody.local_addr().unwrap(), &vec![0; LARGEST]);
    for hostile in [1, 4] {
        beside(options(), |gateway, watch| {
            let stop = AtomicBool::new(false);
            let mut user = connect(gateway);
            round_trip(&mut user, 1, to);
            let sent = || watch.stats().counted.to_udp;
            let mut meanwhile = Vec::new();
            thread::scope(|scope| {
                for _ in 0..hostile {
                    scope.spawn(|| flood(gateway, &frames, &stop));
                }
                let start = Instant::now();
                while sent() < 1000 {
                    assert!(start.elapsed() < Duration::from_secs(20));
                    thread::sleep(Duration::from_millis(1));
                }
                for _ in 0..60 {
                    let before = sent();
                    round_trip(&mut user, 1, to);
                    meanwhile.push(sent() - before);
                }
                stop.store(true, Ordering::Relaxed);
            });
            meanwhile.sort_unstable();
            // A few turns of each, and what they have while the echo waits for a core.
            let typical = meanwhile[meanwhile.len() / 2];
            assert!(typical < 500, "{typical} datagrams, {hostile} clients");
        });
    }
}

#[test]
fn clients_that_connect_and_close_without_end_leave_others_their_place() {
    const HOSTILE: usize = 4;
    let (to, nobody) = (echo(), echo());
    let options = Options {
        max_clients: 200,
        ..options()
    };
    beside(options, |gateway, watch| {
        let stop = AtomicBool::new(false);
        let frames: Vec<u8> = (0..10)
            .flat_map(|id| frame(0, id, nobody, b"open"))
            .collect();
        thread::scope(|scope| {
            for _ in 0..HOSTILE {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // Where the gateway is behind, the kernel may refuse.
                        if let Ok(mut stream) = TcpStream::connect(gateway) {
                            let _ = stream.write_all(&frames);
                        }
                    }
                });
            }
            let _stop = Stop(&stop);
            let mut honest = connect(gateway);
            let mut times = Vec::new();
            let mut most = 0;
            for id in 0..100 {
                times.push(round_trip(&mut honest, id % 5, to));
                most = most.max(watch.stats().clients);
            }
            times.sort_unstable();
            let median = times[times.len() / 2];
            assert!(median < Duration::from_millis(150), "{median:?}");
            // It is served in its turn, as the established one is.
            round_trip(&mut connect(gateway), 1, to);
            assert!(most < 150, "{most}");
            let counted = watch.stats().counted;
            assert!(counted.ended_by_client > 100, "{counted:?}");
            assert_eq!(counted.clients_refused, 0);
        });
        let start = Instant::now();
        while watch.stats().clients > 0 {
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(10));
        }
        let counted = watch.stats().counted;
        let ended = counted.ended_by_client + counted.ended_broken;
        assert_eq!(counted.clients_accepted, ended);
    });
}

/// Stops the others, also if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn clients_that_the_gateway_ends_are_counted() {
    let to = echo();
    let mut last = None;
    let mut honest = None;
    beside(options(), |gateway, watch| {
        let mut stream = connect(gateway);
        round_trip(&mut stream, 1, to);
        honest = Some(stream);
        last = Some(watch.clone());
    });
    let stats = last.unwrap().stats();
    assert_eq!((stats.clients, stats.connections), (0, 0));
    assert_eq!(stats.counted.clients_accepted, 1);
    assert_eq!(stats.counted.ended_with_gateway, 1);
    assert_eq!(stats.counted.closed_with_client, stats.counted.opened);
}

/// The gateway's end of a connection, as the kernel has it.
#[derive(Debug)]
struct End {
    state: String,
    /// The bytes that it still holds for the client.
    to_send: usize,
    client_port: u16,
}

/// The gateway's ends of connections.
fn connections(gateway: SocketAddr) -> Vec<End> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", gateway.port());
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| row[1].ends_with(&port) && row[3] != LISTENS);
    own.map(|row| {
        let (to_send, _) = row[4].split_once(':').unwrap();
        let (_, client_port) = row[2].split_once(':').unwrap();
        End {
            state: row[3].to_owned(),
            to_send: usize::from_str_radix(to_send, 16).unwrap(),
            client_port: u16::from_str_radix(client_port, 16).unwrap(),
        }
    })
    .collect()
}

/// The kernel's name for a socket that listens.
const LISTENS: &str = "0A";

/// A client that has more waiting for it than it reads.
fn unread(gateway: SocketAddr, to: SocketAddr) -> TcpStream {
    let mut stream = connect(gateway);
    let datagram = frame(0, 1, to, &vec![0; 30_000]);
    let own_port = stream.local_addr().unwrap().port();
    // Of this client: those before it may be on their way out.
    let waits = || {
        let mut ends = connections(gateway).into_iter();
        ends.any(|end| end.client_port == own_port && end.to_send > 0)
    };
    let start = Instant::now();
    while !waits() {
        assert!(start.elapsed() < Duration::from_secs(20), "all is read");
        for _ in 0..10 {
            stream.write_all(&datagram).unwrap();
        }
        thread::sleep(Duration::from_millis(2));
    }
    // What is on its way comes to rest.
    thread::sleep(Duration::from_millis(200));
    stream
}

#[test]
fn what_ended_clients_have_not_read_is_gone_with_them() {
    let to = echo();
    let mut held = Vec::new();
    let mut address = None;
    let until = |what: &str, condition: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(Duration::from_millis(10));
        }
    };
    beside(options(), |gateway, watch| {
        for _ in 0..5 {
            let mut stream = unread(gateway, to);
            stream.write_all(&[0, 0]).unwrap();
            held.push(stream);
        }
        until("they lie", &|| watch.stats().counted.ended_malformed == 5);
        until("nothing is left", &|| connections(gateway).is_empty());
        // One that closes its half, and reads nothing either.
        let stream = unread(gateway, to);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        held.push(stream);
        until("it closes", &|| watch.stats().counted.ended_by_client == 1);
        until("nothing is left", &|| connections(gateway).is_empty());
        // One that has read all sees the end of it.
        let mut honest = connect(gateway);
        round_trip(&mut honest, 1, to);
        honest.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(honest.read(&mut [0]).unwrap(), 0);
        held.push(unread(gateway, to));
        address = Some(gateway);
    });
    // The end of the gateway as well. The honest one's port is the client's to wait for.
    let left = connections(address.unwrap());
    assert!(left.iter().all(|end| end.to_send == 0), "{left:?}");
    assert!(left.iter().all(|end| end.state != "04"), "{left:?}");
}

#[test]
fn want_of_files_is_told_and_closes_no_connection_of_others() {
    let to = echo();
    let all = options().files();
    let without_clients = all - options().max_clients * 6;
    let options = Options {
        file_limit: Some(without_clients + 20),
        ..options()
    };
    let (clients, connections) = options.served();
    assert_eq!((clients, connections), (10, 10));
    beside(options, |gateway, watch| {
        let mut first = connect(gateway);
        round_trip(&mut first, 1, to);
        let mut others: Vec<_> = (0..3).map(|_| connect(gateway)).collect();
        // Nine places are left for these.
        for id in 1..=5 {
            for other in &mut others {
                other.write_all(&frame(0, id, to, b"x")).unwrap();
            }
        }
        let start = Instant::now();
        while watch.stats().counted.dropped_no_file < 6 {
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(10));
        }
        let stats = watch.stats();
        assert_eq!(stats.connections, 10);
        assert_eq!(stats.counted.dropped_destination, 0);
        // Judged again, and still there.
        thread::sleep(Duration::from_millis(2300));
        round_trip(&mut first, 1, to);
        drop(others);
        while watch.stats().connections > 1 {
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(10));
        }
        let counted = watch.stats().counted;
        assert_eq!(counted.opened, 10);
        assert_eq!(counted.closed_with_client, 9);
        round_trip(&mut first, 2, to);
    });
}
