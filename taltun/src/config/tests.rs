//! One rule of the configuration a test; the error tests quote the whole line the user
//! would see.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Private keys of the examples, and the public keys that belong to them.
const OUR_PRIVATE: &str = "2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM=";
const OUR_PUBLIC: &str = "99LSva5whpKeJtzNmJH771DBDqYneNXorMy3gM9p7AQ=";
const KEY_A: &str = "N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=";
const KEY_B: &str = "+V5zPSr0c2ZCLE2pgR9dR1gNyBA/e4Ylq5209D6xuV0=";

/// `[interface]` with what is required, and `more` lines.
fn interface(more: &str) -> String {
    format!("[interface]\nprivate_key = \"{OUR_PRIVATE}\"\nvip = \"10.0.0.1/24\"\n{more}\n")
}

/// A hub with one peer, A, which has `more` lines; the peer begins at line 4 and `more` at 6.
fn with_peer(more: &str) -> String {
    format!(
        "[interface]\nprivate_key = \"{OUR_PRIVATE}\"\nvip = \"10.0.0.1/24\"\n[[peers]]\n\
         public_key = \"{KEY_A}\"\n{more}\n"
    )
}

/// Two peers, with lines for each; B begins at line 7 and its lines at 9.
fn with_peers(a: &str, b: &str) -> String {
    format!("{}[[peers]]\npublic_key = \"{KEY_B}\"\n{b}\n", with_peer(a))
}

fn config(text: &str) -> Config {
    match parse(text, "hub.toml") {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("refused: {error}"),
    }
}

fn warnings(text: &str) -> Vec<String> {
    parse(text, "hub.toml").unwrap().warnings
}

fn error(text: &str) -> String {
    let message = parse(text, "hub.toml").unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "one line: {message}");
    message
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let message = error(text);
    assert!(
        message.starts_with(expected),
        "expected: {expected}\n   found: {message}"
    );
}

// What is accepted.

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
fn local_addr_may_be_a_port_alone_as_in_go() {
    let config = config(&interface("local_addr = \":51820\""));
    assert_eq!(config.interface.local_addr, "[::]:51820".parse().unwrap());
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

// What is refused: the text, the types.

#[test]
fn a_syntax_error_names_its_line() {
    refused("[interface]\nvip = \n", "hub.toml:2: not valid TOML: ");
    refused("[interface\n", "hub.toml:1: not valid TOML: ");
    refused(
        "[interface]\nmtu = 1280\nmtu = 1300\n",
        "hub.toml:3: not valid TOML: duplicate key",
    );
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    refused(
        &interface("tun_nam = \"x\""),
        "hub.toml:4: interface.tun_nam: unknown key; did you mean tun_name?",
    );
    refused(
        &with_peer("AllowedIPs = []"),
        "hub.toml:6: peers.AllowedIPs: unknown key; did you mean allowed_ips?",
    );
    refused(
        &interface("[accel]\nxpd = \"auto\"\n"),
        "hub.toml:5: accel.xpd: unknown key; known here: interfaces, xdp, af_xdp, deny, deny_inner",
    );
    refused(
        "[[peer]]\n",
        "hub.toml:1: peer: unknown section or key; did you mean peers?",
    );
    refused(
        "vip = \"10.0.0.1\"\n",
        "hub.toml:1: vip: unknown section or key; known here: interface, peers, accel",
    );
}

#[test]
fn a_wrong_type_says_what_was_expected_and_found() {
    for (line, expected) in [
        (
            "mode = 1",
            "mode: expected a text in quotes, found a number",
        ),
        (
            "mtu = \"1420\"",
            "mtu: expected a whole number from 576 to 65000, found a text",
        ),
        (
            "mtu = 1420.5",
            "mtu: expected a whole number from 576 to 65000, found a number with",
        ),
        (
            "routes = \"10.0.0.0/8\"",
            "routes: expected a list of texts in [ ], found a text",
        ),
        (
            "routes = [1]",
            "routes: expected a text in quotes, found a number",
        ),
        (
            "debug = \"yes\"",
            "debug: expected true or false, without quotes, found a text",
        ),
        (
            "debug = 1979-05-27",
            "debug: expected true or false, without quotes, found a date",
        ),
    ] {
        refused(
            &interface(line),
            &format!("hub.toml:4: interface.{expected}"),
        );
    }
    refused(
        &interface("").replace("\"10.0.0.1/24\"", "7"),
        "hub.toml:3: interface.vip: expected a text in quotes or a list of them in [ ], found a",
    );
}

#[test]
fn a_section_of_the_wrong_shape_says_how_to_write_it() {
    refused(
        "interface = 1\n",
        "hub.toml:1: interface: expected a table [interface]",
    );
    refused(
        "[[interface]]\n",
        "hub.toml:1: interface: expected one table: write [interface]",
    );
    refused(
        "[peers]\n",
        "hub.toml:1: peers: expected a list of tables: write [[peers]] with double",
    );
    refused(
        "peers = [1]\n",
        "hub.toml:1: peers: expected a list of tables",
    );
}

#[test]
fn an_element_of_a_list_has_its_own_line() {
    refused(
        &interface("routes = [\n \"10.1.0.0/16\",\n \"nonsense\",\n]"),
        "hub.toml:6: interface.routes: expected a network such as",
    );
}

// What is refused: [interface].

#[test]
fn what_is_required_is_missed() {
    refused(
        "",
        "hub.toml: interface.private_key: missing; make one with",
    );
    refused(
        "\n[interface]\n",
        "hub.toml:2: interface.private_key: missing; make one with",
    );
    refused(
        &format!("[interface]\nprivate_key = \"{OUR_PRIVATE}\"\n"),
        "hub.toml:1: interface.vip: missing; add this machine's address in the tunnel",
    );
}

#[test]
fn a_bad_private_key_is_refused_without_repeating_it() {
    let secret = &OUR_PRIVATE[..43];
    let message = error(&interface("").replace(OUR_PRIVATE, secret));
    assert!(message.starts_with(
        "hub.toml:2: interface.private_key: expected a 32-byte key as 44 base64 characters or \
         64 hex digits, found 43 characters"
    ));
    assert!(!message.contains(secret));
    refused(
        &interface("").replace(OUR_PRIVATE, &"!".repeat(44)),
        "hub.toml:2: interface.private_key: not valid base64 or hex",
    );
}

#[test]
fn private_key_and_private_key_file_together_are_refused() {
    refused(
        &interface("private_key_file = \"key\""),
        "hub.toml:4: interface.private_key_file: private_key is given too; keep one of the two",
    );
}

#[test]
fn a_tun_name_must_be_one_that_the_kernel_takes() {
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "a:b",
        "tun%d",
        "sixteen-letters-",
        "tün",
    ] {
        refused(
            &interface(&format!("tun_name = \"{name}\"")),
            "hub.toml:4: interface.tun_name: expected an interface name of 1 to 15",
        );
    }
    config(&interface("tun_name = \"fifteen-letters\""));
}

#[test]
fn the_mtu_has_bounds_and_ipv6_asks_for_more() {
    refused(
        &interface("mtu = 575"),
        "hub.toml:4: interface.mtu: expected a whole number from 576 to 65000, found 575",
    );
    refused(
        &interface("mtu = 65001"),
        "hub.toml:4: interface.mtu: expected a whole number",
    );
    refused(
        &interface("mtu = -1"),
        "hub.toml:4: interface.mtu: expected a whole number",
    );
    config(&interface("mtu = 576"));
    config(&interface("mtu = 65_000"));
    refused(
        &interface("mtu = 1279").replace("10.0.0.1/24", "fd00::1/64"),
        "hub.toml:4: interface.mtu: expected at least 1280, as IPv6 needs it and fd00::1 is a vip",
    );
}

#[test]
fn a_vip_must_be_the_address_of_a_host() {
    for (vip, expected) in [
        (
            "10.0.0.0/24",
            "10.0.0.0 is not for a host: it is the first or last address of",
        ),
        ("10.0.0.255", "10.0.0.255 is not for a host"),
        ("0.0.0.0/0", "0.0.0.0 means \"any address\""),
        ("224.0.0.1", "224.0.0.1 is a multicast address"),
        ("127.0.0.1", "127.0.0.1 is a loopback address"),
        ("10.0.0.1/33", "expected an address such as \"10.0.0.1/24\""),
        ("10.0.0.1/", "expected an address such as"),
        ("hub", "expected an address such as"),
    ] {
        refused(
            &interface("").replace("10.0.0.1/24", vip),
            &format!("hub.toml:3: interface.vip: {expected}"),
        );
    }
    config(&interface("").replace("10.0.0.1/24", "10.0.0.0/31"));
}

#[test]
fn our_own_vips_may_not_overlap() {
    refused(
        &interface("").replace("\"10.0.0.1/24\"", "[\"10.0.0.1/24\", \"10.0.0.2/16\"]"),
        "hub.toml:3: interface.vip: 10.0.0.1/24 and 10.0.0.2/16 overlap",
    );
}

#[test]
fn a_mode_or_local_addr_that_is_none_is_refused() {
    refused(
        &interface("mode = \"sever\""),
        "hub.toml:4: interface.mode: expected \"server\" or \"client\", found \"sever\"; did you \
         mean server?",
    );
    for addr in [
        "9000",
        "0.0.0.0",
        "0.0.0.0:65536",
        "::9000:x",
        "hub:9000",
        "224.0.0.1:9000",
    ] {
        let message = error(&interface(&format!("local_addr = \"{addr}\"")));
        assert!(message.contains("expected ADDRESS:PORT"), "{message}");
    }
}

// What is refused: [[peers]].

#[test]
fn a_peer_without_public_key_is_told_how_to_get_one() {
    refused(
        &interface("[[peers]]\nvip = \"10.0.0.2\"\nendpoint = \"203.0.113.1:9000\""),
        "hub.toml:4: peers.public_key: missing; run `taltun pubkey < key` on that peer",
    );
}

#[test]
fn bad_keys_of_a_peer_are_refused() {
    refused(
        &with_peer("").replace(KEY_A, "short"),
        "hub.toml:5: peers.public_key: expected a 32-byte key as 44 base64 characters or 64 hex \
         digits, found 5 characters",
    );
    refused(
        &with_peer("preshared_key = \"x\""),
        "hub.toml:6: peers.preshared_key: expected a 32-byte key",
    );
    refused(
        &with_peer("").replace(KEY_A, &"0".repeat(64)),
        "hub.toml:5: peers.public_key: no private key belongs to this one",
    );
}

#[test]
fn our_own_key_as_a_peer_is_refused() {
    refused(
        &with_peer("vip = \"10.0.0.2\"").replace(KEY_A, OUR_PUBLIC),
        "hub.toml:5: peers.public_key: this is our own public key",
    );
}

#[test]
fn a_public_key_belongs_to_one_peer() {
    refused(
        &with_peers("name = \"office\"", "").replace(KEY_B, KEY_A),
        "hub.toml:8: peers.public_key: this key is also that of peer \"office\" (hub.toml:5)",
    );
}

#[test]
fn a_vip_belongs_to_one_peer() {
    refused(
        &with_peers("vip = \"10.0.0.2\"", "vip = [\"10.0.0.3\", \"10.0.0.2\"]"),
        "hub.toml:9: peers.vip: 10.0.0.2 is given to another peer too (hub.toml:6); every peer",
    );
}

#[test]
fn our_own_address_is_no_peers_vip() {
    refused(
        &with_peer("vip = \"10.0.0.1\""),
        "hub.toml:6: peers.vip: 10.0.0.1 is our own address (interface.vip)",
    );
}

#[test]
fn a_peers_vip_is_a_bare_address() {
    for vip in ["10.0.0.2/32", "10.0.0.0/24", "x", ""] {
        refused(
            &with_peer(&format!("vip = \"{vip}\"")),
            "hub.toml:6: peers.vip: expected a bare address such as \"10.0.0.2\"",
        );
    }
}

#[test]
fn a_prefix_leads_to_one_peer() {
    refused(
        &with_peers(
            "allowed_ips = [\"10.9.0.0/16\"]",
            "allowed_ips = [\"10.9.0.0/16\"]",
        ),
        "hub.toml:9: peers.allowed_ips: 10.9.0.0/16 is given to another peer too (hub.toml:6); a \
         prefix can lead to one peer only",
    );
    // Host bits don't make it another prefix, and a vip counts as its own.
    refused(
        &with_peers(
            "allowed_ips = [\"10.9.0.0/16\"]",
            "allowed_ips = [\"10.9.1.1/16\"]",
        ),
        "hub.toml:9: peers.allowed_ips: 10.9.0.0/16 is given to another peer too",
    );
    refused(
        &with_peers("allowed_ips = [\"10.0.0.3\"]", "vip = \"10.0.0.3\""),
        "hub.toml:6: peers.allowed_ips: 10.0.0.3/32 is given to another peer too (hub.toml:9)",
    );
}

#[test]
fn an_endpoint_must_be_somewhere() {
    for endpoint in [
        "203.0.113.1",
        "203.0.113.1:0",
        "203.0.113.1:65536",
        "203.0.113:9000",
        "0.0.0.0:9000",
        "2001:db8::1:9000:",
        ":9000",
        "two words:9000",
        "",
    ] {
        refused(
            &with_peer(&format!("endpoint = \"{endpoint}\"")),
            "hub.toml:6: peers.endpoint: expected HOST:PORT such as",
        );
    }
}

#[test]
fn a_keepalive_has_bounds() {
    for seconds in ["-1", "65536", "\"25\"", "99999999999999999999"] {
        refused(
            &with_peer(&format!("persistent_keepalive = {seconds}")),
            "hub.toml:6: peers.persistent_keepalive: expected a whole number from 0 to 65535",
        );
    }
}

#[test]
fn a_name_must_be_printable() {
    for name in ["", " ", "a\\nb", "\\u001b[31m", &"x".repeat(65)] {
        refused(
            &with_peer(&format!("name = \"{name}\"")),
            "hub.toml:6: peers.name: expected a name of 1 to 64 printable characters",
        );
    }
}

// What is refused: [accel].

#[test]
fn accel_refuses_what_it_does_not_know() {
    for (line, expected) in [
        (
            "xdp = \"native\"",
            "xdp: expected \"auto\" or \"driver\" or \"generic\" or \"off\"",
        ),
        (
            "af_xdp = \"yes\"",
            "af_xdp: expected \"auto\" or \"on\" or \"off\"",
        ),
        (
            "interfaces = [\"eth0/1\"]",
            "interfaces: expected an interface name",
        ),
        (
            "deny = [\"example.org\"]",
            "deny: expected a network such as",
        ),
        (
            "deny_inner = [\"\"]",
            "deny_inner: expected a network such as",
        ),
        (
            "handshakes_per_second = 0",
            "handshakes_per_second: expected a whole number from 1",
        ),
    ] {
        refused(
            &interface(&format!("[accel]\n{line}")),
            &format!("hub.toml:5: accel.{expected}"),
        );
    }
}

#[test]
fn a_million_denied_networks_are_refused() {
    let deny = |count: u32| {
        let nets = (0..count).map(|host| format!("\"{}\"", std::net::Ipv4Addr::from(host)));
        let nets: Vec<_> = nets.collect();
        interface(&format!("[accel]\ndeny_inner = [{}]", nets.join(",")))
    };
    assert_eq!(config(&deny(10_000)).accel.deny_inner.len(), 10_000);
    refused(
        &deny(1_000_000),
        "hub.toml:5: accel.deny_inner: 1000000 networks; 10000 can be denied at once",
    );
}

// What is odd, but runs.

#[test]
fn host_bits_in_a_prefix_are_cleared_with_a_warning() {
    let text = with_peer("allowed_ips = [\"192.168.50.7/24\"]\nendpoint = \"192.0.2.1:1\"");
    assert_eq!(
        config(&text).peers[0].allowed_ips,
        ["192.168.50.0/24".parse().unwrap()]
    );
    assert_eq!(
        warnings(&text),
        ["hub.toml:6: peers.allowed_ips: 192.168.50.7/24 is taken as 192.168.50.0/24"]
    );
}

#[test]
fn a_route_that_leads_to_no_peer_is_a_warning() {
    let text = format!(
        "{}\n[[peers]]\npublic_key = \"{KEY_A}\"\nallowed_ips = [\"10.9.0.0/16\"]\n\
         endpoint = \"192.0.2.1:1\"\n",
        interface("routes = [\"10.9.8.0/24\", \"192.168.50.0/24\"]")
    );
    assert_eq!(
        warnings(&text),
        [
            "hub.toml:4: interface.routes: 192.168.50.0/24 overlaps no peer's vip or allowed_ips: \
          packets to it will be dropped"
        ]
    );
}

#[test]
fn a_peer_out_of_reach_is_a_warning() {
    let text = with_peers("vip = \"10.7.0.2\"", "name = \"b\"");
    let text = text.replace("[interface]\n", "[interface]\nmode = \"server\"\n");
    assert_eq!(
        warnings(&text),
        [
            "hub.toml:7: peers.vip: 10.7.0.2 is outside our vip's subnet and interface.routes: \
             this machine has no route to it",
            "hub.toml:8: peers.vip: peer \"b\" has neither a vip nor allowed_ips: no packet will \
             go to it",
        ]
    );
}

#[test]
fn a_client_without_any_endpoint_is_a_warning() {
    let found = warnings(&with_peer("vip = \"10.0.0.2\""));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("hub.toml:1: interface.mode: mode is client, but no peer has"));
}

// Files.

fn write(path: &std::path::Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_open_to_others_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    let text = interface("mode = \"server\"");
    write(&path, &text, 0o600);
    assert!(load(&path).unwrap().warnings.is_empty());
    write(&path, &text, 0o640);
    let warnings = load(&path).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("open to others than its owner (mode 0640); run `chmod 600"));
}

#[test]
fn a_private_key_file_is_looked_for_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    let text = interface("mode = \"server\"").replace(
        &format!("private_key = \"{OUR_PRIVATE}\""),
        "private_key_file = \"hub.key\"",
    );
    write(&path, &text, 0o600);
    let message = load(&path).unwrap_err().to_string();
    assert!(
        message.contains("hub.toml:2: interface.private_key_file: cannot read"),
        "{message}"
    );
    write(
        &dir.path().join("hub.key"),
        &format!("{OUR_PRIVATE}\n"),
        0o644,
    );
    let loaded = load(&path).unwrap();
    assert_eq!(
        loaded.config.interface.private_key.public_key().to_string(),
        OUR_PUBLIC
    );
    assert_eq!(loaded.warnings.len(), 1, "hub.key is open to others");
    write(&dir.path().join("hub.key"), "rubbish", 0o600);
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("found 7 characters"), "{message}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("none.toml: cannot read the configuration: No such file"));
    assert!(load(dir.path()).is_err(), "a directory");
    std::fs::write(&path, b"[interface]\nvip = \"\xff\"\n").unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("none.toml:2: not UTF-8"), "{message}");
}

// Flags.

#[test]
fn flags_alone_are_a_configuration() {
    let flags = Overrides {
        mode: Some("server".into()),
        local: Some(":7000".into()),
        key: Some(OUR_PRIVATE.into()),
        vip: vec!["10.0.0.1".into()],
        peers: vec![
            format!("10.0.0.2,203.0.113.1:9000,{KEY_A}"),
            format!("10.0.0.3,,{KEY_B}"),
        ],
        tun: Some("tun7".into()),
        mtu: Some("1300".into()),
        debug: Some(true),
    };
    assert!(flags.suffice());
    let config = load_with(None, &flags).unwrap().config;
    assert_eq!(config.interface.mode, Mode::Server);
    assert_eq!(config.interface.local_addr, "[::]:7000".parse().unwrap());
    assert_eq!(config.interface.tun_name, "tun7");
    assert_eq!(config.interface.mtu, 1300);
    assert!(config.interface.debug);
    assert_eq!(config.peers.len(), 2);
    assert!(config.peers[0].endpoint.is_some());
    assert!(config.peers[1].endpoint.is_none());
}

#[test]
fn flags_override_the_file_and_add_peers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    write(&path, &with_peer("vip = \"10.0.0.2\""), 0o600);
    let flags = Overrides {
        vip: vec!["10.0.0.9/24".into()],
        peers: vec![format!("10.0.0.3,hub.example.org:9000,{KEY_B}")],
        ..Overrides::default()
    };
    let config = load_with(Some(&path), &flags).unwrap().config;
    assert_eq!(config.interface.vip, ["10.0.0.9/24".parse().unwrap()]);
    assert_eq!(config.peers.len(), 2);
}

#[test]
fn a_bad_flag_is_named_as_it_was_typed() {
    let base = Overrides {
        key: Some(OUR_PRIVATE.into()),
        vip: vec!["10.0.0.1".into()],
        ..Overrides::default()
    };
    let refused = |flags: Overrides, expected: &str| {
        let message = load_with(None, &flags).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    };
    refused(
        Overrides {
            mtu: Some("9".into()),
            ..base.clone()
        },
        "-mtu: expected a whole number from 576",
    );
    refused(
        Overrides {
            peers: vec!["10.0.0.2,203.0.113.1:9000".into()],
            ..base.clone()
        },
        "-peer: the public key is missing; run `taltun pubkey < key` on that peer",
    );
    refused(
        Overrides {
            peers: vec!["10.0.0.2".into()],
            ..base.clone()
        },
        "-peer: expected VIP,HOST:PORT,PUBLIC_KEY",
    );
    refused(
        Overrides {
            vip: vec!["x".into()],
            ..base.clone()
        },
        "-vip: expected an address",
    );
    refused(
        Overrides {
            mode: Some("x".into()),
            ..base
        },
        "-mode: expected \"server\"",
    );
}

// The examples that are installed with the program.

#[test]
fn the_examples_are_accepted_without_warnings_and_fit_each_other() {
    let hub = parse(include_str!("../../dist/examples/hub.toml"), "hub.toml").unwrap();
    let spoke = parse(include_str!("../../dist/examples/spoke.toml"), "spoke.toml").unwrap();
    assert_eq!(hub.warnings, [""; 0]);
    assert_eq!(spoke.warnings, [""; 0]);
    let hub_key = hub.config.interface.private_key.public_key();
    let spoke_key = spoke.config.interface.private_key.public_key();
    assert_eq!(spoke.config.peers[0].public_key, hub_key);
    assert!(
        hub.config
            .peers
            .iter()
            .any(|peer| peer.public_key == spoke_key)
    );
}

/// The files of a recipe know each other by their keys, and nothing about them is odd.
#[test]
fn the_recipes_are_accepted_without_warnings_and_fit_each_other() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/examples");
    let mut recipes = 0;
    for recipe in std::fs::read_dir(examples).unwrap().flatten() {
        if !recipe.path().is_dir() {
            continue;
        }
        recipes += 1;
        let files = std::fs::read_dir(recipe.path()).unwrap().flatten();
        let configs: Vec<Config> = files
            .map(|file| {
                let text = std::fs::read_to_string(file.path()).unwrap();
                let loaded = parse(&text, &file.path().display().to_string()).unwrap();
                assert_eq!(loaded.warnings, [""; 0]);
                loaded.config
            })
            .collect();
        for peer in configs.iter().flat_map(|config| &config.peers) {
            let has_its_key =
                |config: &Config| config.interface.private_key.public_key() == peer.public_key;
            assert!(
                configs.iter().any(has_its_key),
                "{}: {}",
                recipe.path().display(),
                peer.label()
            );
        }
    }
    assert_eq!(recipes, 5);
}

#[test]
fn the_offloads_are_on_unless_switched_off() {
    let text = interface("[dataplane]\nudp_gso = false\nworkers = 3\nbusy_poll_us = 50\n");
    let dataplane = parse(&text, "f").unwrap().config.dataplane;
    assert_eq!(
        dataplane,
        Dataplane {
            udp_gso: false,
            workers: Some(3),
            busy_poll_us: 50,
            ..Dataplane::default()
        }
    );
    let typed = interface("[dataplane]\nudp_gsp = false\n");
    let error = parse(&typed, "f").map(drop).unwrap_err().to_string();
    assert!(error.contains("udp_gso"), "{error}");
    let wrong = interface("[dataplane]\nworkers = 0\n");
    let error = parse(&wrong, "f").map(drop).unwrap_err().to_string();
    assert!(error.contains("dataplane.workers"), "{error}");
}

// What the host does for the tunnel.

#[test]
fn what_the_host_does_is_read() {
    let text = format!(
        "{}fwmark = 51820\ndns = [\"10.0.0.53\", \"fd00::53\", \"example.org\"]\nip_forward = true\n\
         mss_clamp = true\nprotect_vip = true\nkill_switch = true\nfirewall = \"iptables\"\n\
         routes = [\"0.0.0.0/1\", \"128.0.0.0/1\"]\non_up = \"echo up\"\n\
         on_peer_up = [\"echo one\", \"echo two\"]\n[nat]\nmasquerade = true\nout = \"eth0\"\n\
         [[peers]]\npublic_key = \"{KEY_A}\"\nvip = \"10.0.0.2\"\nallowed_ips = [\"0.0.0.0/0\"]\n",
        interface("")
    );
    let config = config(&text);
    let host = &config.host;
    assert_eq!(host.fwmark, Some(51820));
    assert_eq!(config.mark(&[]), Some(51820));
    assert_eq!(host.dns.servers.len(), 2);
    assert_eq!(host.dns.search, ["example.org"]);
    assert!(host.ip_forward && host.mss_clamp && host.protect_vip && host.kill_switch);
    assert_eq!(host.firewall, FirewallChoice::Iptables);
    assert_eq!(
        host.masquerade,
        Some(Masquerade {
            out: Some("eth0".into())
        })
    );
    assert_eq!(config.hooks.on_up, ["echo up"]);
    assert_eq!(config.hooks.on_peer_up, ["echo one", "echo two"]);
    assert!(config.hooks.on_down.is_empty());
}

#[test]
fn what_the_host_can_not_do_is_refused() {
    for (line, expected) in [
        (
            "firewall = \"none\"\nmss_clamp = true",
            "hub.toml:4: interface.firewall: interface.mss_clamp takes firewall rules; set",
        ),
        (
            "kill_switch = true",
            "hub.toml:4: interface.kill_switch: nothing would leave this machine at all",
        ),
        (
            "kill_switch = true\nroutes = [\"0.0.0.0/1\"]",
            "hub.toml:4: interface.kill_switch: nothing would leave this machine at all",
        ),
        (
            "dns = [\"example.org\"]",
            "hub.toml:4: interface.dns: there are only domains to search; add",
        ),
        (
            "dns = [\"10.0.0.1.2 \"]",
            "hub.toml:4: interface.dns: expected the address of a name server",
        ),
        (
            "on_up = \"\"",
            "hub.toml:4: interface.on_up: expected a command for sh, found \"\"",
        ),
        (
            "fwmark = 0",
            "hub.toml:4: interface.fwmark: expected a whole number from 1 to 4294967295, found 0",
        ),
        (
            "firewall = \"nft\"",
            "hub.toml:4: interface.firewall: expected \"auto\" or \"nftables\"",
        ),
        (
            "[nat]\nout = \"eth0\"",
            "hub.toml:5: nat.out: nothing is translated without masquerade = true",
        ),
        (
            "[nat]\nmasquerade = true\nout = \"taltun0\"",
            "hub.toml:6: nat.out: taltun0 is the tunnel itself; give",
        ),
        (
            "tun_name = \"t+\"\nprotect_vip = true",
            "hub.toml:4: interface.tun_name: firewall rules can't name \"t+\"",
        ),
    ] {
        refused(&interface(line), expected);
    }
}

#[test]
fn what_the_host_may_not_do_as_meant_is_a_warning() {
    let peer = format!(
        "[[peers]]\npublic_key = \"{KEY_A}\"\nallowed_ips = [\"0.0.0.0/0\"]\nendpoint = \"203.0.113.1:1\"\n"
    );
    let said = warnings(&format!("{}{peer}", interface("routes = [\"0.0.0.0/0\"]")));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("hub.toml:4: interface.routes: all IPv4 goes into the tunnel"));
    let said = warnings(&format!("{}{peer}", interface("[nat]\nmasquerade = true")));
    assert!(said[0].starts_with("hub.toml:5: nat.masquerade: there is nothing to translate"));
}

#[test]
fn names_that_choose_the_tunnel_are_read_and_their_peer_is_found() {
    let routes = "[dns_routes]\ndomains = [\"Example.com\", \"*.example.net\"]\nvia = \"hub\"\nupstream = \"192.0.2.53\"\n";
    let text = with_peer(&format!("name = \"hub\"\nvip = \"10.0.0.2\"\n{routes}"));
    let found = config(&text).dns_routes.unwrap();
    assert_eq!(found.domains[0], Domain::Name("example.com".into()));
    assert_eq!(found.domains[1], Domain::Below("example.net".into()));
    assert_eq!(found.keep.as_secs(), 3600);
    assert_eq!(found.via.to_string(), KEY_A);
    let by_key = text.replace("via = \"hub\"", &format!("via = \"{KEY_A}\""));
    assert_eq!(config(&by_key).dns_routes.unwrap().via, found.via);
    for (from, to, expected) in [
        (
            "via = \"hub\"",
            "via = \"hut\"",
            "hub.toml:10: dns_routes.via: there is no peer \"hut\"; give",
        ),
        (
            "via = \"hub\"\n",
            "",
            "hub.toml:8: dns_routes.via: missing; add such as via =",
        ),
        (
            "*.example.net",
            "*example.net",
            "hub.toml:9: dns_routes.domains: expected a name such as",
        ),
        (
            "192.0.2.53",
            "example.org",
            "hub.toml:11: dns_routes.upstream: expected the address of a",
        ),
    ] {
        refused(&text.replace(from, to), expected);
    }
}
