//! From TOML to a wg-quick file.

use std::fmt::Write;

use super::lines::{host_lines, join, table};
use super::running::{Running, running};
use super::{FOR_TALTUN, FOR_WG_QUICK, import};
use crate::config::{self, Config, Interface, Peer};

/// Writes `config`, which was read from `text`, as a wg-quick file. The keys are in it, so
/// it is for its owner's eyes only.
///
/// The comments come along, unless the file is written in a way that lines don't tell: a text
/// over several lines, quoted keys, tables in one line.
pub fn export(text: &str, config: &Config) -> String {
    let out = by_lines(text, config);
    if means(&out, config) {
        return out;
    }
    let mut out = running(&Running {
        config,
        private_key: Some(&config.interface.private_key),
        fwmark: config.host.fwmark.unwrap_or_default(),
    });
    std::mem::take(&mut *out)
}

/// Whether a file says all of `config` that `wg` and `wg-quick` know.
fn means(file: &str, config: &Config) -> bool {
    let name = Some(config.interface.tun_name.as_str());
    let Ok(imported) = import(file.as_bytes(), "", name) else {
        return false;
    };
    let Ok(back) = config::parse(&imported.toml, "") else {
        return false;
    };
    let back = back.config;
    let (was, is) = (&config.interface, &back.interface);
    let same = |(was, is): (&Peer, &Peer)| {
        was.public_key == is.public_key
            && was.preshared_key == is.preshared_key
            && was.endpoint == is.endpoint
            && was.endpoints == is.endpoints
            && was.allowed_ips.len() == is.allowed_ips.len()
            && was.persistent_keepalive == is.persistent_keepalive
    };
    was.private_key == is.private_key
        && was.vip == is.vip
        && was.local_addr.port() == is.local_addr.port()
        && was.mtu == is.mtu
        && config.host.fwmark == back.host.fwmark
        && config.host.dns == back.host.dns
        && config.peers.len() == back.peers.len()
        && config.peers.iter().zip(&back.peers).all(same)
}

fn by_lines(text: &str, config: &Config) -> String {
    let mut export = Export {
        config,
        at: At::Top,
        peers: 0,
        listens: false,
        allowed: false,
        out: String::new(),
    };
    for line in logical_lines(text) {
        export.line(&line);
    }
    export.leave();
    export.out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Top,
    Interface,
    Peer,
    Other,
}

struct Export<'a> {
    config: &'a Config,
    at: At,
    /// How many peers have begun.
    peers: usize,
    /// Whether `ListenPort` was settled.
    listens: bool,
    /// Whether this peer's `AllowedIPs` are written.
    allowed: bool,
    out: String,
}

impl Export<'_> {
    fn line(&mut self, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            // Nothing else may become a setting: a comment of an imported file is anybody's.
            let kept = line.strip_prefix(FOR_WG_QUICK);
            let kept = kept.filter(|kept| *kept == "SaveConfig = true");
            return self.write(kept.unwrap_or(line));
        }
        if line.starts_with('[') {
            self.leave();
            let name = line.trim_matches(['[', ']', ' ', '\t']);
            self.at = match name {
                "interface" => At::Interface,
                "peers" => At::Peer,
                _ => At::Other,
            };
            return match self.at {
                At::Interface => self.write("[Interface]"),
                At::Peer => {
                    self.peers = self.peers.saturating_add(1);
                    self.allowed = false;
                    self.write("[Peer]");
                }
                At::Top | At::Other => self.write(&format!("{FOR_TALTUN}{line}")),
            };
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        let config = self.config;
        if self.at == At::Interface && key == "shell" {
            // wg-quick has bash, which runs what is written for sh.
            return;
        }
        let known = match (self.at, config.peers.get(self.peers.wrapping_sub(1))) {
            (At::Interface, _) => {
                self.interface_line(key, &config.interface) || self.host_line(key)
            }
            (At::Peer, Some(peer)) => self.peer_line(key, peer),
            _ => false,
        };
        if !known {
            self.write(&format!("{FOR_TALTUN}{line}"));
        }
    }

    /// Writes the line of wg-quick's for a key; false when there is none, or when it doesn't
    /// say all that the key says.
    fn interface_line(&mut self, key: &str, interface: &Interface) -> bool {
        match key {
            "private_key" | "private_key_file" => {
                let key = interface.private_key.to_base64();
                self.write(&format!("PrivateKey = {}", *key));
            }
            "vip" => {
                let vip = join(&interface.vip);
                self.write(&format!("Address = {vip}"));
            }
            "mtu" => self.write(&format!("MTU = {}", interface.mtu)),
            "local_addr" => {
                self.listen_port();
                return interface.local_addr.ip().is_unspecified();
            }
            _ => return false,
        }
        true
    }

    /// The same for what the host does, which wg-quick does, too.
    fn host_line(&mut self, key: &str) -> bool {
        let lines = host_lines(self.config, key);
        for line in &lines {
            self.write(line);
        }
        !lines.is_empty()
    }

    fn peer_line(&mut self, key: &str, peer: &Peer) -> bool {
        match key {
            "public_key" => self.write(&format!("PublicKey = {}", peer.public_key)),
            "preshared_key" => {
                let key = peer.preshared_key.to_base64();
                self.write(&format!("PresharedKey = {}", *key));
            }
            "endpoint" | "endpoints" => match &peer.endpoint {
                Some(endpoint) => {
                    self.write(&format!("Endpoint = {endpoint}"));
                    // wg-quick knows one place with one port.
                    return peer.endpoints.is_empty();
                }
                None => return false,
            },
            "persistent_keepalive" => match peer.persistent_keepalive {
                Some(seconds) => self.write(&format!("PersistentKeepalive = {seconds}")),
                None => return false,
            },
            "vip" | "allowed_ips" => {
                if !self.allowed && !peer.allowed_ips.is_empty() {
                    self.write(&format!("AllowedIPs = {}", join(&peer.allowed_ips)));
                }
                self.allowed = true;
                // AllowedIPs can't tell one from the other.
                return peer.vip.is_empty();
            }
            _ => return false,
        }
        true
    }

    /// What holds by default in TOML but not in wg-quick is written where its section ends.
    fn leave(&mut self) {
        if self.at != At::Interface {
            return;
        }
        let blank = self.out.ends_with("\n\n");
        if blank {
            self.out.pop();
        }
        if !self.listens {
            self.listen_port();
        }
        if let Some(line) = table(self.config) {
            self.write(line);
        }
        if blank {
            self.out.push('\n');
        }
    }

    fn listen_port(&mut self) {
        self.listens = true;
        let port = self.config.interface.local_addr.port();
        if port != 0 {
            self.write(&format!("ListenPort = {port}"));
        }
    }

    fn write(&mut self, line: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.out, "{line}");
    }
}

/// The lines of TOML that is known to be valid, with a list that goes over several lines
/// joined into one and the comments in front of what they belong to.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    let mut depth = 0_i32;
    for line in text.lines() {
        let (code, comment) = split_comment(line.trim());
        if let Some(comment) = comment {
            lines.push(comment.trim_end().to_owned());
        }
        let code = code.trim();
        if code.is_empty() {
            if depth == 0 && comment.is_none() {
                lines.push(String::new());
            }
            continue;
        }
        begun.push_str(if begun.is_empty() { "" } else { " " });
        begun.push_str(code);
        depth = brackets(code).saturating_add(depth);
        if depth <= 0 {
            depth = 0;
            lines.push(std::mem::take(&mut begun));
        }
    }
    lines
}

/// Splits a line at the `#` that begins a comment, which is in no string.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    match outside_strings(line).find(|(_, c)| *c == '#') {
        Some((at, _)) => (&line[..at], Some(&line[at..])),
        None => (line, None),
    }
}

/// How many more brackets open than close.
fn brackets(code: &str) -> i32 {
    outside_strings(code)
        .map(|(_, c)| match c {
            '[' => 1,
            ']' => -1,
            _ => 0,
        })
        .sum()
}

/// The characters of a line that are in no string.
fn outside_strings(line: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    let mut escaped = false;
    line.char_indices().filter(move |(_, c)| {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if *c == '\\' => escaped = true,
            Some(open) if *c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(*c),
            None => return true,
        }
        false
    })
}
