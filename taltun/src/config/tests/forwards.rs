//! `[[forward]]`: whom ports lead to, and what is refused.

use super::*;

/// A hub with the peers ana, who has a vip of each family and a network, and luis, who has none;
/// the forwards begin at line 16.
fn hub(forwards: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\nprivate_key = \"{OUR_PRIVATE}\"\n\
         vip = [\"10.0.0.1/24\", \"fd00::1/64\"]\nlocal_addr = \":9000\"\n\
         [[peers]]\nname = \"ana\"\npublic_key = \"{KEY_A}\"\nvip = [\"10.0.0.2\", \"fd00::2\"]\n\
         allowed_ips = [\"192.168.50.0/24\"]\n\
         [[peers]]\nname = \"luis\"\npublic_key = \"{KEY_B}\"\nallowed_ips = [\"0.0.0.0/0\"]\n\n\
         {forwards}"
    )
}

/// One section.
fn forward(listen: &str, to: &str) -> String {
    format!("[[forward]]\nlisten = \"{listen}\"\nto = \"{to}\"\n")
}

/// The targets of the only one.
fn targets(listen: &str, to: &str) -> Vec<String> {
    config(&hub(&forward(listen, to))).forwards[0].targets()
}

#[test]
fn a_peer_is_found_by_its_name_its_key_and_its_addresses() {
    let both = ["10.0.0.2:443", "[fd00::2]:443"];
    assert_eq!(targets("tcp/8443", "ana:443"), both);
    assert_eq!(targets("tcp/8443", &format!("{KEY_A}:443")), both);
    assert_eq!(targets("tcp/8443", "10.0.0.2:443"), both[..1]);
    assert_eq!(targets("tcp/8443", "[fd00::2]:443"), both[1..]);
    assert_eq!(
        targets("udp/5000-5003", "192.168.50.7:6000-6003"),
        ["192.168.50.7:6000-6003"]
    );
    // An address of ours says which family.
    assert_eq!(targets("tcp/192.0.2.1:8443", "ana:443"), both[..1]);
    assert_eq!(targets("tcp/[2001:db8::1]:8443", "ana:443"), both[1..]);
    let of_one = hub(&forward("tcp/1", "ana:1")).replace(", \"fd00::1/64\"", "");
    assert_eq!(config(&of_one).forwards[0].targets(), ["10.0.0.2:1"]);
}

#[test]
fn who_has_no_address_here_is_refused() {
    for (listen, to, expected) in [
        (
            "tcp/1",
            "anna:1",
            "18: forward.to: there is no peer called \"anna\"; did you mean \"ana\"?",
        ),
        (
            "tcp/1",
            "nobody:1",
            "18: forward.to: there is no peer called \"nobody\"; write the name",
        ),
        (
            "tcp/1",
            &format!("{OUR_PUBLIC}:1"),
            "18: forward.to: no peer has the key ",
        ),
        (
            "tcp/1",
            "10.0.0.1:1",
            "18: forward.to: 10.0.0.1 is this hub itself",
        ),
        // That luis has everything doesn't give him an address.
        (
            "tcp/1",
            "10.0.0.9:1",
            "18: forward.to: no peer has 10.0.0.9",
        ),
        ("tcp/1", "luis:1", "18: forward.to: luis has no vip"),
        (
            "tcp/[2001:db8::1]:1",
            "10.0.0.2:1",
            "17: forward.listen: 2001:db8::1 is of IPv6, and 10.0.0.2 has no such address",
        ),
        (
            "tcp/1-3",
            "ana:1-2",
            "18: forward.to: 3 ports and 2 ports at the peer (1-2); give both",
        ),
        (
            "tcp/1",
            "ana:1-2",
            "18: forward.to: 1 port and 2 ports at the peer",
        ),
        (
            "tcp/1000-3000",
            "ana:2000-4000",
            "18: forward.to: a range of more than 1,024 ports can't lead to others",
        ),
        ("tcp/0", "ana:1", "17: forward.listen: expected a protocol"),
        (
            "icmp/1",
            "ana:1",
            "17: forward.listen: \"icmp\" has no ports",
        ),
        ("tcp/1", "ana:0", "18: forward.to: expected a peer"),
        (
            "udp/9000",
            "ana:1",
            "17: forward.listen: the tunnel itself listens on UDP port 9000",
        ),
    ] {
        refused(&hub(&forward(listen, to)), &format!("hub.toml:{expected}"));
    }
    let v4 = hub(&forward("tcp/1", "[fd00::2]:1")).replace(", \"fd00::1/64\"", "");
    refused(&v4, "hub.toml:18: forward.to: this hub has no vip of IPv6");
    // TCP is another matter, and so are the same ports at both ends.
    config(&hub(&forward("tcp/9000", "ana:1")));
    config(&hub(&forward("tcp/1000-3000", "ana:1000-3000")));
}

#[test]
fn a_port_leads_to_one_peer() {
    let both = |one: &str, other: &str| hub(&format!("{}{}", forward(one, "ana:1"), other));
    for (one, other) in [
        ("tcp/80", "tcp/80"),
        ("tcp/80", "tcp/192.0.2.1:80"),
        ("tcp/192.0.2.1:80", "tcp/80"),
    ] {
        refused(
            &both(one, &forward(other, "10.0.0.2:2")),
            &format!("hub.toml:20: forward.listen: {other} leads elsewhere already (hub.toml:17)"),
        );
    }
    let ranges = format!(
        "{}{}",
        forward("udp/5-9", "ana:5-9"),
        forward("udp/9", "ana:9")
    );
    refused(
        &hub(&ranges),
        "hub.toml:20: forward.listen: udp/9 leads elsewhere already",
    );
    for other in ["udp/80", "tcp/81", "tcp/192.0.2.2:80"] {
        config(&both("tcp/192.0.2.1:80", &forward(other, "ana:1")));
    }
    // Each family may go its own way.
    let families = format!(
        "{}{}",
        forward("tcp/80", "10.0.0.2:1"),
        forward("tcp/80", "[fd00::2]:1")
    );
    assert_eq!(config(&hub(&families)).forwards.len(), 2);
}

#[test]
fn what_the_hub_itself_listens_on_leads_nowhere_else() {
    for (more, listen, expected) in [
        (
            "[hop]\nport_range = [4096, 8191]\n",
            "udp/8191",
            "forward.listen: the ports 4096-8191 lead to the tunnel itself (hop.port_range, hub.toml:",
        ),
        (
            "[udpgw]\nlisten = \"0.0.0.0:7300\"\n",
            "tcp/7300",
            "forward.listen: [udpgw] listens on 0.0.0.0:7300",
        ),
        (
            "[metrics]\nlisten = \"192.0.2.1:9586\"\n",
            "tcp/9586",
            "forward.listen: [metrics] listens on 192.0.2.1:9586",
        ),
    ] {
        let text = hub(&format!("{}{more}", forward(listen, "ana:1")));
        refused(&text, &format!("hub.toml:17: {expected}"));
    }
    // Nobody outside reaches these.
    for more in [
        "[udpgw]\nlisten = \"127.0.0.1:7300\"\n",
        "[udpgw]\nlisten = \"10.0.0.1:7300\"\n",
    ] {
        config(&hub(&format!("{}{more}", forward("tcp/7300", "ana:1"))));
    }
}

#[test]
fn a_forward_takes_a_hub_and_a_firewall_and_a_peer_of_that_name() {
    let text = hub(&forward("tcp/1", "ana:1"));
    let client = text.replace("\"server\"", "\"client\"");
    refused(
        &client,
        "hub.toml:17: forward.listen: ports lead to peers of a hub",
    );
    let without = text.replace(
        "[[peers]]\nname = \"ana\"",
        "firewall = \"none\"\n[[peers]]\nname = \"ana\"",
    );
    let error = error(&without);
    assert!(
        error.contains("interface.firewall: [[forward]] takes firewall rules"),
        "{error}"
    );
    let group = hub(&format!(
        "{}[groups]\nstaff = \"ana\"\n",
        forward("tcp/1", "staff:1")
    ));
    refused(&group, "hub.toml:18: forward.to: \"staff\" is a group");
    let twice = text.replace("\"luis\"", "\"ana\"");
    refused(
        &twice,
        "hub.toml:18: forward.to: 2 peers are called \"ana\"",
    );
    refused(
        &hub("[forward]\nlisten = \"tcp/1\"\nto = \"ana:1\"\n"),
        "hub.toml:16: forward: expected a list of tables: write [[forward]]",
    );
    for (lines, expected) in [
        (
            "to = \"ana:1\"",
            "hub.toml:16: forward.listen: missing; add such as listen = \"tcp/8443\"",
        ),
        (
            "listen = \"tcp/1\"",
            "hub.toml:16: forward.to: missing; add such as to = \"ana:443\"",
        ),
    ] {
        refused(&hub(&format!("[[forward]]\n{lines}\n")), expected);
    }
}

#[test]
fn rules_that_let_nobody_through_are_a_warning() {
    let denies = |rules: &str| {
        let text = hub(&format!(
            "{}{rules}",
            forward("udp/5000-5003", "ana:6000-6003")
        ));
        let told = warnings(&text);
        told.into_iter()
            .find(|told| told.contains("the rules deny"))
    };
    assert_eq!(denies(""), None);
    let told = denies("[policy]\ndefault = \"deny\"\n").unwrap();
    assert!(
        told.starts_with("hub.toml:17: forward.listen: the rules deny what comes this way")
            && told.contains("udp/6000 with 10.0.0.2"),
        "{told}"
    );
    let rule = |what: &str| {
        format!(
            "[policy]\ndefault = \"deny\"\n[[rules]]\nfrom = \"hub\"\nto = \"ana\"\nallow = \"{what}\"\n"
        )
    };
    assert_eq!(denies(&rule("udp/6000-6003")), None);
    let told = denies(&rule("udp/6000-6002")).unwrap();
    assert!(told.contains("udp/6003 with 10.0.0.2"), "{told}");
}

#[test]
fn so_are_rules_that_let_nobody_outside_through_to_who_sees_the_sender() {
    let denies = |rules: &str| {
        let text = hub(&format!(
            "{}source = \"keep\"\n[policy]\ndefault = \"deny\"\n{rules}",
            forward("tcp/8443-8444", "ana:443-444")
        ));
        let told = warnings(&text);
        told.into_iter()
            .find(|told| told.contains("the rules deny"))
    };
    let rule = |from: &str, what: &str, action: &str| {
        format!("[[rules]]\nfrom = \"{from}\"\nto = \"ana\"\n{action} = \"{what}\"\n")
    };
    // The hub and those in the tunnel are none of those who come this way.
    for from in ["hub", "luis", "10.0.0.0/24", "10.0.0.1", "192.168.50.0/24"] {
        let told = denies(&rule(from, "any", "allow"));
        let told = told.unwrap_or_else(|| panic!("{from}"));
        assert!(
            told.starts_with("hub.toml:17: forward.listen: the rules deny what comes this way")
                && told.contains("no rule lets anybody outside start tcp/443 with 10.0.0.2")
                && told.contains("from = \"0.0.0.0/0\""),
            "{told}"
        );
    }
    for from in ["any", "0.0.0.0/0", "198.51.100.7", "0.0.0.0/1"] {
        assert_eq!(denies(&rule(from, "tcp/443-444", "allow")), None, "{from}");
    }
    let told = denies(&rule("any", "tcp/443", "allow")).unwrap();
    assert!(told.contains("tcp/444 with 10.0.0.2"), "{told}");
    // Somebody is left in the middle, and then nobody.
    let ends = ["0.0.0.0/2", "64.0.0.0/3", "128.0.0.0/1"].map(|net| rule(net, "any", "deny"));
    let rest = rule("0.0.0.0/0", "any", "allow");
    assert_eq!(denies(&format!("{}{rest}", ends.concat())), None);
    let middle = rule("96.0.0.0/3", "any", "deny");
    assert!(denies(&format!("{}{middle}{rest}", ends.concat())).is_some());
}
