//! What takes the whole of a wg-quick file: who owns a prefix, what is routed, which commands
//! run, and whether Taltun can run the outcome.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::super::section::{Placed, Value};
use super::super::{commands, interface_name, names, refuse};
use super::{HOOKS, Hook, Import, Imported};
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

/// Said of a hub whose own firewall keeps its peers apart.
const NOT_RELAYED: &str = "this keeps packets from going from one peer to another: relay = false \
                           hands what peers send to each other to the kernel, so that it still \
                           does, and ip_forward = true lets the kernel forward the rest";

impl Import<'_> {
    pub(super) fn finish(mut self, tun_name: Option<&str>) -> Result<Imported, ConfigError> {
        let name = self.name(tun_name);
        self.move_prefixes();
        self.check_keys()?;
        self.name_peers();
        self.keep_endpoints();
        let is_server = self.peers.is_empty() || self.peers.iter().any(|peer| !peer.has_endpoint);
        let routes = self.routes(&name)?;
        let key_file = self.place_hooks(&name)?;
        let apart = self.tell_kept_apart(is_server);
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
        if apart {
            defaults.push(("relay", Value::One("false".to_owned())));
            // Which takes a kernel that forwards: the old host was told so elsewhere.
            defaults.push(("ip_forward", Value::One("true".to_owned())));
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
            if let Some(own) = own.and_then(interface_name) {
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
        if let Some(name) = tun_name.and_then(interface_name) {
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

    /// A comment may name several endpoints, the one for wg-quick among them.
    fn keep_endpoints(&mut self) {
        for peer in &mut self.peers {
            if peer.section.value("endpoints").is_some() {
                peer.section.set("endpoint", None, 0);
            }
        }
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
    fn place_hooks(&mut self, name: &str) -> Result<Option<String>, ConfigError> {
        let mut key_file = None;
        let has_key = self.interface.value("private_key").is_some();
        for hook in &mut self.hooks {
            hook.command = hook.command.replace("%i", name);
        }
        let mut hooks = std::mem::take(&mut self.hooks);
        if !has_key {
            for at in (0..hooks.len()).rev() {
                let Some(hook) = hooks.get(at) else {
                    continue;
                };
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
            }
            let texts = commands.iter();
            let texts = texts.map(|hook| Placed::new(hook.command.clone(), hook.line));
            self.interface.fill(list, texts.collect());
        }
        self.hooks = hooks;
        Ok(key_file)
    }

    /// Whether commands keep the peers of a hub apart.
    fn tell_kept_apart(&mut self, is_server: bool) -> bool {
        let apart = |hook: &&Hook| hook.kind < 2 && commands::keeps_apart(&hook.command);
        if !is_server || self.peers.is_empty() {
            return false;
        }
        let hooks = self.hooks.iter().filter(apart);
        let lines: Vec<usize> = hooks.map(|hook| hook.line).collect();
        for line in &lines {
            self.warnings.push(self.spot(*line, "").say(NOT_RELAYED));
        }
        !lines.is_empty()
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
            Err(error) => {
                let lines: Vec<String> = error.to_string().lines().map(translate).collect();
                Err(ConfigError::from_line(&lines.join("\n")))
            }
        }
    }
}
