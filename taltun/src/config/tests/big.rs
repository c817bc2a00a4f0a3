//! Files with very many peers, networks and routes: what is compared with what must not be
//! each with each.

use super::*;
use crate::scaling::assert_linear;

/// A hub with so many peers, which have a vip and a network each, and a route to each.
fn big(peers: usize) -> String {
    let routes: Vec<String> = (0..peers)
        .map(|n| format!("\"172.{}.{}.0/28\"", 16 + n / 256, n % 256))
        .collect();
    let head = format!("mode = \"server\"\nroutes = [{}]", routes.join(", "));
    let peer = |n: usize| {
        let address = format!("{}.{}.{}", 1 + n / 65_536, n / 256 % 256, n % 256);
        let key = format!("{:062x}01", n + 2);
        format!(
            "[[peers]]\nname = \"peer {n}\"\nvip = \"10.{address}\"\npublic_key = \"{key}\"\n\
             allowed_ips = [\"172.{}.{}.0/28\"]\n",
            16 + n / 256,
            n % 256
        )
    };
    let peers: Vec<String> = (0..peers).map(peer).collect();
    interface(&head).replace("10.0.0.1/24", "10.0.0.1/8") + &peers.concat()
}

#[test]
fn the_work_that_a_file_takes_grows_with_its_size() {
    assert_linear(400, big, |text| {
        let loaded = parse(&text, "hub.toml").unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    });
}

#[test]
fn the_work_of_warnings_grows_with_their_number() {
    let outside = |peers| big(peers).replace("vip = \"10.1.", "vip = \"11.1.");
    assert_linear(400, outside, |text| {
        let loaded = parse(&text, "hub.toml").unwrap();
        assert!(!loaded.warnings.is_empty());
    });
}

#[test]
fn an_error_at_the_end_of_a_big_file_names_its_line() {
    let mut text = big(3000);
    let lines = text.lines().count();
    text.push_str("[[peers]]\npublic_key = \"nonsense\"\n");
    refused(
        &text,
        &format!("hub.toml:{}: peers.public_key: ", lines + 2),
    );
}
