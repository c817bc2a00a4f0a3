//! Configuration files: a mistake is told with its place, and a file that is taken means the same after
//! the way to a wg-quick file and back.

use taltun::config::wgquick::{export, import, interface_name};
use taltun::config::{self, Config};

/// What `wg` and wg-quick know of a configuration.
#[derive(Debug, PartialEq)]
pub(crate) struct Meaning {
    private_key: String,
    port: u16,
    addresses: Vec<String>,
    peers: Vec<String>,
}

impl Meaning {
    pub(crate) fn of(config: &Config) -> Self {
        let peer = |peer: &config::Peer| {
            let mut nets: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
            nets.sort();
            nets.dedup();
            let (key, psk) = (peer.public_key, &peer.preshared_key.0);
            let (to, every) = (&peer.endpoint, peer.persistent_keepalive);
            format!("{key} {psk:?} {to:?} {every:?} {nets:?}")
        };
        Self {
            private_key: config.interface.private_key.to_base64().to_string(),
            port: config.interface.local_addr.port(),
            addresses: config
                .interface
                .vip
                .iter()
                .map(ToString::to_string)
                .collect(),
            peers: config.peers.iter().map(peer).collect(),
        }
    }
}

/// All commands that root will run.
pub(crate) fn commands(config: &Config) -> Vec<&str> {
    let hooks = &config.hooks;
    let all = [
        &hooks.before_up,
        &hooks.on_up,
        &hooks.on_down,
        &hooks.after_down,
        &hooks.on_peer_up,
        &hooks.on_peer_down,
        &hooks.on_peer_refused,
        &hooks.on_peer_allowed,
    ];
    all.into_iter().flatten().map(String::as_str).collect()
}

/// Each line of what is said about a file begins with it, and its line is one of the file.
pub(crate) fn has_places(said: &str, file: &str, lines: usize) {
    assert!(!said.is_empty());
    for line in said.lines() {
        let place = line
            .strip_prefix(file)
            .unwrap_or_else(|| panic!("no place: {line}"));
        let Some(place) = place.strip_prefix(':') else {
            panic!("no place: {line}");
        };
        let number = place.split(':').next().unwrap_or_default();
        if let Ok(number) = number.parse::<usize>() {
            assert!(
                (1..=lines + 1).contains(&number),
                "line {number} of {lines}: {line}"
            );
        }
    }
}

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let lines = text.split('\n').count();
    let loaded = match config::parse(text, "fuzz.toml") {
        Ok(loaded) => loaded,
        Err(error) => return has_places(&error.to_string(), "fuzz.toml", lines),
    };
    for said in loaded.warnings.iter().chain(&loaded.notes) {
        has_places(said, "fuzz.toml", lines);
        assert_eq!(said.lines().count(), 1);
    }
    let config = loaded.config;
    // A name that wg-quick's file can't have.
    let Some(name) = interface_name(&config.interface.tun_name) else {
        return;
    };
    let file = export(text, &config);
    let imported = match import(file.as_bytes(), "fuzz.conf", Some(&name)) {
        Ok(imported) => imported,
        Err(error) => panic!("the exported file is refused: {error}\n{file}"),
    };
    let back = match config::parse(&imported.toml, "back.toml") {
        Ok(back) => back.config,
        Err(error) => panic!("what comes back is refused: {error}\n{}", *imported.toml),
    };
    assert_eq!(Meaning::of(&back), Meaning::of(&config), "{file}");
    let known = commands(&config);
    for command in commands(&back) {
        let same = |known: &&str| {
            // A line of wg-quick's doesn't keep the blanks around a command.
            let named = |text: &str| text.trim().replace("$TALTUN_INTERFACE", &name);
            named(known) == named(command)
        };
        assert!(known.iter().any(same), "{command:?} became a command");
    }
}
