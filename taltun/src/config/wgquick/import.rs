//! From a wg-quick file to TOML.
//!
//! The rules are those of `wg setconf` and `wg-quick up`, which share the file: keys in any
//! case, the last of equal ones counts while lists add up, sections may come back, and a
//! prefix moves to the last peer that names it. What they refuse is refused, and so is what
//! Taltun can't do, always with the file that was given and its line.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::own::{self, Own};
use super::section::{Placed, Section, Value};
use super::text::{self, Line, compact, printable};
use super::{FOR_TALTUN, FOR_WG_QUICK, commands, names, refuse};
use crate::config;
use crate::config::error::{ConfigError, Spot};

/// What an interface is called whose file has no name for it.
const MADE_UP: &str = "taltun0";
/// Stands for the file while the outcome is checked; no file is called so.
const OUTCOME: &str = "\u{1}";
/// A key for the check where the real one is in a file, perhaps of another machine.
const ANY_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=";
/// An address for the check where there is none.
const ANY_ADDRESS: &str = "192.0.2.254/32";

/// Routes that one command makes.
const MANY_ROUTES: usize = 500;

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
                self.peers.push(Peer {
                    section: Section::new(line.number),
                    above: above[end.map_or(0, |end| end + 1)..].to_vec(),
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
                let Some(kind) = HOOKS.iter().position(|(name, ..)| *name == word) else {
                    return Ok(false);
                };
                if !value.is_empty() {
                    self.hooks.push(Hook {
                        kind,
                        command: value.to_owned(),
                        line,
                    });
                    // Its place; what goes there is known at the end.
                    self.interface.add(HOOKS[kind].1, String::new(), line);
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

    fn finish(mut self, tun_name: Option<&str>) -> Result<Imported, ConfigError> {
        let name = self.name(tun_name);
        self.move_prefixes();
        self.check_keys()?;
        self.name_peers();
        let is_server = self.peers.is_empty() || self.peers.iter().any(|peer| !peer.has_endpoint);
        let routes = self.routes(&name)?;
        let key_file = self.place_hooks(&name, is_server)?;
        self.check_dns();
        self.tell_owned();

        let mode = if is_server { "server" } else { "client" };
        let text = |text: &str| Value::One(format!("{text:?}"));
        let mut defaults = vec![
            ("mode", text(mode)),
            ("tun_name", text(&name)),
            ("local_addr", text("[::]:0")),
        ];
        if !routes.is_empty() {
            defaults.push(("routes", Value::List(routes)));
        }
        if !self.hooks.is_empty() {
            defaults.push(("shell", text("bash")));
        }
        if self.interface.value("private_key").is_none() {
            let Some(file) = &key_file else {
                let line = self.interface.line.max(1);
                return Err(self.spot(line, "PrivateKey").error(
                    "missing in [Interface]; Taltun needs the key before it starts: add \
                     PrivateKey, or PostUp = wg set %i private-key /path/of/a/file",
                ));
            };
            defaults.push(("private_key_file", text(file)));
        }
        self.check(&defaults)?;
        if self.interface.nets.is_empty() && self.interface.value("vip").is_none() {
            let spot = self.spot(self.interface.line.max(1), "Address");
            self.warnings.push(spot.say(
                "missing; Taltun doesn't start without: add vip = \"…\" to [interface], this \
                 machine's address in the tunnel",
            ));
        }
        let lines = self.render(&defaults, false);
        let mut toml = Zeroizing::new(String::new());
        for line in lines {
            toml.push_str(&line.value);
            toml.push('\n');
        }
        Ok(Imported {
            toml,
            warnings: self.warnings,
            notes: self.notes,
        })
    }

    /// What the interface is called.
    fn name(&mut self, tun_name: Option<&str>) -> String {
        if let Some((line, number)) = self.interface.value("tun_name") {
            let table = line.parse::<toml::Table>().unwrap_or_default();
            let own = table.get("tun_name").and_then(toml::Value::as_str);
            if let Some(own) = own.and_then(super::interface_name) {
                return own;
            }
            let spot = self.spot(number, "tun_name");
            self.warnings
                .push(spot.say("no name that wg-quick would take; another is used"));
            self.interface.own(
                "tun_name".to_owned(),
                format!("tun_name = {MADE_UP:?}"),
                number,
            );
            return MADE_UP.to_owned();
        }
        if let Some(name) = tun_name.and_then(super::interface_name) {
            return name;
        }
        self.warnings.push(Spot::file(self.file).say(format!(
            "the interface is called {MADE_UP}, as the file's name is none for an interface (1 \
             to 15 letters, digits and _ = + . -); change tun_name if you like"
        )));
        MADE_UP.to_owned()
    }

    /// A prefix belongs to the last peer that names it.
    fn move_prefixes(&mut self) {
        let mut owners: HashMap<IpNet, (usize, usize)> = HashMap::new();
        for (place, peer) in self.peers.iter().enumerate() {
            for net in &peer.section.nets {
                owners.insert(net.value, (place, net.line));
            }
        }
        let mut moved = Vec::new();
        for (place, peer) in self.peers.iter_mut().enumerate() {
            peer.section.nets.retain(|net| {
                let owner = owners.get(&net.value).copied();
                let (owner, line) = owner.unwrap_or((place, net.line));
                if owner != place {
                    moved.push((net.line, net.value, line));
                }
                owner == place
            });
        }
        for (line, net, later) in moved {
            let spot = self.spot(line, "AllowedIPs");
            self.warnings.push(spot.say(format!(
                "{net} goes to the peer that names it last (line {later}), as with wg; left out here"
            )));
        }
    }

    fn check_keys(&self) -> Result<(), ConfigError> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for peer in &self.peers {
            let Some(key) = &peer.public_key else {
                let spot = self.spot(peer.section.line, "PublicKey");
                return Err(spot.error("missing in this [Peer]"));
            };
            if let Some(first) = seen.insert(&key.value, key.line) {
                return Err(self.spot(key.line, "PublicKey").error(format!(
                    "the peer of line {first} has this key, too, and wg would keep one peer with \
                     the AllowedIPs of the last. If they are one machine, put all its AllowedIPs \
                     into one [Peer]; if they are two, give each a key pair of its own"
                )));
            }
        }
        Ok(())
    }

    fn name_peers(&mut self) {
        let mut taken = HashSet::new();
        for peer in &mut self.peers {
            if peer.section.value("name").is_some() {
                continue;
            }
            let above: Vec<&str> = peer.above.iter().map(String::as_str).collect();
            let below: Vec<&str> = peer.below.iter().map(String::as_str).collect();
            if let Some(name) = names::find(&above, &below).filter(|name| !taken.contains(name)) {
                let line = peer.section.line;
                let quoted = toml::Value::String(name.clone()).to_string();
                peer.section.set("name", Some(quoted), line);
                taken.insert(name);
            }
        }
    }

    /// What wg-quick leads into the tunnel by itself. Those of another table are commands, as
    /// they are with wg-quick.
    fn routes(&mut self, name: &str) -> Result<Vec<Placed<String>>, ConfigError> {
        let nets: Vec<Placed<IpNet>> = self
            .peers
            .iter()
            .flat_map(|peer| &peer.section.nets)
            .map(|net| Placed::new(net.value, net.line))
            .collect();
        let table = self.table.as_ref().map(|table| table.value.clone());
        match table.as_deref().unwrap_or_default() {
            "" | "auto" => {
                // The kernel makes those of our own addresses.
                let connected = |net: &IpNet| {
                    let own = self.interface.nets.iter().map(|own| own.value.trunc());
                    own.into_iter().any(|own| own.contains(net))
                };
                let wanted = nets.iter().filter(|net| !connected(&net.value));
                Ok(wanted
                    .map(|net| Placed::new(net.value.to_string(), net.line))
                    .collect())
            }
            "off" => Ok(Vec::new()),
            table => {
                let line = self.table.as_ref().map_or(0, |table| table.line);
                let spot = self.spot(line, "Table");
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
                let odd = ["off", "auto"].contains(&table.to_ascii_lowercase().as_str());
                if odd || table.starts_with('-') || !table.bytes().all(plain) {
                    return Err(spot.error(format!(
                        "expected off, auto, or the number or name of a table, found {table:?}"
                    )));
                }
                let commands: Vec<String> = nets
                    .iter()
                    .map(|net| {
                        let family = if net.value.addr().is_ipv4() { 4 } else { 6 };
                        format!(
                            "ip -{family} route add {} dev {name} table {table}",
                            net.value
                        )
                    })
                    .collect();
                if !commands.is_empty() {
                    self.notes.push(spot.say(format!(
                        "the routes into table {table} are made by commands in on_up"
                    )));
                    self.interface.add("on_up", String::new(), line);
                }
                // Before all others, which may need them; the kernel limits how long one is.
                let hooks = commands.chunks(MANY_ROUTES).map(|commands| Hook {
                    kind: 1,
                    command: commands.join(" && "),
                    line,
                });
                self.hooks.splice(0..0, hooks);
                Ok(Vec::new())
            }
        }
    }

    /// Fills in the commands, and finds the file that one of them reads the key from.
    fn place_hooks(&mut self, name: &str, is_server: bool) -> Result<Option<String>, ConfigError> {
        let mut key_file = None;
        let has_key = self.interface.value("private_key").is_some();
        for hook in &mut self.hooks {
            hook.command = hook.command.replace("%i", name);
        }
        let mut hooks = std::mem::take(&mut self.hooks);
        if !has_key {
            for at in (0..hooks.len()).rev() {
                let hook = &hooks[at];
                let found = commands::key_file(&hook.command, name).filter(|_| hook.kind == 1);
                match found {
                    Some(Ok((file, whole))) if key_file.is_none() => {
                        let spot = self.spot(hook.line, "PostUp");
                        self.notes
                            .push(spot.say(format!("the private key is read from {file}")));
                        key_file = Some(file);
                        if whole {
                            hooks.remove(at);
                        }
                    }
                    Some(Err(())) if key_file.is_none() => {
                        return Err(self.spot(hook.line, "PostUp").error(
                            "Taltun needs the private key before it starts: write it to a file \
                             that only root can read, and name that file here, by its whole path",
                        ));
                    }
                    _ => {}
                }
            }
        }
        for (kind, (_, list, when)) in HOOKS.iter().enumerate() {
            let commands: Vec<&Hook> = hooks.iter().filter(|hook| hook.kind == kind).collect();
            for hook in &commands {
                let spot = self.spot(hook.line, "");
                self.notes
                    .push(spot.say(format!("root runs this {when} ({list}): {}", hook.command)));
                let apart = is_server && kind < 2 && commands::keeps_apart(&hook.command);
                if apart && !self.peers.is_empty() {
                    self.warnings.push(self.spot(hook.line, "").say(APART));
                }
            }
            let texts = commands.iter();
            let texts = texts.map(|hook| Placed::new(hook.command.clone(), hook.line));
            self.interface.fill(list, texts.collect());
        }
        self.hooks = hooks;
        Ok(key_file)
    }

    /// wg-quick leaves the resolver alone without a name server.
    fn check_dns(&mut self) {
        let list = self.interface.list("dns");
        let is_server = |item: &Placed<String>| {
            let digits = item.value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            digits || item.value.contains(':')
        };
        if let Some(first) = list.first()
            && !list.iter().any(is_server)
        {
            let spot = self.spot(first.line, "DNS");
            self.warnings.push(spot.say(
                "left out: without the address of a name server, domains to search do nothing, \
                 as with wg-quick",
            ));
            self.interface.forget("dns");
        }
    }

    fn tell_owned(&mut self) {
        let Some(first) = self.owned.first() else {
            return;
        };
        let keys: Vec<&str> = self.owned.iter().map(|key| key.value.as_str()).collect();
        let spot = self.spot(first.line, "");
        self.notes.push(spot.say(format!(
            "settings from comments `# taltun: …`, which wg-quick doesn't read: {}",
            keys.join(", ")
        )));
    }

    /// The lines of the outcome; `for_check` with all that the check needs.
    fn render(&self, defaults: &[(&'static str, Value)], for_check: bool) -> Vec<Placed<String>> {
        let copy = |placed: &Placed<String>| Placed::new(placed.value.clone(), placed.line);
        let mut out: Vec<_> = self.head.iter().map(copy).collect();
        let line = self.interface.line.max(1);
        out.push(Placed::new("[interface]".to_owned(), line));
        if for_check {
            if self.interface.value("private_key").is_none() {
                out.push(Placed::new(format!("private_key = {ANY_KEY:?}"), line));
            }
            if self.interface.nets.is_empty() && self.interface.value("vip").is_none() {
                out.push(Placed::new(format!("vip = {ANY_ADDRESS:?}"), line));
            }
        }
        self.interface.write(&mut out, "vip", defaults, for_check);
        for peer in &self.peers {
            let section = &peer.section;
            out.push(Placed::new("[[peers]]".to_owned(), section.line));
            section.write(&mut out, "allowed_ips", &[], for_check);
        }
        out.extend(self.others.iter().map(copy));
        out
    }

    /// What Taltun refuses, or finds odd, is said with the line of the file that was given.
    fn check(&mut self, defaults: &[(&'static str, Value)]) -> Result<(), ConfigError> {
        let keyless: Vec<(&'static str, Value)> = defaults
            .iter()
            .filter(|(key, _)| *key != "private_key_file")
            .map(|(key, value)| (*key, value.copy()))
            .collect();
        let lines = self.render(&keyless, true);
        let mut toml = Zeroizing::new(String::new());
        for line in &lines {
            toml.push_str(&line.value);
            toml.push('\n');
        }
        let place = |line: usize| lines.get(line.wrapping_sub(1)).map_or(1, |line| line.line);
        let translate = |message: &str| refuse::translate(message, OUTCOME, self.file, place);
        match config::parse(&toml, OUTCOME) {
            Ok(loaded) => {
                let said = loaded.warnings.iter().map(|warning| translate(warning));
                self.warnings.extend(said.collect::<Vec<_>>());
                Ok(())
            }
            Err(error) => Err(ConfigError::from_line(translate(&error.to_string()))),
        }
    }
}

/// Said of a hub whose own firewall keeps its peers apart.
const APART: &str = "this keeps packets from going from one peer to another, but a server of \
                     Taltun's relays between its peers by itself, and no firewall sees that";

/// A base64 text, in TOML. It may be a secret, and isn't repeated.
fn secret(value: &str, spot: &Spot) -> Result<String, ConfigError> {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    if value.len() == 44 && value.bytes().all(base64) {
        Ok(format!("\"{value}\""))
    } else {
        Err(spot.error("expected a key of 44 base64 characters"))
    }
}

fn number<T: std::str::FromStr>(value: &str, spot: &Spot) -> Result<T, ConfigError> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| spot.error(format!("expected a number up to 65535, found {value:?}")))
}

/// The mark, as TOML writes it; `None` for none.
fn mark(text: &str, spot: &Spot) -> Result<Option<String>, ConfigError> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let number = match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    };
    match number {
        Some(0) => Ok(None),
        Some(mark) if text.starts_with("0x") => Ok(Some(format!("{mark:#x}"))),
        Some(mark) => Ok(Some(mark.to_string())),
        None => Err(spot.error(format!(
            "expected off or a number up to 0xffffffff, found {text:?}"
        ))),
    }
}

/// A network as `wg` reads it: without a length it is a single address.
fn network(text: &str) -> Option<IpNet> {
    let Some((address, bits)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: u8 = bits.parse().ok().filter(|_| digits)?;
    IpNet::new(address.parse().ok()?, bits).ok()
}

/// An address of ours, as `ip address add` reads it: without a length it is a single one, and
/// an IPv4 one may have its mask written out.
fn address(text: &str) -> Option<IpNet> {
    let Some((address, mask)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = match mask.parse::<IpAddr>() {
        Ok(mask) if address.is_ipv4() => ipnet::ip_mask_to_prefix(mask).ok()?,
        Ok(_) => return None,
        // `ip` takes 024 for octal.
        Err(_) if mask.len() > 1 && mask.starts_with('0') => return None,
        Err(_) => return network(text),
    };
    IpNet::new(address, bits).ok()
}

/// `HOST:PORT`, in TOML. An IPv6 address may stand without brackets, anything may stand in
/// them.
fn endpoint(value: &str, spot: &Spot) -> Result<String, ConfigError> {
    let expected = || {
        spot.error(format!(
            "expected HOST:PORT such as 203.0.113.1:51820, [2001:db8::1]:51820 or \
             vpn.example.org:51820, found {value:?}"
        ))
    };
    let (host, port) = value.rsplit_once(':').ok_or_else(expected)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port: u16 = number(port, spot).map_err(|_| expected())?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(expected());
    }
    if host.contains(':') {
        let address: std::net::Ipv6Addr = host.parse().map_err(|_| expected())?;
        return Ok(format!("\"[{address}]:{port}\""));
    }
    Ok(format!("\"{host}:{port}\""))
}
