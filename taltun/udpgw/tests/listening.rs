//! A gateway that takes the place of another one, which listens meanwhile.

#![allow(
    clippy::unwrap_used,
    reason = "only tests, with helpers that clippy doesn't take for such"
)]

use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use taltun_udpgw::{Listening, Options, Server, StartError};

fn options(listen: &[String]) -> Options {
    let all = listen.iter().map(|it| it.parse::<SocketAddr>().unwrap());
    Options {
        listen: all.map(Into::into).collect(),
        ..Options::default()
    }
}

/// A port that nobody has, and that the kernel gives to nobody while this runs: below its range.
fn port(number: u16) -> u16 {
    let own = std::process::id() % 1000;
    20_000 + own as u16 * 10 + number
}

fn connects(address: &str, port: u16) -> bool {
    TcpStream::connect((address, port)).is_ok()
}

/// Somebody who lets others of the same user listen there as well.
fn sharing(port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket.bind(&address.into()).unwrap();
    socket.listen(1).unwrap();
    socket
}

#[test]
fn who_narrows_or_widens_gets_what_a_fresh_start_gets() {
    let port = port(0);
    let at = |addresses: &[&str]| -> Vec<String> {
        addresses.iter().map(|it| format!("{it}:{port}")).collect()
    };
    let steps: &[(&[&str], [bool; 3])] = &[
        (&["[::]"], [true, true, true]),
        (&["[::]", "127.0.0.1"], [true, true, false]),
        (&["[::]"], [true, true, true]),
        (&["[::]", "0.0.0.0"], [true, true, true]),
        (&["127.0.0.2"], [false, false, true]),
        (&["0.0.0.0"], [false, true, true]),
        (&["[::]"], [true, true, true]),
        (&["[::1]", "127.0.0.1"], [true, true, false]),
    ];
    let nobody = Listening::default();
    let mut earlier = Listening::open(&options(&at(steps[0].0)), &nobody, &nobody).unwrap();
    for (listen, expected) in steps {
        let listening = Listening::open(&options(&at(listen)), &earlier, &nobody).unwrap();
        drop(earlier);
        let found = ["::1", "127.0.0.1", "127.0.0.2"].map(|it| connects(it, port));
        assert_eq!(found, *expected, "{listen:?}");
        earlier = listening;
    }
}

#[test]
fn a_port_that_another_program_shares_is_taken_all_the_same() {
    let (ours, theirs) = (port(1), port(2));
    let _program = sharing(theirs);
    let ours = format!("127.0.0.1:{ours}");
    let nobody = Listening::default();
    let earlier = options(std::slice::from_ref(&ours));
    let earlier = Listening::open(&earlier, &nobody, &nobody).unwrap();
    let both = [ours, format!("127.0.0.1:{theirs}")];
    let error = Listening::open(&options(&both), &earlier, &nobody).unwrap_err();
    let StartError::Listen { address, reason } = error else {
        panic!("{error}");
    };
    assert_eq!(address.port(), theirs);
    assert_eq!(reason.raw_os_error(), Some(libc::EADDRINUSE));
}

#[test]
fn nobody_shares_what_a_gateway_took_over() {
    let at = [format!("127.0.0.1:{}", port(3))];
    let nobody = Listening::default();
    let earlier = Listening::open(&options(&at), &nobody, &nobody).unwrap();
    let other_buffer = Options {
        tcp_receive_buffer: Some(300_000),
        ..options(&at)
    };
    let listening = Listening::open(&other_buffer, &earlier, &nobody).unwrap();
    assert!(Server::bind(options(&at)).is_err());
    drop(earlier);
    assert!(Server::bind(options(&at)).is_err());
    assert!(connects("127.0.0.1", port(3)));
    drop(listening);
    assert!(!connects("127.0.0.1", port(3)));
}
