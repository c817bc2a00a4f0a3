//! What the host does for the tunnel.

use super::*;

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
            out: Some(vec!["eth0".into()]),
            into_tunnel: false,
        })
    );
    assert_eq!(config.hooks.on_up, ["echo up"]);
    assert_eq!(config.hooks.on_peer_up, ["echo one", "echo two"]);
    assert!(config.hooks.on_down.is_empty());
}

#[test]
fn what_is_translated_is_read_by_where_it_leaves() {
    for (line, out, into_tunnel) in [
        ("", None, false),
        ("out = \"tunnel\"", Some(vec![]), true),
        ("out = [\"tunnel\"]", Some(vec![]), true),
        (
            "out = [\"eth0\", \"eth1\"]",
            Some(vec!["eth0", "eth1"]),
            false,
        ),
        ("out = [\"tunnel\", \"eth0\"]", Some(vec!["eth0"]), true),
    ] {
        let text = with_peer(&format!(
            "vip = \"10.0.0.2\"\n[nat]\nmasquerade = true\n{line}\n"
        ));
        let nat = config(&text).host.masquerade.unwrap();
        let names: Option<Vec<&str>> = nat
            .out
            .as_ref()
            .map(|names| names.iter().map(String::as_str).collect());
        assert_eq!(names, out, "{line}");
        assert_eq!(nat.into_tunnel, into_tunnel, "{line}");
        let written = nat.written().into_iter().map(str::to_owned).collect();
        assert_eq!(Masquerade::to(written), nat, "{line}");
    }
    // An interface of that name is the tunnel where it is the tunnel's.
    let text = format!(
        "{}tun_name = \"tunnel\"\n[nat]\nmasquerade = true\nout = \"tunnel\"\n",
        interface("")
    );
    assert!(config(&text).host.masquerade.unwrap().into_tunnel);
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
            "hub.toml:4: interface.on_up: expected a command for the shell, found \"\"",
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
            "[nat]\nmasquerade = true\nout = [\"eth0\", \"taltun0\"]",
            "hub.toml:6: nat.out: taltun0 is the tunnel itself; give",
        ),
        (
            "[nat]\nmasquerade = true\nout = []",
            "hub.toml:6: nat.out: the list is empty; name an interface such as \"eth0\", or",
        ),
        (
            "[nat]\nmasquerade = true\nout = [\"eth0\", \"e=1\"]",
            "hub.toml:6: nat.out: firewall rules can't name \"e=1\"",
        ),
        (
            "tun_name = \"t+\"\nprotect_vip = true",
            "hub.toml:4: interface.tun_name: firewall rules can't name \"t+\"",
        ),
        (
            "tun_name = \"t=1\"\nroutes = [\"0.0.0.0/0\"]",
            "hub.toml:4: interface.tun_name: firewall rules can't name \"t=1\"",
        ),
        (
            "[nat]\nmasquerade = true\nout = 'x\" accept #'",
            "hub.toml:6: nat.out: expected an interface name of 1 to 15",
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

#[test]
fn peers_have_names_in_a_domain_or_are_told_why_not() {
    let text = with_peer("name = \"Ana\"\nvip = \"10.0.0.2\"\n[names]\ndomain = \"VPN.\"\n");
    let text = text.replacen("[interface]", "[interface]\nmode = \"server\"", 1);
    let found = config(&text).names.unwrap();
    assert_eq!((found.domain.as_str(), found.upstream.len()), ("vpn", 0));
    let second = format!("[[peers]]\nname = \"ANA\"\npublic_key = \"{KEY_B}\"\n[names]");
    let own = "VPN.\"\nupstream = [\"10.0.0.1\"]";
    let routed = "VPN.\"\nupstream = \"192.0.2.53\"\n[dns_routes]\ndomains = [\"a.example\"]\n\
        via = \"Ana\"\nupstream = \"192.0.2.53\"";
    for (from, to, expected) in [
        (
            "Ana",
            "Ana's phone",
            "hub.toml:7: peers.name: \"Ana's phone\" can't stand in",
        ),
        (
            "Ana",
            "ana.b",
            "hub.toml:7: peers.name: \"ana.b\" can't stand in",
        ),
        (
            "Ana",
            "Hub",
            "hub.toml:7: peers.name: hub.vpn is this machine",
        ),
        (
            "[names]",
            &second,
            "hub.toml:10: peers.name: \"ANA\" is another peer's name, too (hub.toml:7)",
        ),
        (
            "VPN.",
            "v pn",
            "hub.toml:10: names.domain: expected a domain such as \"vpn\"",
        ),
        (
            "VPN.\"",
            own,
            "hub.toml:11: names.upstream: 10.0.0.1 is our own address",
        ),
        (
            "VPN.\"",
            routed,
            "hub.toml:11: names.upstream: [dns_routes] has the name servers",
        ),
        (
            "domain = \"VPN.\"",
            "",
            "hub.toml:9: names.domain: missing; add such as domain =",
        ),
    ] {
        refused(&text.replace(from, to), expected);
    }
    let warned = parse(&text.replace("VPN.", "office.local"), "hub.toml").unwrap();
    assert!(
        warned.warnings[0].contains("by multicast"),
        "{:?}",
        warned.warnings
    );
}

#[test]
fn everybody_may_ask_the_resolver_where_anything_is_judged() {
    let peer = "name = \"ana\"\nvip = \"10.0.0.2\"\n[names]\ndomain = \"vpn\"\n";
    let policy = |more: &str| config(&with_peer(&format!("{peer}{more}"))).policy;
    assert_eq!(policy("").implied, []);
    let deny = policy("[policy]\ndefault = \"deny\"\n");
    assert_eq!(deny.all_origins(), ["[names]"]);
    let rule = "[[rules]]\nfrom = \"ana\"\nto = \"hub\"\ndeny = \"any\"\n";
    assert_eq!(policy(rule).all_origins(), ["hub.toml:10", "[names]"]);
}
