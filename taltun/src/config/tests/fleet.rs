//! `[fleet]`, and peers that come beside the file.

use super::*;
use crate::config::{FleetPeer, Loaded, Overrides, load_text};
use crate::crypto::PublicKey;

const OF_HUB: &str = r#"
[interface]
mode = "server"
vip = "10.0.0.1/24"
private_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
[fleet]
name = "example"
hub = "madrid"
etcd = "http://10.1.0.1:2379"
"#;

fn peer(number: u8, name: &str) -> FleetPeer {
    FleetPeer {
        name: name.to_owned(),
        public_key: PublicKey([number; 32]),
        vip: vec![[10, 0, 0, number].into()],
        allowed_ips: Vec::new(),
        expires: None,
        quota: None,
        rate_up: None,
        rate_down: None,
    }
}

fn with(more: &str, peers: Vec<FleetPeer>) -> Loaded {
    let overrides = Overrides::default();
    overrides.fleet.set(peers.into());
    let text = format!("{OF_HUB}{more}");
    load_text(std::path::Path::new("hub.toml"), &text, &overrides).unwrap()
}

fn said(loaded: &Loaded) -> String {
    loaded.warnings.join("\n")
}

#[test]
fn peers_of_the_fleet_are_peers_like_others() {
    let mut ana = peer(2, "ana");
    ana.allowed_ips = vec!["192.168.5.0/24".parse().unwrap()];
    ana.expires = Some("2199-12-31".to_owned());
    ana.quota = Some("10 GB/month".to_owned());
    ana.rate_down = Some("5 Mbit/s".to_owned());
    let rules = "[groups]\nstaff = [\"ana\"]\n[[rules]]\nfrom = \"staff\"\nto = \"hub\"\ndeny = \"any\"\n\
        [[forward]]\nlisten = \"tcp/8443\"\nto = \"ana:443\"\n";
    let loaded = with(rules, vec![ana]);
    assert_eq!(said(&loaded), "");
    let [ana] = &loaded.config.peers[..] else {
        panic!("{:?}", loaded.config.peers);
    };
    assert_eq!(ana.allowed_ips.len(), 2);
    assert!(ana.limits.expires.is_some() && ana.limits.quota.is_some());
    assert!(ana.rates.rate_down.is_some());
    assert_eq!(ana.origin.to_string(), "the fleet example");
    assert_eq!(loaded.config.forwards.len(), 1);
    // The same file without a fleet has none of them.
    let text = OF_HUB.split("[fleet]").next().unwrap();
    let overrides = Overrides::default();
    overrides.fleet.set(vec![peer(2, "ana")].into());
    let alone = load_text(std::path::Path::new("hub.toml"), text, &overrides).unwrap();
    assert!(alone.config.peers.is_empty());
}

#[test]
fn a_file_that_is_right_stays_so_whoever_comes_and_goes() {
    let file = "[groups]\nstaff = [\"ana\", \"gone\"]\n[[rules]]\nfrom = \"gone\"\nto = \"staff\"\n\
        deny = \"any\"\n[[forward]]\nlisten = \"tcp/8443\"\nto = \"gone:443\"\n[shaping]\n\
        uplink = \"1 Mbit/s\"\n[names]\ndomain = \"vpn\"\n[[peers]]\nname = \"Local\"\n\
        public_key = \"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\"\nvip = \"10.0.0.9\"\n";
    let mut fast = peer(3, "fast");
    fast.rate_down = Some("5 Mbit/s".to_owned());
    let mut odd = peer(4, "odd");
    odd.quota = Some("much".to_owned());
    let mut nets = peer(5, "nets");
    nets.allowed_ips = vec!["10.0.0.9/32".parse().unwrap()];
    let loaded = with(
        file,
        vec![
            fast,
            odd,
            nets,
            // The hub's own address, the file's key, names that are taken.
            peer(1, "own"),
            peer(9, "twin"),
            peer(6, "local"),
            peer(7, "staff"),
            peer(8, "hub"),
        ],
    );
    let told = said(&loaded);
    let names = loaded.config.peers.iter().map(|peer| peer.name.as_deref());
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [Some("Local"), Some("fast"), None, None, None],
        "{told}"
    );
    for part in [
        "the fleet example: the peer odd",
        "the peer nets",
        "10.0.0.9/32 is another peer's",
        "10.0.0.1 is this hub's own address",
        "the peer twin",
        "the peer local",
        "has no name here",
        "this port leads to nobody",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(loaded.config.forwards.is_empty());
}

#[test]
fn what_doesnt_fit_is_kept_for_who_asks_later() {
    let overrides = Overrides::default();
    let read = |peers: Vec<FleetPeer>| {
        overrides.fleet.set(peers.into());
        let loaded = load_text(std::path::Path::new("hub.toml"), OF_HUB, &overrides).unwrap();
        (loaded.warnings, overrides.fleet.odd())
    };
    let (told, kept) = read(vec![peer(1, "own"), peer(2, "ana")]);
    assert_eq!(told, kept);
    assert!(
        kept[0].contains("this hub's own address") && kept.len() == 1,
        "{kept:?}"
    );
    let (_, kept) = read(vec![peer(2, "ana")]);
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn a_section_with_mistakes_says_what_to_write() {
    for (from, to, expected) in [
        (
            "hub = \"madrid\"\n",
            "",
            "fleet.hub: missing; add such as hub",
        ),
        (
            "name = \"example\"\n",
            "",
            "fleet.name: missing; add such as name",
        ),
        ("\"madrid\"", "\"Madrid\"", "small letters"),
        ("http://", "", "expected such as \"https://10.1.0.1:2379\""),
        (
            "http://",
            "https://",
            "fleet.ca: missing; https://10.1.0.1:2379 needs",
        ),
        (
            "etcd = \"http://10.1.0.1:2379\"",
            "etcd = []",
            "the list is empty",
        ),
        (
            "etcd = ",
            "endpoint = \"madrid\"\netcd = ",
            "fleet.endpoint: expected",
        ),
        ("etcd = ", "cert = \"a\"\netcd = ", "fleet.key: missing"),
    ] {
        let text = OF_HUB.replace(from, to);
        assert_ne!(text, OF_HUB);
        let error = parse(&text, "hub.toml").unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
