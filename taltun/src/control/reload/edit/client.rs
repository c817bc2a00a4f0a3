//! What the file of a new peer has to say, as this hub's own file has it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::{Config, Peer, PortRange, PublicEndpoint, public_endpoint};
use crate::control::request::ClientWishes;
use crate::crypto::PublicKey;
use crate::report::{ClientAccess, Refused, Why};
use crate::system;

/// What keeps a NAT's mapping alive nearly everywhere, seconds.
const KEEPALIVE: u16 = 25;
/// Networks behind other peers that are told at the most: more of them are a matter for a route
/// that somebody chooses.
const MOST_NETWORKS: usize = 64;

/// Where the hub is, and whether somebody said so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whereabouts {
    endpoint: PublicEndpoint,
    is_guess: bool,
}

/// Where clients reach this host: as is wished, as the file says, or by an address that it has.
pub(super) fn whereabouts(wishes: &ClientWishes, config: &Config) -> Result<Whereabouts, Refused> {
    let told = match &wishes.endpoint {
        Some(text) => {
            let endpoint = public_endpoint(text);
            Some(endpoint.map_err(|text| Refused::because(Why::EndpointUnfit, text))?)
        }
        None => config.host.public_endpoint.clone(),
    };
    if let Some(endpoint) = told {
        return Ok(Whereabouts {
            endpoint,
            is_guess: false,
        });
    }
    let bound = config.interface.local_addr.ip();
    let own = if bound.is_unspecified() {
        system::source_addresses()
    } else {
        vec![bound]
    };
    match own.into_iter().find(|address| is_public(*address)) {
        Some(address) => Ok(Whereabouts {
            endpoint: PublicEndpoint::of_host(address),
            is_guess: true,
        }),
        None => Err(Refused::because(
            Why::NoEndpoint,
            "no public endpoint is known: this host has no public address of its own; give \
             --endpoint HOST[:PORT], or set public_endpoint = \"HOST\" in [interface]",
        )),
    }
}

/// What a peer with these addresses needs to know.
pub(super) fn access(
    addresses: &[IpAddr],
    whereabouts: &Whereabouts,
    wishes: &ClientWishes,
    config: &Config,
    hub_key: &PublicKey,
    port: u16,
) -> ClientAccess {
    let interface = &config.interface;
    let one_port = PortRange {
        first: port,
        last: port,
    };
    let Whereabouts { endpoint, is_guess } = whereabouts;
    let routes = match &wishes.routes[..] {
        [] => routes(addresses, config, &config.peers),
        wished => wished.to_vec(),
    };
    let is_of_a_family =
        |v4: bool| addresses.is_empty() || addresses.iter().any(|own| own.is_ipv4() == v4);
    let vips = interface.vip.iter().map(IpNet::addr);
    let hub_addresses: Vec<IpAddr> = vips.filter(|vip| is_of_a_family(vip.is_ipv4())).collect();
    ClientAccess {
        addresses: addresses
            .iter()
            .map(|own| with_subnet(*own, config))
            .collect(),
        hub_public_key: hub_key.to_string(),
        dns: name_servers(&hub_addresses, config),
        hub_addresses,
        endpoint: endpoint
            .at(config.hop.port_range.unwrap_or(one_port))
            .to_string(),
        plain_endpoint: endpoint.at(one_port).first.to_string(),
        endpoint_is_guess: *is_guess,
        routes,
        mtu: (!interface.mtu_is_default).then_some(interface.mtu),
        persistent_keepalive: KEEPALIVE,
    }
}

/// An address with the subnet of ours that it is in.
fn with_subnet(address: IpAddr, config: &Config) -> IpNet {
    let mut subnets = config.interface.vip.iter();
    let subnet = subnets.find(|vip| vip.contains(&address));
    subnet
        .and_then(|vip| IpNet::new(address, vip.prefix_len()).ok())
        .unwrap_or_else(|| address.into())
}

/// What is sent into the tunnel where nobody has a wish: everything, if the hub translates what goes
/// on from it; else the tunnel's own subnets and what is behind its peers.
fn routes(addresses: &[IpAddr], config: &Config, peers: &[Peer]) -> Vec<IpNet> {
    let is_of_a_family = |v4: bool| addresses.iter().any(|own| own.is_ipv4() == v4);
    let masquerade = config.host.masquerade.as_ref();
    let leads_on = masquerade.is_some_and(|it| it.out.as_ref().is_none_or(|out| !out.is_empty()));
    if leads_on {
        let everything = [
            IpNet::from(ipnet::Ipv4Net::default()),
            IpNet::from(ipnet::Ipv6Net::default()),
        ];
        let everything = everything.into_iter();
        return everything
            .filter(|net| is_of_a_family(net.addr().is_ipv4()))
            .collect();
    }
    let subnets = config.interface.vip.iter().map(IpNet::trunc);
    let subnets: Vec<IpNet> = subnets
        .filter(|net| is_of_a_family(net.addr().is_ipv4()))
        .collect();
    let others = peers
        .iter()
        .filter(|peer| !peer.vip.iter().any(|vip| addresses.contains(vip)));
    let behind = others
        .flat_map(|peer| &peer.allowed_ips)
        .map(IpNet::trunc)
        .filter(|net| net.prefix_len() > 1 && is_of_a_family(net.addr().is_ipv4()))
        .filter(|net| !subnets.iter().any(|subnet| subnet.contains(net)));
    let mut behind: Vec<IpNet> = behind.collect();
    behind.sort_unstable();
    behind.dedup();
    if behind.len() > MOST_NETWORKS {
        behind.clear();
    }
    subnets.into_iter().chain(behind).collect()
}

/// This hub as the name server, if it answers for all names: it would be the only one.
fn name_servers(hub: &[IpAddr], config: &Config) -> Vec<String> {
    let Some(names) = &config.names else {
        return Vec::new();
    };
    if names.upstream.is_empty() && config.dns_routes.is_none() {
        return Vec::new();
    }
    let servers = hub.iter().map(ToString::to_string);
    servers.chain([names.domain.clone()]).collect()
}

/// Whether the whole Internet may have a way to an address (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_benchmark = a == 198 && (b == 18 || b == 19);
            let is_protocol = a == 192 && b == 0 && c == 0;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || is_shared
                || is_benchmark
                || is_protocol
                || a == 0
                || a >= 224)
        }
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_documentation = (first, second) == (0x2001, 0xdb8) || first & 0xfff0 == 0x3ff0;
    first & 0xe000 == 0x2000 && !is_documentation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const ANA: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn told(more: &str, sections: &str, wishes: &ClientWishes) -> ClientAccess {
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = [\"10.0.0.1/24\", \"fd00::1/64\"]\n\
             private_key = \"{KEY}\"\n{more}\n\
             [[peers]]\npublic_key = \"{ANA}\"\nvip = \"10.0.0.2\"\n\
             allowed_ips = [\"192.168.50.0/24\", \"10.0.0.64/28\"]\n{sections}"
        );
        let config = config::parse(&text, "hub.toml").unwrap().config;
        let wished = ClientWishes {
            endpoint: wishes.endpoint.clone().or(Some("hub.example.net".into())),
            ..wishes.clone()
        };
        let at = whereabouts(&wished, &config).unwrap();
        let own = ["10.0.0.9".parse().unwrap()];
        let key = config.interface.private_key.public_key();
        access(&own, &at, wishes, &config, &key, 9000)
    }

    fn texts<T: ToString>(all: &[T]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_peer_gets_the_subnets_and_what_is_behind_the_others() {
        let access = told("", "", &ClientWishes::default());
        assert_eq!(texts(&access.addresses), ["10.0.0.9/24"]);
        assert_eq!(texts(&access.routes), ["10.0.0.0/24", "192.168.50.0/24"]);
        assert_eq!(texts(&access.hub_addresses), ["10.0.0.1"]);
        assert_eq!(access.endpoint, "hub.example.net:9000");
        assert_eq!((access.mtu, access.dns.len()), (None, 0));
        let access = told(
            "mtu = 1300",
            "[nat]\nmasquerade = true",
            &ClientWishes::default(),
        );
        assert_eq!(texts(&access.routes), ["0.0.0.0/0"]);
        assert_eq!(access.mtu, Some(1300));
        let wishes = ClientWishes {
            endpoint: Some("[2001:db8::9]:7".into()),
            routes: vec!["192.168.0.0/16".parse().unwrap()],
            is_there: false,
        };
        let access = told("", "[nat]\nmasquerade = true", &wishes);
        assert_eq!(texts(&access.routes), ["192.168.0.0/16"]);
        assert_eq!(access.endpoint, "[2001:db8::9]:7");
    }

    #[test]
    fn a_range_of_ports_is_for_taltun_and_one_port_for_others() {
        let access = told(
            "",
            "[hop]\nport_range = [4096, 8191]",
            &ClientWishes::default(),
        );
        assert_eq!(access.endpoint, "hub.example.net:4096-8191");
        assert_eq!(access.plain_endpoint, "hub.example.net:9000");
    }

    #[test]
    fn the_hub_is_the_name_server_only_if_it_answers_for_all_names() {
        let section = "[names]\ndomain = \"vpn\"\n";
        assert!(told("", section, &ClientWishes::default()).dns.is_empty());
        let section = format!("{section}upstream = [\"192.0.2.53\"]\n");
        let access = told("", &section, &ClientWishes::default());
        assert_eq!(access.dns, ["10.0.0.1", "vpn"]);
    }

    #[test]
    fn what_the_file_says_comes_after_a_wish_and_before_a_guess() {
        let text = format!(
            "[interface]\nvip = \"10.0.0.1/24\"\nprivate_key = \"{KEY}\"\nmode = \"server\"\n\
             public_endpoint = \"hub.example.net:7\"\nlocal_addr = \"198.51.100.7:9000\"\n"
        );
        let config = config::parse(&text, "hub.toml").unwrap().config;
        let none = ClientWishes::default();
        let at = whereabouts(&none, &config).unwrap();
        assert_eq!(at.endpoint, public_endpoint("hub.example.net:7").unwrap());
        // An address of the documentation is nobody's.
        let without = text.replace("public_endpoint = \"hub.example.net:7\"\n", "");
        let config = config::parse(&without, "hub.toml").unwrap().config;
        let reason = whereabouts(&none, &config).unwrap_err().text;
        assert!(
            reason.contains("--endpoint") && reason.contains("public_endpoint"),
            "{reason}"
        );
        let public = without.replace("198.51.100.7", "9.9.9.9");
        let config = config::parse(&public, "hub.toml").unwrap().config;
        let at = whereabouts(&none, &config).unwrap();
        assert!(at.is_guess);
        assert_eq!(at.endpoint, public_endpoint("9.9.9.9").unwrap());
    }

    #[test]
    fn what_nobody_outside_reaches_is_not_public() {
        for (address, expected) in [
            ("9.9.9.9", true),
            ("100.63.0.1", true),
            ("2620:fe::fe", true),
            ("::ffff:9.9.9.9", true),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.0.1", false),
            ("100.64.0.1", false),
            ("198.18.0.1", false),
            ("203.0.113.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("2001:db8::1", false),
            ("::1", false),
            ("::", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }
}
