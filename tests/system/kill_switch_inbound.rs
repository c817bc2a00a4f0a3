//! What comes in from outside opens a way out of a kill switch only for the TCP connection that
//! it opens.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::sys::Signal;
use taltun_tests::topology::WIRE_A;
use taltun_tests::traffic::capture::Capture;
use taltun_tests::traffic::service::{Service, visit};

use crate::kill_switch::Full;
use crate::support::Case;

pub const CASES: &[Case] = &[
    Case {
        name: "kill switch: a datagram from outside opens no way out, with nftables",
        programs: &["nft"],
        run: || datagrams("nftables"),
    },
    Case {
        name: "kill switch: a datagram from outside opens no way out, with iptables",
        programs: &["iptables"],
        run: || datagrams("iptables"),
    },
];

const PORT: u16 = 6881;

fn datagrams(firewall: &str) -> Result<()> {
    let more = format!("kill_switch = true\nfirewall = \"{firewall}\"\n");
    let full = Full::start(&more, &[])?;
    full.tunnel_answers()?;
    let (left, right) = (&full.pair.left, &full.pair.right);
    let (far_v4, far_v6) = (WIRE_A.far_v4(), WIRE_A.far_v6());
    // One by the default route, one by a route that a DHCP server may have sent.
    for address in ["198.18.0.80/32", "198.18.0.81/32", "fd77::80/128"] {
        right.ip(&format!("addr add {address} dev lo"))?;
    }
    left.ip(&format!("route add default via {far_v4}"))?;
    left.ip(&format!("route add 198.18.0.81/32 via {far_v4}"))?;
    left.ip(&format!("-6 route add default via {far_v6}"))?;
    left.ip(&format!("-6 route add fd77::80/128 via {far_v6}"))?;
    let strangers: [(&str, IpAddr); 5] = [
        ("198.18.0.80", WIRE_A.near_v4()),
        ("198.18.0.81", WIRE_A.near_v4()),
        ("fd77::80", WIRE_A.near_v6()),
        // And neighbours.
        (&far_v4.to_string(), WIRE_A.near_v4()),
        (&far_v6.to_string(), WIRE_A.near_v6()),
    ];
    let capture = Capture::start(right, "to-left")?;
    for (stranger, near) in strangers {
        let stranger: IpAddr = stranger.parse()?;
        let theirs = right.udp((stranger, PORT))?;
        let ours = left.udp((near, PORT))?;
        ours.set_read_timeout(Some(Duration::from_secs(5)))?;
        theirs.send_to(b"spoofed", (near, PORT))?;
        let mut buffer = [0; 16];
        ensure!(ours.recv(&mut buffer)? == 7, "{stranger} isn't heard");
        for _ in 0..3 {
            // What is refused is what is wanted.
            let _ = ours.send_to(b"leak", (stranger, PORT));
            sleep(Duration::from_millis(10));
        }
        // A connection of ours may lead there through the tunnel.
        let to = SocketAddr::new(stranger, PORT);
        let _ = left.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(100)))?;
    }
    let seen = capture.finish();
    let is_ours = |from: IpAddr| from == WIRE_A.near_v4() || from == WIRE_A.near_v6();
    let leaked: Vec<String> = seen
        .iter()
        .filter(|(packet, _)| is_ours(packet.from) && packet.to_port == PORT)
        .map(|(packet, count)| format!("{count} of {packet}"))
        .collect();
    ensure!(leaked.is_empty(), "{}", leaked.join(", "));
    ensure!(
        seen.keys()
            .any(|packet| packet.to_port == PORT && !is_ours(packet.from)),
        "nothing was captured"
    );
    dhcp_stays_near(&full)?;
    // A router answers its local network's DNS.
    let server = left.udp((WIRE_A.near_v4(), 53))?;
    let client = right.udp((far_v4, 0))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    client.send_to(b"name?", (WIRE_A.near_v4(), 53))?;
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer)?;
    server.send_to(b"answer", from)?;
    ensure!(client.recv(&mut buffer)? == 6, "no answer");
    // A server of TCP is reached as ever.
    for (near, stranger) in [
        (WIRE_A.near_v4(), "198.18.0.80"),
        (WIRE_A.near_v6(), "fd77::80"),
    ] {
        let service = Service::start(left, SocketAddr::new(near, 7777))?;
        right.ip(&match near {
            IpAddr::V4(_) => format!("route replace {near} dev to-left src {stranger}"),
            IpAddr::V6(_) => format!("-6 route add {near} dev to-left src {stranger} metric 1"),
        })?;
        let seen = visit(right, service.address(), Duration::from_secs(5))?;
        ensure!(seen == stranger.parse::<IpAddr>()?, "it saw {seen}");
    }
    let mut full = full;
    full.client.end(Signal::Terminate)
}

/// DHCP's ports lead to private addresses and to all hosts of a link, not to the internet by a
/// route that a DHCP server has sent.
fn dhcp_stays_near(full: &Full) -> Result<()> {
    let capture = Capture::start(&full.pair.right, "to-left")?;
    let near = WIRE_A.near_v4();
    for (from, to) in [(68, 67), (67, 68)] {
        let socket = full.pair.left.udp((near, from))?;
        socket.set_broadcast(true)?;
        let refused = socket.send_to(b"leak", ("198.18.0.81", to));
        ensure!(refused.is_err(), "UDP from port {from} to {to} leaves");
        full.pair
            .left
            .run(|| socket.send_to(b"all", ("255.255.255.255", to)))??;
    }
    sleep(Duration::from_millis(200));
    let seen = capture.finish();
    let ports = |to: &str| {
        let sent = seen.keys().filter(|packet| packet.to.to_string() == to);
        sent.map(|packet| packet.to_port)
            .filter(|port| [67, 68].contains(port))
            .count()
    };
    ensure!(ports("198.18.0.81") == 0, "DHCP's ports lead out");
    Ok(())
}
