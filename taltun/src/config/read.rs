//! Reads a file into a `Draft`, section by section. What isn't given is read from the default
//! that its key declares, by the same lines.
//!
//! Keys that are settings by themselves are read as they are declared. Each section's settings are
//! made whole at once, so that a field that nobody fills doesn't compile; that each key is read is
//! held by the tests of `keys`.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use ipnet::IpNet;
use taltun_policy::Service;

use super::document::{Document, Field, Section};
use super::draft::{
    DnsRoutesDraft, Draft, ForwardDraft, GroupDraft, NamesDraft, PeerDraft, PolicyDraft, RuleDraft,
    UdpgwDraft, WebDraft, Written,
};
use super::error::{ConfigError, Spot};
use super::fleet_read;
use super::keys::{
    self, Key, accel, audit, dataplane, dns_routes, forward, groups, hop, interface, metrics,
    names, nat, peers, policy, rules, shaping, udpgw, usage, web,
};
use super::setting::{Setting, parse_with};
use super::{
    Accel, Action, Audit, Dataplane, Hooks, Hop, HostSettings, LISTEN_MAX, ListenAt, MAX_BANS,
    Masquerade, PeerRates, Policy, PortRange, RangedEndpoint, Shaping, Udpgw, Usage, Web,
};
use super::{declared, permissions, values};
use crate::crypto::{PresharedKey, PrivateKey};

/// The most names of `web.hosts`.
const WEB_HOSTS_MAX: usize = 16;

/// The largest file with a key, bytes.
const LARGEST_KEY: u64 = 64 << 10;

/// Reads the settings of a section that are keys by themselves, with the fields that are given
/// besides.
macro_rules! read {
    (
        { $given:ident, $keys:ident, $struct:ident { $($others:tt)* } }
        $section:literal;
        $($key:ident $(=> $setting:ident: $type:ty)? { $($declared:tt)* })*
    ) => {
        $struct {
            $($($setting: Setting::read($given, &$keys::$key)?,)?)*
            $($others)*
        }
    };
}

/// What `document`, the contents of `file`, says.
pub(super) fn draft(document: &Document, file: &str) -> Result<Draft, ConfigError> {
    document.allow_only()?;
    let head = document.section(&keys::INTERFACE)?;
    let head = head.map_or_else(|| Spot::file(file), |section| section.head());
    let section = document.section_or_defaults(&keys::INTERFACE)?;
    section.allow_only()?;
    let nat = document.section_or_defaults(&keys::NAT)?;
    let mut warnings = Vec::new();
    let hopping = document.section_or_defaults(&keys::HOP)?;
    let hop = hop(&hopping)?;
    let peers = {
        let mut peers = Vec::new();
        document.each_section(&keys::PEERS, |section| {
            peers.push(peer(section, hop.port_range, &mut warnings)?);
            Ok(())
        })?;
        peers
    };
    let shared = document.section_or_defaults(&keys::SHAPING)?;
    let kept = document.section_or_defaults(&keys::USAGE)?;
    let is_secret = |peer: &PeerDraft| peer.preshared_key != PresharedKey::default();
    let has_secret = section.get(&interface::PRIVATE_KEY).is_some() || peers.iter().any(is_secret);
    Ok(Draft {
        spot: head,
        mode: one(&section, &interface::MODE, values::word)?,
        tun_name: one(&section, &interface::TUN_NAME, values::interface_name)?,
        is_named: section.get(&interface::TUN_NAME).is_some(),
        vip: match section.get(&interface::VIP) {
            Some(field) => each(field.one_or_list()?, values::own_vip)?,
            None => Vec::new(),
        },
        local_addr: one(&section, &interface::LOCAL_ADDR, values::local_addr)?,
        private_key: private_key(&section, file, &mut warnings)?,
        mtu: match section.get(&interface::MTU) {
            Some(field) => Some(Written {
                value: field.integer()? as u16,
                spot: field.spot(),
            }),
            None => None,
        },
        routes: networks(section.value(&interface::ROUTES)?.list()?, &mut warnings)?,
        debug: section.value(&interface::DEBUG)?.boolean()?,
        host: host(&section, &nat)?,
        host_spots: section.spots().chain(nat.spots()).collect(),
        hooks: hooks(&section)?,
        peers,
        accel: accel(&document.section_or_defaults(&keys::ACCEL)?, &mut warnings)?,
        dataplane: dataplane(&document.section_or_defaults(&keys::DATAPLANE)?)?,
        dns_routes: match document.section(&keys::DNS_ROUTES)? {
            Some(section) => Some(dns_routes(&section)?),
            None => None,
        },
        names: match document.section(&keys::NAMES)? {
            Some(section) => Some(names(&section)?),
            None => None,
        },
        udpgw: match document.section(&keys::UDPGW)? {
            Some(section) => Some(udpgw(&section, &mut warnings)?),
            None => None,
        },
        metrics: match document.section(&keys::METRICS)? {
            Some(section) => Some(metrics_listen(&section)?),
            None => None,
        },
        web: match document.section(&keys::WEB)? {
            Some(section) => Some(web(&section)?),
            None => None,
        },
        fleet: match document.section(&keys::FLEET)? {
            Some(section) => Some(fleet_read::read(&section, file)?),
            None => None,
        },
        port_range: hopping.get(&hop::PORT_RANGE).map(|field| field.spot()),
        hop_choices: [
            &hop::HOP_INTERVAL,
            &hop::HOP_POOL,
            &hop::PROBE_INTERVAL,
            &hop::LOSS_THRESHOLD,
            &hop::RETRY_AFTER,
        ]
        .into_iter()
        .filter_map(|key| Some((key.name, hopping.get(key)?.spot())))
        .collect(),
        hop,
        policy: policy_draft(document)?,
        forwards: forwards(document)?,
        usage: usage(&kept)?,
        keep_days: kept.get(&usage::KEEP_DAYS).map(|field| field.spot()),
        audit: audit(&document.section_or_defaults(&keys::AUDIT)?)?,
        shaping: shaping(&shared)?,
        uplink: shared.get(&shaping::UPLINK).map(|field| field.spot()),
        warnings,
        has_secret,
        told: Vec::new(),
    })
}

fn host(section: &Section, nat: &Section) -> Result<HostSettings, ConfigError> {
    let masquerade = masquerade(nat)?;
    let host = declared::interface::declared! { read! {
        section, interface, HostSettings { masquerade, }
    } };
    Ok(host)
}

fn hooks(section: &Section) -> Result<Hooks, ConfigError> {
    let commands = |key| {
        Ok(plain(each(
            section.value(key)?.one_or_list()?,
            values::command,
        )?))
    };
    Ok(Hooks {
        shell: one(section, &interface::SHELL, values::word)?,
        before_up: commands(&interface::BEFORE_UP)?,
        on_up: commands(&interface::ON_UP)?,
        on_down: commands(&interface::ON_DOWN)?,
        after_down: commands(&interface::AFTER_DOWN)?,
        on_peer_up: commands(&interface::ON_PEER_UP)?,
        on_peer_down: commands(&interface::ON_PEER_DOWN)?,
        on_peer_refused: commands(&interface::ON_PEER_REFUSED)?,
        on_peer_allowed: commands(&interface::ON_PEER_ALLOWED)?,
    })
}

fn masquerade(section: &Section) -> Result<Option<Masquerade>, ConfigError> {
    section.allow_only()?;
    let given = section.get(&nat::OUT);
    let out = match &given {
        Some(field) => {
            let out = each(field.one_or_list()?, values::interface_name)?;
            if out.is_empty() {
                return Err(field.spot().error(
                    "the list is empty; name an interface such as \"eth0\", or \"tunnel\"",
                ));
            }
            plain(out)
        }
        None => Vec::new(),
    };
    let masquerade = section.value(&nat::MASQUERADE)?.boolean()?;
    if let Some(field) = given
        && !masquerade
    {
        return Err(field
            .spot()
            .error("nothing is translated without masquerade = true; add it, or leave out out"));
    }
    Ok(masquerade.then(|| Masquerade::to(out)))
}

fn private_key(
    section: &Section,
    file: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<PrivateKey>, ConfigError> {
    let given = section.get(&interface::PRIVATE_KEY);
    match (given, section.get(&interface::PRIVATE_KEY_FILE)) {
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
            warnings.extend(permissions::warning(&path));
            text.parse()
                .map(Some)
                .map_err(|error| spot.error(format!("{}: {error}", path.display())))
        }
        (None, None) => Ok(None),
    }
}

fn hop(section: &Section) -> Result<Hop, ConfigError> {
    section.allow_only()?;
    let hop = declared::hop::declared! { read! { section, hop, Hop {} } };
    Ok(hop)
}

fn peer(
    section: &Section,
    ports: Option<PortRange>,
    warnings: &mut Vec<String>,
) -> Result<PeerDraft, ConfigError> {
    section.allow_only()?;
    let Some(key) = section.get(&peers::PUBLIC_KEY) else {
        return Err(section.spot(&peers::PUBLIC_KEY).error(
            "missing; run `taltun pubkey < key` on that peer, with its private key in \
             the file key, and add public_key = \"…\" here",
        ));
    };
    let public_key = Written {
        value: parse_with(&key, str::parse)?,
        spot: key.spot(),
    };
    let keepalive = section.value(&peers::PERSISTENT_KEEPALIVE)?;
    Ok(PeerDraft {
        spot: section.spot(&peers::VIP),
        public_key,
        preshared_key: optional(section, &peers::PRESHARED_KEY, str::parse)?.unwrap_or_default(),
        vip: match section.get(&peers::VIP) {
            Some(field) => each(field.one_or_list()?, values::peer_vip)?,
            None => Vec::new(),
        },
        allowed_ips: networks(section.value(&peers::ALLOWED_IPS)?.list()?, warnings)?,
        persistent_keepalive: Some(keepalive.integer()? as u16).filter(|seconds| *seconds != 0),
        name: optional(section, &peers::NAME, values::peer_name)?,
        name_spot: section
            .get(&peers::NAME)
            .map_or_else(|| section.spot(&peers::NAME), |field| field.spot()),
        endpoints: endpoints(section, ports)?,
        endpoints_spot: [&peers::ENDPOINTS, &peers::ENDPOINT]
            .into_iter()
            .find_map(|key| Some(section.get(key)?.spot())),
        quota: match section.get(&peers::QUOTA) {
            Some(field) => Some(Written {
                value: parse_with(&field, str::parse)?,
                spot: field.spot(),
            }),
            None => None,
        },
        expires: match section.get(&peers::EXPIRES) {
            Some(field) => Some(Written {
                value: field.day()?,
                spot: field.spot(),
            }),
            None => None,
        },
        rates: PeerRates {
            rate_up: optional(section, &peers::RATE_UP, values::rate)?,
            rate_down: optional(section, &peers::RATE_DOWN, values::rate)?,
            dscp: one(section, &peers::DSCP, values::word)?,
        },
        rate_down: section.get(&peers::RATE_DOWN).map(|field| field.spot()),
    })
}

fn shaping(section: &Section) -> Result<Shaping, ConfigError> {
    section.allow_only()?;
    let shaping = declared::shaping::declared! { read! { section, shaping, Shaping {} } };
    Ok(shaping)
}

/// Where a peer is, by whichever of the two keys; `ports` are those of an endpoint without any.
fn endpoints(
    section: &Section,
    ports: Option<PortRange>,
) -> Result<Vec<RangedEndpoint>, ConfigError> {
    let parse = |text: &str| values::endpoint(text, ports);
    let several = section.value(&peers::ENDPOINTS)?;
    let endpoints = plain(each(several.list()?, parse)?);
    if let Some(field) = section.get(&peers::ENDPOINT)
        && field.is_list()
    {
        let spot = field.spot();
        return Err(spot.error("expected one endpoint, found a list; several are endpoints = [ ]"));
    }
    match optional(section, &peers::ENDPOINT, parse)? {
        Some(_) if section.get(&peers::ENDPOINTS).is_some() => Err(several
            .spot()
            .error("endpoint is given too; keep one of the two")),
        Some(endpoint) => Ok(vec![endpoint]),
        None => Ok(endpoints),
    }
}

fn accel(section: &Section, warnings: &mut Vec<String>) -> Result<Accel, ConfigError> {
    section.allow_only()?;
    let interfaces = section.value(&accel::INTERFACES)?.list()?;
    let interfaces = plain(each(interfaces, values::link_name)?);
    let deny = denied(&section.value(&accel::DENY)?, warnings)?;
    let deny_inner = denied(&section.value(&accel::DENY_INNER)?, warnings)?;
    let accel = declared::accel::declared! { read! {
        section, accel, Accel { interfaces, deny, deny_inner, }
    } };
    Ok(accel)
}

fn dataplane(section: &Section) -> Result<Dataplane, ConfigError> {
    section.allow_only()?;
    let dataplane = declared::dataplane::declared! { read! { section, dataplane, Dataplane {} } };
    Ok(dataplane)
}

fn usage(section: &Section) -> Result<Usage, ConfigError> {
    section.allow_only()?;
    let usage = declared::usage::declared! { read! { section, usage, Usage {} } };
    Ok(usage)
}

fn audit(section: &Section) -> Result<Audit, ConfigError> {
    section.allow_only()?;
    let audit = declared::audit::declared! { read! { section, audit, Audit {} } };
    Ok(audit)
}

fn dns_routes(section: &Section) -> Result<DnsRoutesDraft, ConfigError> {
    section.allow_only()?;
    let given = |key, example| required(section, key, example);
    let domains = given(&dns_routes::DOMAINS, "[\"example.com\", \"*.example.net\"]")?;
    let domains = plain(each(domains.list()?, values::domain)?);
    let via = given(&dns_routes::VIA, "\"office\", the name of a peer")?;
    let via = Written {
        value: via.string()?.to_owned(),
        spot: via.spot(),
    };
    let upstream = given(
        &dns_routes::UPSTREAM,
        "[\"192.0.2.53\"], the name servers to ask",
    )?;
    Ok(DnsRoutesDraft {
        domains,
        via,
        upstream: plain(each(upstream.one_or_list()?, values::name_server)?),
        keep: section.value(&dns_routes::KEEP_SECONDS)?.integer()?,
    })
}

fn names(section: &Section) -> Result<NamesDraft, ConfigError> {
    section.allow_only()?;
    let domain = required(section, &names::DOMAIN, "\"vpn\"")?;
    Ok(NamesDraft {
        domain: Written {
            value: parse_with(&domain, super::names::domain)?,
            spot: domain.spot(),
        },
        upstream: each(
            section.value(&names::UPSTREAM)?.one_or_list()?,
            values::name_server,
        )?,
    })
}

fn udpgw(section: &Section, warnings: &mut Vec<String>) -> Result<UdpgwDraft, ConfigError> {
    section.allow_only()?;
    let field = section.value(&udpgw::LISTEN)?;
    let listen = each(field.one_or_list()?, values::udpgw_listen)?;
    if listen.is_empty() {
        return Err(field.spot().error(
            "the list is empty; name where clients connect to, such as \"127.0.0.1:7300\", or \
             leave out [udpgw]",
        ));
    }
    let allow = networks(section.value(&udpgw::ALLOW)?.list()?, warnings)?;
    for Written { value, spot } in &allow {
        values::not_unspecified(*value).map_err(|reason| spot.error(reason))?;
    }
    let allow = plain(allow);
    let deny = plain(networks(section.value(&udpgw::DENY)?.list()?, warnings)?);
    let rest = declared::udpgw::declared! { read! { section, udpgw, Udpgw {
        listen: Vec::new(), allow, deny,
    } } };
    Ok(UdpgwDraft { listen, rest })
}

fn web(section: &Section) -> Result<WebDraft, ConfigError> {
    section.allow_only()?;
    let field = section.value(&web::LISTEN)?;
    let listen = each(field.one_or_list()?, values::web_listen)?;
    if listen.is_empty() || listen.len() > LISTEN_MAX {
        return Err(field.spot().error(format!(
            "expected 1 to {LISTEN_MAX} places such as \"10.0.0.1:8080\", found {}",
            listen.len()
        )));
    }
    let field = section.value(&web::HOSTS)?;
    let hosts = plain(each(field.one_or_list()?, values::web_host)?);
    if hosts.len() > WEB_HOSTS_MAX {
        return Err(field.spot().error(format!(
            "expected at most {WEB_HOSTS_MAX} names such as \"vpn.example.org\", found {}",
            hosts.len()
        )));
    }
    let rest =
        declared::web::declared! { read! { section, web, Web { listen: Vec::new(), hosts, } } };
    Ok(WebDraft { listen, rest })
}

fn metrics_listen(section: &Section) -> Result<Vec<Written<ListenAt>>, ConfigError> {
    section.allow_only()?;
    let field = section.value(&metrics::LISTEN)?;
    let listen = each(field.one_or_list()?, values::metrics_listen)?;
    if listen.is_empty() || listen.len() > LISTEN_MAX {
        return Err(field.spot().error(format!(
            "expected 1 to {LISTEN_MAX} places such as \"127.0.0.1:9586\", found {}",
            listen.len()
        )));
    }
    Ok(listen)
}

fn policy_draft(document: &Document) -> Result<PolicyDraft, ConfigError> {
    let section = document.section_or_defaults(&keys::POLICY)?;
    section.allow_only()?;
    let given = &section;
    let section = declared::policy::declared! { read! { given, policy, Policy {
        groups: taltun_policy::Groups::default(), rules: Vec::new(), origins: Vec::new(), implied: Vec::new(),
        compiled: std::sync::OnceLock::new(),
    } } };
    let mut groups = Vec::new();
    if let Some(section) = document.section(&keys::GROUPS)? {
        for field in section.named(&groups::MEMBERS) {
            groups.push(GroupDraft {
                name: Written {
                    value: field.name().to_owned(),
                    spot: field.spot(),
                },
                members: texts(&field)?,
            });
        }
    }
    let mut rules = Vec::new();
    document.each_section(&keys::RULES, |section| {
        rules.push(rule(section)?);
        Ok(())
    })?;
    Ok(PolicyDraft {
        section,
        groups,
        rules,
    })
}

fn rule(section: &Section) -> Result<RuleDraft, ConfigError> {
    section.allow_only()?;
    let parties = |key: &'static Key, example: &str| {
        let field = required(section, key, example)?;
        let texts = texts(&field)?;
        if texts.is_empty() {
            return Err(field
                .spot()
                .error("the list is empty; write \"any\" for everybody"));
        }
        Ok(texts)
    };
    let (allow, deny) = (section.get(&rules::ALLOW), section.get(&rules::DENY));
    let (field, action) = match (allow, deny) {
        (Some(allow), None) => (allow, Action::Allow),
        (None, Some(deny)) => (deny, Action::Deny),
        (Some(_), Some(deny)) => {
            return Err(deny
                .spot()
                .error("allow is given too; make two rules of it, of which the first decides"));
        }
        (None, None) => {
            return Err(section
                .spot(&rules::ALLOW)
                .error("missing; add such as allow = [\"tcp/443\", \"icmp\"], or deny = …"));
        }
    };
    let parse = |text: &str| Service::from_str(text).map_err(|error| format!("{text:?}: {error}"));
    let services = plain(each(field.one_or_list()?, parse)?);
    if services.is_empty() {
        return Err(field
            .spot()
            .error("the list is empty; write \"any\" for everything"));
    }
    Ok(RuleDraft {
        spot: section.head(),
        from: parties(&rules::FROM, "[\"any\"]")?,
        to: parties(&rules::TO, "[\"hub\"]")?,
        services,
        action,
        log: section.value(&rules::LOG)?.boolean()?,
    })
}

fn forwards(document: &Document) -> Result<Vec<ForwardDraft>, ConfigError> {
    let mut forwards = Vec::new();
    document.each_section(&keys::FORWARD, |section| {
        section.allow_only()?;
        let listen = required(section, &forward::LISTEN, "\"tcp/8443\"")?;
        let to = required(section, &forward::TO, "\"ana:443\", a peer and its port")?;
        forwards.push(ForwardDraft {
            listen: Written {
                value: parse_with(&listen, super::forward::listen)?,
                spot: listen.spot(),
            },
            to: Written {
                value: parse_with(&to, super::forward::to)?,
                spot: to.spot(),
            },
            source: one(section, &forward::SOURCE, values::word)?,
        });
        Ok(())
    })?;
    Ok(forwards)
}

/// A text, or the texts of a list, each with where.
fn texts(field: &Field) -> Result<Vec<Written<String>>, ConfigError> {
    each(field.one_or_list()?, |text| Ok(text.to_owned()))
}

/// The networks of a deny list.
fn denied(field: &Field, warnings: &mut Vec<String>) -> Result<Vec<IpNet>, ConfigError> {
    let fields = field.list()?;
    if fields.len() > MAX_BANS {
        return Err(field.spot().error(format!(
            "{} networks; {MAX_BANS} can be denied at once, more are for a firewall's sets",
            fields.len()
        )));
    }
    networks(fields, warnings).map(plain)
}

/// Networks, with a warning for each that has bits set beyond its prefix: `wg` clears
/// them silently, but often they are a typing error.
fn networks(
    fields: Vec<Field>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Written<IpNet>>, ConfigError> {
    let mut networks = Vec::new();
    for field in fields {
        let (value, masked) = parse_with(&field, values::network)?;
        let spot = field.spot();
        if masked {
            let text = field.string()?;
            warnings.push(spot.say(format!("{text} is taken as {value}")));
        }
        networks.push(Written { value, spot });
    }
    Ok(networks)
}

/// The text of a key, given or not.
fn one<T, E: Display>(
    section: &Section,
    key: &'static Key,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, ConfigError> {
    parse_with(&section.value(key)?, parse)
}

/// The value of a key that has to be given, such as `example`.
fn required<'d, 'a>(
    section: &Section<'d, 'a>,
    key: &'static Key,
    example: &str,
) -> Result<Field<'d, 'a>, ConfigError> {
    let missing = || {
        let name = key.name;
        let spot = section.spot(key);
        spot.error(format!("missing; add such as {name} = {example}"))
    };
    section.get(key).ok_or_else(missing)
}

/// The text of a key that needn't be given and has no default.
fn optional<T, E: Display>(
    section: &Section,
    key: &'static Key,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, ConfigError> {
    let given = section.get(key);
    given.map(|field| parse_with(&field, &parse)).transpose()
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

fn plain<T>(written: Vec<Written<T>>) -> Vec<T> {
    written.into_iter().map(|written| written.value).collect()
}
