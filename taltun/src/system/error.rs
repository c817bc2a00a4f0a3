//! Why the host can't carry the tunnel, each with its remedy.

use std::io;

use ipnet::IpNet;

use super::ipv6::has_ipv6;

/// Why the host can't carry the tunnel.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// We may not change the network.
    #[error(
        "not permitted to set up the network (no CAP_NET_ADMIN); run as root, or grant it: \
         `setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon+ep /path/to/taltun`"
    )]
    NotPermitted,
    /// The kernel has no TUN device to offer.
    #[error(
        "no /dev/net/tun; load it with `modprobe tun`, or in a container pass it in with \
         `--device /dev/net/tun`"
    )]
    NoTun,
    /// There is one, but not for us.
    #[error(
        "cannot open /dev/net/tun: {0}; run as root, or in a container pass it in with \
         `--device /dev/net/tun`"
    )]
    TunRefused(io::Error),
    /// The interface's name is taken.
    #[error(
        "an interface {0} exists already; choose another tun_name, or remove it with \
         `ip link delete {0}`"
    )]
    InterfaceExists(String),
    /// The interface that should have been created isn't there.
    #[error("there is no interface {0}; was it removed or renamed?")]
    NoInterface(String),
    /// A route leads elsewhere already.
    #[error(
        "a route to {net} leads through {device} already; take {net} out of interface.routes, \
         or remove it with `ip route delete {net} dev {device}`"
    )]
    RouteElsewhere {
        /// Where the route leads.
        net: IpNet,
        /// The interface that it leads through.
        device: String,
    },
    /// A route that leads nowhere comes first.
    #[error(
        "a {kind} route to {net} is there already and would win; remove it with \
         `ip route delete {kind} {net}`, give it a higher metric, or take {net} out of \
         interface.routes"
    )]
    RouteNowhere {
        /// Where it is for.
        net: IpNet,
        /// Its kind, as `ip` says it.
        kind: &'static str,
    },
    /// The table that is to hold our routes alone has somebody else's.
    #[error(
        "routing table {table} has a route to {net} already, and it has to be ours alone; choose \
         another interface.fwmark, whose number is that of the table"
    )]
    RouteInTable {
        /// Where it is for.
        net: IpNet,
        /// The number of the table.
        table: u32,
    },
    /// There is no place for our policy rules.
    #[error(
        "no two policy rules can be added with priorities next to each other, as others have \
         those from {first} to {last}; see `ip rule`, and give others another `pref`"
    )]
    NoPriority {
        /// The lowest that was tried.
        first: u32,
        /// The highest.
        last: u32,
    },
    /// A policy rule of somebody else's leads everything elsewhere.
    #[error(
        "a policy rule of priority {priority} leads everything by table {table}, before the \
         tunnel's rules ({ours}) are asked; remove it with \
         `ip{family} rule delete pref {priority}`, or give it a priority above {ours}"
    )]
    Overruled {
        /// The rule's priority.
        priority: u32,
        /// Its table.
        table: String,
        /// The priority of our first rule.
        ours: u32,
        /// What `ip` wants to hear for IPv6.
        family: &'static str,
    },
    /// This machine's own addresses would be looked for in the tunnel.
    #[error(
        "the policy rule for this machine's own addresses comes after those of the tunnel \
         ({ours}); add it in front with `ip{family} rule add pref 0 lookup local`"
    )]
    LocalRule {
        /// The priority of our first rule.
        ours: u32,
        /// What `ip` wants to hear for IPv6.
        family: &'static str,
    },
    /// IPv6 is switched off, and there is no IPv4 to go on with.
    #[error(
        "cannot add {0}: IPv6 is switched off on this machine; {remedy}, or add an IPv4 vip",
        remedy = remedy_for_ipv6()
    )]
    NoIpv6(IpNet),
    /// Rules are wanted, and there is nothing to make them with.
    #[error(
        "{key} takes firewall rules, and there is no {missing}; install it, or leave out {key}"
    )]
    NoFirewall {
        /// The key that asks for rules.
        key: &'static str,
        /// What isn't there.
        missing: &'static str,
    },
    /// The firewall refused our rules.
    #[error("cannot make firewall rules: {0}")]
    Firewall(String),
    /// There is nobody to tell of name servers.
    #[error(
        "interface.dns takes resolvectl, with systemd-resolved running, or else resolvconf, and \
         neither is here; install systemd-resolved or openresolv, or leave out interface.dns"
    )]
    NoResolver,
    /// There is nobody to tell, and the file isn't the container's own.
    #[error(
        "interface.dns takes resolvectl or resolvconf, neither is here, and /etc/resolv.conf is \
         mounted from outside; give the container {0} instead, and leave out interface.dns"
    )]
    ResolverMounted(String),
    /// The resolver refused our name servers.
    #[error("cannot set interface.dns: {0}")]
    Resolver(String),
    /// What a dead process left couldn't be taken back.
    #[error("cannot undo what is left of {interface}: {reason}")]
    NotUndone {
        /// The interface.
        interface: String,
        /// Why not.
        reason: String,
    },
    /// The kernel refused a change.
    #[error("cannot {action}: {reason}")]
    Refused {
        /// What was tried.
        action: String,
        /// Why not. Not called `source`, which would be printed a second time wherever a
        /// chain of causes is.
        reason: io::Error,
    },
    /// Kernel settings that can't be written.
    #[error(
        "cannot set {settings}: {reason}; set it before the start: `sysctl -w {settings}`, or for \
         a container {options}"
    )]
    Settings {
        /// Each as `NAME=VALUE`, with spaces between.
        settings: String,
        /// Why not.
        reason: io::Error,
        /// The options of `docker run` or `podman run` that set them.
        options: String,
    },
}

impl SystemError {
    /// Says that `action` failed with an error of rtnetlink's.
    pub(super) fn refused(action: impl Into<String>, error: &rtnetlink::Error) -> Self {
        Self::Refused {
            action: action.into(),
            reason: to_io(error),
        }
    }
}

/// How IPv6 comes back.
fn remedy_for_ipv6() -> &'static str {
    if has_ipv6() {
        "switch it on with `sysctl net.ipv6.conf.all.disable_ipv6=0`"
    } else {
        "the kernel runs without it: start it without `ipv6.disable=1`"
    }
}

/// The error number of an rtnetlink error, if the kernel gave one.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

fn to_io(error: &rtnetlink::Error) -> io::Error {
    match errno(error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}
