//! How fast peers may be, as the file says, told to the workers and to what shapes for them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use taltun_shaping::{ClassSettings, Direction, Rate};

use super::peers::Peers;
use crate::config::{self, Dscp, Shaping};
use crate::crypto::PublicKey;
use crate::dataplane::shaping::Shaper;
use crate::protocol::device::Device;
use crate::protocol::peer::{Handling, Peer};
use crate::protocol::time::Time;
use crate::report::RateStatus;

/// The limits, as they were last told.
#[derive(Debug)]
pub(super) struct FiledRates {
    shaper: Arc<Shaper>,
    /// Whether there are any.
    any: bool,
}

impl FiledRates {
    /// Without any.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            shaper: Arc::new(Shaper::new()?),
            any: false,
        })
    }

    /// What shapes.
    pub(super) fn shaper(&self) -> &Arc<Shaper> {
        &self.shaper
    }

    /// How a peer is held to what, from it and to it, where `rates` are what the file says.
    pub(super) fn status(&self, peer: &Peer, rates: &config::PeerRates) -> [Option<RateStatus>; 2] {
        if !self.any {
            return [None, None];
        }
        let of = |direction, rate: Option<Rate>| {
            let queued = self.shaper.queued(peer.id(), direction)?;
            Some(RateStatus {
                bits_per_second: rate.map(Rate::bits),
                waiting_packets: queued.packets,
                waiting_bytes: queued.bytes,
                dropped_packets: queued.dropped,
            })
        };
        [
            of(Direction::Up, rates.rate_up),
            of(Direction::Down, rates.rate_down),
        ]
    }

    /// A peer came that nobody has told of the limits yet.
    pub(super) fn follow_new(
        &mut self,
        shared: &Shaping,
        peers: &Peers,
        device: &Device,
        now: Time,
    ) {
        if self.any {
            self.follow(shared, peers, device, now);
        }
    }

    /// Holds each peer to what the file says of it, and all to what they share. It goes through
    /// all of them.
    pub(super) fn follow(&mut self, shared: &Shaping, peers: &Peers, device: &Device, now: Time) {
        let uplink = shared.uplink;
        let filed = peers.filed().iter();
        let limited = filed.filter(|peer| peer.rates != config::PeerRates::default());
        let limited: HashMap<&PublicKey, config::PeerRates> =
            limited.map(|peer| (&peer.public_key, peer.rates)).collect();
        let any = uplink.is_some() || !limited.is_empty();
        if !any && !self.any {
            return;
        }
        let limits = |peer: &Peer| limited.get(peer.public_key()).copied().unwrap_or_default();
        let handle = |peer: &Peer| handling(limits(peer), uplink);
        // What doesn't wait any more passes by before there is nothing that it could wait in, and
        // what waits from now on does once there is.
        for peer in device.peers() {
            let (before, after) = (peer.handling(), handle(peer));
            peer.set_handling(Handling {
                hold_up: before.hold_up && after.hold_up,
                hold_down: before.hold_down && after.hold_down,
                ..after
            });
        }
        let all = device.peers();
        let classes = all.filter_map(|peer| class(peer, limits(peer), uplink));
        self.shaper.set(&classes.collect::<Vec<_>>(), uplink, now);
        for peer in device.peers() {
            peer.set_handling(handle(peer));
        }
        self.any = any;
    }
}

fn class(peer: &Peer, limits: config::PeerRates, uplink: Option<Rate>) -> Option<ClassSettings> {
    let class = ClassSettings {
        key: peer.id().number(),
        up: limits.rate_up,
        down: limits.rate_down,
    };
    let is_any = class.up.is_some() || class.down.is_some() || uplink.is_some();
    is_any.then_some(class)
}

fn handling(limits: config::PeerRates, uplink: Option<Rate>) -> Handling {
    Handling {
        hold_up: limits.rate_up.is_some(),
        hold_down: limits.rate_down.is_some() || uplink.is_some(),
        copy_dscp: limits.dscp == Dscp::Copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::peers;
    use crate::crypto::PrivateKey;
    use crate::protocol::device::Settings;
    use crate::protocol::randomness::Randomness;

    const FILE: &str = r#"
[interface]
private_key = "2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM="
vip = "10.0.0.1/24"
[[peers]]
name = "ana"
public_key = "N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg="
vip = "10.0.0.2"
OF_ANA
[[peers]]
name = "luis"
public_key = "bO4VeO3GqHhVxz/2RLKAvAGWMLPDBMGBrQe0xzzWNRI="
vip = "10.0.0.3"
"#;

    fn read(of_ana: &str, rest: &str) -> (Peers, Shaping) {
        let text = FILE.replace("OF_ANA", of_ana) + rest;
        let config = config::parse(&text, "hub.toml").unwrap().config;
        (Peers::new(Arc::new(config.peers)), config.shaping)
    }

    /// What is done with ana's packets, luis's, and those of whom the file doesn't know.
    fn handled(device: &Device, peers: &Peers) -> [Handling; 3] {
        let known = |name| *peers.named(name).next().unwrap();
        let keys = [known("ana"), known("luis"), stranger()];
        keys.map(|key| device.peer(&key).unwrap().handling())
    }

    fn stranger() -> PublicKey {
        PrivateKey::from_bytes([9; 32]).public_key()
    }

    #[test]
    fn peers_are_held_to_what_the_file_says_now() {
        let mut device = Device::new(Settings {
            private_key: PrivateKey::from_bytes([7; 32]),
            randomness: Randomness::seeded([0; 32]),
            wall_clock_at_zero: std::time::Duration::ZERO,
            mtu: 1420,
            local_addresses: Vec::new(),
            relay: false,
        });
        let (filed, _) = read("", "");
        for peer in filed.filed().iter() {
            device.add_peer(peers::settings(peer), Time::START).unwrap();
        }
        let mut by_wg = peers::settings(&filed.filed()[0]);
        by_wg.public_key = stranger();
        by_wg.allowed_ips.clear();
        device.add_peer(by_wg, Time::START).unwrap();
        let mut rates = FiledRates::new().unwrap();
        let none = Handling::default();
        let held = |hold_up, hold_down| Handling {
            hold_up,
            hold_down,
            copy_dscp: false,
        };
        let copy_dscp = Handling {
            copy_dscp: true,
            ..none
        };
        let up = "rate_up = \"5 Mbit/s\"";
        let uplink = "[shaping]\nuplink = \"9 Mbit/s\"";
        for (of_ana, rest, expected) in [
            ("", "", [none; 3]),
            (up, "", [held(true, false), none, none]),
            (
                "rate_down = \"5 Mbit/s\"",
                "",
                [held(false, true), none, none],
            ),
            (
                up,
                uplink,
                [held(true, true), held(false, true), held(false, true)],
            ),
            ("dscp = \"copy\"", "", [copy_dscp, none, none]),
            ("", "", [none; 3]),
        ] {
            let (peers, shaping) = read(of_ana, rest);
            rates.follow(&shaping, &peers, &device, Time::START);
            assert_eq!(handled(&device, &peers), expected, "{of_ana} {rest}");
        }
        // Who comes later is held as well, where anybody is.
        let (peers, shaping) = read("", uplink);
        rates.follow_new(&shaping, &peers, &device, Time::START);
        assert_eq!(handled(&device, &peers), [none; 3], "nobody was");
        rates.follow(&shaping, &peers, &device, Time::START);
        assert!(device.remove_peer(&stranger()));
        let mut again = peers::settings(&peers.filed()[0]);
        again.public_key = stranger();
        again.allowed_ips.clear();
        device.add_peer(again, Time::START).unwrap();
        rates.follow_new(&shaping, &peers, &device, Time::START);
        assert_eq!(handled(&device, &peers), [held(false, true); 3]);
    }
}
