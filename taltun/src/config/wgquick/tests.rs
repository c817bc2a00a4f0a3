//! There and back, both ways round.

mod real;

use super::{Imported, export, import};
use crate::config;

/// What people's files look like, with everything that wg-quick(8) knows.
const WG_QUICK: &str = "\
# The office, as of May
[Interface]
PrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=
Address = 10.192.122.1/24, fd00:122::1/64
address = 10.10.0.1
ListenPort = 51820 # forwarded by the router
MTU = 1380
DNS = 1.1.1.1, example.org
FwMark = 0xca6c
Table = off
PreUp = echo 1 > /tmp/x
PreDown = echo 2 > /tmp/x
PostUp = iptables -A FORWARD -i %i -j ACCEPT; ip rule add ipproto tcp dport 22 table 1234
PostDown = iptables -D FORWARD -i %i -j ACCEPT
SaveConfig = true

# laptop
[Peer]
PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
PresharedKey = /UwcSPg38hW/D9Y3tcS1FOV0K1wuURMbS0sesJEP5ak=
AllowedIPs = 10.192.122.3/32, 10.192.124.0/24

[peer]
PublicKey=TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
AllowedIPs = 10.192.122.4
AllowedIPs = fd00:122::4/128
Endpoint = [2607:5300:60:6b0::c05f:543]:2468
PersistentKeepalive = 25
# the end
";

const TOML: &str = r#"
# A hub.
[interface]
mode = "server"  # relays
tun_name = "hub0"
vip = ["10.0.0.1/24",   # here
       "fd00::1/64"]
local_addr = "192.0.2.1:9000"
private_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
routes = ["192.168.50.0/24"]
ip_forward = true
dns = ["10.0.0.53", "example.org"]
fwmark = 51820
on_up = ["echo \"$TALTUN_INTERFACE\" is up", "echo 'a b'"]
on_down = "logger hub0 C:\\down"
after_down = "logger gone"
shell = "bash"

[[peers]]
name = "office # 1"
public_key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
vip = "10.0.0.2"
endpoint = "vpn.example.org:9000"
allowed_ips = ["192.168.50.0/24"]
persistent_keepalive = 25

[accel]
xdp = "off"
deny = ["198.51.100.0/24"]

[dataplane]
workers = 1

[nat]
masquerade = true
out = "eth0"
"#;

fn imported(text: &str) -> Imported {
    import(text.as_bytes(), "wg0.conf", Some("wg0")).unwrap()
}

fn exported(toml: &str) -> String {
    export(toml, &config::parse(toml, "test.toml").unwrap().config)
}

/// A wg-quick file as a set of settings: what it means, whatever its order and comments.
fn settings(text: &str) -> Vec<String> {
    let mut section = 0;
    let mut settings = Vec::new();
    for line in text.lines() {
        let code = line.split('#').next().unwrap_or_default().trim();
        if code.starts_with('[') {
            section += 1;
            settings.push(format!("{section} {}", code.to_lowercase()));
        } else if let Some((key, value)) = code.split_once('=') {
            let (key, value) = (key.trim().to_lowercase(), value.trim());
            if matches!(key.as_str(), "address" | "allowedips") {
                for item in value.split(',').map(str::trim) {
                    let bits = if item.contains(':') { "/128" } else { "/32" };
                    let full = if item.contains('/') { "" } else { bits };
                    settings.push(format!("{section} {key} {item}{full}"));
                }
            } else {
                settings.push(format!("{section} {key} {value}"));
            }
        }
    }
    settings.sort();
    for setting in &mut settings {
        *setting = setting.replace("%i", "wg0");
    }
    settings
}

#[test]
fn a_wg_quick_file_means_the_same_after_the_way_there_and_back() {
    let there = imported(WG_QUICK);
    let back = exported(&there.toml);
    assert_eq!(settings(&back), settings(WG_QUICK), "{back}");
    // Once more: nothing piles up.
    let again = exported(&imported(&back).toml);
    assert_eq!(settings(&again), settings(WG_QUICK), "{again}");
}

#[test]
fn comments_stay_on_both_ways() {
    let there = imported(WG_QUICK).toml;
    let back = exported(&there);
    for comment in [
        "# The office, as of May",
        "# forwarded by the router",
        "# laptop",
        "# the end",
    ] {
        assert!(there.contains(comment), "{comment}: {}", *there);
        assert!(back.contains(comment), "{comment}: {back}");
    }
    let laptop = there.find("# laptop").unwrap();
    assert!(laptop < there.find("[[peers]]").unwrap());
}

#[test]
fn an_imported_file_is_a_configuration() {
    let there = imported(WG_QUICK);
    let config = config::parse(&there.toml, "test.toml").unwrap().config;
    assert_eq!(config.interface.tun_name, "wg0");
    assert_eq!(config.interface.local_addr.port(), 51820);
    assert_eq!(config.interface.vip.len(), 3);
    assert_eq!(config.interface.vip[2].to_string(), "10.10.0.1/32");
    assert_eq!(config.interface.mtu, 1380);
    // Table = off.
    assert!(config.interface.routes.is_empty());
    assert_eq!(config.peers.len(), 2);
    assert_eq!(config.peers[1].allowed_ips.len(), 2);
    assert_eq!(config.peers[1].persistent_keepalive, Some(25));
    assert_eq!(config.host.dns.search, ["example.org"]);
    assert_eq!(config.host.fwmark, Some(0xca6c));
    assert_eq!(
        config.hooks.on_up,
        ["iptables -A FORWARD -i wg0 -j ACCEPT; ip rule add ipproto tcp dport 22 table 1234"]
    );
    assert_eq!(config.hooks.before_up, ["echo 1 > /tmp/x"]);
    assert_eq!(config.hooks.on_down, ["echo 2 > /tmp/x"]);
    assert_eq!(
        config.hooks.after_down,
        ["iptables -D FORWARD -i wg0 -j ACCEPT"]
    );
    assert_eq!(config.hooks.shell, config::Shell::Bash);
    // SaveConfig.
    assert_eq!(there.warnings.len(), 1, "{:?}", there.warnings);
    assert!(
        there.warnings[0].contains("wg0.conf:15: SaveConfig"),
        "{}",
        there.warnings[0]
    );
    // Each command.
    assert_eq!(there.notes.len(), 4, "{:?}", there.notes);
}

#[test]
fn toml_means_the_same_after_the_way_there_and_back() {
    let mut before = config::parse(TOML, "test.toml").unwrap().config;
    let conf = exported(TOML);
    let back = import(conf.as_bytes(), "x.conf", Some("x")).unwrap().toml;
    let mut after = config::parse(&back, "test.toml").unwrap().config;
    // The name is known by then.
    let up = &mut after.hooks.on_up[0];
    *up = up.replace("hub0", "$TALTUN_INTERFACE");
    // It is on other lines.
    for peer in before.peers.iter_mut().chain(&mut after.peers) {
        peer.origin = config::Origin::default();
    }
    assert_eq!(
        format!("{before:?}"),
        format!("{after:?}"),
        "{conf}\n{}",
        *back
    );
    for comment in ["# A hub.", "# relays", "# here"] {
        assert!(back.contains(comment), "{comment}: {}", *back);
    }
}

#[test]
fn what_holds_by_default_in_toml_is_written_out() {
    let toml = "[interface]\nvip = \"10.0.0.1/24\"\nprivate_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n\n[[peers]]\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\nvip = \"10.0.0.2\"\n";
    let conf = exported(toml);
    assert!(conf.contains("ListenPort = 9000\n\n[Peer]"), "{conf}");
    assert!(conf.contains("AllowedIPs = 10.0.0.2/32"), "{conf}");
}

#[test]
fn default_routes_and_name_servers_come_along() {
    let text = "[Interface]\nPrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=\n\
                Address = 10.0.0.2/24\nDNS = 10.0.0.1\nDNS = example.org\nPostUp = echo one\n\
                PostUp = echo \\two\n[Peer]\n\
                PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
                AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.1:51820\n";
    let there = imported(text);
    assert_eq!(there.warnings, [""; 0]);
    let config = config::parse(&there.toml, "test.toml").unwrap().config;
    assert_eq!(config.interface.routes.len(), 2);
    assert!(config.mark(&[]).is_some());
    assert_eq!(config.host.dns.servers.len(), 1);
    assert_eq!(config.hooks.on_up, ["echo one", "echo \\two"]);
    let back = exported(&there.toml);
    assert!(
        back.contains("PostUp = echo one\nPostUp = echo \\two\n"),
        "{back}"
    );
    assert!(back.contains("DNS = 10.0.0.1, example.org\n"), "{back}");
}

#[test]
fn a_file_that_wg_quick_would_refuse_is_refused_with_its_line() {
    for (text, line) in [
        ("[Interface]\nPrivateKy = x\n", ":2"),
        ("[Interface]\nnonsense\n", ":2"),
        ("PrivateKey = x\n", ":1"),
        ("[Interfaces]\n", ":1"),
        ("[Interface]\n\nListenPort = 65536\n", ":3"),
        ("[Interface]\nAddress = 10.0.0.0/33\n", ":2"),
        ("[Interface]\n[Peer]\nAllowedIPs = -10.0.0.0/8\n", ":3"),
        ("[Interface]\n[Peer]\nDNS = 1.1.1.1\n", ":3"),
        ("[Interface]\nPrivateKey = \"x\"\n", ":2"),
    ] {
        let error = import(text.as_bytes(), "wg0.conf", Some("wg0"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&format!("wg0.conf{line}")), "{error}");
    }
}

#[test]
fn several_endpoints_and_ranges_are_comments_beside_the_first_of_them() {
    let toml = "[interface]\nvip = \"10.0.0.2/24\"\nmode = \"client\"\n\
                private_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n\n\
                [[peers]]\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\n\
                vip = \"10.0.0.1\"\n{endpoints}\n\n\
                [hop]\nport_range = [4096, 8191]\nhop_interval = 10\n";
    for (endpoints, first) in [
        ("endpoint = \"192.0.2.1\"", "192.0.2.1:4096"),
        ("endpoint = \"[2001:db8::1]:7-9\"", "[2001:db8::1]:7"),
        (
            "endpoints = [\"hub.example.org:4096-8191\",\n  \"192.0.2.1:9000\"]",
            "hub.example.org:4096",
        ),
    ] {
        let toml = toml.replace("{endpoints}", endpoints);
        let conf = exported(&toml);
        let line = endpoints.replace("\n  ", " ");
        for lines in [
            format!("Endpoint = {first}\n# taltun: {line}\n"),
            "# taltun: [hop]\n# taltun: port_range = [4096, 8191]\n\
             # taltun: hop_interval = 10\n"
                .to_owned(),
        ] {
            assert!(conf.contains(&lines), "{lines}{conf}");
        }
        let there = imported(&conf);
        let before = config::parse(&toml, "test.toml").unwrap().config;
        let after = config::parse(&there.toml, "test.toml").unwrap().config;
        assert_eq!(after.peers[0].endpoint, before.peers[0].endpoint);
        assert_eq!(after.peers[0].endpoints, before.peers[0].endpoints);
        assert_eq!(after.hop, before.hop, "{}", *there.toml);
        let owned = there.notes.join("\n");
        let key = endpoints.split(' ').next().unwrap_or_default();
        assert!(
            owned.contains(key) && owned.contains("port_range"),
            "{owned}"
        );
    }
    // One that stands in a list is a line of wg-quick's.
    let one = toml.replace("{endpoints}", "endpoints = [\"192.0.2.1:9000\"]");
    let conf = exported(&one);
    assert!(conf.contains("Endpoint = 192.0.2.1:9000\n"), "{conf}");
    assert!(!conf.contains("# taltun: endpoint"), "{conf}");
}

#[test]
fn a_range_of_ports_in_a_wg_quick_file_is_refused_with_what_to_write() {
    for ports in ["4096-8191", "4096\u{2013}8191"] {
        let text = format!("[Interface]\n[Peer]\nEndpoint = hub.example.org:{ports}\n");
        let error = import(text.as_bytes(), "wg0.conf", Some("wg0"));
        let error = error.unwrap_err().to_string();
        for part in [
            "wg0.conf:3: Endpoint: ",
            "Endpoint = hub.example.org:4096 here",
            "endpoint = \"hub.example.org:4096-8191\"",
            "port_range = [4096, 8191] in [hop]",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    // Others are told what an endpoint is.
    for endpoint in [
        "hub.example.org",
        "hub.example.org:9-x",
        "hub.example.org:9-8",
    ] {
        let text = format!("[Interface]\n[Peer]\nEndpoint = {endpoint}\n");
        let error = import(text.as_bytes(), "wg0.conf", Some("wg0"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("expected HOST:PORT such as"), "{error}");
        assert!(!error.contains("[hop]"), "{error}");
    }
}
