//! Files: who may read them, where keys are looked for, and the examples that are installed
//! with the program.

use super::*;

#[test]
fn a_file_open_to_others_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    let text = with_peer("vip = \"10.0.0.2\"").replace("[[peers]]", "mode = \"server\"\n[[peers]]");
    write(&path, &text, 0o600);
    assert!(load(&path).unwrap().warnings.is_empty());
    write(&path, &text, 0o640);
    let warnings = load(&path).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("open to others than its owner (mode 0640); run `chmod 600"));
}

#[test]
fn a_file_without_a_key_is_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("hub.toml"), dir.path().join("hub.key"));
    write(&key, OUR_PRIVATE, 0o600);
    let text = with_peer("vip = \"10.0.0.2\"").replace("[[peers]]", "mode = \"server\"\n[[peers]]");
    let text = text.replace(
        &format!("private_key = \"{OUR_PRIVATE}\""),
        "private_key_file = \"hub.key\"",
    );
    write(&path, &text, 0o644);
    assert_eq!(load(&path).unwrap().warnings, Vec::<String>::new());
    // A preshared key is one.
    let text = format!("{text}\npreshared_key = \"{OUR_PRIVATE}\"\n");
    write(&path, &text, 0o644);
    let warnings = load(&path).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("hub.toml: open to others"),
        "{warnings:?}"
    );
}

#[test]
fn a_private_key_file_is_looked_for_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    let text = with_peer("vip = \"10.0.0.2\"").replace("[[peers]]", "mode = \"server\"\n[[peers]]");
    let text = text.replace(
        &format!("private_key = \"{OUR_PRIVATE}\""),
        "private_key_file = \"hub.key\"",
    );
    write(&path, &text, 0o600);
    let message = load(&path).unwrap_err().to_string();
    assert!(
        message.contains("hub.toml:2: interface.private_key_file: cannot read"),
        "{message}"
    );
    write(
        &dir.path().join("hub.key"),
        &format!("{OUR_PRIVATE}\n"),
        0o644,
    );
    let loaded = load(&path).unwrap();
    assert_eq!(
        loaded.config.interface.private_key.public_key().to_string(),
        OUR_PUBLIC
    );
    assert_eq!(loaded.warnings.len(), 1, "hub.key is open to others");
    write(&dir.path().join("hub.key"), "rubbish", 0o600);
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("found 7 characters"), "{message}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("none.toml: cannot read the configuration: No such file"));
    assert!(load(dir.path()).is_err(), "a directory");
    std::fs::write(&path, b"[interface]\nvip = \"\xff\"\n").unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("none.toml:2: not UTF-8"), "{message}");
}

#[test]
fn the_examples_are_accepted_without_warnings_and_fit_each_other() {
    let hub = parse(include_str!("../../../dist/examples/hub.toml"), "hub.toml").unwrap();
    let spoke = parse(
        include_str!("../../../dist/examples/spoke.toml"),
        "spoke.toml",
    )
    .unwrap();
    assert_eq!(hub.warnings, [""; 0]);
    assert_eq!(spoke.warnings, [""; 0]);
    let hub_key = hub.config.interface.private_key.public_key();
    let spoke_key = spoke.config.interface.private_key.public_key();
    assert_eq!(spoke.config.peers[0].public_key, hub_key);
    assert!(
        hub.config
            .peers
            .iter()
            .any(|peer| peer.public_key == spoke_key)
    );
}

/// The files of a recipe know each other by their keys, and nothing about them is odd.
#[test]
fn the_recipes_are_accepted_without_warnings_and_fit_each_other() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/examples");
    let mut recipes = 0;
    for recipe in std::fs::read_dir(examples).unwrap().flatten() {
        if !recipe.path().is_dir() {
            continue;
        }
        recipes += 1;
        let files = std::fs::read_dir(recipe.path()).unwrap().flatten();
        let configs: Vec<Config> = files
            .map(|file| {
                let text = std::fs::read_to_string(file.path()).unwrap();
                let loaded = parse(&text, &file.path().display().to_string()).unwrap();
                assert_eq!(loaded.warnings, [""; 0]);
                loaded.config
            })
            .collect();
        for peer in configs.iter().flat_map(|config| &config.peers) {
            let has_its_key =
                |config: &Config| config.interface.private_key.public_key() == peer.public_key;
            assert!(
                configs.iter().any(has_its_key),
                "{}: {}",
                recipe.path().display(),
                peer.label()
            );
        }
    }
    assert_eq!(recipes, 6);
}

#[test]
fn a_server_without_peers_and_a_name_that_was_not_given_are_told() {
    let loaded = parse(&interface("mode = \"server\""), "hub.toml").unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].starts_with(
            "hub.toml:1: interface.mode: mode is server, and there are no peers: nobody can connect"
        ),
        "{}",
        loaded.warnings[0]
    );
    assert_eq!(
        loaded.notes,
        [
            "hub.toml:1: interface.tun_name: not given, so the interface is called taltun0 (it was \
          tun0 with the Go version)"
        ]
    );
    let named = parse(&interface("tun_name = \"tun0\""), "hub.toml").unwrap();
    assert!(named.notes.is_empty());
}
