//! `[udpgw]`: what is refused.

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
            "udpgw.listen: 127.0.0.1:7300 and 127.0.0.1:7300 are one place to listen",
        ),
        (
            "listen = [\"10.0.0.1:7300\", \"0.0.0.0:7300\"]",
            "udpgw.listen: 0.0.0.0:7300 and 10.0.0.1:7300 are one place to listen",
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
