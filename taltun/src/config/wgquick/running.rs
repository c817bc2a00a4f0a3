//! From a running tunnel to a wg-quick file.

use std::fmt::{Display, Write};

use zeroize::Zeroizing;

use super::lines::{host_lines, join, table};
use super::{FOR_TALTUN, hop};
use crate::config::{Config, FirewallChoice, Peer, Words};
use crate::crypto::{PresharedKey, PrivateKey};

/// A tunnel as it is now.
#[derive(Debug)]
pub struct Running<'a> {
    /// Its configuration, with the port it really has; where peers were changed since, as
    /// they are now.
    pub config: &'a Config,
    /// Our key, if we have one, which the configuration can't say.
    pub private_key: Option<&'a PrivateKey>,
    /// The mark on our datagrams; 0 for none.
    pub fwmark: u32,
}

/// Writes it as a wg-quick file. The keys are in it, so it is for its owner's eyes only.
///
/// What wg-quick has no word for is left to comments that [`import`](super::import)
/// understands.
pub fn running(tunnel: &Running<'_>) -> Zeroizing<String> {
    let interface = &tunnel.config.interface;
    let mut text = Zeroizing::new("[Interface]\n".to_owned());
    if let Some(key) = tunnel.private_key {
        line(&mut text, "PrivateKey", &*key.to_base64());
    }
    if !interface.vip.is_empty() {
        line(&mut text, "Address", join(&interface.vip));
    }
    line(&mut text, "ListenPort", interface.local_addr.port());
    if tunnel.fwmark != 0 {
        line(&mut text, "FwMark", format!("{:#x}", tunnel.fwmark));
    }
    line(&mut text, "MTU", interface.mtu);
    // Without addresses it was made by name, and nobody gave it any of these.
    if !interface.vip.is_empty() {
        let mode = interface.mode.word();
        ours(&mut text, "mode", format!("{mode:?}"));
        if !interface.local_addr.ip().is_unspecified() {
            let address = interface.local_addr.to_string();
            ours(&mut text, "local_addr", format!("{address:?}"));
        }
        if !interface.routes.is_empty() {
            let routes: Vec<String> = interface.routes.iter().map(ToString::to_string).collect();
            ours(&mut text, "routes", format!("{routes:?}"));
        }
        if let Some(table) = table(tunnel.config) {
            let _ = writeln!(text, "{table}");
        }
        write_host(&mut text, tunnel.config);
    }
    for peer in &tunnel.config.peers {
        write_peer(&mut text, peer);
    }
    if let Some(nat) = &tunnel.config.host.masquerade {
        let _ = writeln!(text, "\n{FOR_TALTUN}[nat]");
        ours(&mut text, "masquerade", true);
        match nat.written()[..] {
            [] => {}
            [out] => ours(&mut text, "out", format!("{out:?}")),
            ref out => ours(&mut text, "out", format!("{out:?}")),
        }
    }
    let hop = hop::not_default(&tunnel.config.hop);
    if !hop.is_empty() {
        let _ = writeln!(text, "\n{FOR_TALTUN}[hop]");
    }
    for (key, value) in hop {
        ours(&mut text, key, value);
    }
    text
}

/// What the host does: by wg-quick's words where it has any.
fn write_host(text: &mut String, config: &Config) {
    let Config { host, hooks, .. } = config;
    for (key, switch) in [
        ("ip_forward", host.ip_forward),
        ("mss_clamp", host.mss_clamp),
        ("protect_vip", host.protect_vip),
        ("kill_switch", host.kill_switch),
    ] {
        if switch {
            ours(text, key, true);
        }
    }
    if let Some(relay) = host.relay {
        ours(text, "relay", relay);
    }
    if host.firewall != FirewallChoice::Auto {
        let firewall = host.firewall.word();
        ours(text, "firewall", format!("{firewall:?}"));
    }
    if let Some(endpoint) = &host.public_endpoint {
        ours(text, "public_endpoint", format!("{:?}", endpoint.written()));
    }
    for found in host_lines(config, "dns") {
        text.push_str(&found);
        text.push('\n');
    }
    for (key, commands) in [
        ("before_up", &hooks.before_up),
        ("on_up", &hooks.on_up),
        ("on_down", &hooks.on_down),
        ("after_down", &hooks.after_down),
        ("on_peer_up", &hooks.on_peer_up),
        ("on_peer_down", &hooks.on_peer_down),
        ("on_peer_refused", &hooks.on_peer_refused),
        ("on_peer_allowed", &hooks.on_peer_allowed),
    ] {
        let lines = host_lines(config, key);
        if lines.is_empty() && !commands.is_empty() {
            ours(text, key, toml::Value::from(commands.clone()));
        }
        for found in lines {
            text.push_str(&found);
            text.push('\n');
        }
    }
}

fn write_peer(text: &mut String, peer: &Peer) {
    text.push_str("\n[Peer]\n");
    if let Some(name) = &peer.name {
        let name = toml::Value::String(name.clone());
        ours(text, "name", name);
    }
    line(text, "PublicKey", peer.public_key);
    if peer.preshared_key != PresharedKey::default() {
        line(text, "PresharedKey", &*peer.preshared_key.to_base64());
    }
    if let Some(endpoint) = &peer.endpoint {
        line(text, "Endpoint", endpoint);
    }
    match &peer.endpoints[..] {
        [] => {}
        [endpoint] => ours(text, "endpoint", format!("{:?}", endpoint.to_string())),
        endpoints => {
            let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            ours(text, "endpoints", format!("{endpoints:?}"));
        }
    }
    if !peer.allowed_ips.is_empty() {
        line(text, "AllowedIPs", join(&peer.allowed_ips));
    }
    if let Some(seconds) = peer.persistent_keepalive {
        line(text, "PersistentKeepalive", seconds);
    }
    if let Some(quota) = peer.limits.quota {
        ours(text, "quota", format!("\"{quota}\""));
    }
    if let Some(day) = peer.limits.expires {
        ours(text, "expires", day);
    }
}

fn line(text: &mut String, key: &str, value: impl Display) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{key} = {value}");
}

/// A line of Taltun's.
fn ours(text: &mut String, key: &str, value: impl Display) {
    let _ = writeln!(text, "{FOR_TALTUN}{key} = {value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, wgquick};

    const TOML: &str = r#"
[interface]
mode = "client"
tun_name = "hub0"
vip = ["10.0.0.1/24", "fd00::1/64"]
local_addr = "192.0.2.1:9000"
private_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
mtu = 1380
routes = ["192.168.50.0/24"]
ip_forward = true
mss_clamp = true
firewall = "nftables"
public_endpoint = "hub.example.net"
dns = ["10.0.0.53", "example.org"]
on_up = ["ip rule add iif $TALTUN_INTERFACE lookup 7", "echo two"]
on_down = "echo 'a b'"
shell = "bash"

[nat]
masquerade = true
out = ["eth0", "tunnel"]

[[peers]]
name = "the \"office\" # 1"
public_key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
preshared_key = "/UwcSPg38hW/D9Y3tcS1FOV0K1wuURMbS0sesJEP5ak="
vip = "10.0.0.2"
endpoint = "vpn.example.org:9000"
allowed_ips = ["192.168.50.0/24"]
persistent_keepalive = 25

[[peers]]
public_key = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
vip = "10.0.0.3"
endpoint = "[2001:db8::1]:7"

[[peers]]
public_key = "HeJbUmSEVtIq+6gOIHirEL6XR75sns4MICxzrlbssD4="
vip = "10.0.0.4"
endpoint = "vpn.example.org:4096-8191"

[[peers]]
public_key = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA="
vip = "10.0.0.5"
endpoints = ["192.0.2.5", "[2001:db8::5]:9000"]

[hop]
port_range = [4096, 8191]
hop_pool = 4
"#;

    #[test]
    fn a_tunnel_comes_back_as_it_was() {
        let config = config::parse(TOML, "test.toml").unwrap().config;
        let text = running(&Running {
            config: &config,
            private_key: Some(&config.interface.private_key),
            fwmark: 0xca6c,
        });
        for lines in [
            "FwMark = 0xca6c\n",
            "Endpoint = vpn.example.org:4096\n# taltun: endpoint = \"vpn.example.org:4096-8191\"\n",
            "Endpoint = 192.0.2.5:4096\n\
             # taltun: endpoints = [\"192.0.2.5:4096-8191\", \"[2001:db8::5]:9000\"]\n",
            "\n# taltun: [hop]\n# taltun: port_range = [4096, 8191]\n# taltun: hop_pool = 4\n",
        ] {
            assert!(text.contains(lines), "{lines}{}", *text);
        }
        assert!(!text.contains("hop_interval"), "{}", *text);
        let imported = wgquick::import(text.as_bytes(), "hub0.conf", Some("hub0")).unwrap();
        let back = config::parse(&imported.toml, "back.toml").unwrap().config;
        let (was, is) = (&config.interface, &back.interface);
        assert_eq!(is.mode, was.mode);
        assert_eq!(is.vip, was.vip);
        let mut hooks = config.hooks.clone();
        hooks.on_up[0] = hooks.on_up[0].replace("$TALTUN_INTERFACE", "hub0");
        assert_eq!(back.hooks, hooks, "{}", *text);
        let mut host = config.host.clone();
        host.fwmark = Some(0xca6c);
        assert_eq!(back.host, host, "{}", *text);
        assert_eq!(back.hop, config.hop, "{}", *text);
        assert_eq!(is.local_addr, was.local_addr);
        assert_eq!(is.private_key, was.private_key);
        assert_eq!((is.mtu, &is.routes), (was.mtu, &was.routes));
        assert_eq!(back.peers.len(), config.peers.len());
        for (is, was) in back.peers.iter().zip(&config.peers) {
            assert_eq!(is.name, was.name);
            assert_eq!(is.public_key, was.public_key);
            assert_eq!(is.preshared_key, was.preshared_key);
            assert_eq!(is.endpoint, was.endpoint);
            assert_eq!(is.endpoints, was.endpoints);
            assert_eq!(is.allowed_ips, was.allowed_ips);
            assert_eq!(is.persistent_keepalive, was.persistent_keepalive);
        }
    }

    #[test]
    fn an_interface_made_by_name_has_nothing_of_ours() {
        let key = PrivateKey::from_bytes([1; 32]);
        let mut config = Config::plain("wg0", key);
        config.interface.local_addr.set_port(7);
        let text = running(&Running {
            config: &config,
            private_key: None,
            fwmark: 0,
        });
        assert_eq!(*text, "[Interface]\nListenPort = 7\nMTU = 1420\n");
    }
}
