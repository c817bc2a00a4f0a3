//! The new text of a file for each kind of change, and what undoes it.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use ipnet::IpNet;
use taltun_usage::Day;
use zeroize::Zeroizing;

use super::addresses::Taken;
use super::client::{Whereabouts, access, whereabouts};
use crate::config::{self, Config, Edit, Mention, Peer, PeerEntry, PublicEndpoint, SharedKey};
use crate::control::inside::Inside;
use crate::control::request::{
    ClientWishes, NewPeer, PeerEdit, RemovePeer, RenamePeer, RotatePeer,
};
use crate::control::words;
use crate::crypto::{PresharedKey, PublicKey};
use crate::protocol::allowed_ips::canonical;
use crate::report::{self, ClientAccess, PeerEdited, Refused, Why};
use crate::secret::SecretText;
use crate::system::for_the_shell;

/// Networks with a shorter prefix stand for the whole internet or a part of it.
const WIDE: u8 = 8;
/// Keys of a peer that the command which adds it again has options for.
const GIVEN_BACK: &[&str] = &["name", "public_key", "vip", "allowed_ips", "expires"];

/// What there is before the change.
pub(super) struct Known<'a> {
    pub text: &'a str,
    /// What that means.
    pub config: &'a Config,
    pub inside: &'a Inside,
}

/// A text for the file, and what is told about it.
pub(super) type Changed = (Zeroizing<String>, PeerEdited);

/// Makes the text that is asked for.
pub(super) fn change(known: &Known<'_>, asked: &PeerEdit) -> Result<Changed, Refused> {
    let edit = Edit::of(known.text)?;
    match asked {
        PeerEdit::New(new) => known.add(&edit, new),
        PeerEdit::Remove(remove) => known.remove(&edit, remove),
        PeerEdit::Rename(rename) => known.rename(&edit, rename),
        PeerEdit::Rotate(rotate) => known.rotate(&edit, rotate),
        PeerEdit::Set(set) => known.set(&edit, set),
    }
}

impl Known<'_> {
    fn add(&self, edit: &Edit<'_>, new: &NewPeer) -> Result<Changed, Refused> {
        self.check_name(&new.name, None)?;
        let public_key = self.new_key(&new.public_key)?;
        let preshared_key = secret(new.preshared_key.as_ref())?;
        let expires = new.expires.as_deref();
        let expires = if new.file.is_there {
            // As it was, though that is past.
            expires.map(any_day).transpose()?
        } else {
            expires.map(day).transpose()?
        };
        let at = wanted_whereabouts(&new.file, self.config)?;
        let addresses = self.addresses(edit, new)?;
        self.check_networks(&new.allowed_ips)?;
        self.check_by_wg(public_key, &new.allowed_ips)?;
        let text = edit.with_peer(&PeerEntry {
            name: &new.name,
            public_key,
            preshared_key: preshared_key.as_ref(),
            vip: &addresses,
            allowed_ips: &new.allowed_ips,
            expires,
        })?;
        let (client, warning) = self.client(&addresses, at.as_ref(), &new.file)?;
        let own = addresses.iter().map(ToString::to_string);
        let told: Vec<String> = if addresses.is_empty() {
            new.allowed_ips.iter().map(ToString::to_string).collect()
        } else {
            own.collect()
        };
        let answer = PeerEdited {
            done: format!("added {} with {}", new.name, words::list(&told)),
            undo: format!("taltun peer remove {}", for_the_shell(&new.name)),
            client,
            warnings: Vec::from_iter(warning),
            ..self.answer(Some(&new.name), public_key)
        };
        Ok((text, answer))
    }

    fn remove(&self, edit: &Edit<'_>, asked: &RemovePeer) -> Result<Changed, Refused> {
        let peer = self.meant(&asked.peer)?;
        let key = peer.public_key;
        let is_meant = |word: &str| {
            peer.name.as_deref() == Some(word)
                || word.parse() == Ok(key)
                || address(word).is_some_and(|address| owns(peer, address))
        };
        let mentions = edit.mentions(is_meant);
        if !mentions.is_empty() {
            let places = listed(&mentions);
            let text = format!(
                "{} is named in {places}; change that and run `taltun reload` first (nothing was \
                 changed)",
                peer.label()
            );
            return Err(Refused::because(Why::Named(places), text));
        }
        let text = edit.without_peer(&key)?;
        let mut answer = PeerEdited {
            done: format!("removed {}", peer.label()),
            undo: add_again(peer),
            ..self.answer(peer.name.as_deref(), key)
        };
        // All zeros are none.
        let is_none = |key: &str| key == "preshared_key" && peer.preshared_key.is_none();
        let mut lost = edit.keys_of(&key);
        lost.retain(|key| !GIVEN_BACK.contains(&key.as_str()) && !is_none(key));
        match edit.comment_lines_of(&key) {
            0 => {}
            1 => lost.push("the comment above it, 1 line".to_owned()),
            lines => lost.push(format!("the comment above it, {lines} lines")),
        }
        if !lost.is_empty() {
            answer
                .warnings
                .push(format!("undoing doesn't restore {}", words::list(&lost)));
        }
        Ok((text, answer))
    }

    fn rename(&self, edit: &Edit<'_>, asked: &RenamePeer) -> Result<Changed, Refused> {
        let peer = self.running(&asked.peer)?;
        self.check_name(&asked.name, Some(peer))?;
        let old = peer.name.as_deref();
        let text = edit.renamed(&peer.public_key, old, &asked.name)?;
        let mentions = old.map(|old| edit.mentions(|word| word == old));
        let mentions = mentions.unwrap_or_default();
        let mut done = format!("{} is called {} from now on", peer.label(), asked.name);
        if !mentions.is_empty() {
            done.push_str(", also in ");
            done.push_str(&listed(&mentions));
        }
        let undo = old.map(|old| {
            format!(
                "taltun peer rename {} {}",
                for_the_shell(&asked.name),
                for_the_shell(old)
            )
        });
        let mut answer = PeerEdited {
            done,
            undo: undo.unwrap_or_default(),
            ..self.answer(Some(&asked.name), peer.public_key)
        };
        if old.is_none() {
            let warning = "no command undoes this: the peer had no name";
            answer.warnings.push(warning.to_owned());
        }
        Ok((text, answer))
    }

    fn rotate(&self, edit: &Edit<'_>, asked: &RotatePeer) -> Result<Changed, Refused> {
        let peer = self.running(&asked.peer)?;
        let mut by_wg = self.inside.by_wg.iter();
        if by_wg.any(|it| it.key == peer.public_key && it.differs) {
            return Err(format!(
                "`wg` changed {}, and other keys for it would undo that in the running tunnel; write it \
                 into the file or leave it, run `taltun reload`, and repeat the command (nothing was \
                 changed)",
                peer.label()
            )
            .into());
        }
        let new = self.new_key(&asked.public_key)?;
        let preshared_key = secret(asked.preshared_key.as_ref())?;
        let at = wanted_whereabouts(&asked.file, self.config)?;
        let shared = match &preshared_key {
            Some(key) => SharedKey::New(key),
            None if asked.without_preshared_key => SharedKey::None,
            None => SharedKey::Same,
        };
        let text = edit.with_key(&peer.public_key, &new, shared)?;
        let (client, warning) = self.client(&peer.vip, at.as_ref(), &asked.file)?;
        let had_one = !peer.preshared_key.is_none();
        let no_psk = if preshared_key.is_some() && !had_one {
            " --no-psk"
        } else {
            ""
        };
        let whom = peer.name.clone().unwrap_or_else(|| new.to_string());
        let mut answer = PeerEdited {
            done: format!(
                "{} has another key; the old one, {}, is refused from now on",
                peer.name.as_deref().unwrap_or("the peer"),
                peer.public_key
            ),
            undo: format!(
                "taltun peer rotate {} --public-key {} --no-file{no_psk}",
                for_the_shell(&whom),
                peer.public_key
            ),
            client,
            warnings: Vec::from_iter(warning),
            ..self.answer(peer.name.as_deref(), new)
        };
        if had_one && answer.client.is_some() && matches!(shared, SharedKey::Same) {
            let missing = "the preshared key stays as it was, and the file doesn't have it: add it \
                           there, or rotate with --psk for a new one";
            answer.warnings.push(missing.to_owned());
        }
        if had_one && !matches!(shared, SharedKey::Same) {
            let lost = "undoing doesn't restore the old preshared key";
            answer.warnings.push(lost.to_owned());
        }
        Ok((text, answer))
    }

    /// What a peer's file says, if one is to be made, and what is odd about it. It is for the hub as it
    /// runs, which may have another key than its file: that of its group, or one that `wg` set.
    fn client(
        &self,
        addresses: &[IpAddr],
        at: Option<&Whereabouts>,
        wishes: &ClientWishes,
    ) -> Result<(Option<ClientAccess>, Option<String>), Refused> {
        let Some(at) = at else {
            return Ok((None, None));
        };
        let Some(key) = &self.inside.public_key else {
            return Err(
                "this tunnel has no private key, as `wg` took it away; `taltun reload` brings back \
                 that of its file (nothing was changed)"
                    .into(),
            );
        };
        let filed = self.config.interface.private_key.public_key();
        let by_wg = filed != *key && self.inside.group_key != Some(*key);
        let odd = by_wg.then(|| {
            format!(
                "`wg` changed this hub's key: the peer's file has {key}, which holds until a reload or \
                 restart brings back {filed}"
            )
        });
        let client = access(addresses, at, wishes, self.config, key, self.inside.port);
        Ok((Some(client), odd))
    }

    /// Refuses networks that can't be behind a peer.
    pub(super) fn check_networks(&self, nets: &[IpNet]) -> Result<(), String> {
        let vips = &self.config.interface.vip;
        let public = self.config.host.public_endpoint.as_ref();
        for net in nets {
            let meant = canonical(*net);
            if meant.addr().is_ipv4() != net.addr().is_ipv4() {
                return Err(format!(
                    "{net} is a network of IPv4 written as IPv6; write {meant}"
                ));
            }
            if let Some(what) = of_no_peer(meant) {
                return Err(format!("{net} {what}, so it can't be behind a peer"));
            }
            let is_exactly = |address: IpAddr| IpNet::from(address) == meant;
            let is_in = |address: IpAddr| meant.prefix_len() >= WIDE && meant.contains(&address);
            let whose = if vips.iter().any(|vip| is_exactly(vip.addr())) {
                "this hub's own address"
            } else if self.inside.own.iter().any(|own| is_exactly(*own)) {
                "an address of this host"
            } else if public.and_then(PublicEndpoint::address).is_some_and(is_in) {
                if meant.prefix_len() < meant.max_prefix_len() {
                    return Err(format!(
                        "{net} has the address in it at which peers reach this hub \
                         (interface.public_endpoint), so it can't be behind a peer"
                    ));
                }
                "the address at which peers reach this hub (interface.public_endpoint)"
            } else {
                continue;
            };
            return Err(format!("{net} is {whose}, so it can't be behind a peer"));
        }
        Ok(())
    }

    /// Refuses networks of a peer that `wg` gave to another one.
    pub(super) fn check_by_wg(&self, key: PublicKey, nets: &[IpNet]) -> Result<(), String> {
        let others = self.inside.by_wg.iter().filter(|other| other.key != key);
        for other in others {
            let owned = |net: &&IpNet| other.nets.contains(&canonical(**net));
            if let Some(net) = nets.iter().find(owned) {
                let mut peers = self.config.peers.iter();
                let whose = peers.find(|peer| peer.public_key == other.key);
                let whose = whose.map_or_else(|| other.key.to_string(), Peer::label);
                return Err(format!(
                    "{net} belongs to {whose} in the running tunnel, as `wg` added or changed that peer; \
                     take it away there first (nothing was changed)"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn answer(&self, name: Option<&str>, public_key: PublicKey) -> PeerEdited {
        PeerEdited {
            version: report::VERSION,
            interface: self.config.interface.tun_name.clone(),
            name: name.map(str::to_owned),
            public_key: public_key.to_string(),
            done: String::new(),
            undo: String::new(),
            warnings: Vec::new(),
            client: None,
        }
    }

    /// The peer that is called so, or has this key.
    pub(super) fn meant(&self, text: &str) -> Result<&Peer, Refused> {
        let by_key = text.parse::<PublicKey>().ok();
        let mut meant = self.config.peers.iter().filter(|peer| match by_key {
            Some(key) => peer.public_key == key,
            None => peer.name.as_deref() == Some(text),
        });
        match (meant.next(), meant.next()) {
            (Some(peer), None) => Ok(peer),
            (Some(_), Some(_)) => {
                Err(format!("several peers are called {text:?}; give the public key of one").into())
            }
            (None, _) => Err(Refused::because(
                Why::NotInFile,
                format!(
                    "{} is no peer's name or key in the file; `taltun peer list` lists them",
                    words::quoted(text)
                ),
            )),
        }
    }

    /// The same, where it has to be in the running tunnel, too: nobody lets in a peer again by
    /// changing it that `wg` removed.
    pub(super) fn running(&self, text: &str) -> Result<&Peer, Refused> {
        let peer = self.meant(text)?;
        if self.inside.removed.contains(&peer.public_key) {
            let whom = peer.name.clone();
            let whom = whom.unwrap_or_else(|| peer.public_key.to_string());
            return Err(format!(
                "`wg` removed {} from the running tunnel; to let it in again, run `taltun reload` and \
                 repeat the command; to remove it from the file as well: `taltun peer remove {}` \
                 (nothing was changed)",
                peer.label(),
                for_the_shell(&whom)
            )
            .into());
        }
        Ok(peer)
    }

    /// Refuses what can't be the name of a peer that is renamed, or else is new, and what means something else
    /// already. Who adds a peer that is there may want its file or code again.
    fn check_name(&self, name: &str, renamed: Option<&Peer>) -> Result<(), Refused> {
        fit_for_a_peer(name).map_err(|text| Refused::because(Why::NameUnfit, text))?;
        let mut peers = self.config.peers.iter();
        match peers.find(|peer| peer.name.as_deref() == Some(name)) {
            Some(peer) if renamed.is_some_and(|it| it.public_key == peer.public_key) => {
                let text = format!("the peer is called {name:?} already ({})", peer.origin);
                Err(Refused::because(Why::NameTaken, text))
            }
            Some(peer) => {
                let mut text = format!(
                    "a peer is called {name:?} already ({}); take another name",
                    peer.origin
                );
                if renamed.is_none() {
                    let name = for_the_shell(name);
                    let _ = write!(
                        text,
                        "; if it is that peer, which needs a file or a code again, give it new \
                         keys: `taltun peer rotate {name}`"
                    );
                }
                Err(Refused::because(Why::NameTaken, text))
            }
            None => Ok(()),
        }
    }

    /// A key that no peer has.
    fn new_key(&self, text: &str) -> Result<PublicKey, String> {
        let key: PublicKey = text
            .parse()
            .map_err(|error| format!("public key {text:?}: {error}"))?;
        if !key.is_usable() {
            return Err(format!("{key} is no key that a peer can have"));
        }
        let filed = self.config.interface.private_key.public_key();
        if filed == key || self.inside.public_key == Some(key) {
            return Err(format!("{key} is this hub's own key"));
        }
        if let Some(peer) = self.config.peers.iter().find(|peer| peer.public_key == key) {
            return Err(match &peer.name {
                Some(name) => format!("{name} has this key already ({})", peer.origin),
                None => format!("a peer has this key already ({})", peer.origin),
            });
        }
        if self.inside.by_wg.iter().any(|it| it.key == key) {
            return Err(format!(
                "`wg` added a peer with the key {key}, which isn't in the file; remove it there first"
            ));
        }
        Ok(key)
    }

    /// The addresses that are wished, if nobody has them, or else the next free ones.
    fn addresses(&self, edit: &Edit<'_>, new: &NewPeer) -> Result<Vec<IpAddr>, Refused> {
        let vips = &self.config.interface.vip;
        let wished = new.addresses.iter().map(IpAddr::to_canonical);
        let wished: Vec<IpAddr> = wished.collect();
        for (at, address) in wished.iter().enumerate() {
            if wished.iter().take(at).any(|before| before == address) {
                return Err(format!("{address} is given twice").into());
            }
            if let Some(peer) = self.config.peers.iter().find(|it| owns(it, *address)) {
                return Err(format!("{address} is {}'s ({})", peer.label(), peer.origin).into());
            }
            if vips.iter().any(|vip| vip.addr() == *address) {
                return Err(format!("{address} is this hub's own address").into());
            }
            if self.inside.own.contains(address) {
                return Err(format!("{address} is an address of this host").into());
            }
            if self.inside.hubs.contains(address) {
                return Err(format!("{address} is another hub's address").into());
            }
            if let Some(what) = of_no_host(*address, vips) {
                return Err(format!("{address} is {what}, so no peer can have it").into());
            }
        }
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = wished.iter().partition(|it| it.is_ipv4());
        for (family, all) in [("IPv4", v4), ("IPv6", v6)] {
            // What is undone may have had several.
            if let [first, second, ..] = &all[..]
                && !new.file.is_there
            {
                return Err(format!(
                    "{first} and {second} are both of {family}; give one address of each family, \
                     and others as networks behind the peer: --allowed {second}"
                )
                .into());
            }
        }
        let by_wg = self.inside.by_wg.iter().flat_map(|it| &it.nets);
        let mut taken = Taken::default();
        taken.add(by_wg.map(IpNet::trunc));
        if let Some(address) = wished.iter().find(|address| taken.has(**address)) {
            return Err(format!("{address} is a peer's that `wg` added").into());
        }
        if !wished.is_empty() {
            return Ok(wished);
        }
        if new.file.is_there {
            // Nobody tells it another one.
            return if new.allowed_ips.is_empty() {
                Err("a peer that has its file has addresses; give them by --address".into())
            } else {
                Ok(wished)
            };
        }
        let owned = self.config.peers.iter().flat_map(|peer| &peer.allowed_ips);
        taken.add(owned.map(IpNet::trunc));
        taken.add(self.inside.own.iter().copied().map(IpNet::from));
        taken.add(self.inside.hubs.iter().copied().map(IpNet::from));
        // Whoever had it before is banned, or may do what a rule says.
        taken.add(self.inside.banned.iter().copied());
        let named = edit.mentions(|word| address(word).is_some());
        taken.add(
            named
                .iter()
                .filter_map(|it| address(&it.word))
                .map(IpNet::from),
        );
        taken.next_free(vips)
    }
}

/// Whether a peer has exactly this address.
fn owns(peer: &Peer, address: IpAddr) -> bool {
    peer.vip.contains(&address) || peer.allowed_ips.contains(&IpNet::from(address))
}

/// What a network is that nothing is routed to.
fn of_no_peer(net: IpNet) -> Option<&'static str> {
    let address = net.addr();
    let (is_linked, is_nothing) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast() || v4.octets()[0] == 0),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.is_unspecified()),
    };
    if address.is_multicast() {
        Some("is for multicast")
    } else if net.prefix_len() < WIDE {
        // All there is, or a half of it.
        None
    } else if address.is_loopback() {
        Some("is each machine's own (loopback)")
    } else if is_linked {
        Some("never leaves its link")
    } else if is_nothing {
        Some("has no address of a host")
    } else {
        None
    }
}

/// What an address is that no single host has, where our vips are these.
fn of_no_host(address: IpAddr, vips: &[IpNet]) -> Option<String> {
    let is_everybodys = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || is_everybodys {
        return Some("no address of a host".to_owned());
    }
    vips.iter().find_map(|vip| {
        let (IpNet::V4(net), IpAddr::V4(own)) = (vip, address) else {
            return None;
        };
        if net.prefix_len() >= 31 || !net.contains(&own) {
            return None;
        }
        if own == net.broadcast() {
            Some(format!("the broadcast address of {}", vip.trunc()))
        } else if own == net.network() {
            Some(format!("the address of the network {}", vip.trunc()))
        } else {
            None
        }
    })
}

/// Why a text isn't for a peer to be called, if it isn't.
fn fit_for_a_peer(name: &str) -> Result<(), String> {
    config::peer_name(name)?;
    if name.trim() != name {
        return Err(format!(
            "expected a name without spaces at its ends, found {name:?}"
        ));
    }
    if ["any", "hub"].contains(&name) || name.starts_with('-') {
        return Err(format!(
            "{name:?} can't be a peer's name here; take another one"
        ));
    }
    let is_address = name.parse::<IpNet>().is_ok() || name.parse::<IpAddr>().is_ok();
    if is_address || name.parse::<PublicKey>().is_ok() {
        return Err(format!(
            "a peer can't be called {name:?}, as that is an address or a key; give it a name"
        ));
    }
    Ok(())
}

/// The one address that a word means.
fn address(word: &str) -> Option<IpAddr> {
    if let Ok(address) = word.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(address);
    }
    let net: IpNet = word.parse().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// Places, in a list.
fn listed(mentions: &[Mention]) -> String {
    let places: Vec<String> = mentions
        .iter()
        .map(|mention| format!("{} (line {})", mention.what, mention.line))
        .collect();
    words::list(&places)
}

/// A preshared key, if one is given.
fn secret(text: Option<&SecretText>) -> Result<Option<PresharedKey>, String> {
    let Some(text) = text else { return Ok(None) };
    let key: PresharedKey = text
        .as_str()
        .parse()
        .map_err(|error| format!("the preshared key is {error}"))?;
    if key.is_none() {
        return Err("a preshared key of zeros means none; leave it out".to_owned());
    }
    Ok(Some(key))
}

/// A last day, be it past or not.
fn any_day(text: &str) -> Result<Day, Refused> {
    let day = text.parse();
    day.map_err(|error| Refused::because(Why::DayUnfit, format!("expires: {error}")))
}

/// A last day that isn't past.
pub(super) fn day(text: &str) -> Result<Day, Refused> {
    let day = any_day(text)?;
    if day < Day::at(UNIX_EPOCH.elapsed().unwrap_or_default()) {
        return Err(Refused::because(
            Why::DayUnfit,
            format!("{day} is past, so the peer would be refused at once; give a later day"),
        ));
    }
    Ok(day)
}

/// Where clients reach this host; `None` if no file is to be made that says so.
fn wanted_whereabouts(
    wishes: &ClientWishes,
    config: &Config,
) -> Result<Option<Whereabouts>, Refused> {
    if wishes.is_there {
        return Ok(None);
    }
    whereabouts(wishes, config).map(Some)
}

/// The command that adds a peer again.
fn add_again(peer: &Peer) -> String {
    let name = match (&peer.name, peer.vip.first()) {
        (Some(name), _) => for_the_shell(name),
        (None, Some(vip)) => format!("peer-{}", vip.to_string().replace(['.', ':'], "-")),
        (None, None) => "peer".to_owned(),
    };
    let mut command = format!(
        "taltun peer new {name} --public-key {} --no-file",
        peer.public_key
    );
    for vip in &peer.vip {
        let _ = write!(command, " --address {vip}");
    }
    let vips: Vec<IpNet> = peer.vip.iter().copied().map(IpNet::from).collect();
    for net in peer.allowed_ips.iter().filter(|net| !vips.contains(net)) {
        let _ = write!(command, " --allowed {net}");
    }
    if let Some(day) = peer.limits.expires {
        let _ = write!(command, " --expires {day}");
    }
    command
}
