//! From a wg-quick file to TOML.
//!
//! The rules are those of `wg setconf` and `wg-quick up`, which share the file: keys in any
//! case, the last of equal ones counts while lists add up, sections may come back, and a
//! prefix moves to the last peer that names it. What they refuse is refused, and so is what
//! Taltun can't do, always with the file that was given and its line.

mod finish;

use zeroize::Zeroizing;

use super::own::{self, Own};
use super::section::{Placed, Section};
use super::text::{self, Line, compact, printable};
use super::values::{address, endpoint, mark, network, number, secret};
use super::{FOR_TALTUN, FOR_WG_QUICK, names, refuse};
use crate::config::error::{ConfigError, Spot};

/// wg-quick's hooks, ours, and when it is that they run.
const HOOKS: &[(&str, &str, &str)] = &[
    ("preup", "before_up", "before the interface is made"),
    ("postup", "on_up", "once the tunnel is up"),
    ("predown", "on_down", "before the tunnel goes down"),
    ("postdown", "after_down", "after the tunnel went down"),
];

/// TOML, and what is to be known of it.
#[derive(Debug)]
pub struct Imported {
    /// The configuration file.
    pub toml: Zeroizing<String>,
    /// What it doesn't do that the file did, or what is odd about it, one line each.
    pub warnings: Vec<String>,
    /// What it does that the reader should know of, one line each.
    pub notes: Vec<String>,
}

/// Translates `bytes`, the contents of the wg-quick file `file`, for an interface `tun_name`;
/// without one a name is made up.
///
/// # Errors
/// What `wg` and `wg-quick` don't understand either, or Taltun can't do, with its line.
pub fn import(bytes: &[u8], file: &str, tun_name: Option<&str>) -> Result<Imported, ConfigError> {
    let text = text::decode(bytes, file)?;
    let mut import = Import {
        file,
        ..Import::default()
    };
    for line in text::lines(&text) {
        import.line(&line)?;
    }
    import.finish(tun_name)
}

#[derive(Default)]
struct Import<'a> {
    file: &'a str,
    at: At,
    interface: Section,
    has_interface: bool,
    peers: Vec<Peer>,
    /// Comments before the first section.
    head: Vec<Placed<String>>,
    /// Comments directly above the line that is next.
    above: Vec<String>,
    /// Lines of sections that wg-quick doesn't have, which were kept in comments.
    others: Vec<Placed<String>>,
    /// The section of these that we are in.
    other: Option<String>,
    /// Keys that were taken from comments.
    owned: Vec<Placed<String>>,
    table: Option<Placed<String>>,
    hooks: Vec<Hook>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Top,
    /// Whether wg-quick takes it for its section, too, which has to be written without blanks.
    Interface {
        by_wg_quick: bool,
    },
    Peer,
}

#[derive(Default)]
struct Peer {
    section: Section,
    public_key: Option<Placed<String>>,
    has_endpoint: bool,
    /// Comments around its header.
    above: Vec<String>,
    below: Vec<String>,
    /// Whether a setting was met, after which comments are none about the header.
    begun: bool,
}

struct Hook {
    kind: usize,
    command: String,
    line: usize,
}

impl Import<'_> {
    fn spot(&self, line: usize, key: &str) -> Spot {
        Spot::line(self.file, line, key)
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), ConfigError> {
        if line.code.is_empty() {
            if let Some(comment) = line.comment {
                self.comment(comment, line.number);
            } else {
                self.above.clear();
                self.plain(String::new(), line.number);
            }
            return Ok(());
        }
        let beside = line
            .comment
            .filter(|comment| !text::trim(comment).is_empty());
        if let Some(comment) = beside {
            self.plain(format!("#{}", printable(comment)), line.number);
        }
        if line.code.starts_with('[') {
            self.header(line)?;
            if let (Some(comment), Some(peer)) = (beside, self.peers.last_mut()) {
                peer.below.push(comment.to_owned());
            }
            return Ok(());
        }
        self.above.clear();
        self.setting(line)
    }

    fn comment(&mut self, comment: &str, line: usize) {
        let own = FOR_TALTUN.trim_start_matches('#').trim_end();
        if let Some(text) = comment.strip_prefix(own) {
            return self.own(text::trim(text), line);
        }
        self.above.push(comment.to_owned());
        if let (At::Peer, Some(peer)) = (self.at, self.peers.last_mut())
            && !peer.begun
        {
            peer.below.push(comment.to_owned());
        }
        self.plain(format!("#{}", printable(comment)), line);
    }

    fn plain(&mut self, text: String, line: usize) {
        match (self.at, self.peers.last_mut()) {
            (At::Top, _) => self.head.push(Placed::new(text, line)),
            (At::Peer, Some(peer)) => peer.section.plain(text, line),
            _ => self.interface.plain(text, line),
        }
    }

    fn own(&mut self, text: &str, line: usize) {
        let section = match (&self.other, self.at) {
            (Some(name), _) => name.clone(),
            (None, At::Top) => String::new(),
            (None, At::Interface { .. }) => "interface".to_owned(),
            (None, At::Peer) => "peers".to_owned(),
        };
        match own::read(text, &section) {
            Own::Header(header) => {
                self.other = Some(header.trim_matches(['[', ']']).to_owned());
                self.others.push(Placed::new(String::new(), line));
                self.others.push(Placed::new(header, line));
            }
            Own::Setting { key, line: setting } => {
                // A peer's name leads nowhere, and nearly all of ours have one.
                if key != "name" {
                    self.owned.push(Placed::new(key.clone(), line));
                }
                match (&self.other, self.at, self.peers.last_mut()) {
                    (Some(_), ..) => self.others.push(Placed::new(setting, line)),
                    (None, At::Peer, Some(peer)) => peer.section.own(key, setting, line),
                    _ => self.interface.own(key, setting, line),
                }
            }
            Own::Refused(why) => {
                let what = text.split('=').next().unwrap_or_default().trim();
                let what: String = what.chars().take(40).collect();
                let spot = self.spot(line, "");
                self.warnings
                    .push(spot.say(format!("the comment `# taltun: {what}` is left out: {why}")));
                self.plain(format!("# left out: {}", printable(text)), line);
            }
        }
    }

    fn header(&mut self, line: &Line<'_>) -> Result<(), ConfigError> {
        self.other = None;
        match compact(line.code).to_ascii_lowercase().as_str() {
            "[interface]" => {
                let by_wg_quick = line.code.eq_ignore_ascii_case("[interface]");
                self.at = At::Interface { by_wg_quick };
                if !self.has_interface {
                    self.interface.line = line.number;
                    self.has_interface = true;
                }
            }
            "[peer]" => {
                let above = std::mem::take(&mut self.above);
                let end = above.iter().rposition(|comment| names::is_end(comment));
                let skipped = end.map_or(0, |end| end.saturating_add(1));
                self.peers.push(Peer {
                    section: Section::new(line.number),
                    above: above.into_iter().skip(skipped).collect(),
                    ..Peer::default()
                });
                self.at = At::Peer;
            }
            _ => {
                let spot = self.spot(line.number, "");
                return Err(spot.error(format!(
                    "expected [Interface] or [Peer], found {:?}",
                    line.code
                )));
            }
        }
        self.above.clear();
        Ok(())
    }

    fn setting(&mut self, line: &Line<'_>) -> Result<(), ConfigError> {
        let Some((key, value)) = line.setting() else {
            let spot = self.spot(line.number, "");
            return Err(spot.error("expected Key = Value, [Interface] or [Peer]"));
        };
        // `wg` reads without any blanks, in the key as well.
        let word = compact(key).to_ascii_lowercase();
        match self.at {
            At::Top => {
                let spot = self.spot(line.number, key);
                Err(spot.error("expected [Interface] or [Peer] before it"))
            }
            At::Interface { by_wg_quick } => {
                if self.for_wg(&word, value, line.number)? {
                    return Ok(());
                }
                let known = self.for_wg_quick(&key.to_ascii_lowercase(), value, line.number);
                if known? {
                    return if by_wg_quick {
                        Ok(())
                    } else {
                        let spot = self.spot(line.number, key);
                        Err(spot.error("wg-quick needs [Interface] above it, without blanks"))
                    };
                }
                Err(refuse::unknown(
                    &self.spot(line.number, key),
                    &word,
                    "[Interface]",
                ))
            }
            At::Peer => self.for_peer(key, &word, &compact(value), line.number),
        }
    }

    /// Keys of `[Interface]` that are wg's.
    fn for_wg(&mut self, word: &str, value: &str, line: usize) -> Result<bool, ConfigError> {
        let value = compact(value);
        match word {
            "privatekey" => {
                let key = secret(&value, &self.spot(line, "PrivateKey"))?;
                self.interface.set("private_key", Some(key), line);
            }
            "listenport" => {
                let spot = self.spot(line, "ListenPort");
                let port: u16 = number(&value, &spot)?;
                let address = format!("\"[::]:{port}\"");
                self.interface.set("local_addr", Some(address), line);
            }
            "fwmark" => {
                let mark = mark(&value, &self.spot(line, "FwMark"))?;
                self.interface.set("fwmark", mark, line);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Keys of `[Interface]` that are wg-quick's.
    fn for_wg_quick(&mut self, word: &str, value: &str, line: usize) -> Result<bool, ConfigError> {
        let items = || {
            let parts = value.split(|c| c == ',' || text::is_space(c));
            parts.filter(|item| !item.is_empty())
        };
        match word {
            "address" => {
                for item in items() {
                    let spot = self.spot(line, "Address");
                    let net = address(item).ok_or_else(|| {
                        spot.error(format!(
                            "expected an address such as 10.0.0.2/32, found {item:?}"
                        ))
                    })?;
                    if !self.interface.nets.iter().any(|known| known.value == net) {
                        self.interface.add_net(net, line);
                    }
                }
            }
            "mtu" if value.is_empty() => self.interface.set("mtu", None, line),
            "mtu" => {
                let mtu: u16 = number(value, &self.spot(line, "MTU"))?;
                self.interface.set("mtu", Some(mtu.to_string()), line);
            }
            "dns" => {
                for item in items() {
                    let known = self.interface.list("dns");
                    if !known.iter().any(|known| known.value == item) {
                        self.interface.add("dns", item.to_owned(), line);
                    }
                }
            }
            "table" => self.table = Some(Placed::new(value.to_owned(), line)),
            "saveconfig" => match value.to_ascii_lowercase().as_str() {
                "false" => {}
                "true" => {
                    let spot = self.spot(line, "SaveConfig");
                    self.warnings.push(spot.say(
                        "Taltun never writes its configuration: what `wg set` changes is gone \
                         at the end, unless `taltun export` keeps it",
                    ));
                    let kept = format!("{FOR_WG_QUICK}SaveConfig = true");
                    self.interface.plain(kept, line);
                }
                _ => {
                    let spot = self.spot(line, "SaveConfig");
                    return Err(spot.error(format!("expected true or false, found {value:?}")));
                }
            },
            _ => {
                let mut kinds = HOOKS.iter().enumerate();
                let Some((kind, hook)) = kinds.find(|(_, (name, ..))| *name == word) else {
                    return Ok(false);
                };
                if !value.is_empty() {
                    self.hooks.push(Hook {
                        kind,
                        command: value.to_owned(),
                        line,
                    });
                    // Its place; what goes there is known at the end.
                    self.interface.add(hook.1, String::new(), line);
                }
            }
        }
        Ok(true)
    }

    fn for_peer(
        &mut self,
        key: &str,
        word: &str,
        value: &str,
        line: usize,
    ) -> Result<(), ConfigError> {
        let spot = self.spot(line, key);
        let Some(peer) = self.peers.last_mut() else {
            return Ok(());
        };
        peer.begun = true;
        let section = &mut peer.section;
        match word {
            "publickey" => {
                section.set("public_key", Some(secret(value, &spot)?), line);
                peer.public_key = Some(Placed::new(value.to_owned(), line));
            }
            "presharedkey" => section.set("preshared_key", Some(secret(value, &spot)?), line),
            "endpoint" => {
                section.set("endpoint", Some(endpoint(value, &spot)?), line);
                peer.has_endpoint = true;
            }
            "persistentkeepalive" => {
                let seconds: u16 = if value.eq_ignore_ascii_case("off") {
                    0
                } else {
                    number(value, &spot)?
                };
                let seconds = (seconds != 0).then(|| seconds.to_string());
                section.set("persistent_keepalive", seconds, line);
            }
            "allowedips" => {
                let mut empty = false;
                for item in value.split(',') {
                    if item.is_empty() {
                        empty = true;
                        continue;
                    }
                    let plain = item.strip_prefix('+').unwrap_or(item);
                    let net = network(plain).ok_or_else(|| {
                        spot.error(format!(
                            "expected networks such as 10.0.0.0/24 with commas between, found \
                             {item:?}"
                        ))
                    })?;
                    let masked = net.trunc() != net;
                    let net = net.trunc();
                    if masked {
                        self.warnings
                            .push(spot.say(format!("{item} is taken as {net}")));
                    }
                    if !section.nets.iter().any(|known| known.value == net) {
                        section.add_net(net, line);
                    }
                }
                if empty && !value.is_empty() {
                    self.warnings
                        .push(spot.say("nothing stands between two commas, or after the last one"));
                }
            }
            _ => return Err(refuse::unknown(&spot, word, "[Peer]")),
        }
        Ok(())
    }
}
