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

// Several mistakes.

#[test]
fn several_mistakes_are_told_at_once_each_with_its_line() {
    let text = format!(
        "[interface]\nmode = \"servr\"\nListenPort = 9000\nvip = \"10.0.0.1/24\"\n\
         private_key = \"{OUR_PRIVATE}\"\nmtu = 1\n\
         [[peers]]\npublic_key = \"short\"\n\
         [[peers]]\nvip = \"10.0.0.2\"\n\
         [[peers]]\npublic_key = \"{KEY_A}\"\nendpoint = \"nowhere\"\nvip = \"10.0.0.1\"\n"
    );
    let message = error(&text);
    let lines: Vec<&str> = message.lines().collect();
    let expected = [
        "hub.toml:2: interface.mode: ",
        "hub.toml:3: interface.ListenPort: unknown key; did you mean local_addr?",
        "hub.toml:6: interface.mtu: expected a whole number",
        "hub.toml:8: peers.public_key: ",
        "hub.toml:9: peers.public_key: missing; ",
        "hub.toml:13: peers.endpoint: ",
        "hub.toml:14: peers.vip: 10.0.0.1 is our own address",
    ];
    assert_eq!(lines.len(), expected.len(), "{message}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn what_only_comes_of_another_mistake_is_not_told() {
    for text in [
        interface("").replace(OUR_PRIVATE, "short"),
        interface("").replace("10.0.0.1/24", "10.0.0.1/99"),
        with_peer("").replace(KEY_A, "short"),
        format!(
            "{}[dns_routes]\ndomains = [\"a.example\"]\nvia = \"ana\"\nupstream = [\"192.0.2.53\"]\n",
            with_peer("name = \"ana\"").replace(KEY_A, "short")
        ),
    ] {
        let message = error(&text);
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_file_full_of_mistakes_is_told_of_in_few_lines() {
    let text = format!("{}{}", interface(""), "[[peers]]\nx = 1\n".repeat(1000));
    let message = error(&text);
    assert!(message.lines().count() <= 10, "{message}");
    let message = error(&"nonsense\n".repeat(1000));
    assert!(message.lines().count() <= 10, "{message}");
}

#[test]
fn values_without_quotes_and_single_brackets_get_the_remedy() {
    for (text, expected) in [
        (
            "[interface]\nvip = 10.6.0.1\n",
            "put the value in quotes: vip = \"10.6.0.1\"",
        ),
        (
            "[interface]\nvip = 10.6.0.1/24\n",
            "put the value in quotes: vip = \"10.6.0.1/24\"",
        ),
        (
            "[interface]\nmode = server\n",
            "put the value in quotes: mode = \"server\"",
        ),
        (
            "[peers]\nname = \"a\"\n[peers]\nname = \"b\"\n",
            "write [[peers]] with double brackets",
        ),
        (
            "[peers]\nname = \"a\"\n",
            "write [[peers]] with double brackets",
        ),
        (
            "[Interface]\nPrivateKey = abc\n[Peer]\nPublicKey = def\n",
            "taltun import",
        ),
    ] {
        let message = error(text);
        assert!(message.contains(expected), "{message}");
    }
    let message = error("[interface]\nvip = 10.6.0.1\nmode = server\n");
    assert_eq!(message.lines().count(), 2, "{message}");
}

/// Whatever value is wrong, that is all that is told: nothing is called missing or forbidden that
/// only looks so because the value isn't there.
#[test]
fn one_mistake_is_told_once_and_brings_no_other() {
    let text = "\
[interface]
mode = \"client\"
tun_name = \"t0\"
vip = [\"10.0.0.2/24\", \"fd00::2/64\"]
local_addr = \"[::]:9000\"
private_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"
mtu = 1400
routes = [\"0.0.0.0/0\", \"::/0\"]
fwmark = 7
dns = [\"10.0.0.1\"]
ip_forward = true
mss_clamp = true
protect_vip = true
kill_switch = true
firewall = \"nftables\"
on_up = \"true\"
shell = \"sh\"
debug = true
[nat]
masquerade = true
out = \"eth0\"
[accel]
xdp = \"off\"
af_xdp = \"off\"
deny = [\"192.0.2.0/24\"]
handshakes_per_second = 10
[dataplane]
workers = 1
udp_gso = true
[dns_routes]
domains = [\"*.example.net\"]
via = \"hub\"
upstream = [\"192.0.2.53\"]
keep_seconds = 60
[[peers]]
name = \"hub\"
public_key = \"1111111111111111111111111111111111111111111111111111111111111111\"
vip = [\"10.0.0.1\", \"fd00::1\"]
allowed_ips = [\"0.0.0.0/0\", \"::/0\"]
endpoint = \"vpn.example.net:9000\"
persistent_keepalive = 25
";
    parse(text, "t.toml").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for at in 0..lines.len() {
        let Some((key, _)) = lines[at].split_once(" = ") else {
            continue;
        };
        for wrong in ["\"not so\"", "[[1]]", "1.5"] {
            let line = format!("{key} = {wrong}");
            let mut lines = lines.clone();
            lines[at] = &line;
            let error = parse(&lines.join("\n"), "t.toml");
            // Some words are right anywhere: a name, a command.
            let Err(error) = error else { continue };
            let told = error.to_string();
            assert_eq!(told.lines().count(), 1, "{line}: {told}");
            assert!(told.contains(key), "{line}: {told}");
        }
    }
    // A key in a file of its own that can't be read is there all the same.
    let (before, after) = text.split_once("private_key = ").unwrap();
    let after = after.split_once('\n').unwrap().1;
    let text = format!("{before}private_key_file = \"/no/such/key\"\n{after}");
    let told = parse(&text, "t.toml").unwrap_err().to_string();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("cannot read /no/such/key"), "{told}");
}

#[test]
fn a_key_that_is_missing_hides_no_other_mistake() {
    let told = |text: &str| {
        let told = parse(text, "hub.toml").unwrap_err().to_string();
        let cut = |line: &str| line.split(';').next().unwrap_or_default().to_owned();
        told.lines().map(cut).collect::<Vec<_>>()
    };
    let peers = format!(
        "[[peers]]\npublic_key = \"{KEY_A}\"\nvip = \"10.0.0.2\"\n\
         [[peers]]\npublic_key = \"{KEY_A}\"\nvip = \"10.0.0.3\"\n"
    );
    let same_key = format!("this key is also that of peer {KEY_A} (hub.toml:4)");
    assert_eq!(
        told(&format!(
            "[interface]\nprivate_key_file = \"/no/such/key\"\n{peers}"
        )),
        [
            "hub.toml:1: interface.vip: missing".to_owned(),
            "hub.toml:2: interface.private_key_file: cannot read /no/such/key: No such file or \
             directory (os error 2)"
                .to_owned(),
            format!("hub.toml:7: peers.public_key: {same_key}"),
        ]
    );
    assert_eq!(
        told("[interface]\nmtu = 1400\nkill_switch = true\n"),
        [
            "hub.toml:1: interface.private_key: missing",
            "hub.toml:1: interface.vip: missing",
            "hub.toml:3: interface.kill_switch: nothing would leave this machine at all, as no \
             route leads everything into the tunnel",
        ]
    );
    // A mistake in the vip isn't told as a missing one, either.
    assert_eq!(told("[interface]\nvip = \"10.0.0\"\nmtu = 1400\n").len(), 2);
}

#[test]
fn a_key_that_is_written_wrong_is_told_once() {
    let text = interface("ruotes = [\"0.0.0.0/0\"]\nkill_switch = true");
    let told = parse(&text, "hub.toml").unwrap_err().to_string();
    assert_eq!(
        told,
        "hub.toml:4: interface.ruotes: unknown key; did you mean routes?"
    );
    // Nor is it told as a missing one.
    let text = with_peer("vip = \"10.0.0.2\"");
    for key in ["private_key", "public_key", "vip"] {
        let wrong = key.replace('i', "y");
        let text = text.replacen(&format!("{key} ="), &format!("{wrong} ="), 1);
        let told = parse(&text, "hub.toml").unwrap_err().to_string();
        let expected = format!("{wrong}: unknown key; did you mean {key}?");
        assert!(told.ends_with(&expected), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn a_gateway_that_cannot_be_is_refused() {
    for (section, expected) in [
        (
            "listen_addr = []",
            "udpgw.listen_addr: the list is empty; name where clients connect to",
        ),
        (
            "listen_addr = \"127.0.0.1\"",
            "udpgw.listen_addr: expected ADDRESS:PORT such as",
        ),
        (
            "listen_addr = \"127.0.0.1:0\"",
            "udpgw.listen_addr: expected ADDRESS:PORT such as",
        ),
        (
            "listen_addr = [\"127.0.0.1:7300\", \"127.0.0.1:7300\"]",
            "udpgw.listen_addr: 127.0.0.1:7300 and 127.0.0.1:7300 are one place to listen",
        ),
        (
            "listen_addr = [\"10.0.0.1:7300\", \"0.0.0.0:7300\"]",
            "udpgw.listen_addr: 0.0.0.0:7300 and 10.0.0.1:7300 are one place to listen",
        ),
        (
            "max_clients = 0",
            "udpgw.max_clients: expected a whole number from 1",
        ),
        (
            "allow = [\"somewhere\"]",
            "udpgw.allow: expected a network such as",
        ),
        (
            "stats_interval = 60",
            "udpgw.stats_interval: unknown key; `taltun stats` shows the counters",
        ),
    ] {
        let text = interface(&format!("[udpgw]\n{section}\n"));
        refused(&text, &format!("hub.toml:5: {expected}"));
    }
}

#[test]
fn a_gateway_keeps_away_from_the_resolver_of_names() {
    let text = |listen: &str| {
        format!(
            "{}[dns_routes]\ndomains = [\"a.example\"]\nvia = \"ana\"\nupstream = \
             [\"192.0.2.53\"]\n[udpgw]\nlisten_addr = \"{listen}\"\n",
            with_peer("name = \"ana\"")
        )
    };
    for listen in ["10.0.0.1:53", "0.0.0.0:53"] {
        let message = error(&text(listen));
        assert!(
            message.contains("the resolver of [dns_routes]"),
            "{message}"
        );
    }
    for listen in ["10.0.0.1:7300", "127.0.0.1:53"] {
        parse(&text(listen), "hub.toml").unwrap();
    }
}
