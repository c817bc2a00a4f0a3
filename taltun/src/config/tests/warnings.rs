//! What is odd, but runs.

use super::*;

#[test]
fn host_bits_in_a_prefix_are_cleared_with_a_warning() {
    let text = with_peer("allowed_ips = [\"192.168.50.7/24\"]\nendpoint = \"192.0.2.1:1\"");
    let text = text.replace("[interface]\n", "[interface]\nmode = \"server\"\n");
    assert_eq!(
        config(&text).peers[0].allowed_ips,
        ["192.168.50.0/24".parse().unwrap()]
    );
    assert_eq!(
        warnings(&text),
        ["hub.toml:7: peers.allowed_ips: 192.168.50.7/24 is taken as 192.168.50.0/24"]
    );
}

#[test]
fn so_are_those_of_groups_and_rules() {
    let rest = "vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\n[groups]\noffice = [\"192.0.2.7/28\"]\n\
                [[rules]]\nfrom = \"10.0.0.2/32\"\nto = [\"office\", \"fd00::1/64\"]\ndeny = \"any\"\n";
    assert_eq!(
        warnings(&with_peer(rest)),
        [
            "hub.toml:9: groups.office: 192.0.2.7/28 is taken as 192.0.2.0/28",
            "hub.toml:12: rules.to: fd00::1/64 is taken as fd00::/64",
        ]
    );
}

#[test]
fn a_rule_without_effect_is_a_warning_with_its_reason() {
    // The peer has IPv4 alone.
    let found = |default: &str, rules: &[(&str, &str)]| {
        let rules = rules
            .iter()
            .map(|(to, what)| format!("[[rules]]\nfrom = \"10.0.0.2\"\nto = \"{to}\"\n{what}\n"));
        let rules: Vec<String> = rules.collect();
        let text = "vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\n[policy]\n";
        let text = format!("{text}default = \"{default}\"\n{}", rules.concat());
        warnings(&with_peer(&text))
    };
    let (allow, deny) = ("allow = \"tcp\"", "deny = \"tcp\"");
    let never = |line: usize, reason: &str| {
        format!("hub.toml:{line}: rules: this rule never decides: {reason}")
    };
    assert_eq!(
        found("deny", &[("any", allow), ("hub", deny)]),
        [never(14, "those before it do")]
    );
    assert_eq!(
        found("deny", &[("fd50::/64", allow)]),
        [never(
            10,
            "nothing goes from IPv4 to IPv6 or back, nor ICMP of the other one"
        )]
    );
    assert_eq!(found("deny", &[("192.0.2.0/24", allow)]), [""; 0]);
    assert_eq!(found("deny", &[("192.0.2.0/24", deny)]), [""; 0]);

    let limits_nobody = "hub.toml:10: rules: no rule denies anything, and [policy] default = \
                         \"allow\" lets everything pass: rules that allow something limit nobody; \
                         set default = \"deny\"";
    assert_eq!(found("allow", &[("hub", allow)]), [limits_nobody]);
    assert_eq!(
        found("allow", &[("hub", allow), ("192.0.2.0/24", allow)]),
        [limits_nobody]
    );
    // An exception of what the next one denies, and one of nothing that it denies.
    assert_eq!(found("allow", &[("hub", allow), ("any", deny)]), [""; 0]);
    assert_eq!(
        found(
            "allow",
            &[
                ("hub", allow),
                ("192.0.2.0/24", allow),
                ("hub", deny),
                ("192.0.2.0/25", deny)
            ]
        ),
        [
            never(18, "those before it do"),
            never(22, "those before it do")
        ]
    );
    // That may be the hub's, too, on another interface.
    let outside = ("192.0.2.0/24", deny);
    assert_eq!(found("allow", &[("hub", allow), outside]), [""; 0]);
    assert_eq!(
        found(
            "allow",
            &[("hub", allow), ("192.0.2.0/24", "deny = \"udp\"")]
        ),
        [
            "hub.toml:10: rules: this rule changes nothing: [policy] default = \"allow\" lets \
             pass what it allows, and no rule after it denies any of that; leave it out, or set \
             default = \"deny\""
        ]
    );
    // What it writes into the log isn't nothing.
    let logged = "allow = \"tcp\"\nlog = true";
    assert_eq!(found("allow", &[("hub", logged)]), [""; 0]);
}

#[test]
fn of_very_many_rules_it_is_told_that_nobody_looked() {
    let rules = (1..=4000).map(|n| {
        let (third, last) = (n / 250, n % 250);
        format!(
            "[[rules]]\nfrom = \"10.0.0.2\"\nto = \"10.8.{third}.{last}\"\ndeny = \"tcp/{n}\"\n"
        )
    });
    let rules: String = rules.collect();
    let text = format!("vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\n{rules}");
    assert_eq!(
        warnings(&with_peer(&text)),
        [
            "hub.toml:8: rules: nobody has looked for rules that never decide: there are too many \
             rules, peers and services for that"
        ]
    );
}

#[test]
fn of_rules_with_the_same_fault_a_hundred_are_named() {
    let found = |count: usize, what: &dyn Fn(usize) -> String| {
        let rule = |n| {
            format!(
                "[[rules]]\nfrom = \"10.0.0.2\"\nto = \"hub\"\n{}\n",
                what(n)
            )
        };
        let rules: String = (1..=count).map(rule).collect();
        let before = "[[rules]]\nfrom = \"any\"\nto = \"any\"\ndeny = \"udp\"\n";
        let text = format!("vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\n{before}{rules}");
        warnings(&with_peer(&text))
    };
    let never = |_| "deny = \"udp\"".to_owned();
    let nothing = |n| format!("allow = \"tcp/{n}\"");
    let cases: [(&dyn Fn(usize) -> String, _); 2] = [
        (&never, "rules: 7 more never decide"),
        (&nothing, "rules: 7 more change nothing"),
    ];
    for (what, told) in cases {
        assert_eq!(found(100, what).len(), 100);
        let found = found(107, what);
        assert_eq!(found.len(), 101);
        assert_eq!(found[100], told);
    }
}

#[test]
fn the_rules_of_other_sections_are_no_warning() {
    let text = "vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\nname = \"ana\"\n\
                [names]\ndomain = \"vpn\"\n[[rules]]\nfrom = \"ana\"\nto = \"hub\"\n\
                deny = \"tcp/22\"\n";
    assert_eq!(warnings(&with_peer(text)), [""; 0]);
}

#[test]
fn a_quota_that_a_restart_forgets_is_a_warning() {
    let found = |quota: &str, days: &str| {
        let text = format!(
            "vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\nquota = \"1 GB/{quota}\"\n{days}"
        );
        warnings(&with_peer(&text))
    };
    let days = |days: u32| format!("[usage]\nkeep_days = {days}\n");
    for quota in ["month", "day"] {
        assert_eq!(found(quota, ""), [""; 0]);
        assert_eq!(found(quota, &days(1)), [""; 0]);
        assert_eq!(
            found(quota, &days(0)),
            [
                "hub.toml:8: peers.quota: a restart forgets what was moved before it: \
                 usage.keep_days is 0 (hub.toml:10); set it to 1 or more, or leave it out"
            ]
        );
    }
}

#[test]
fn a_range_that_leaves_no_ports_to_what_is_translated_is_a_warning() {
    let found = |range: &str, nat: &str, mode: &str| {
        let text = with_peer(&format!(
            "vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\n[hop]\nport_range = {range}\n{nat}"
        ));
        let settings = format!("[interface]\nmode = \"{mode}\"\nip_forward = true\n");
        warnings(&text.replace("[interface]\n", &settings))
    };
    let nat = "[nat]\nmasquerade = true";
    let told = found("[2000, 63000]", nat, "server");
    let [told] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(
        told.contains("hop.port_range: the range leaves fewer than 4,096 ports"),
        "{told}"
    );
    let told = found("[1, 65535]", "", "server").concat();
    assert!(
        told.contains("the range leaves fewer than 4,096 ports in a row to this host's other"),
        "{told}"
    );
    // Enough on one side.
    for (range, nat, mode) in [
        ("[4096, 8191]", nat, "server"),
        ("[2000, 61439]", nat, "server"),
    ] {
        let told = found(range, nat, mode);
        assert_eq!(told, [""; 0], "{range} {nat} {mode}");
    }
}

/// The warnings about a client's or a server's endpoints and `[hop]`.
fn of_hop(mode: &str, peer: &str, more: &str) -> Vec<String> {
    let text = with_peer(&format!("vip = \"10.0.0.2\"\n{peer}\n{more}"));
    warnings(&text.replace(
        "[interface]\n",
        &format!("[interface]\nmode = \"{mode}\"\n"),
    ))
}

#[test]
fn a_range_that_no_endpoint_has_is_a_warning() {
    let range = "[hop]\nport_range = [4096, 8191]";
    assert_eq!(
        of_hop("client", "endpoint = \"hub.example:9000\"", range),
        [
            "hub.toml:10: hop.port_range: no endpoint has these ports, as each names its own; leave \
          the port out of the endpoint, such as endpoint = \"hub.example.net\""
        ]
    );
    for endpoint in ["hub.example", "hub.example:4096-8191"] {
        let endpoint = format!("endpoint = \"{endpoint}\"");
        assert_eq!(of_hop("client", &endpoint, range), [""; 0]);
    }
    assert_eq!(
        of_hop("server", "endpoint = \"192.0.2.1:1\"", range),
        [""; 0]
    );
}

#[test]
fn hop_without_a_choice_is_a_warning() {
    let told = |mode, peer, key: &str| of_hop(mode, peer, &format!("[hop]\n{key} = 4")).concat();
    let (address, name) = ("endpoint = \"192.0.2.1:9\"", "endpoint = \"hub.example:9\"");
    let range = "endpoint = \"192.0.2.1:9-19\"";
    let several = "endpoints = [\"192.0.2.1:9\", \"192.0.2.2:9\"]";
    for key in ["hop_interval", "hop_pool"] {
        for peer in [address, name, several] {
            let told = told("client", peer, key);
            assert!(
                told.contains(&format!(
                    "hop.{key}: without effect, as no endpoint has several"
                )),
                "{told}"
            );
        }
        assert_eq!(told("client", range, key), "");
    }
    for key in ["probe_interval", "loss_threshold", "retry_after"] {
        let found = told("client", address, key);
        assert!(
            found.contains(&format!(
                "hop.{key}: without effect, as there is one address"
            )),
            "{found}"
        );
        for peer in [name, several, range] {
            assert_eq!(told("client", peer, key), "");
        }
        let found = told("server", "", key);
        assert!(
            found.contains(&format!(
                "hop.{key}: without effect: this is for a client's file"
            )),
            "{found}"
        );
        // A server that connects, too.
        assert_eq!(told("server", several, key), "");
    }
}

#[test]
fn a_range_that_nothing_leads_to_a_hub_is_a_warning() {
    let told = |firewall: &str, xdp: &str| {
        let text = with_peer(&format!(
            "vip = \"10.0.0.2\"\n[hop]\nport_range = [4096, 8191]\n[accel]\nxdp = \"{xdp}\""
        ));
        let settings = format!("[interface]\nmode = \"server\"\nfirewall = \"{firewall}\"\n");
        warnings(&text.replace("[interface]\n", &settings)).concat()
    };
    assert!(told("none", "off").contains("hop.port_range: nothing can lead the range to this hub"));
    for (firewall, xdp) in [("none", "auto"), ("auto", "off")] {
        let told = told(firewall, xdp);
        assert!(!told.contains("hop.port_range"), "{told}");
    }
    for (at, is_told) in [
        ("127.0.0.1:9000", true),
        ("[::1]:9000", true),
        ("[::]:0", false),
    ] {
        let text = with_peer("vip = \"10.0.0.2\"\n[hop]\nport_range = [4096, 8191]");
        let settings = format!("[interface]\nmode = \"server\"\nlocal_addr = \"{at}\"\n");
        let told = warnings(&text.replace("[interface]\n", &settings)).concat();
        let says = "hop.port_range: interface.local_addr is an address of this host alone";
        assert_eq!(told.contains(says), is_told, "{at}: {told}");
    }
}

#[test]
fn a_place_that_is_there_twice_or_within_another_is_a_warning() {
    let told = |list: &str| of_hop("client", &format!("endpoints = [{list}]"), "");
    assert_eq!(
        told("\"hub.example:9\", \"192.0.2.1:9\", \"hub.example:9\""),
        ["hub.toml:8: peers.endpoints: hub.example:9 is there twice; keep one of the two"]
    );
    assert_eq!(
        told("\"[2001:db8::1]:9\", \"[2001:db8::1]:7-12\""),
        [
            "hub.toml:8: peers.endpoints: [2001:db8::1]:9 lies within [2001:db8::1]:7-12; leave it out"
        ]
    );
    assert_eq!(told("\"192.0.2.1:9\", \"192.0.2.1:10-20\""), [""; 0]);
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
          packets to it will be dropped; add it to the allowed_ips of the peer that has it"
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
             this machine has no route to it; add it to routes",
            "hub.toml:8: peers.vip: peer \"b\" has neither a vip nor allowed_ips: no packet will \
             go to it",
        ]
    );
}

#[test]
fn what_a_peer_has_and_no_route_leads_to_is_a_warning_where_nobody_else_may_lead_there() {
    let peer = format!(
        "[[peers]]\npublic_key = \"{KEY_A}\"\nvip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\n\
         allowed_ips = [\"192.168.50.0/24\", \"10.9.0.0/16\", \"10.0.0.0/8\"]\n"
    );
    let found = |settings: &str| warnings(&format!("{}\n{peer}", interface(settings)));
    let told = |line: u32, net: &str| {
        format!(
            "hub.toml:{line}: peers.allowed_ips: {net} is outside our vip's subnet and \
             interface.routes: this machine has no route to it; add it to routes"
        )
    };
    let none: [String; 0] = [];
    // The vip's own subnet is a part of 10.0.0.0/8.
    let both = [told(10, "192.168.50.0/24"), told(10, "10.9.0.0/16")];
    assert_eq!(found(""), both);
    assert_eq!(
        found("routes = [\"10.9.8.0/24\"]"),
        [told(10, "192.168.50.0/24")]
    );
    assert_eq!(
        found("routes = [\"192.168.0.0/16\", \"10.9.8.0/24\"]"),
        none
    );
    assert_eq!(found("on_up = \"ip route add …\""), none);
    // A hub may have it for other peers alone, unless its own kernel has to forward it.
    assert_eq!(found("mode = \"server\""), none);
    let kernel = found("mode = \"server\"\nrelay = false");
    assert_eq!(
        kernel,
        [told(11, "192.168.50.0/24"), told(11, "10.9.0.0/16")]
    );
}

#[test]
fn a_client_without_any_endpoint_is_a_warning() {
    let found = warnings(&with_peer("vip = \"10.0.0.2\""));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("hub.toml:1: interface.mode: mode is client, but no peer has"));
}

#[test]
fn a_gateway_that_anybody_may_reach_is_a_warning() {
    let of_udpgw = |listen: &str| {
        let text = interface(&format!("[udpgw]\nlisten = [{listen}]\n"));
        let warnings = warnings(&text).into_iter();
        warnings
            .filter(|warning| warning.contains("udpgw"))
            .collect::<Vec<_>>()
    };
    let own = of_udpgw("\"10.0.0.1:7300\", \"127.0.0.1:7300\", \"[::1]:7300\"");
    assert!(own.is_empty(), "{own:?}");
    assert_eq!(
        of_udpgw("\"127.0.0.1:7300\", \"0.0.0.0:7301\""),
        [
            "hub.toml:5: udpgw.listen: whoever reaches 0.0.0.0:7301 can send UDP from this \
             host; listen on our vip or on 127.0.0.1, or let a firewall allow only your own clients"
        ]
    );
}

#[test]
fn networks_that_a_gateway_takes_for_something_else_are_a_warning() {
    let of_udpgw = |peer: &str, section: &str| {
        let text = format!(
            "{}\n[udpgw]\n{section}\n",
            with_peer(&format!("vip = \"10.0.0.2\"\nallowed_ips = [{peer}]"))
        );
        let warnings = warnings(&text).into_iter();
        warnings
            .filter(|warning| warning.starts_with("udpgw"))
            .collect::<Vec<_>>()
    };
    let office = "\"192.168.77.0/24\"";
    // The network of our vip has the peer in it, so a rule for that opens the peer as well.
    let inside = "\"10.0.0.7/32\"";
    for open in ["10.0.0.0/24", "10.0.0.0/25", "10.0.0.7/32"] {
        assert!(
            of_udpgw(inside, &format!("allow = [\"{open}\"]")).is_empty(),
            "{open}"
        );
    }
    assert_eq!(of_udpgw(inside, "allow = [\"10.0.0.0/23\"]").len(), 1);
    assert!(of_udpgw(office, "allow = [\"192.168.77.0/24\", \"172.16.0.0/12\"]").is_empty());
    let wider = of_udpgw(office, "allow = [\"192.168.0.0/16\"]");
    assert!(
        wider.len() == 1
            && wider[0]
                .contains("192.168.0.0/16 doesn't let clients into the tunnel, to 192.168.77.0/24"),
        "{wider:?}"
    );
    for everywhere in ["\"0.0.0.0/0\"", "\"::/0\"", "\"2000::/3\"", "\"fc00::/7\""] {
        let told = of_udpgw(everywhere, "");
        assert!(told.is_empty(), "{everywhere}: {told:?}");
    }
    for nearly in ["\"8.0.0.0/7\"", "\"2000::/4\""] {
        let told = of_udpgw(nearly, "");
        assert!(
            told.len() == 1 && told[0].contains("clients don't reach the Internet there"),
            "{nearly}: {told:?}"
        );
    }
}

#[test]
fn a_last_day_that_is_past_is_a_warning_and_told_by_itself() {
    let text = with_peer("vip = \"10.0.0.2\"\nendpoint = \"192.0.2.1:1\"\nexpires = 2020-02-29");
    let loaded = parse(&text, "hub.toml").unwrap();
    assert_eq!(
        loaded.past,
        [
            "hub.toml:8: peers.expires: 2020-02-29 is past, so the peer is refused; write a later \
             day, or remove the peer"
        ]
    );
    assert!(loaded.warnings.contains(&loaded.past[0]));
    let text = text.replace("2020", "2196");
    assert!(parse(&text, "hub.toml").unwrap().past.is_empty());
}
