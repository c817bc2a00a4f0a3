//! Flags, which have the last word.

use super::*;

#[test]
fn flags_alone_are_a_configuration() {
    let flags = Overrides {
        mode: Some("server".into()),
        local: Some(":7000".into()),
        key: Some(OUR_PRIVATE.into()),
        vip: vec!["10.0.0.1".into()],
        peers: vec![
            format!("10.0.0.2,203.0.113.1:9000,{KEY_A}"),
            format!("10.0.0.3,,{KEY_B}"),
        ],
        tun: Some("tun7".into()),
        mtu: Some("1300".into()),
        debug: Some(true),
        ..Overrides::default()
    };
    assert!(flags.suffice());
    let config = load_with(None, &flags).unwrap().config;
    assert_eq!(config.interface.mode, Mode::Server);
    assert_eq!(config.interface.local_addr, "[::]:7000".parse().unwrap());
    assert_eq!(config.interface.tun_name, "tun7");
    assert_eq!(config.interface.mtu, 1300);
    assert!(config.interface.debug);
    assert_eq!(config.peers.len(), 2);
    assert!(config.peers[0].endpoint.is_some());
    assert!(config.peers[1].endpoint.is_none());
}

#[test]
fn flags_override_the_file_and_add_peers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    write(&path, &with_peer("vip = \"10.0.0.2\""), 0o600);
    let flags = Overrides {
        vip: vec!["10.0.0.9/24".into()],
        peers: vec![format!("10.0.0.3,hub.example.org:9000,{KEY_B}")],
        ..Overrides::default()
    };
    let config = load_with(Some(&path), &flags).unwrap().config;
    assert_eq!(config.interface.vip, ["10.0.0.9/24".parse().unwrap()]);
    assert_eq!(config.peers.len(), 2);
}

#[test]
fn a_bad_flag_is_named_as_it_was_typed() {
    let base = Overrides {
        key: Some(OUR_PRIVATE.into()),
        vip: vec!["10.0.0.1".into()],
        ..Overrides::default()
    };
    let refused = |flags: Overrides, expected: &str| {
        let message = load_with(None, &flags).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    };
    refused(
        Overrides {
            mtu: Some("9".into()),
            ..base.clone()
        },
        "-mtu: expected a whole number from 576",
    );
    refused(
        Overrides {
            peers: vec!["10.0.0.2,203.0.113.1:9000".into()],
            ..base.clone()
        },
        "-peer: the public key is missing; run `taltun pubkey < key` on that peer",
    );
    refused(
        Overrides {
            peers: vec!["10.0.0.2".into()],
            ..base.clone()
        },
        "-peer: expected VIP,HOST:PORT,PUBLIC_KEY",
    );
    refused(
        Overrides {
            vip: vec!["x".into()],
            ..base.clone()
        },
        "-vip: expected an address",
    );
    refused(
        Overrides {
            mode: Some("x".into()),
            ..base
        },
        "-mode: expected \"server\"",
    );
}
