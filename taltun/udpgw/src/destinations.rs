//! Where clients may send to: by default to the Internet, and neither to what only this host
//! or its network reaches nor to the host itself.
//!
//! Of two rules the more specific one counts, and a denial of two alike. An IPv6 address that
//! stands for an IPv4 address (mapped, NAT64, 6to4) is judged as that one, too. Networks that
//! somebody guards ([`Guard`]) are open only to a rule that allows them or a part of them: one
//! for a wider network doesn't mean them. Nor does one for a network mean the host's own addresses
//! in it: each takes a rule of its own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

/// Networks that are denied unless a rule allows them.
const NOT_THE_INTERNET: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/127",
    "64:ff9b:1::/48",
    "100::/64",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Rules for destinations.
#[derive(Debug, Clone)]
pub struct Destinations {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    not_the_internet: Vec<IpNet>,
    guard: Option<Guard>,
}

/// Tells of an address how long the prefix of the widest network is that is guarded and has it.
/// It is asked for each connection, and again while that lasts, so it may change its mind.
#[derive(Clone)]
pub struct Guard(Arc<dyn Fn(IpAddr) -> Option<u8> + Send + Sync>);

impl Guard {
    /// Asks `ask`.
    pub fn new(ask: impl Fn(IpAddr) -> Option<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

/// Whether a network with a prefix of this length that has `ip` is everything or half of it, and
/// so the Internet: who names it doesn't mean this host or any network in particular. The
/// Internet of IPv6 is `2000::/3`.
pub fn is_everywhere(ip: IpAddr, length: u8) -> bool {
    length <= if ip.is_ipv4() { 1 } else { 3 }
}

/// Whether a prefix of this length is for `ip` alone.
fn is_alone(ip: IpAddr, length: u8) -> bool {
    length == if ip.is_ipv4() { 32 } else { 128 }
}

/// What the rules say about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A rule for this address alone allows it.
    Allowed,
    /// It is, unless it is one of the host's own.
    AllowedIfForeign,
    /// It isn't.
    Denied,
}

impl Default for Destinations {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new())
    }
}

impl Destinations {
    /// With exceptions from the default.
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        let parse = |text: &&str| text.parse().expect("the networks above are networks");
        let plain = |nets: Vec<IpNet>| nets.into_iter().map(plain).collect();
        Self {
            allow: plain(allow),
            deny: plain(deny),
            not_the_internet: NOT_THE_INTERNET.iter().map(parse).collect(),
            guard: None,
        }
    }

    /// The same, with networks that are guarded.
    #[must_use]
    pub fn guarded_by(self, guard: Guard) -> Self {
        Self {
            guard: Some(guard),
            ..self
        }
    }

    /// Whether a client may send to `ip`.
    pub fn judge(&self, ip: IpAddr) -> Verdict {
        match embedded(ip) {
            Some(Embedded::Mapped(inner)) => self.judge_plain(inner.into()),
            Some(Embedded::Translated(inner)) => {
                match (self.judge_plain(ip), self.judge_plain(inner.into())) {
                    (Verdict::Denied, _) | (_, Verdict::Denied) => Verdict::Denied,
                    (Verdict::Allowed, Verdict::Allowed) => Verdict::Allowed,
                    _ => Verdict::AllowedIfForeign,
                }
            }
            None => self.judge_plain(ip),
        }
    }

    /// Which of `own`, the host's own addresses, lie in a network that is allowed and stay closed
    /// all the same, with that network; one for each network. A rule for all of the Internet isn't
    /// meant, and an address that is denied is no surprise.
    pub fn unopened(&self, own: &[IpAddr]) -> Vec<(IpNet, IpAddr)> {
        let networks = self
            .allow
            .iter()
            .filter(|net| !is_everywhere(net.addr(), net.prefix_len()));
        let within = |net: &IpNet| {
            let mut own = own.iter().map(IpAddr::to_canonical);
            own.find(|ip| net.contains(ip) && self.judge(*ip) == Verdict::AllowedIfForeign)
        };
        networks
            .filter_map(|net| Some((*net, within(net)?)))
            .collect()
    }

    fn judge_plain(&self, ip: IpAddr) -> Verdict {
        // The kernel takes it for this host.
        if ip.is_unspecified() {
            return Verdict::Denied;
        }
        let longest = |rules: &[IpNet]| {
            let matching = rules.iter().filter(|rule| rule.contains(&ip));
            matching.map(IpNet::prefix_len).max()
        };
        let allow = longest(&self.allow);
        let guarded = self.guard.as_ref().and_then(|Guard(ask)| ask(ip));
        if guarded.is_some_and(|guarded| allow.is_none_or(|allow| allow < guarded)) {
            return Verdict::Denied;
        }
        match (allow, longest(&self.deny)) {
            (Some(allow), deny) if deny.is_none_or(|deny| allow > deny) => {
                let default = longest(&self.not_the_internet);
                if default.is_some_and(|default| allow < default) {
                    Verdict::Denied
                } else if is_alone(ip, allow) {
                    Verdict::Allowed
                } else {
                    Verdict::AllowedIfForeign
                }
            }
            (_, Some(_)) => Verdict::Denied,
            _ if longest(&self.not_the_internet).is_some() => Verdict::Denied,
            _ => Verdict::AllowedIfForeign,
        }
    }
}

/// A network of IPv4 addresses within IPv6 as one of IPv4 addresses, as which they are judged.
fn plain(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net.trunc() else {
        return net;
    };
    let mapped = v6
        .addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    v4.map_or(net, IpNet::V4)
}

/// An IPv4 address within an IPv6 address.
enum Embedded {
    /// The kernel itself sends to the IPv4 address.
    Mapped(Ipv4Addr),
    /// Somebody on the way may.
    Translated(Ipv4Addr),
}

fn embedded(ip: IpAddr) -> Option<Embedded> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    if let Some(inner) = ip.to_ipv4_mapped() {
        return Some(Embedded::Mapped(inner));
    }
    let within = |at: usize| {
        let octets: [u8; 16] = ip.octets();
        Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3])
    };
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, ..] if !is_first(ip) => {
            Some(Embedded::Translated(within(12)))
        }
        [0x2002, ..] => Some(Embedded::Translated(within(2))),
        _ => None,
    }
}

/// `::` and `::1` embed nothing.
fn is_first(ip: Ipv6Addr) -> bool {
    ip.is_unspecified() || ip.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(rules: &Destinations, ip: &str) -> Verdict {
        rules.judge(ip.parse().unwrap())
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn no_rule_opens_what_the_kernel_takes_for_this_host() {
        let rules = Destinations::new(
            nets(&["0.0.0.0/32", "::/128", "0.0.0.0/0", "::/0"]),
            Vec::new(),
        );
        for ip in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert_eq!(judge(&rules, ip), Verdict::Denied, "{ip}");
        }
    }

    #[test]
    fn by_default_only_the_internet_is_allowed() {
        let rules = Destinations::default();
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.53",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fd00::1",
            "fe80::1",
            "ff02::fb",
        ] {
            assert_eq!(judge(&rules, ip), Verdict::Denied, "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert_eq!(judge(&rules, ip), Verdict::AllowedIfForeign, "{ip}");
        }
    }

    #[test]
    fn what_is_guarded_takes_a_rule_of_its_own() {
        let office: IpNet = "203.0.113.0/24".parse().unwrap();
        let vpn: IpNet = "10.9.0.0/24".parse().unwrap();
        let guard = Guard::new(move |ip| {
            let nets = [office, vpn];
            nets.iter()
                .find(|net| net.contains(&ip))
                .map(IpNet::prefix_len)
        });
        let rules = |allow: &[&str], deny: &[&str]| {
            Destinations::new(nets(allow), nets(deny)).guarded_by(guard.clone())
        };
        let plain = rules(&[], &[]);
        for ip in [
            "203.0.113.7",
            "10.9.0.7",
            "::ffff:203.0.113.7",
            "64:ff9b::203.0.113.7",
        ] {
            assert_eq!(judge(&plain, ip), Verdict::Denied, "{ip}");
        }
        assert_eq!(judge(&plain, "203.0.112.7"), Verdict::AllowedIfForeign);
        let wide = rules(&["10.0.0.0/8", "0.0.0.0/0"], &[]);
        assert_eq!(judge(&wide, "10.8.0.7"), Verdict::AllowedIfForeign);
        assert_eq!(judge(&wide, "127.0.0.1"), Verdict::Denied);
        assert_eq!(judge(&wide, "192.168.1.1"), Verdict::Denied);
        assert_eq!(judge(&wide, "1.1.1.1"), Verdict::AllowedIfForeign);
        assert_eq!(judge(&wide, "10.9.0.7"), Verdict::Denied);
        assert_eq!(judge(&wide, "203.0.113.7"), Verdict::Denied);
        let own = rules(&["10.9.0.0/24", "203.0.113.7/32"], &["10.9.0.9/32"]);
        assert_eq!(judge(&own, "10.9.0.7"), Verdict::AllowedIfForeign);
        assert_eq!(judge(&own, "10.9.0.9"), Verdict::Denied);
        assert_eq!(judge(&own, "203.0.113.7"), Verdict::Allowed);
        assert_eq!(judge(&own, "203.0.113.8"), Verdict::Denied);
    }

    #[test]
    fn a_rule_for_mapped_addresses_is_one_for_ipv4() {
        let deny = Destinations::new(Vec::new(), nets(&["::ffff:1.1.1.0/120"]));
        for ip in ["1.1.1.1", "::ffff:1.1.1.1"] {
            assert_eq!(judge(&deny, ip), Verdict::Denied, "{ip}");
        }
        let allow = Destinations::new(nets(&["::ffff:10.1.2.3/128"]), Vec::new());
        assert_eq!(judge(&allow, "10.1.2.3"), Verdict::Allowed);
        assert_eq!(judge(&allow, "10.1.2.4"), Verdict::Denied);
    }

    #[test]
    fn the_more_specific_rule_counts_and_a_denial_of_two_alike() {
        let rules = Destinations::new(
            nets(&["10.0.0.0/8", "1.1.1.1/32", "127.0.0.53/32", "9.9.9.9/32"]),
            nets(&["0.0.0.0/0", "10.9.0.0/16", "9.9.9.9/32"]),
        );
        assert_eq!(judge(&rules, "10.1.2.3"), Verdict::AllowedIfForeign);
        assert_eq!(judge(&rules, "10.9.2.3"), Verdict::Denied);
        assert_eq!(judge(&rules, "1.1.1.1"), Verdict::Allowed);
        assert_eq!(judge(&rules, "::ffff:1.1.1.1"), Verdict::Allowed);
        assert_eq!(judge(&rules, "1.1.1.2"), Verdict::Denied);
        assert_eq!(judge(&rules, "9.9.9.9"), Verdict::Denied);
        assert_eq!(judge(&rules, "127.0.0.53"), Verdict::Allowed);
        assert_eq!(judge(&rules, "127.0.0.1"), Verdict::Denied);
        assert_eq!(judge(&rules, "2606:4700::1"), Verdict::AllowedIfForeign);
    }
    #[test]
    fn a_network_does_not_open_the_hosts_own_addresses_in_it() {
        let rules = |allow: &[&str], deny: &[&str]| Destinations::new(nets(allow), nets(deny));
        // What calculators make of "all but …" as well.
        let wide = rules(
            &["128.0.0.0/2", "192.0.0.0/3", "2001:db8::/32", "10.8.0.0/24"],
            &[],
        );
        for ip in [
            "203.0.113.1",
            "::ffff:203.0.113.1",
            "2001:db8::1",
            "10.8.0.1",
        ] {
            assert_eq!(judge(&wide, ip), Verdict::AllowedIfForeign, "{ip}");
        }
        let alone = rules(&["203.0.113.0/24", "203.0.113.1/32", "::1/128"], &[]);
        for ip in ["203.0.113.1", "::ffff:203.0.113.1", "::1"] {
            assert_eq!(judge(&alone, ip), Verdict::Allowed, "{ip}");
        }
        assert_eq!(judge(&alone, "203.0.113.2"), Verdict::AllowedIfForeign);

        let own: Vec<IpAddr> = ["10.8.0.1", "203.0.113.1", "127.0.0.1", "2001:db8::1"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let told = |rules: &Destinations| -> Vec<String> {
            let unopened = rules.unopened(&own).into_iter();
            unopened.map(|(net, ip)| format!("{net} {ip}")).collect()
        };
        assert_eq!(
            told(&wide),
            [
                "192.0.0.0/3 203.0.113.1",
                "2001:db8::/32 2001:db8::1",
                "10.8.0.0/24 10.8.0.1"
            ]
        );
        assert!(told(&alone).is_empty());
        assert!(told(&rules(&["0.0.0.0/0", "172.16.0.0/12"], &[])).is_empty());
        let denied = rules(&["10.8.0.0/24"], &["10.8.0.1/32"]);
        assert!(told(&denied).is_empty());
    }
}
