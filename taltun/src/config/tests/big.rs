//! Files with very many peers, networks and routes: what is compared with what must not be
//! each with each.

use super::*;
use crate::config::load;
use crate::config::pieces::PIECE;
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

/// So many groups, each with a network and the next of them, and a rule about the first.
fn chain(groups: usize) -> String {
    let group = |n: usize| {
        let next = if n + 1 < groups {
            format!("\"g{}\"", n + 1)
        } else {
            String::new()
        };
        format!("g{n} = [\"172.16.{}.{}\", {next}]\n", n / 256, n % 256)
    };
    let groups: Vec<String> = (0..groups).map(group).collect();
    let rule = "[[rules]]\nfrom = \"any\"\nto = \"g0\"\ndeny = \"any\"\n";
    with_peer("vip = \"10.0.0.2\"\n[groups]\n") + &groups.concat() + rule
}

#[test]
fn the_work_of_groups_in_groups_grows_with_their_number() {
    assert_linear(500, chain, |text| {
        let loaded = parse(&text, "hub.toml").unwrap();
        assert_eq!(
            loaded.config.policy.groups.len(),
            text.matches("172.16.").count()
        );
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

/// What is read in pieces of at least so many bytes, if it can be.
fn in_pieces(text: &str, piece: usize) -> Option<Loaded> {
    load::in_pieces(text, "hub.toml", piece, |_| Ok(()))
}

/// All of it; keys show themselves nowhere but where they are asked for.
fn said(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let own = config.interface.private_key.as_bytes();
    let shared: Vec<_> = config
        .peers
        .iter()
        .map(|peer| peer.preshared_key.0)
        .collect();
    format!("{loaded:?} {own:?} {shared:?}")
}

#[test]
fn a_big_file_in_pieces_says_what_it_says_as_a_whole() {
    // Two peers that are told of, with their lines, and what comes after them.
    let outside = big(1000).replace("vip = \"10.1.0.7\"", "vip = \"11.1.0.7\"");
    let text = outside
        + "preshared_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n\
           [accel]\ndeny = [\"198.51.100.7/24\"]\n[nat]\nmasquerade = true\n";
    let loaded = in_pieces(&text, PIECE).unwrap();
    let whole = load::whole(&text, "hub.toml", |_| Ok(())).unwrap();
    assert_eq!(said(&loaded), said(&whole));
    assert_eq!(loaded.config.peers.len(), 1000);
    let warnings = loaded.warnings.join("\n");
    let line = |what: &str| 1 + text.lines().position(|line| line.contains(what)).unwrap();
    for (what, key) in [
        ("11.1.0.7", "peers.vip"),
        ("198.51", "accel.deny"),
        ("masquerade", "nat.masquerade"),
    ] {
        let place = format!("hub.toml:{}: {key}: ", line(what));
        assert!(warnings.contains(&place), "{place} {warnings}");
    }
}

#[test]
fn what_is_read_in_pieces_means_the_same_as_a_whole() {
    // Files of lines at random, of which many are cut where they must not be.
    const LINES: &[&str] = &[
        "[[peers]]\npublic_key = \"KEY\"",
        "[[peers]]\npublic_key = \"KEY\"",
        "[[peers]]\npublic_key = \"KEY\"",
        "[[peers]]",
        " [[ peers ]]",
        "[peers]",
        "[[peers.more]]",
        "[accel]",
        "[dataplane]",
        "[interface]",
        "vip = \"10.0.0.NUMBER\"",
        "allowed_ips = [",
        "[\"10.7.NUMBER.0/24\"]]",
        "\"10.8.NUMBER.0/24\"]",
        "name = \"\"\"",
        "on_up = \'\'\'",
        "\"\"\"",
        "\'\'\'",
        "[x \"\"\"",
        "workers = 2",
        "peers = []",
        "persistent_keepalive = NUMBER",
        "# [[peers]]",
        "",
    ];
    let mut state = 7_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let (mut read, mut whole) = (0, 0);
    for _ in 0..20_000 {
        let mut text = interface("");
        for _ in 0..random(9) {
            let number = 2 + random(200);
            let key = format!("{number:062x}01");
            let line = LINES[random(LINES.len())].replace("KEY", &key);
            text += &line.replace("NUMBER", &number.to_string());
            text.push('\n');
        }
        let expected = load::whole(&text, "hub.toml", |_| Ok(()));
        whole += usize::from(expected.is_ok());
        let Some(loaded) = in_pieces(&text, 1) else {
            continue;
        };
        read += 1;
        let expected = expected.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(said(&loaded), said(&expected), "{text}");
    }
    assert!(read > 300 && whole >= read, "{read} of {whole}");
}
