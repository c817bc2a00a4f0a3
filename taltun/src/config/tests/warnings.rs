//! What is odd, but runs.

use super::*;

#[test]
fn host_bits_in_a_prefix_are_cleared_with_a_warning() {
    let text = with_peer("allowed_ips = [\"192.168.50.7/24\"]\nendpoint = \"192.0.2.1:1\"");
    assert_eq!(
        config(&text).peers[0].allowed_ips,
        ["192.168.50.0/24".parse().unwrap()]
    );
    assert_eq!(
        warnings(&text),
        ["hub.toml:6: peers.allowed_ips: 192.168.50.7/24 is taken as 192.168.50.0/24"]
    );
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
             this machine has no route to it",
            "hub.toml:8: peers.vip: peer \"b\" has neither a vip nor allowed_ips: no packet will \
             go to it",
        ]
    );
}

#[test]
fn a_client_without_any_endpoint_is_a_warning() {
    let found = warnings(&with_peer("vip = \"10.0.0.2\""));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("hub.toml:1: interface.mode: mode is client, but no peer has"));
}
