//! What the hosts of a tunnel are told: the same peers, addresses and keepalives in the words
//! of Taltun and in those of `wg`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use taltun_tests::lab::{PORT, Role};
use taltun_tests::node::{AfXdp, Config, Keys, Peer, XdpMode};
use taltun_tests::topology::{WIRE_A, WIRE_B, Wire};

/// The network that the tunnel carries.
const INNER: &str = "10.200.0.0/24";

/// What a tunnel is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whether b is joined too, and the hub relays.
    pub relay: bool,
    /// Where Taltun attaches its XDP program, and how.
    pub shield: Shielding,
    /// What Taltun is told in `[dataplane]`, one key a line.
    pub dataplane: &'a str,
    /// The ports that lead to the hub beside its own.
    pub port_range: Option<(u16, u16)>,
    /// What the hub's file says of rules.
    pub rules: &'a str,
}

/// Who has Taltun's XDP program, and in which mode.
#[derive(Debug, Clone, Copy)]
pub enum Shielding {
    /// All hosts, on all their wires.
    Everyone(XdpMode),
    /// The hub, on all its wires.
    Hub(XdpMode),
    /// The hub, on its wire to a alone.
    HubTowardsA(XdpMode),
}

impl Shielding {
    /// The mode on this host.
    pub fn mode_of(self, role: Role) -> XdpMode {
        match self {
            Self::Everyone(mode) => mode,
            Self::Hub(mode) | Self::HubTowardsA(mode) if role == Role::Hub => mode,
            Self::Hub(_) | Self::HubTowardsA(_) => XdpMode::Off,
        }
    }

    /// Which interfaces, as a line for `[accel]`.
    pub fn interfaces_of(self, role: Role) -> &'static str {
        match self {
            Self::HubTowardsA(_) if role == Role::Hub => "interfaces = [\"to-a\"]\n",
            _ => "",
        }
    }
}

/// Who takes part, the hub first.
fn roles(relay: bool) -> &'static [Role] {
    if relay {
        &[Role::Hub, Role::A, Role::B]
    } else {
        &[Role::Hub, Role::A]
    }
}

fn wire(role: Role) -> Wire {
    if role == Role::B { WIRE_B } else { WIRE_A }
}

/// A key pair for each who takes part, the hub's first.
pub fn keys(relay: bool, taltun: &Path) -> Result<Vec<Keys>> {
    let roles = roles(relay).iter();
    roles.map(|_| Keys::generate(taltun)).collect()
}

/// A config file for each Taltun.
pub fn taltun_configs(wanted: Wanted<'_>, keys: &[Keys]) -> Vec<(Role, String)> {
    let roles = roles(wanted.relay);
    let config = |index: usize, role: Role| {
        let peer = |name, key: &Keys, role: Role| Peer {
            name,
            public_key: key.public.clone(),
            vip: vec![role.v4().to_string()],
            endpoint: None,
            allowed_ips: Vec::new(),
        };
        let peers = if role == Role::Hub {
            let names = ["hub", "a", "b"];
            (1..roles.len())
                .map(|index| peer(names[index], &keys[index], roles[index]))
                .collect()
        } else {
            vec![Peer {
                endpoint: Some(format!("{}:{PORT}", wire(role).near_v4())),
                allowed_ips: vec![INNER.to_owned()],
                ..peer("hub", &keys[0], Role::Hub)
            }]
        };
        let config = Config {
            mode: if role == Role::Hub {
                "server"
            } else {
                "client"
            },
            vip: vec![format!("{}/24", role.v4())],
            local_addr: format!("[::]:{PORT}"),
            private_key: keys[index].private.clone(),
            xdp: wanted.shield.mode_of(role),
            af_xdp: AfXdp::Auto,
            peers,
            more: wanted.shield.interfaces_of(role),
        };
        let mut text = config.to_toml();
        if !wanted.dataplane.is_empty() {
            // Writing to a String can't fail.
            let _ = write!(text, "\n[dataplane]\n{}\n", wanted.dataplane);
        }
        if let Some((first, last)) = wanted.port_range.filter(|_| role == Role::Hub) {
            let _ = write!(text, "\n[hop]\nport_range = [{first}, {last}]\n");
        }
        if role == Role::Hub {
            text += wanted.rules;
        }
        (role, text)
    };
    let roles = roles.iter().enumerate();
    roles.map(|(index, role)| config(index, *role)).collect()
}

/// What `wg setconf` takes, for each of the others.
pub fn wg_configs(wanted: Wanted<'_>, keys: &[Keys]) -> Vec<(Role, String)> {
    let roles = roles(wanted.relay);
    let config = |index: usize, role: Role| {
        let mut text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n",
            keys[index].private
        );
        // Writing to a String can't fail.
        if role == Role::Hub {
            for (keys, role) in keys.iter().zip(roles).skip(1) {
                let (key, address) = (&keys.public, role.v4());
                let _ = write!(
                    text,
                    "[Peer]\nPublicKey = {key}\nAllowedIPs = {address}/32\n"
                );
            }
        } else {
            let (key, endpoint) = (&keys[0].public, wire(role).near_v4());
            let _ = write!(
                text,
                "[Peer]\nPublicKey = {key}\nAllowedIPs = {INNER}\nEndpoint = {endpoint}:{PORT}\nPersistentKeepalive = 25\n"
            );
        }
        (role, text)
    };
    let roles = roles.iter().enumerate();
    roles.map(|(index, role)| config(index, *role)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_takes_part_in_a_relay_only() {
        assert_eq!(roles(false), [Role::Hub, Role::A]);
        assert_eq!(roles(true), Role::ALL);
    }
}
