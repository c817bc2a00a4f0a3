//! `[udpgw]`, `[metrics]` and `[web]`: what is refused.

use super::*;

#[test]
fn a_gateway_that_cannot_be_is_refused() {
    for (section, expected) in [
        (
            "listen = []",
            "udpgw.listen: the list is empty; name where clients connect to",
        ),
        (
            "listen = \"127.0.0.1\"",
            "udpgw.listen: expected ADDRESS:PORT such as",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "udpgw.listen: expected ADDRESS:PORT such as",
        ),
        (
            "listen = [\"127.0.0.1:7300\", \"127.0.0.1:7300\"]",
            "udpgw.listen: 127.0.0.1:7300 and 127.0.0.1:7300 of [udpgw] are one place to listen",
        ),
        (
            "listen = [\"10.0.0.1:7300\", \"0.0.0.0:7300\"]",
            "udpgw.listen: 0.0.0.0:7300 and 10.0.0.1:7300 of [udpgw] are one place to listen",
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
            "allow = [\"0.0.0.0\"]",
            "udpgw.allow: 0.0.0.0 is no address to send to; write 0.0.0.0/0 for everywhere",
        ),
        (
            "allow = [\"::/128\"]",
            "udpgw.allow: :: is no address to send to; write ::/0 for everywhere",
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
             [\"192.0.2.53\"]\n[udpgw]\nlisten = \"{listen}\"\n",
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

#[test]
fn metrics_that_cannot_be_are_refused() {
    let long = format!("/{}", "a".repeat(107));
    for (listen, expected) in [
        ("127.0.0.1", "metrics.listen: expected ADDRESS:PORT such as"),
        (
            "127.0.0.1:0",
            "metrics.listen: expected ADDRESS:PORT such as",
        ),
        (
            "224.0.0.1:9586",
            "metrics.listen: expected ADDRESS:PORT such as",
        ),
        (
            "metrics.sock",
            "metrics.listen: expected ADDRESS:PORT such as",
        ),
        (
            &long,
            "metrics.listen: expected the path of a socket of at most 107 bytes",
        ),
        (
            "/run/",
            "metrics.listen: expected the path of a socket of at most 107 bytes",
        ),
        (
            "[::]:7300",
            "metrics.listen: [::]:7300 and 127.0.0.1:7300 of [udpgw] are one place",
        ),
        (
            "0.0.0.0:7300",
            "metrics.listen: 0.0.0.0:7300 and 127.0.0.1:7300 of [udpgw] are one place",
        ),
    ] {
        let text = interface(&format!(
            "[udpgw]\nlisten = \"127.0.0.1:7300\"\n[metrics]\nlisten = \"{listen}\"\n"
        ));
        refused(&text, &format!("hub.toml:7: {expected}"));
    }
    for (listen, expected) in [
        ("[]", "expected 1 to 8 places such as"),
        (
            "[\"127.0.0.1:1\", \"0.0.0.0:1\"]",
            "0.0.0.0:1 and 127.0.0.1:1 of [metrics] are one place",
        ),
        ("[\"/run/m\", \"/run/m\"]", "/run/m is there twice"),
    ] {
        let text = interface(&format!("[metrics]\nlisten = {listen}\n"));
        refused(&text, &format!("hub.toml:5: metrics.listen: {expected}"));
    }
    let text = interface("[metrics]\nport = 9586\n");
    refused(&text, "hub.toml:5: metrics.port: unknown key");
}

#[test]
fn metrics_that_others_can_read_are_warned_of() {
    for (listen, warned) in [
        ("127.0.0.1:9586", false),
        ("[::1]:9586", false),
        ("10.0.0.1:9586", false),
        ("[::ffff:10.0.0.1]:9586", false),
        ("/run/taltun/metrics", false),
        ("0.0.0.0:9586", true),
        ("192.0.2.1:9586", true),
    ] {
        let text = interface(&format!("[metrics]\nlisten = \"{listen}\"\n"));
        let mut warnings = parse(&text, "hub.toml").unwrap().warnings;
        warnings.retain(|it| it.contains("metrics.listen: all who reach"));
        assert_eq!(
            warnings.len(),
            usize::from(warned),
            "{listen}: {warnings:?}"
        );
    }
}

#[test]
fn a_page_that_others_could_reach_is_refused_unless_it_is_forced() {
    for listen in [
        "127.0.0.1:8080",
        "[::1]:8080",
        "10.0.0.1:8080",
        "[::ffff:10.0.0.1]:1",
    ] {
        let text = interface(&format!("[web]\nlisten = \"{listen}\"\n"));
        let loaded = parse(&text, "hub.toml").unwrap();
        assert!(loaded.warnings.iter().all(|it| !it.contains("web.listen")));
        assert_eq!(loaded.config.web.unwrap().listen, [listen.parse().unwrap()]);
    }
    for listen in [
        "0.0.0.0:8080",
        "[::]:8080",
        "192.0.2.1:8080",
        "10.0.0.2:8080",
    ] {
        let text = interface(&format!("[web]\nlisten = \"{listen}\"\n"));
        let expected = format!("hub.toml:5: web.listen: {listen} is neither 127.0.0.1 nor our vip");
        refused(&text, &expected);
        let forced = parse(&(text + "force = true\n"), "hub.toml").unwrap();
        let warned = |it: &String| it.contains(&format!("all who reach {listen} can try"));
        assert!(forced.warnings.iter().any(warned), "{:?}", forced.warnings);
    }
}

#[test]
fn a_page_that_cannot_be_is_refused() {
    for (section, expected) in [
        (
            "listen = \"10.0.0.1\"",
            "web.listen: expected ADDRESS:PORT such as",
        ),
        (
            "listen = \"10.0.0.1:0\"",
            "web.listen: expected ADDRESS:PORT such as",
        ),
        (
            "listen = \"/run/page\"",
            "web.listen: expected ADDRESS:PORT such as",
        ),
        ("listen = []", "web.listen: expected 1 to 8 places such as"),
        (
            "listen = [\"[::1]:1\", \"[::1]:1\"]",
            "web.listen: [::1]:1 and [::1]:1 of [web] are one place",
        ),
        (
            "hosts = \"*.example.org\"",
            "web.hosts: expected a name such as",
        ),
        (
            "hosts = \"a.example:80\"",
            "web.hosts: expected a name such as",
        ),
        ("hosts = \"10.0.0.1\"", "web.hosts: expected a name such as"),
        ("port = 8080", "web.port: unknown key"),
    ] {
        let text = interface(&format!("[web]\n{section}\n"));
        refused(&text, &format!("hub.toml:5: {expected}"));
    }
    for (section, other) in [
        ("[udpgw]\nlisten = \"127.0.0.1:8080\"\n", "[udpgw]"),
        ("[metrics]\nlisten = \"127.0.0.1:8080\"\n", "[metrics]"),
    ] {
        let text = interface(&format!("{section}[web]\n"));
        let place = "127.0.0.1:8080";
        let told = error(&text);
        let expected = format!("web.listen: {place} and {place} of {other} are one place");
        assert!(told.contains(&expected), "{told}");
    }
}
