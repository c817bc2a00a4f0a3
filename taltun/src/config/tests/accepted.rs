//! What is accepted, and where it goes.

use super::*;

#[test]
fn six_lines_are_a_configuration_and_the_rest_has_defaults() {
    let config = config(&with_peer("vip = \"10.0.0.2\""));
    let interface = &config.interface;
    assert_eq!(interface.mode, Mode::Client, "as the Go version");
    assert_eq!(interface.tun_name, "taltun0");
    assert_eq!(interface.vip, ["10.0.0.1/24".parse().unwrap()]);
    assert_eq!(interface.local_addr, "[::]:9000".parse().unwrap());
    assert_eq!(interface.mtu, 1420);
    assert!(interface.routes.is_empty());
    assert!(!interface.debug);
    assert_eq!(interface.private_key.public_key().to_string(), OUR_PUBLIC);
    assert_eq!(config.accel.xdp, XdpMode::Auto);
    assert_eq!(config.accel.handshakes_per_second, 20);
    assert!(config.accel.interfaces.is_empty());
    let peer = &config.peers[0];
    assert_eq!(peer.allowed_ips, ["10.0.0.2/32".parse().unwrap()]);
    assert_eq!(peer.label(), KEY_A);
    assert!(peer.preshared_key.is_none());
    assert_eq!(peer.persistent_keepalive, None);
}

#[test]
fn every_key_reaches_its_place() {
    let config = config(&format!(
        r#"
        [interface]
        mode = "server"
        tun_name = "tun0"
        vip = ["10.0.0.1/16", "fd00::1"]
        local_addr = "0.0.0.0:51820"
        private_key = "{OUR_PRIVATE}"
        mtu = 1280
        routes = ["192.168.50.0/24"]
        debug = true
        [[peers]]
        name = "office"
        public_key = "{KEY_A}"
        preshared_key = "{OUR_PRIVATE}"
        vip = ["10.0.0.2", "fd00::2"]
        endpoint = "203.0.113.1:9000"
        allowed_ips = ["192.168.50.0/24", "10.0.0.2/32"]
        persistent_keepalive = 25
        [accel]
        interfaces = ["eth0"]
        xdp = "generic"
        af_xdp = "off"
        deny = ["198.51.100.0/24", "2001:db8::/32"]
        deny_inner = ["10.0.0.66"]
        handshakes_per_second = 5
        "#
    ));
    let interface = config.interface;
    assert_eq!(interface.mode, Mode::Server);
    assert_eq!(interface.tun_name, "tun0");
    assert_eq!(
        interface.vip,
        [
            "10.0.0.1/16".parse().unwrap(),
            "fd00::1/64".parse().unwrap()
        ]
    );
    assert_eq!(interface.local_addr, "0.0.0.0:51820".parse().unwrap());
    assert_eq!(interface.mtu, 1280);
    assert_eq!(interface.routes, ["192.168.50.0/24".parse().unwrap()]);
    assert!(interface.debug);
    let peer = &config.peers[0];
    assert_eq!(peer.label(), "office");
    assert!(!peer.preshared_key.is_none());
    assert_eq!(
        peer.endpoint,
        Some(Endpoint::Address("203.0.113.1:9000".parse().unwrap()))
    );
    let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.2/32", "fd00::2/128", "192.168.50.0/24"]);
    assert_eq!(peer.persistent_keepalive, Some(25));
    let accel = config.accel;
    assert_eq!(accel.interfaces, ["eth0"]);
    assert_eq!(accel.xdp, XdpMode::Generic);
    assert_eq!(accel.deny.len(), 2);
    assert_eq!(accel.deny_inner, ["10.0.0.66/32".parse().unwrap()]);
    assert_eq!(accel.handshakes_per_second, 5);
}

#[test]
fn a_bare_vip_means_24_bits_for_v4_and_64_for_v6() {
    let text = interface("").replace("\"10.0.0.1/24\"", "[\"10.0.0.1\", \"fd00::1\"]");
    let vip: Vec<String> = config(&text)
        .interface
        .vip
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(vip, ["10.0.0.1/24", "fd00::1/64"]);
}

#[test]
fn keys_may_be_hexadecimal() {
    let hex = "37ab874160657170d25f2496ef74151d572e55b740795e1ff3d9d3bd94650068";
    let text = with_peer("vip = \"10.0.0.2\"").replace(KEY_A, hex);
    assert_eq!(config(&text).peers[0].public_key.to_string(), KEY_A);
}

#[test]
fn endpoints_are_v4_v6_or_names() {
    for (text, expected) in [
        (
            "203.0.113.1:9000",
            Endpoint::Address("203.0.113.1:9000".parse().unwrap()),
        ),
        (
            "[2001:db8::1]:1",
            Endpoint::Address("[2001:db8::1]:1".parse().unwrap()),
        ),
        (
            "hub.example.org:9000",
            Endpoint::Name("hub.example.org".into(), 9000),
        ),
    ] {
        let text = with_peer(&format!("vip = \"10.0.0.2\"\nendpoint = \"{text}\""));
        assert_eq!(config(&text).peers[0].endpoint, Some(expected));
    }
}

#[test]
fn endpoints_may_be_several_and_have_several_ports() {
    let ranged = |key: &str| {
        let text = with_peer(&format!("vip = \"10.0.0.2\"\n{key}"));
        let config = config(&format!("{text}[hop]\nport_range = [4096, 8191]\n"));
        let peer = &config.peers[0];
        assert_eq!(peer.endpoint.as_ref(), peer.all_endpoints().next());
        let endpoints = peer.endpoints.iter().map(|endpoint| {
            let first = match &endpoint.first {
                Endpoint::Address(address) => address.to_string(),
                Endpoint::Name(host, port) => format!("{host}:{port}"),
            };
            format!("{first}-{}", endpoint.last_port)
        });
        endpoints.collect::<Vec<_>>().join(" ")
    };
    for (key, expected) in [
        ("endpoint = \"192.0.2.1:7\"", ""),
        ("endpoints = [\"192.0.2.1:7\"]", ""),
        ("endpoint = \"192.0.2.1:7-7\"", ""),
        ("endpoint = \"192.0.2.1:7-9\"", "192.0.2.1:7-9"),
        ("endpoint = \"192.0.2.1:1-65535\"", "192.0.2.1:1-65535"),
        ("endpoint = \"192.0.2.1\"", "192.0.2.1:4096-8191"),
        ("endpoint = \"2001:db8::1\"", "[2001:db8::1]:4096-8191"),
        ("endpoint = \"[2001:db8::1]\"", "[2001:db8::1]:4096-8191"),
        ("endpoint = \"[2001:db8::1]:7-8\"", "[2001:db8::1]:7-8"),
        ("endpoint = \"a.example\"", "a.example:4096-8191"),
        (
            "endpoints = [\"a.example:7\", \"b.example\", \"192.0.2.1:8-9\"]",
            "a.example:7-7 b.example:4096-8191 192.0.2.1:8-9",
        ),
    ] {
        assert_eq!(ranged(key), expected, "{key}");
    }
}

#[test]
fn local_addr_may_be_a_port_alone_as_in_go() {
    let config = config(&interface("local_addr = \":51820\""));
    assert_eq!(config.interface.local_addr, "[::]:51820".parse().unwrap());
}

#[test]
fn a_last_day_may_be_a_date_or_a_text() {
    for day in ["2199-12-31", "\"2199-12-31\""] {
        let text = format!("vip = \"10.0.0.2\"\nquota = \"1.5 GiB/day\"\nexpires = {day}");
        let limits = config(&with_peer(&text)).peers[0].limits;
        assert_eq!(limits.expires.unwrap().to_string(), "2199-12-31");
        assert_eq!(limits.quota.unwrap().bytes, 3 << 29);
    }
    assert!(
        config(&with_peer("vip = \"10.0.0.2\"")).peers[0]
            .limits
            .is_none()
    );
}

#[test]
fn a_keepalive_of_zero_is_off() {
    let config = config(&with_peer("vip = \"10.0.0.2\"\npersistent_keepalive = 0"));
    assert_eq!(config.peers[0].persistent_keepalive, None);
}

#[test]
fn af_xdp_is_auto_on_or_off() {
    let mode = |text: &str| config(&interface(text)).accel.af_xdp;
    assert_eq!(mode(""), AfXdp::Auto);
    assert_eq!(mode("[accel]\naf_xdp = \"auto\""), AfXdp::Auto);
    assert_eq!(mode("[accel]\naf_xdp = \"on\""), AfXdp::On);
    assert_eq!(mode("[accel]\naf_xdp = \"off\""), AfXdp::Off);
}

#[test]
fn a_prefix_written_twice_for_one_peer_is_kept_once() {
    let config = config(&with_peer(
        "vip = \"10.0.0.2\"\nallowed_ips = [\"10.0.0.2\", \"10.9.0.0/16\", \"10.9.0.0/16\"]",
    ));
    assert_eq!(config.peers[0].allowed_ips.len(), 2);
}

#[test]
fn a_more_specific_prefix_on_another_peer_is_fine() {
    config(&with_peers(
        "vip = \"10.0.0.2\"\nallowed_ips = [\"0.0.0.0/0\"]",
        "vip = \"10.0.0.3\"\nallowed_ips = [\"10.9.0.0/16\"]",
    ));
}

#[test]
fn ten_thousand_lines_of_peers_are_read_in_time() {
    use std::fmt::Write as _;
    let mut text = interface("");
    for i in 0..2000_u32 {
        let key = PrivateKey::from_bytes([(i % 251) as u8 + 1; 32].map(|b| b ^ (i >> 3) as u8));
        let vip = std::net::Ipv4Addr::from(0x0a00_0100 + i);
        let mut key = key.public_key();
        key.0[..4].copy_from_slice(&i.to_le_bytes());
        write!(text, "[[peers]]\npublic_key = \"{key}\"\nvip = \"{vip}\"\n").unwrap();
    }
    assert_eq!(config(&text).peers.len(), 2000);
}

#[test]
fn the_offloads_are_on_unless_switched_off() {
    let text = interface(
        "[dataplane]\nudp_gso = false\nworkers = 3\ncrypto_threads = 0\nbusy_poll_us = 50\n",
    );
    let dataplane = parse(&text, "f").unwrap().config.dataplane;
    assert_eq!(
        dataplane,
        Dataplane {
            udp_gso: false,
            workers: Some(3),
            crypto_threads: Some(0),
            busy_poll_us: 50,
            ..config(&interface("")).dataplane
        }
    );
    assert_eq!(dataplane.priority, Priority::Normal);
    let text = interface("[dataplane]\npriority = \"realtime\"\n");
    let dataplane = parse(&text, "f").unwrap().config.dataplane;
    assert_eq!(dataplane.priority, Priority::Realtime);
    let typed = interface("[dataplane]\nudp_gsp = false\n");
    let error = parse(&typed, "f").map(drop).unwrap_err().to_string();
    assert!(error.contains("udp_gso"), "{error}");
    let wrong = interface("[dataplane]\nworkers = 0\n");
    let error = parse(&wrong, "f").map(drop).unwrap_err().to_string();
    assert!(error.contains("dataplane.workers"), "{error}");
    let wrong = interface("[dataplane]\ncrypto_threads = 65\n");
    let error = parse(&wrong, "f").map(drop).unwrap_err().to_string();
    assert!(error.contains("dataplane.crypto_threads"), "{error}");
}
