//! What is refused, with the line that the user sees: the text, and each section.

use super::*;

// The text, the types.

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
        "hub.toml:5: accel.xpd: unknown key; known here: interfaces, xdp, af_xdp, deny",
    );
    refused(
        "[[peer]]\n",
        "hub.toml:1: peer: unknown section or key; did you mean [[peers]]?",
    );
    refused(
        "vip = \"10.0.0.1\"\n",
        "hub.toml:1: vip: unknown section or key; vip belongs below [interface]",
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

// [interface].

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
        // Text of a firewall's rules, or patterns there.
        "t\"",
        "t{",
        "t;",
        "t*",
        "t$(id)",
        "t#",
        "t\\",
    ] {
        refused(
            &interface(&format!("tun_name = '{name}'")),
            "hub.toml:4: interface.tun_name: expected an interface name of 1 to 15",
        );
    }
    config(&interface("tun_name = \"fifteen-letters\""));
    config(&interface("tun_name = \"a_b=c+d.e-f\""));
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

// [[peers]].

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

/// In each form of an endpoint, and in each of the two keys.
#[test]
fn an_endpoint_is_one_host() {
    for (address, why) in [
        ("0.0.0.0", "means \"any address\""),
        ("255.255.255.255", "is the broadcast address"),
        ("224.0.0.1", "is a multicast address"),
        ("::", "means \"any address\""),
        ("ff02::1", "is a multicast address"),
        ("::ffff:0.0.0.0", "means \"any address\""),
        ("::ffff:255.255.255.255", "is the broadcast address"),
        ("::ffff:239.1.2.3", "is a multicast address"),
    ] {
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        for ports in [":9000", ":4096-8191"] {
            refused(
                &with_peer(&format!("endpoint = \"{host}{ports}\"")),
                &format!("hub.toml:6: peers.endpoint: {address} {why}; expected the address of"),
            );
            refused(
                &with_peer(&format!("endpoints = [\"192.0.2.1:9\", \"{host}{ports}\"]")),
                &format!("hub.toml:6: peers.endpoints: {address} {why}; expected the address of"),
            );
        }
        refused(
            &with_peer(&format!(
                "endpoint = \"{address}\"\n[hop]\nport_range = [4096, 8191]"
            )),
            &format!("hub.toml:6: peers.endpoint: {address} {why}; expected the address of"),
        );
    }
}

#[test]
fn ports_of_a_range_are_some() {
    refused(
        &with_peer("endpoint = \"192.0.2.1:9-7\""),
        "hub.toml:6: peers.endpoint: the first of the ports 9-7 is larger than the last; write 7-9",
    );
    for ports in ["0-7", "7-", "-7", "7-65536", "7-8-9", "7 - 8"] {
        refused(
            &with_peer(&format!("endpoints = [\"192.0.2.1:{ports}\"]")),
            "hub.toml:6: peers.endpoints: expected HOST:PORT such as",
        );
    }
    refused(
        &with_peer("endpoint = \"hub.example\""),
        "hub.toml:6: peers.endpoint: expected HOST:PORT such as \"203.0.113.1:9000\", \
         \"[2001:db8::1]:9000\" or \"hub.example.org:9000\", or HOST:FIRST-LAST such as \
         \"hub.example.org:4096-8191\", found \"hub.example\"; without a port \
         it needs the port_range of [hop]",
    );
    // Unbracketed, nobody knows where the address ends.
    refused(
        &with_peer("endpoint = \"2001:db8::1:7-9\""),
        "hub.toml:6: peers.endpoint: expected HOST:PORT such as",
    );
}

#[test]
fn a_range_that_is_nearly_right_is_told_how_it_is_written() {
    for (found, right) in [
        ("hub.example:4096\u{2013}8191", "hub.example:4096-8191"),
        ("192.0.2.1: 9000 - 9010", "192.0.2.1:9000-9010"),
    ] {
        refused(
            &with_peer(&format!("endpoint = \"{found}\"")),
            &format!(
                "hub.toml:6: peers.endpoint: expected HOST:PORT such as \"203.0.113.1:9000\", \
                 \"[2001:db8::1]:9000\" or \"hub.example.org:9000\", or HOST:FIRST-LAST such as \
                 \"hub.example.org:4096-8191\", found {found:?}; write {right:?}"
            ),
        );
    }
    refused(
        &with_peer("endpoint = [\"192.0.2.1:9000\"]"),
        "hub.toml:6: peers.endpoint: expected one endpoint, found a list; several are \
         endpoints = [ ]",
    );
}

#[test]
fn a_range_of_ports_is_told_what_was_found() {
    for (range, found) in [
        ("[0, 100]", "[0, 100]"),
        ("[1, 70000]", "[1, 70000]"),
        ("[4096]", "[4096]"),
        ("[8191, 4096]", "[8191, 4096]"),
        ("[1, 2, 3, 4]", "[1, 2, 3, …]"),
        ("\"4096-8191\"", "the text \"4096-8191\""),
        ("4096", "4096"),
    ] {
        let text = with_peer(&format!(
            "endpoint = \"192.0.2.1:1\"\n[hop]\nport_range = {range}"
        ));
        refused(
            &text,
            &format!(
                "hub.toml:8: hop.port_range: expected two whole numbers from 1 to 65535 in [ ], the \
                 smaller one first, such as [4096, 8191], found {found}"
            ),
        );
    }
}

#[test]
fn more_endpoints_than_are_tried_are_refused() {
    let list = |count: usize| {
        let all = (1..=count).map(|last| format!("\"192.0.2.{last}:9000\""));
        with_peer(&format!(
            "endpoints = [{}]",
            all.collect::<Vec<_>>().join(", ")
        ))
    };
    refused(
        &list(17),
        "hub.toml:6: peers.endpoints: expected at most 16 endpoints, found 17; name the ports of \
         one address as a range, HOST:FIRST-LAST",
    );
    assert_eq!(config(&list(16)).peers[0].endpoints.len(), 16);
}

#[test]
fn an_endpoint_and_several_are_too_many() {
    refused(
        &with_peer("endpoint = \"192.0.2.1:7\"\nendpoints = [\"192.0.2.1:8\"]"),
        "hub.toml:7: peers.endpoints: endpoint is given too; keep one of the two",
    );
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
fn quotas_and_last_days_say_what_they_may_be() {
    for (line, expected) in [
        (
            "quota = \"100 GB\"",
            "quota: expected an amount a day or month such as \"100 GB/month\"",
        ),
        (
            "quota = \"100 XB/month\"",
            "quota: there is no unit \"XB\"; it is one of B, kB, MB, GB, TB, PB, KiB,",
        ),
        ("quota = \"100 Gb/month\"", "quota: \"Gb\" would be bits"),
        (
            "quota = \"1 GB/week\"",
            "quota: there is no period \"week\"",
        ),
        ("quota = \"0 B/day\"", "quota: 0 would be nothing at all"),
        ("quota = 5", "quota: expected a text in quotes"),
        (
            "expires = \"31.12.2026\"",
            "expires: write 2026-12-31, the year first; found \"31.12.2026\"",
        ),
        (
            "expires = \"2026-02-30\"",
            "expires: there is no 2026-02-30: the last day of that month is 2026-02-28",
        ),
        (
            "quota = \"1 GB/Month\"",
            "quota: there is no period \"Month\"; write \"1 GB/month\"",
        ),
        (
            "expires = 2026-12-31T10:00:00",
            "expires: expected a date alone such as 2026-12-31",
        ),
        (
            "expires = 1969-12-31",
            "expires: days are those from 1970-01-01 on, found \"1969-12-31\"",
        ),
        ("expires = 2026", "expires: expected a date such as"),
    ] {
        refused(&with_peer(line), &format!("hub.toml:6: peers.{expected}"));
    }
}

#[test]
fn a_group_in_itself_is_told_once_and_nothing_that_comes_of_it() {
    let rest = "vip = \"10.0.0.2\"\n[groups]\na = [\"b\"]\nb = [\"c\"]\nc = [\"a\"]\nd = [\"d\"]\n\
                [[rules]]\nfrom = \"a\"\nto = [\"c\", \"d\"]\nallow = \"any\"\n\
                [[rules]]\nfrom = \"e\"\nto = \"any\"\ndeny = \"any\"\n";
    let error = parse(&with_peer(rest), "hub.toml").unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    let expected = [
        "hub.toml:8: groups.a: the group \"a\" is a member of itself, by way of \"c\"; leave it out of one of the two",
        "hub.toml:11: groups.d: the group \"d\" is a member of itself; leave it out there",
        "hub.toml:17: rules.from: there is nobody called \"e\"; ",
    ];
    assert_eq!(lines.len(), expected.len(), "{error}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{error}");
    }
}

#[test]
fn a_rate_has_a_number_a_unit_and_bounds() {
    for (text, expected) in [
        (
            "fast",
            "expected a rate such as \"20 Mbit/s\", found \"fast\"",
        ),
        ("", "expected a rate such as \"20 Mbit/s\", found \"\""),
        ("-5 Mbit/s", "expected a rate such as"),
        ("1.2345 Mbit/s", "expected a rate such as"),
        ("1. Mbit/s", "expected a rate such as"),
        ("1.5.2 Mbit/s", "expected a rate such as"),
        ("20", "the unit is missing: bit/s, kbit/s, Mbit/s, Gbit/s"),
        (
            "20 mbit/s",
            "\"mbit/s\" is no unit of a rate; expected bit/s, kbit/s, Mbit/s, Gbit/s; did you mean Mbit/s?",
        ),
        (
            "20 MB/s",
            "\"MB/s\" is no unit of a rate; expected bit/s, kbit/s, Mbit/s, Gbit/s (a byte is 8 bits)",
        ),
        ("20 Mbps", "\"Mbps\" is no unit of a rate; expected"),
        (
            "0 Mbit/s",
            "expected a rate from 64 kbit/s to 100 Gbit/s, found \"0 Mbit/s\"; leave it out for no limit",
        ),
        ("63.999 kbit/s", "expected a rate from 64 kbit/s"),
        ("100.001 Gbit/s", "expected a rate from 64 kbit/s"),
        ("99999999999999999999 Mbit/s", "expected a rate such as"),
        ("9999999999999999 Gbit/s", "expected a rate from 64 kbit/s"),
    ] {
        for key in ["rate_up", "rate_down"] {
            let said = error(&with_peer(&format!("{key} = \"{text}\"")));
            let at = format!("hub.toml:6: peers.{key}: ");
            assert!(said.starts_with(&at) && said.contains(expected), "{said}");
        }
    }
    for (text, bits) in [
        ("64 kbit/s", 64_000),
        ("64000bit/s", 64_000),
        ("1.5 Mbit/s", 1_500_000),
        ("0.064 Mbit/s", 64_000),
        ("100 Gbit/s", 100_000_000_000),
    ] {
        let config = config(&with_peer(&format!("rate_down = \"{text}\"")));
        let rate = config.peers[0].rates.rate_down.unwrap();
        assert_eq!(rate.bits(), bits, "{text}");
    }
}

#[test]
fn no_peer_is_promised_more_than_the_uplink() {
    let with = |rate: &str| {
        let peer = with_peer(&format!("rate_down = \"{rate}\""));
        format!("{peer}\n[shaping]\nuplink = \"10 Mbit/s\"\n")
    };
    refused(
        &with("10.001 Mbit/s"),
        "hub.toml:6: peers.rate_down: 10.001 Mbit/s is more than the uplink of all peers has, 10 Mbit/s (hub.toml:",
    );
    assert!(config(&with("10 Mbit/s")).shaping.uplink.is_some());
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

// [accel].

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
