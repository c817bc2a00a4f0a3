//! Several mistakes at once, and those that only come of another one.

use super::*;

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
    let twice = error("[hop]\nport_range = [4096, 8191]\nport_range = [4096, 8191]\n");
    assert!(twice.contains("not valid TOML: duplicate key"), "{twice}");
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
