//! From a wg-quick file to TOML.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{FOR_TALTUN, FOR_WG_QUICK, INTERFACE_VARIABLE};
use crate::config::error::{ConfigError, Spot};

/// Keys of wg-quick's `[Interface]` that Taltun has no use for, and why.
const KEPT: &[(&str, &str)] = &[
    ("Table", "Taltun chooses the table of default routes itself"),
    ("SaveConfig", "Taltun never writes its configuration"),
    (
        "PreUp",
        "Taltun runs commands once the tunnel is up; add it to on_up",
    ),
    (
        "PreDown",
        "Taltun runs commands at one point of the end; add it to on_down",
    ),
];

/// TOML, and what it doesn't do that the file did.
#[derive(Debug)]
pub struct Imported {
    /// The configuration file.
    pub toml: String,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Translates `text`, the contents of the wg-quick file `file`, for an interface `tun_name`.
///
/// # Errors
/// A line that wg-quick wouldn't understand either, or an allowed IP with a sign.
pub fn import(text: &str, file: &str, tun_name: &str) -> Result<Imported, ConfigError> {
    let mut import = Import::default();
    for (number, line) in text.lines().enumerate() {
        let spot = |key: &str| Spot::line(file, number + 1, key);
        import.line(line, &spot)?;
    }
    Ok(import.finish(tun_name))
}

#[derive(Default)]
struct Import {
    sections: Vec<Section>,
    /// Comments before the first section.
    head: String,
    /// Lines of sections that wg-quick doesn't have, which were kept in comments.
    others: Vec<String>,
    in_others: bool,
    table_off: bool,
    warnings: Vec<String>,
}

#[derive(Default)]
struct Section {
    is_peer: bool,
    lines: Vec<Line>,
    /// Addresses of all its `Address` or `AllowedIPs`.
    nets: Vec<IpNet>,
    /// Texts of keys that may stand in several lines there and are one list here.
    lists: BTreeMap<&'static str, Vec<String>>,
    has_endpoint: bool,
}

/// A line of the outcome.
enum Line {
    /// As it is.
    Plain(String),
    /// A key and its value.
    Key(&'static str, String),
    /// Here goes the list of this key.
    List(&'static str),
    /// Here go the addresses.
    Nets,
    /// A line that was TOML before, and has the last word about its key.
    Own(String),
}

type SpotOf<'a> = &'a dyn Fn(&str) -> Spot;

impl Import {
    fn line(&mut self, line: &str, spot: SpotOf) -> Result<(), ConfigError> {
        let line = line.trim();
        if let Some(own) = line.strip_prefix(FOR_TALTUN.trim_end()) {
            self.own_line(own.trim());
            return Ok(());
        }
        let (code, comment) = match line.split_once('#') {
            Some((code, comment)) => (code.trim(), Some(comment)),
            None => (line, None),
        };
        if let Some(comment) = comment {
            self.plain(format!("#{}", comment.trim_end()));
        } else if code.is_empty() {
            self.plain(String::new());
        }
        if code.is_empty() {
            return Ok(());
        }
        if code.starts_with('[') {
            return self.header(code, spot);
        }
        let Some((key, value)) = code.split_once('=') else {
            return Err(spot("").error(format!("expected Key = Value, found {code}")));
        };
        self.key(key.trim(), value.trim(), spot)
    }

    fn plain(&mut self, line: String) {
        if let Some(section) = self.sections.last_mut() {
            section.lines.push(Line::Plain(line));
        } else {
            self.head.push_str(&line);
            self.head.push('\n');
        }
    }

    fn own_line(&mut self, line: &str) {
        if line.starts_with('[') {
            self.in_others = true;
            self.others.extend([String::new(), line.to_owned()]);
        } else if self.in_others {
            self.others.push(line.to_owned());
        } else if let Some(section) = self.sections.last_mut() {
            section.lines.push(Line::Own(line.to_owned()));
        }
    }

    fn header(&mut self, header: &str, spot: SpotOf) -> Result<(), ConfigError> {
        self.in_others = false;
        let is_peer = match header.to_ascii_lowercase().as_str() {
            "[interface]" => false,
            "[peer]" => true,
            _ => {
                let expected = format!("expected [Interface] or [Peer], found {header}");
                return Err(spot("").error(expected));
            }
        };
        if !is_peer && !self.sections.is_empty() {
            return Err(spot("[Interface]").error("expected it once, before the first [Peer]"));
        }
        self.sections.push(Section {
            is_peer,
            ..Section::default()
        });
        Ok(())
    }

    fn key(&mut self, key: &str, value: &str, spot: SpotOf) -> Result<(), ConfigError> {
        let Some(section) = self.sections.last_mut() else {
            return Err(spot(key).error("expected [Interface] before it"));
        };
        let number = |value: &str| {
            value.parse::<u16>().map_err(|_| {
                spot(key).error(format!("expected a number up to 65535, found {value}"))
            })
        };
        let text = |value: &str| -> Result<String, ConfigError> {
            if value
                .chars()
                .any(|c| c.is_control() || matches!(c, '"' | '\\'))
            {
                return Err(spot(key).error("expected neither quotes nor backslashes"));
            }
            Ok(format!("\"{value}\""))
        };
        let lower = key.to_ascii_lowercase();
        let lower_value = value.to_ascii_lowercase();
        let line = match (section.is_peer, lower.as_str()) {
            (false, "privatekey") => Line::Key("private_key", text(value)?),
            (false, "listenport") => {
                Line::Key("local_addr", format!("\"[::]:{}\"", number(value)?))
            }
            (false, "mtu") => Line::Key("mtu", number(value)?.to_string()),
            (false, "fwmark") if matches!(lower_value.as_str(), "off" | "0" | "0x0") => {
                return Ok(());
            }
            (false, "fwmark") => Line::Key("fwmark", mark(&lower_value, &spot(key))?),
            (false, "table") if lower_value == "auto" => return Ok(()),
            (false, "dns") => {
                let items = value.split(',').map(str::trim).map(str::to_owned);
                section.add_to_list("dns", items);
                return Ok(());
            }
            (false, "postup" | "postdown") => {
                let list = if lower == "postup" {
                    "on_up"
                } else {
                    "on_down"
                };
                let command = value.replace("%i", INTERFACE_VARIABLE);
                section.add_to_list(list, [command]);
                return Ok(());
            }
            (true, "publickey") => Line::Key("public_key", text(value)?),
            (true, "presharedkey") => Line::Key("preshared_key", text(value)?),
            (true, "endpoint") => {
                section.has_endpoint = true;
                Line::Key("endpoint", text(value)?)
            }
            (true, "persistentkeepalive") if value.eq_ignore_ascii_case("off") => return Ok(()),
            (true, "persistentkeepalive") => match number(value)? {
                0 => return Ok(()),
                seconds => Line::Key("persistent_keepalive", seconds.to_string()),
            },
            (false, "address") | (true, "allowedips") => {
                let first = section.nets.is_empty();
                for item in value
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                {
                    let net = network(item).ok_or_else(|| {
                        spot(key).error(format!("expected addresses with prefix, found {item}"))
                    })?;
                    section.nets.push(net);
                }
                if !first || section.nets.is_empty() {
                    return Ok(());
                }
                Line::Nets
            }
            (false, _) => {
                let kept = KEPT.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
                let Some((name, reason)) = kept else {
                    return Err(unknown(key, "[Interface]", spot));
                };
                self.table_off |= *name == "Table" && value.eq_ignore_ascii_case("off");
                self.warnings
                    .push(spot(key).say(format!("kept as a comment: {reason}")));
                Line::Plain(format!("{FOR_WG_QUICK}{name} = {value}"))
            }
            (true, _) => return Err(unknown(key, "[Peer]", spot)),
        };
        section.lines.push(line);
        Ok(())
    }

    fn finish(self, tun_name: &str) -> Imported {
        let peers = || self.sections.iter().filter(|section| section.is_peer);
        let mode = if peers().all(|peer| peer.has_endpoint) {
            "client"
        } else {
            "server"
        };
        let vip: Vec<IpNet> = self
            .sections
            .iter()
            .filter(|section| !section.is_peer)
            .flat_map(|section| section.nets.clone())
            .collect();
        // What wg-quick does by itself.
        let mut routes: Vec<IpNet> = peers()
            .flat_map(|peer| peer.nets.iter().map(IpNet::trunc))
            .filter(|net| !vip.iter().any(|vip| vip.contains(net)))
            .collect();
        routes.dedup();
        let mut toml = self.head;
        for section in &self.sections {
            if section.is_peer {
                section.write(&mut toml, "[[peers]]", "allowed_ips", &[]);
                continue;
            }
            let mut defaults = vec![
                ("mode", format!("\"{mode}\"")),
                ("tun_name", format!("\"{tun_name}\"")),
                ("local_addr", "\"[::]:0\"".to_owned()),
            ];
            if !routes.is_empty() && !self.table_off {
                defaults.push(("routes", list(&routes)));
            }
            section.write(&mut toml, "[interface]", "vip", &defaults);
        }
        for line in &self.others {
            toml.push_str(line);
            toml.push('\n');
        }
        Imported {
            toml,
            warnings: self.warnings,
        }
    }
}

impl Section {
    /// Adds to a list, whose place is where its key stands first.
    fn add_to_list(&mut self, key: &'static str, items: impl IntoIterator<Item = String>) {
        if !self.lists.contains_key(key) {
            self.lines.push(Line::List(key));
        }
        let items = items.into_iter().filter(|item| !item.is_empty());
        self.lists.entry(key).or_default().extend(items);
    }

    /// Writes the section. A line that was TOML before replaces one made here; each of
    /// `defaults` is added unless its key is there.
    fn write(&self, toml: &mut String, header: &str, nets: &str, defaults: &[(&str, String)]) {
        // Writing to a String can't fail.
        let _ = writeln!(toml, "{header}");
        let own: Vec<&str> = self.lines.iter().filter_map(Line::own_key).collect();
        let own_private_key = own.contains(&"private_key_file");
        for (key, value) in defaults {
            let made = |line: &Line| matches!(line, Line::Key(name, _) if name == key);
            if !own.contains(key) && !self.lines.iter().any(made) {
                let _ = writeln!(toml, "{key} = {value}");
            }
        }
        for line in &self.lines {
            let _ = match line {
                Line::Plain(line) | Line::Own(line) => writeln!(toml, "{line}"),
                Line::Key("private_key", _) if own_private_key => Ok(()),
                Line::Key(key, _) if own.contains(key) => Ok(()),
                Line::Key(key, value) => writeln!(toml, "{key} = {value}"),
                Line::List(key) if own.contains(key) => Ok(()),
                Line::List(key) => {
                    let items = self.lists.get(key).map_or(&[][..], Vec::as_slice);
                    let items: Vec<String> = items
                        .iter()
                        .map(|item| ::toml::Value::String(item.clone()).to_string())
                        .collect();
                    writeln!(toml, "{key} = [{}]", items.join(", "))
                }
                Line::Nets if own.contains(&nets) => Ok(()),
                Line::Nets => writeln!(toml, "{nets} = {}", list(&self.nets)),
            };
        }
    }
}

impl Line {
    fn own_key(&self) -> Option<&str> {
        match self {
            Self::Own(line) => Some(line.split_once('=')?.0.trim()),
            _ => None,
        }
    }
}

/// The mark, as TOML writes it.
fn mark(text: &str, spot: &Spot) -> Result<String, ConfigError> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match number {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(spot.error(format!("expected a number up to 0xffffffff, found {text}"))),
    }
}

/// With or without a prefix length; without one it is a single address, unlike in TOML.
fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn list(nets: &[IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
    format!("[{}]", nets.join(", "))
}

fn unknown(key: &str, section: &str, spot: SpotOf) -> ConfigError {
    spot(key).error(format!("neither wg nor wg-quick has this key in {section}"))
}
