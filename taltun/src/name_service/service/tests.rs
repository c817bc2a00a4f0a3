//! A forwarder on the loopback, and a name server that knows one address.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::config::Domain;
use crate::crypto::PublicKey;
use crate::name_service::dns_message::{ask_for, number};
use crate::name_service::upstream::ANSWER_LIMIT;

/// A question for `name`, of the type with this number.
fn question(name: &str, kind: u16) -> Vec<u8> {
    ask_for(name, kind, 0x1234).unwrap()
}

/// The addresses in an answer.
fn addresses(answer: &[u8]) -> Vec<(IpAddr, Duration)> {
    let records = records(answer).unwrap();
    let found = records.iter().filter_map(|record| {
        let ttl = Duration::from_secs(record.ttl.into());
        Some((record.address(answer).unwrap()?, ttl))
    });
    found.collect()
}

/// The answer of a server that knows 192.0.2.7 for everything, for half a minute, and
/// says it in small letters.
fn knows(asked: &[u8]) -> Vec<u8> {
    let end = super::question(asked).unwrap().end;
    let mut message = asked[..end].to_ascii_lowercase();
    message[..HEADER].copy_from_slice(&asked[..HEADER]);
    message[2] = 0x81;
    message[3] = 0x80;
    message[7] = 1;
    message[10..12].fill(0);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 7]);
    message
}

/// Numbers and ports that the server has seen.
type Seen = Arc<std::sync::Mutex<Vec<(u16, u16)>>>;

/// A zone of two peers, whose other names the same servers answer.
fn zone() -> Zone {
    let text = "[interface]\nmode = \"server\"\nvip = \"10.0.0.1/24\"\n\
                private_key = \"QEEnPbLtQ7Pk1mIyzvH0yuBrXcPVpE1bGL1C9cs9AWU=\"\n\
                [names]\ndomain = \"vpn\"\nupstream = \"127.0.0.1\"\n\
                [[peers]]\nname = \"ana\"\nvip = \"10.0.0.2\"\n\
                public_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\n";
    let config = crate::config::parse(text, "hub.toml").unwrap().config;
    let names = config.names.as_ref().unwrap();
    Zone::of(names, &config.interface, &config.peers)
}

async fn forwarder(seen: Seen) -> (SocketAddr, JoinSet<()>, mpsc::Receiver<Learned>) {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = upstream.local_addr().unwrap().port();
    let by_tcp = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
            let asked = &buffer[..length];
            seen.lock()
                .unwrap()
                .push((number(asked, 0).unwrap(), from.port()));
            if super::question(asked).unwrap().name.starts_with("silent") {
                continue;
            }
            // A forger is faster, and doesn't know the number.
            let mut forged = knows(asked);
            forged[0] ^= 1;
            upstream.send_to(&forged, from).await.unwrap();
            upstream.send_to(&knows(asked), from).await.unwrap();
        }
    });
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = by_tcp.accept().await.unwrap();
            let question = read_message(&mut stream).await.unwrap();
            write_message(&mut stream, &knows(&question)).await.unwrap();
        }
    });
    let routes = DnsRoutes {
        domains: vec![Domain::Below("example.net".into())],
        via: PublicKey([1; 32]),
        upstream: vec!["127.0.0.1".parse().unwrap()],
        keep: Duration::ZERO,
    };
    let (learned, learning) = mpsc::channel(4);
    let known = Known {
        zone: Some(watch::Sender::new(Arc::new(zone())).subscribe()),
        routes: Some(watch::Sender::new(Arc::new(routes)).subscribe()),
    };
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let sockets = Sockets {
        udp: vec![socket],
        tcp: vec![TcpListener::bind(at).await.unwrap()],
    };
    let forwarder = NameService::new(sockets, known, port, learned, None).unwrap();
    let mut serving = forwarder.serve();
    serving.spawn(async move { while tasks.join_next().await.is_some() {} });
    (at, serving, learning)
}

/// Asks as a program does, and reads whatever comes.
async fn ask(at: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(question, at).await.unwrap();
    let mut buffer = vec![0; LARGEST];
    let receiving = timeout(Duration::from_secs(20), socket.recv(&mut buffer));
    let length = receiving.await.unwrap().unwrap();
    buffer.truncate(length);
    buffer
}

#[tokio::test]
async fn names_in_the_tunnel_are_learned_before_they_are_answered() {
    let (at, _serving, mut learning) = forwarder(Seen::default()).await;
    let question = question("www.Example.net", 1);
    let asking = tokio::spawn(async move { ask(at, &question).await });
    let learned = learning.recv().await.unwrap();
    let expected = ("192.0.2.7".parse().unwrap(), Duration::from_secs(30));
    assert_eq!(learned.addresses, [expected]);
    assert_eq!(learned.names, ["www.example.net"]);
    assert!(!asking.is_finished(), "it waits for the route");
    learned.done.send(true).unwrap();
    let answer = asking.await.unwrap();
    assert_eq!(addresses(&answer), [expected]);
    // As it was asked, though the server says it otherwise.
    let asked = ask_for("www.Example.net", 1, 0x1234).unwrap();
    assert_eq!(answer[HEADER..asked.len()], asked[HEADER..]);
    assert_eq!(answer[..2], asked[..2]);
}

#[tokio::test]
async fn an_address_that_isnt_led_is_not_answered() {
    let (at, _serving, mut learning) = forwarder(Seen::default()).await;
    let asking = tokio::spawn(async move { ask(at, &question("www.example.net", 1)).await });
    learning.recv().await.unwrap().done.send(false).unwrap();
    let answer = asking.await.unwrap();
    assert_eq!(
        (answer[3] & 15, addresses(&answer).len()),
        (SERVER_FAILURE, 0)
    );
    // Nor where nobody says so in time.
    let asking = tokio::spawn(async move { ask(at, &question("www.example.net", 1)).await });
    let _unanswered = learning.recv().await.unwrap();
    let answer = asking.await.unwrap();
    assert_eq!(
        (answer[3] & 15, addresses(&answer).len()),
        (SERVER_FAILURE, 0)
    );
}

#[tokio::test]
async fn servers_are_asked_with_numbers_and_ports_of_our_own() {
    let seen = Seen::default();
    let (at, _serving, _learning) = forwarder(Arc::clone(&seen)).await;
    for _ in 0..16 {
        let answer = ask(at, &question("example.org", 1)).await;
        assert_eq!(answer[..2], [0x12, 0x34]);
    }
    let seen = seen.lock().unwrap();
    let ids: std::collections::HashSet<u16> = seen.iter().map(|(id, _)| *id).collect();
    let ports: std::collections::HashSet<u16> = seen.iter().map(|(_, port)| *port).collect();
    assert!(ids.len() > 12 && ports.len() > 8, "{seen:?}");
}

#[tokio::test]
async fn what_is_no_single_question_is_refused() {
    let (at, _serving, _learning) = forwarder(Seen::default()).await;
    let mut two = question("example.org", 1);
    two[5] = 2;
    two.extend(&question("www.example.net", 1)[HEADER..]);
    assert_eq!(ask(at, &two).await[3] & 15, FORMAT_ERROR);
    let transfer = question("www.example.net", 252);
    assert_eq!(ask(at, &transfer).await[3] & 15, REFUSED);
    let mut update = question("www.example.net", 1);
    update[2] = 5 << 3;
    assert_eq!(ask(at, &update).await[3] & 15, NOT_IMPLEMENTED);
}

#[tokio::test]
async fn who_asks_too_much_leaves_room_for_others() {
    let (at, _serving, _learning) = forwarder(Seen::default()).await;
    let greedy = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..2 * QUESTIONS {
        greedy
            .send_to(&question("silent.example.org", 1), at)
            .await
            .unwrap();
    }
    let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let mut buffer = [0; 512];
    let answered = timeout(Duration::from_secs(20), async {
        loop {
            // The flood may have filled the socket's buffer.
            other
                .send_to(&question("example.org", 1), at)
                .await
                .unwrap();
            let receiving = timeout(Duration::from_millis(500), other.recv(&mut buffer));
            if receiving.await.is_ok() {
                return;
            }
        }
    });
    answered.await.unwrap();
    // Connections that say nothing leave room for others as well.
    let mut idle = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        idle.push(TcpStream::connect(at).await.unwrap());
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    write_message(&mut stream, &question("example.org", 1))
        .await
        .unwrap();
    let answer = timeout(ANSWER_LIMIT * 3, read_message(&mut stream)).await;
    assert_eq!(addresses(&answer.unwrap().unwrap()).len(), 1);
}

#[tokio::test]
async fn own_names_wait_for_no_name_server() {
    const AT_ONCE: Duration = Duration::from_secs(1);
    let (at, _serving, _learning) = forwarder(Seen::default()).await;
    let ana: IpAddr = "10.0.0.2".parse().unwrap();
    let silent = question("silent.example.org", 1);
    // All places of this source wait for a server that says nothing.
    let greedy = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..4 * QUESTIONS_EACH {
        greedy.send_to(&silent, at).await.unwrap();
        tokio::task::yield_now().await;
    }
    let own = question("ana.vpn", 1);
    let answer = timeout(AT_ONCE, ask(at, &own)).await.unwrap();
    assert_eq!(addresses(&answer)[0].0, ana);
    // By TCP, too, where what else is asked finds no place.
    let mut stream = TcpStream::connect(at).await.unwrap();
    write_message(&mut stream, &silent).await.unwrap();
    let answer = timeout(AT_ONCE, read_message(&mut stream)).await;
    assert_eq!(answer.unwrap().unwrap()[3] & 15, SERVER_FAILURE);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(at).await.unwrap();
    // And where it finds one, and waits.
    write_message(&mut other, &silent).await.unwrap();
    for stream in [&mut stream, &mut other] {
        write_message(stream, &own).await.unwrap();
        let answer = timeout(AT_ONCE, read_message(stream)).await;
        let answer = answer.unwrap().unwrap();
        assert_eq!(addresses(&answer)[0].0, ana);
        assert_eq!(answer[..2], own[..2]);
    }
}

#[tokio::test]
async fn who_says_that_nothing_follows_still_gets_the_answers() {
    let (at, _serving, _learning) = forwarder(Seen::default()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let asked = ["example.org", "ana.vpn", "silent.example.org"];
    for name in asked {
        let question = question(name, 1);
        write_message(&mut stream, &question).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut answered = Vec::new();
    let reading = async {
        while let Ok(answer) = read_message(&mut stream).await {
            answered.push(super::question(&answer).unwrap().name);
        }
    };
    timeout(ALL_LIMIT * 2, reading).await.unwrap();
    answered.sort_unstable();
    assert_eq!(answered, ["ana.vpn", "example.org", "silent.example.org"]);
}

#[tokio::test]
async fn other_names_are_passed_on_and_nothing_is_learned() {
    let (at, _serving, mut learning) = forwarder(Seen::default()).await;
    let answer = ask(at, &question("example.net", 1)).await;
    assert_eq!(addresses(&answer).len(), 1);
    assert!(learning.try_recv().is_err());
}

#[tokio::test]
async fn a_family_that_the_tunnel_lacks_has_no_addresses() {
    let (at, _serving, mut learning) = forwarder(Seen::default()).await;
    let question = question("www.example.net", 28);
    let answer = ask(at, &question).await;
    assert!(records(&answer).unwrap().is_empty());
    assert_eq!(answer[3] & 15, 0, "no error");
    assert!(learning.try_recv().is_err());
}

#[tokio::test]
async fn a_connection_has_any_number_of_questions() {
    let (at, _serving, _learning) = forwarder(Seen::default()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    for _ in 0..2 {
        write_message(&mut stream, &question("example.org", 1))
            .await
            .unwrap();
        let answer = timeout(ANSWER_LIMIT * 3, read_message(&mut stream)).await;
        assert_eq!(addresses(&answer.unwrap().unwrap()).len(), 1);
    }
}
