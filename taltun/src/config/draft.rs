//! A configuration as it was written: each value understood, nothing yet compared with
//! anything else. A file fills it, flags override it, `rules` makes a [`Config`] of it.
//!
//! [`Config`]: super::Config

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

use super::document::{Document, Field, Section};
use super::error::{ConfigError, Spot};
use super::{
    Accel, Dataplane, Dns, Domain, Endpoint, Hooks, HostSettings, MAX_BANS, Masquerade, Mode,
    permissions, reference, values,
};
use crate::crypto::{PresharedKey, PrivateKey, PublicKey};

/// Handshake initiations a second from one source, where the file doesn't say.
const HANDSHAKES_PER_SECOND: u32 = 20;
/// The largest file with a key, bytes.
const LARGEST_KEY: u64 = 64 << 10;

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Written<T> {
    pub(super) value: T,
    pub(super) spot: Spot,
}

/// Everything that was written.
pub(super) struct Draft {
    /// Where `[interface]` is, or what stands in its place: what is missing is missed there.
    pub(super) spot: Spot,
    pub(super) mode: Option<Mode>,
    pub(super) tun_name: Option<String>,
    pub(super) vip: Vec<Written<IpNet>>,
    pub(super) local_addr: Option<SocketAddr>,
    pub(super) private_key: Option<PrivateKey>,
    pub(super) mtu: Option<Written<u16>>,
    pub(super) routes: Vec<Written<IpNet>>,
    pub(super) debug: bool,
    pub(super) peers: Vec<PeerDraft>,
    pub(super) accel: Accel,
    pub(super) dataplane: Dataplane,
    pub(super) host: HostSettings,
    /// Where the keys of `host` are written, by their names.
    pub(super) host_spots: BTreeMap<&'static str, Spot>,
    pub(super) hooks: Hooks,
    pub(super) dns_routes: Option<DnsRoutesDraft>,
    pub(super) warnings: Vec<String>,
}

/// `[dns_routes]`, as it was written: its peer by name or key.
pub(super) struct DnsRoutesDraft {
    pub(super) domains: Vec<Domain>,
    pub(super) via: Written<String>,
    pub(super) upstream: Vec<IpAddr>,
    pub(super) keep: u32,
}

/// One of `[[peers]]`, as it was written.
pub(super) struct PeerDraft {
    pub(super) spot: Spot,
    pub(super) name: Option<String>,
    pub(super) public_key: Written<PublicKey>,
    pub(super) preshared_key: PresharedKey,
    pub(super) vip: Vec<Written<IpAddr>>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) allowed_ips: Vec<Written<IpNet>>,
    pub(super) persistent_keepalive: Option<u16>,
}

impl Draft {
    /// Nothing written yet; what is missing will be missed at `spot`.
    pub(super) fn empty(spot: Spot) -> Self {
        Self {
            spot,
            mode: None,
            tun_name: None,
            vip: Vec::new(),
            local_addr: None,
            private_key: None,
            mtu: None,
            routes: Vec::new(),
            debug: false,
            peers: Vec::new(),
            accel: Accel {
                interfaces: Vec::new(),
                xdp: super::XdpMode::default(),
                af_xdp: super::AfXdp::default(),
                af_xdp_busy_poll: false,
                deny: Vec::new(),
                deny_inner: Vec::new(),
                handshakes_per_second: HANDSHAKES_PER_SECOND,
            },
            dataplane: Dataplane::default(),
            host: HostSettings::default(),
            host_spots: BTreeMap::new(),
            hooks: Hooks::default(),
            dns_routes: None,
            warnings: Vec::new(),
        }
    }

    /// What `document`, the contents of `file`, says.
    pub(super) fn read(document: &Document, file: &str) -> Result<Self, ConfigError> {
        document.allow_only(&[
            "interface",
            "peers",
            "accel",
            "dataplane",
            "nat",
            "dns_routes",
        ])?;
        let mut draft = Self::empty(Spot::file(file));
        if let Some(section) = document.section("interface")? {
            draft.read_interface(&section, file)?;
        }
        let keys = reference::names("peers");
        document.each_section("peers", |section| {
            section.allow_only(&keys)?;
            let peer = draft.read_peer(section)?;
            draft.peers.push(peer);
            Ok(())
        })?;
        if let Some(section) = document.section("accel")? {
            draft.read_accel(&section)?;
        }
        if let Some(section) = document.section("dataplane")? {
            draft.read_dataplane(&section)?;
        }
        if let Some(section) = document.section("nat")? {
            draft.read_nat(&section)?;
        }
        if let Some(section) = document.section("dns_routes")? {
            draft.dns_routes = Some(read_dns_routes(&section)?);
        }
        Ok(draft)
    }

    fn read_interface(&mut self, section: &Section, file: &str) -> Result<(), ConfigError> {
        section.allow_only(&reference::names("interface"))?;
        self.spot = section.spot("");
        self.mode = optional(section, "mode", values::mode)?;
        self.tun_name = optional(section, "tun_name", values::interface_name)?;
        if let Some(field) = section.get("vip") {
            self.vip = each(field.one_or_list()?, values::own_vip)?;
        }
        self.local_addr = optional(section, "local_addr", values::local_addr)?;
        self.private_key = self.read_private_key(section, file)?;
        if let Some(field) = section.get("mtu") {
            self.mtu = Some(Written {
                value: field.integer(values::MTU_RANGE)? as u16,
                spot: field.spot(),
            });
        }
        if let Some(field) = section.get("routes") {
            self.routes = self.networks(field.list()?)?;
        }
        if let Some(field) = section.get("debug") {
            self.debug = field.boolean()?;
        }
        self.read_host(section)?;
        self.read_hooks(section)
    }

    fn read_host(&mut self, section: &Section) -> Result<(), ConfigError> {
        let Self {
            host, host_spots, ..
        } = self;
        if let Some(field) = section.get("fwmark") {
            host.fwmark = Some(field.integer(1..=u32::MAX)?);
        }
        if let Some(field) = section.get("dns") {
            host_spots.insert("dns", field.spot());
            host.dns = Dns::default();
            for item in field.list()? {
                match parse_with(&item, values::dns)? {
                    values::DnsItem::Server(server) => host.dns.servers.push(server),
                    values::DnsItem::Search(domain) => host.dns.search.push(domain),
                }
            }
        }
        for (key, switch) in [
            ("ip_forward", &mut host.ip_forward),
            ("mss_clamp", &mut host.mss_clamp),
            ("protect_vip", &mut host.protect_vip),
            ("kill_switch", &mut host.kill_switch),
        ] {
            if let Some(field) = section.get(key) {
                *switch = field.boolean()?;
                host_spots.insert(key, field.spot());
            }
        }
        if let Some(field) = section.get("relay") {
            host.relay = Some(field.boolean()?);
        }
        if let Some(field) = section.get("firewall") {
            host.firewall = parse_with(&field, values::firewall)?;
            host_spots.insert("firewall", field.spot());
        }
        if let Some(field) = section.get("tun_name") {
            host_spots.insert("tun_name", field.spot());
        }
        Ok(())
    }

    fn read_hooks(&mut self, section: &Section) -> Result<(), ConfigError> {
        if let Some(shell) = optional(section, "shell", values::shell)? {
            self.hooks.shell = shell;
        }
        for (key, commands) in [
            ("before_up", &mut self.hooks.before_up),
            ("on_up", &mut self.hooks.on_up),
            ("on_down", &mut self.hooks.on_down),
            ("after_down", &mut self.hooks.after_down),
            ("on_peer_up", &mut self.hooks.on_peer_up),
            ("on_peer_down", &mut self.hooks.on_peer_down),
        ] {
            if let Some(field) = section.get(key) {
                *commands = each(field.one_or_list()?, values::command)?
                    .into_iter()
                    .map(|command| command.value)
                    .collect();
            }
        }
        Ok(())
    }

    fn read_nat(&mut self, section: &Section) -> Result<(), ConfigError> {
        section.allow_only(&reference::names("nat"))?;
        let out = match section.get("out") {
            Some(field) => {
                let spot = field.spot();
                let out = each(field.one_or_list()?, values::interface_name)?;
                if out.is_empty() {
                    return Err(spot.error(
                        "the list is empty; name an interface such as \"eth0\", or \"tunnel\"",
                    ));
                }
                out.into_iter().map(|name| name.value).collect()
            }
            None => Vec::new(),
        };
        let masquerade = match section.get("masquerade") {
            Some(field) => {
                self.host_spots.insert("masquerade", field.spot());
                field.boolean()?
            }
            None => false,
        };
        if let Some(field) = section.get("out") {
            if !masquerade {
                return Err(field.spot().error(
                    "nothing is translated without masquerade = true; add it, or leave out out",
                ));
            }
            self.host_spots.insert("out", field.spot());
        }
        self.host.masquerade = masquerade.then(|| Masquerade::to(out));
        Ok(())
    }

    fn read_private_key(
        &mut self,
        section: &Section,
        file: &str,
    ) -> Result<Option<PrivateKey>, ConfigError> {
        match (section.get("private_key"), section.get("private_key_file")) {
            (Some(_), Some(second)) => Err(second
                .spot()
                .error("private_key is given too; keep one of the two")),
            (Some(field), None) => parse_with(&field, str::parse).map(Some),
            (None, Some(field)) => {
                let spot = field.spot();
                let name = field.string()?;
                // Relative to the file that names it, wherever the program was started.
                let directory = Path::new(file).parent().unwrap_or(Path::new(""));
                let path = directory.join(name);
                let bytes = super::file::read(&path, LARGEST_KEY).map_err(|error| {
                    spot.error(format!(
                        "cannot read {}: {error}; make one with `umask 077; taltun genkey > {}`",
                        path.display(),
                        path.display()
                    ))
                })?;
                let text = std::str::from_utf8(&bytes)
                    .map_err(|_| spot.error(format!("{}: not UTF-8 text", path.display())))?;
                self.warnings.extend(permissions::warning(&path));
                text.parse()
                    .map(Some)
                    .map_err(|error| spot.error(format!("{}: {error}", path.display())))
            }
            (None, None) => Ok(None),
        }
    }

    fn read_peer(&mut self, section: &Section) -> Result<PeerDraft, ConfigError> {
        let Some(key) = section.get("public_key") else {
            return Err(section.spot("public_key").error(
                "missing; run `taltun pubkey < key` on that peer, with its private key in \
                 the file key, and add public_key = \"…\" here",
            ));
        };
        let public_key = Written {
            value: parse_with(&key, str::parse)?,
            spot: key.spot(),
        };
        let preshared_key = section
            .get("preshared_key")
            .map(|field| parse_with(&field, str::parse))
            .transpose()?
            .unwrap_or_default();
        let vip = match section.get("vip") {
            Some(field) => each(field.one_or_list()?, values::peer_vip)?,
            None => Vec::new(),
        };
        let allowed_ips = match section.get("allowed_ips") {
            Some(field) => self.networks(field.list()?)?,
            None => Vec::new(),
        };
        let persistent_keepalive = section
            .get("persistent_keepalive")
            .map(|field| field.integer(0..=u32::from(u16::MAX)))
            .transpose()?
            .map(|seconds| seconds as u16)
            .filter(|seconds| *seconds != 0);
        Ok(PeerDraft {
            spot: section.spot("vip"),
            name: optional(section, "name", values::peer_name)?,
            public_key,
            preshared_key,
            vip,
            endpoint: optional(section, "endpoint", values::endpoint)?,
            allowed_ips,
            persistent_keepalive,
        })
    }

    fn read_accel(&mut self, section: &Section) -> Result<(), ConfigError> {
        section.allow_only(&reference::names("accel"))?;
        if let Some(field) = section.get("interfaces") {
            let names = each(field.list()?, values::link_name)?;
            self.accel.interfaces = names.into_iter().map(|name| name.value).collect();
        }
        if let Some(mode) = optional(section, "xdp", values::xdp_mode)? {
            self.accel.xdp = mode;
        }
        if let Some(mode) = optional(section, "af_xdp", values::af_xdp)? {
            self.accel.af_xdp = mode;
        }
        if let Some(field) = section.get("af_xdp_busy_poll") {
            self.accel.af_xdp_busy_poll = field.boolean()?;
        }
        if let Some(field) = section.get("deny") {
            self.accel.deny = plain(self.denied(&field)?);
        }
        if let Some(field) = section.get("deny_inner") {
            self.accel.deny_inner = plain(self.denied(&field)?);
        }
        if let Some(field) = section.get("handshakes_per_second") {
            self.accel.handshakes_per_second = field.integer(1..=1_000_000)?;
        }
        Ok(())
    }

    fn read_dataplane(&mut self, section: &Section) -> Result<(), ConfigError> {
        section.allow_only(&reference::names("dataplane"))?;
        let dataplane = &mut self.dataplane;
        for (key, switch) in [
            ("tun_offload", &mut dataplane.tun_offload),
            ("udp_gso", &mut dataplane.udp_gso),
            ("udp_gro", &mut dataplane.udp_gro),
        ] {
            if let Some(field) = section.get(key) {
                *switch = field.boolean()?;
            }
        }
        if let Some(field) = section.get("workers") {
            dataplane.workers = usize::try_from(field.integer(1..=64)?).ok();
        }
        if let Some(field) = section.get("crypto_threads") {
            dataplane.crypto_threads = usize::try_from(field.integer(0..=64)?).ok();
        }
        if let Some(field) = section.get("busy_poll_us") {
            dataplane.busy_poll_us = field.integer(0..=1_000)?;
        }
        Ok(())
    }

    /// The networks of a deny list.
    fn denied(&mut self, field: &Field) -> Result<Vec<Written<IpNet>>, ConfigError> {
        let fields = field.list()?;
        if fields.len() > MAX_BANS {
            return Err(field.spot().error(format!(
                "{} networks; {MAX_BANS} can be denied at once, more are for a firewall's sets",
                fields.len()
            )));
        }
        self.networks(fields)
    }

    /// Networks, with a warning for each that has bits set beyond its prefix: `wg` clears
    /// them silently, but often they are a typing error.
    fn networks(&mut self, fields: Vec<Field>) -> Result<Vec<Written<IpNet>>, ConfigError> {
        let mut networks = Vec::new();
        for field in fields {
            let (value, masked) = parse_with(&field, values::network)?;
            let spot = field.spot();
            if masked {
                let text = field.string()?;
                self.warnings
                    .push(spot.say(format!("{text} is taken as {value}")));
            }
            networks.push(Written { value, spot });
        }
        Ok(networks)
    }
}

fn read_dns_routes(section: &Section) -> Result<DnsRoutesDraft, ConfigError> {
    section.allow_only(&reference::names("dns_routes"))?;
    let missing = |key: &'static str, example: &str| {
        let spot = section.spot(key);
        spot.error(format!("missing; add such as {key} = {example}"))
    };
    let domains = match section.get("domains") {
        Some(field) => each(field.list()?, values::domain)?,
        None => return Err(missing("domains", "[\"example.com\", \"*.example.net\"]")),
    };
    let via = match section.get("via") {
        Some(field) => Written {
            value: field.string()?.to_owned(),
            spot: field.spot(),
        },
        None => return Err(missing("via", "\"office\", the name of a peer")),
    };
    let upstream = match section.get("upstream") {
        Some(field) => each(field.one_or_list()?, values::name_server)?,
        None => {
            return Err(missing(
                "upstream",
                "[\"192.0.2.53\"], the name servers to ask",
            ));
        }
    };
    let keep = match section.get("keep_seconds") {
        Some(field) => field.integer(0..=604_800)?,
        None => 3600,
    };
    Ok(DnsRoutesDraft {
        domains: plain(domains),
        via,
        upstream: plain(upstream),
        keep,
    })
}

fn optional<T>(
    section: &Section,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    section
        .get(key)
        .map(|field| parse_with(&field, &parse))
        .transpose()
}

fn each<T>(
    fields: Vec<Field>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<Written<T>>, ConfigError> {
    fields
        .into_iter()
        .map(|field| {
            Ok(Written {
                value: parse_with(&field, &parse)?,
                spot: field.spot(),
            })
        })
        .collect()
}

fn parse_with<T, E: std::fmt::Display>(
    field: &Field,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, ConfigError> {
    parse(field.string()?).map_err(|message| field.spot().error(message))
}

fn plain<T>(written: Vec<Written<T>>) -> Vec<T> {
    written.into_iter().map(|written| written.value).collect()
}
