//! One rule of the configuration a test; the error tests quote the whole line the user
//! would see.

mod accepted;
mod big;
mod files;
mod flags;
#[cfg(feature = "fleet")]
mod fleet;
mod forwards;
mod gateway;
mod host;
mod mistakes;
mod refused;
mod warnings;

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Private keys of the examples, and the public keys that belong to them.
const OUR_PRIVATE: &str = "2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM=";
const OUR_PUBLIC: &str = "99LSva5whpKeJtzNmJH771DBDqYneNXorMy3gM9p7AQ=";
const KEY_A: &str = "N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=";
const KEY_B: &str = "+V5zPSr0c2ZCLE2pgR9dR1gNyBA/e4Ylq5209D6xuV0=";

/// `[interface]` with what is required, and `more` lines.
fn interface(more: &str) -> String {
    format!("[interface]\nprivate_key = \"{OUR_PRIVATE}\"\nvip = \"10.0.0.1/24\"\n{more}\n")
}

/// A hub with one peer, A, which has `more` lines; the peer begins at line 4 and `more` at 6.
fn with_peer(more: &str) -> String {
    format!(
        "[interface]\nprivate_key = \"{OUR_PRIVATE}\"\nvip = \"10.0.0.1/24\"\n[[peers]]\n\
         public_key = \"{KEY_A}\"\n{more}\n"
    )
}

/// Two peers, with lines for each; B begins at line 7 and its lines at 9.
fn with_peers(a: &str, b: &str) -> String {
    format!("{}[[peers]]\npublic_key = \"{KEY_B}\"\n{b}\n", with_peer(a))
}

fn config(text: &str) -> Config {
    match parse(text, "hub.toml") {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("refused: {error}"),
    }
}

fn warnings(text: &str) -> Vec<String> {
    parse(text, "hub.toml").unwrap().warnings
}

fn error(text: &str) -> String {
    let message = parse(text, "hub.toml").unwrap_err().to_string();
    for line in message.lines() {
        assert!(line.starts_with("hub.toml"), "{message}");
    }
    message
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let message = error(text);
    assert!(
        message.starts_with(expected),
        "expected: {expected}\n   found: {message}"
    );
}

fn write(path: &std::path::Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
