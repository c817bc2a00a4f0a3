//! A peer of a fleet as a table `[[peers]]`, so that what changes a peer of a file changes it, too.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::{Table, Value};

use super::FleetPeer;

impl FleetPeer {
    /// The text of a file with this peer alone.
    pub fn to_toml(&self) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let mut toml = format!(
            "[[peers]]\nname = {}\npublic_key = \"{}\"\n",
            text(&self.name),
            self.public_key
        );
        for (key, list) in [
            ("vip", texts(&self.vip)),
            ("allowed_ips", texts(&self.allowed_ips)),
        ] {
            if !list.is_empty() {
                // Writing to a String can't fail.
                let _ = writeln!(toml, "{key} = [{}]", list.join(", "));
            }
        }
        for (key, value) in [
            ("expires", &self.expires),
            ("quota", &self.quota),
            ("rate_up", &self.rate_up),
            ("rate_down", &self.rate_down),
        ] {
            if let Some(value) = value {
                let _ = writeln!(toml, "{key} = {}", text(value));
            }
        }
        toml
    }

    /// The only peer of such a text; `None` if there is none in it.
    pub fn of_toml(toml: &str) -> Result<Option<Self>, String> {
        let mut table: Table = toml.parse().map_err(|error: toml::de::Error| {
            let message = error.message();
            message.to_owned()
        })?;
        let peers = match table.remove("peers") {
            Some(Value::Array(peers)) => peers,
            _ => Vec::new(),
        };
        let Some(Value::Table(mut peer)) = peers.into_iter().next() else {
            return Ok(None);
        };
        if peer.contains_key("preshared_key") {
            return Err(
                "a fleet's peers have no preshared keys: all who read etcd would have them; \
                 leave out --psk"
                    .to_owned(),
            );
        }
        let mut all = |key: &str| match peer.remove(key) {
            Some(Value::Array(values)) => values.into_iter().map(plain).collect(),
            Some(value) => vec![plain(value)],
            None => Vec::new(),
        };
        let unfit = |key: &str| format!("{key} of a peer isn't understood");
        let vip = all("vip").into_iter().map(|it| it.parse::<IpAddr>());
        let vip = vip.collect::<Result<_, _>>().map_err(|_| unfit("vip"))?;
        let nets = all("allowed_ips").into_iter().map(|it| it.parse::<IpNet>());
        let nets = nets
            .collect::<Result<_, _>>()
            .map_err(|_| unfit("allowed_ips"))?;
        let mut one = |key: &str| all(key).into_iter().next();
        let key = one("public_key").and_then(|key| key.parse().ok());
        Ok(Some(Self {
            name: one("name").ok_or_else(|| unfit("name"))?,
            public_key: key.ok_or_else(|| unfit("public_key"))?,
            vip,
            allowed_ips: nets,
            expires: one("expires"),
            quota: one("quota"),
            rate_up: one("rate_up"),
            rate_down: one("rate_down"),
        }))
    }
}

fn texts<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter()
        .map(|it| format!("\"{}\"", it.to_string()))
        .collect()
}

/// A value as the record has it.
fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PublicKey;

    #[test]
    fn a_peer_is_its_text() {
        let peer = FleetPeer {
            name: "ana".to_owned(),
            public_key: PublicKey([7; 32]),
            vip: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            allowed_ips: vec!["192.168.5.0/24".parse().unwrap()],
            expires: Some("2026-12-31".to_owned()),
            quota: Some("10 GB/month\"\n[accel]".to_owned()),
            rate_up: None,
            rate_down: Some("5 Mbit/s".to_owned()),
        };
        let toml = peer.to_toml();
        assert_eq!(FleetPeer::of_toml(&toml), Ok(Some(peer.clone())), "{toml}");
        // As a command writes it.
        let written = toml.replace("\"2026-12-31\"", "2026-12-31");
        assert_eq!(FleetPeer::of_toml(&written), Ok(Some(peer)));
        assert_eq!(FleetPeer::of_toml(""), Ok(None));
        let secret = format!("{toml}preshared_key = \"x\"\n");
        assert!(FleetPeer::of_toml(&secret).unwrap_err().contains("--psk"));
        assert!(FleetPeer::of_toml("[[peers]]\nname = \"x\"\n").is_err());
    }
}
