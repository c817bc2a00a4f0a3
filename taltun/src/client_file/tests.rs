use super::*;
use crate::config::{self, Config, wgquick};

fn access() -> ClientAccess {
    let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect();
    ClientAccess {
        addresses: nets(&["10.0.0.7/24", "fd00::7/64"]),
        hub_public_key: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=".into(),
        hub_addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        endpoint: "hub.example.net:4096-8191".into(),
        plain_endpoint: "hub.example.net:9000".into(),
        endpoint_is_guess: false,
        routes: nets(&["10.0.0.0/24", "fd00::/64", "192.168.50.0/24"]),
        dns: vec!["10.0.0.1".into(), "vpn".into()],
        mtu: Some(1380),
        persistent_keepalive: 25,
    }
}

fn keys() -> Keys {
    Keys {
        private_key: Some(PrivateKey::from_bytes([7; 32])),
        preshared_key: Some(PresharedKey([9; 32])),
    }
}

/// What must be the same in both files.
fn means(config: &Config) {
    assert_eq!(
        config.interface.private_key,
        PrivateKey::from_bytes([7; 32])
    );
    assert_eq!(config.interface.vip, access().addresses);
    assert_eq!(config.interface.mtu, 1380);
    assert_eq!(config.host.dns.servers[0].to_string(), "10.0.0.1");
    assert_eq!(config.host.dns.search, ["vpn"]);
    assert!(
        config
            .interface
            .routes
            .contains(&"192.168.50.0/24".parse().unwrap())
    );
    let [hub] = &config.peers[..] else {
        panic!("{:?}", config.peers);
    };
    assert_eq!(hub.preshared_key, PresharedKey([9; 32]));
    assert_eq!(hub.public_key.to_string(), access().hub_public_key);
    assert_eq!(hub.persistent_keepalive, Some(25));
    let mut allowed: Vec<IpNet> = hub.allowed_ips.iter().map(IpNet::trunc).collect();
    allowed.sort_unstable();
    let mut expected = access().routes;
    expected.sort_unstable();
    assert_eq!(allowed, expected);
}

#[test]
fn the_file_for_taltun_says_what_the_hub_told() {
    let text = toml(&access(), &keys());
    let loaded = config::parse(&text, "phone.toml").unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    means(&loaded.config);
    let endpoint = &loaded.config.peers[0].endpoints[0];
    assert_eq!(endpoint.to_string(), "hub.example.net:4096-8191");
}

#[test]
fn the_file_for_others_says_the_same_in_few_words() {
    let text = wg_quick(&access(), &keys());
    let imported = wgquick::import(text.as_bytes(), "phone.conf", Some("phone")).unwrap();
    let config = config::parse(&imported.toml, "phone.toml").unwrap().config;
    means(&config);
    assert!(
        text.contains("\nEndpoint = hub.example.net:9000\n"),
        "{}",
        *text
    );
    assert!(!text.contains('#'), "{}", *text);
}

#[test]
fn a_key_that_the_peer_has_is_not_in_the_file() {
    let none = Keys::default();
    for text in [toml(&access(), &none), wg_quick(&access(), &none)] {
        assert!(text.contains(OWN_KEY), "{}", *text);
        assert!(!text.to_lowercase().contains("privatekey ="), "{}", *text);
        assert!(!text.to_lowercase().contains("presharedkey"), "{}", *text);
    }
}

#[test]
fn everything_into_the_tunnel_holds_the_hub_too() {
    let mut access = access();
    access.routes = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let text = wg_quick(&access, &keys());
    assert!(
        text.contains("\nAllowedIPs = 0.0.0.0/0, ::/0\n"),
        "{}",
        *text
    );
    access.routes = vec!["192.168.50.0/24".parse().unwrap()];
    let text = wg_quick(&access, &keys());
    let expected = "\nAllowedIPs = 192.168.50.0/24, 10.0.0.1/32, fd00::1/128\n";
    assert!(text.contains(expected), "{}", *text);
    config::parse(&toml(&access, &keys()), "phone.toml").unwrap();
}
