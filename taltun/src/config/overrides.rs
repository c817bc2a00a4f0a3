//! What is added to a file: the flags of the Go version, which override what it says, and the peers
//! of a fleet.

use super::draft::{Draft, PeerDraft, Written};
use super::error::{ConfigError, Spot};
use super::fleet::AddedPeers;
use super::fleet_peers;
use super::shaping::PeerRates;
use super::values;
use crate::crypto::{PresharedKey, PrivateKey};

/// Settings from the command line, as typed, and the peers of a fleet.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `-mode`: `server` or `client`.
    pub mode: Option<String>,
    /// `-local`: address and port to listen on.
    pub local: Option<String>,
    /// `-key`: our private key.
    pub key: Option<String>,
    /// `-vip`: our addresses in the tunnel, in place of the file's.
    pub vip: Vec<String>,
    /// `-peer`: peers in addition to the file's, each `VIP,HOST:PORT,PUBLIC_KEY`.
    pub peers: Vec<String>,
    /// `-tun`: name of the interface.
    pub tun: Option<String>,
    /// `-mtu`: MTU of the tunnel, bytes.
    pub mtu: Option<String>,
    /// `-debug`: whether to log more.
    pub debug: Option<bool>,
    /// What the hubs of `[fleet]` share: no flag, but it comes beside the file as well.
    pub fleet: AddedPeers,
}

impl Overrides {
    /// Whether they say enough to run without a file.
    pub fn suffice(&self) -> bool {
        self.key.is_some() && !self.vip.is_empty()
    }

    /// As words of a command line that says the same, but for our key: what shows it may be
    /// read by others.
    pub fn words(&self) -> Vec<String> {
        let key = self.key.as_ref().map(|_| "KEY".to_owned());
        let mut words = Vec::new();
        for (option, values) in [
            ("--mode", self.mode.as_slice()),
            ("--local", self.local.as_slice()),
            ("--key", key.as_slice()),
            ("--vip", &self.vip),
            ("--peer", &self.peers),
            ("--tun", self.tun.as_slice()),
            ("--mtu", self.mtu.as_slice()),
        ] {
            for value in values {
                words.extend([option.to_owned(), value.clone()]);
            }
        }
        words.extend(self.debug.map(|debug| format!("--debug={debug}")));
        words
    }

    pub(super) fn apply(&self, draft: &mut Draft) -> Result<(), ConfigError> {
        if let Some(mode) = read("-mode", self.mode.as_deref(), values::word)? {
            draft.mode = mode;
        }
        if let Some(addr) = read("-local", self.local.as_deref(), values::local_addr)? {
            draft.local_addr = addr;
        }
        if let Some(key) = read("-key", self.key.as_deref(), str::parse::<PrivateKey>)? {
            draft.private_key = Some(key);
        }
        if !self.vip.is_empty() {
            let spot = Spot::flag("-vip");
            draft.vip = self
                .vip
                .iter()
                .map(|text| {
                    let value = values::own_vip(text).map_err(|error| spot.error(error))?;
                    let spot = spot.clone();
                    Ok(Written { value, spot })
                })
                .collect::<Result<_, ConfigError>>()?;
        }
        for text in &self.peers {
            draft.peers.push(peer(text)?);
        }
        if let Some(name) = read("-tun", self.tun.as_deref(), values::interface_name)? {
            draft.tun_name = name;
            draft.is_named = true;
        }
        if let Some(value) = read("-mtu", self.mtu.as_deref(), values::mtu)? {
            let spot = Spot::flag("-mtu");
            draft.mtu = Some(Written { value, spot });
        }
        if let Some(debug) = self.debug {
            draft.debug = debug;
        }
        fleet_peers::add(draft, &self.fleet);
        Ok(())
    }
}

fn read<T, E: std::fmt::Display>(
    flag: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, ConfigError> {
    text.map(|text| parse(text).map_err(|error| Spot::flag(flag).error(error)))
        .transpose()
}

/// A peer as `-peer VIP,HOST:PORT,PUBLIC_KEY` gives it.
fn peer(text: &str) -> Result<PeerDraft, ConfigError> {
    let spot = Spot::flag("-peer");
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let (vip, endpoint, key) = match parts[..] {
        [vip, endpoint, key] => (vip, endpoint, key),
        [_, _] => {
            return Err(spot.error(format!(
                "the public key is missing; run `taltun pubkey < key` on that peer, with its \
                 private key in the file key, and write -peer {text},PUBLIC_KEY"
            )));
        }
        _ => return Err(spot.error(format!("expected VIP,HOST:PORT,PUBLIC_KEY, found {text:?}"))),
    };
    let written = |value| Written {
        value,
        spot: spot.clone(),
    };
    let vip = values::peer_vip(vip).map_err(|error| spot.error(error))?;
    // `VIP,,KEY` is a peer that will come to us.
    let endpoint = (!endpoint.is_empty())
        .then(|| values::endpoint(endpoint, None).map_err(|error| spot.error(error)))
        .transpose()?;
    let key = key.parse().map_err(|error| spot.error(error))?;
    Ok(PeerDraft {
        name: None,
        name_spot: spot.clone(),
        public_key: Written {
            value: key,
            spot: spot.clone(),
        },
        preshared_key: PresharedKey::default(),
        vip: vec![written(vip)],
        endpoints: endpoint.into_iter().collect(),
        endpoints_spot: None,
        allowed_ips: Vec::new(),
        persistent_keepalive: None,
        quota: None,
        expires: None,
        rates: PeerRates::default(),
        rate_down: None,
        spot,
    })
}
