//! From TOML to a wg-quick file.

use std::fmt::Write;

use super::{FOR_TALTUN, FOR_WG_QUICK, INTERFACE_VARIABLE};
use crate::config::{Config, Endpoint, Interface, Peer};

/// Writes `config`, which was read from `text`, as a wg-quick file. The keys are in it, so
/// it is for its owner's eyes only.
pub fn export(text: &str, config: &Config) -> String {
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
            let line = line.strip_prefix(FOR_WG_QUICK).unwrap_or(line);
            return self.write(line);
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
                    self.peers += 1;
                    self.allowed = false;
                    self.write("[Peer]");
                }
                At::Top | At::Other => self.write(&format!("{FOR_TALTUN}{line}")),
            };
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        let config = self.config;
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
            "endpoint" => match &peer.endpoint {
                Some(Endpoint::Address(address)) => self.write(&format!("Endpoint = {address}")),
                Some(Endpoint::Name(name, port)) => {
                    self.write(&format!("Endpoint = {name}:{port}"));
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
        if self.at == At::Interface && !self.listens {
            let blank = self.out.ends_with("\n\n");
            if blank {
                self.out.pop();
            }
            self.listen_port();
            if blank {
                self.out.push('\n');
            }
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

/// The lines of wg-quick's for a key of what the host does; none when there are none, or when
/// they wouldn't mean the same.
pub(super) fn host_lines(config: &Config, key: &str) -> Vec<String> {
    let Config { host, hooks, .. } = config;
    let (name, commands) = match key {
        "dns" if !host.dns.servers.is_empty() => {
            let servers = host.dns.servers.iter().map(ToString::to_string);
            let items: Vec<String> = servers.chain(host.dns.search.clone()).collect();
            return vec![format!("DNS = {}", items.join(", "))];
        }
        "fwmark" => {
            let mark = host.fwmark.unwrap_or_default();
            return vec![format!("FwMark = {mark:#x}")];
        }
        "on_up" => ("PostUp", &hooks.on_up),
        "on_down" => ("PostDown", &hooks.on_down),
        _ => return Vec::new(),
    };
    // A file of wg-quick's has no quotes: these would mean something else there.
    if commands.iter().any(|text| text.contains(['#', '\n', '%'])) {
        return Vec::new();
    }
    let commands = commands.iter();
    commands
        .map(|command| format!("{name} = {}", command.replace(INTERFACE_VARIABLE, "%i")))
        .collect()
}

pub(super) fn join(nets: &[ipnet::IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    nets.join(", ")
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
        depth += brackets(code);
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
