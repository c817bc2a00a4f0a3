//! The answer to `get=1`.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::crypto::{PresharedKey, PrivateKey};
use crate::protocol::peer::Peer;

/// Bytes of text that are made before they are sent.
const CHUNK: usize = 32 * 1024;

/// The state of a device at one moment.
#[derive(Debug)]
pub(in crate::control) struct Snapshot {
    /// Our own key, if we have one.
    pub private_key: Option<PrivateKey>,
    /// The UDP port.
    pub listen_port: u16,
    /// The mark on our datagrams; 0 for none.
    pub fwmark: u32,
    /// The peers.
    pub peers: Vec<SnapshotPeer>,
}

/// A peer at that moment.
#[derive(Debug)]
pub(in crate::control) struct SnapshotPeer {
    /// Its key and its counters.
    pub peer: Arc<Peer>,
    /// The shared symmetric key.
    pub preshared_key: PresharedKey,
    /// When the last handshake was completed, since the Unix epoch.
    pub last_handshake: Option<Duration>,
    /// Seconds between keepalives; 0 for off.
    pub persistent_keepalive: u64,
    /// What it may send from and gets.
    pub allowed_ips: Vec<IpNet>,
}

impl Snapshot {
    /// The answer as text, in pieces of about 32 KiB: 130,000 allowed IPs never lie in
    /// memory as one string. What follows it, `errno=0` and an empty line, is included.
    pub(in crate::control) fn pieces(self) -> impl Iterator<Item = String> {
        let mut head = String::new();
        if let Some(key) = &self.private_key {
            hex_line(&mut head, "private_key", key.as_bytes());
        }
        if self.listen_port != 0 {
            line(&mut head, "listen_port", self.listen_port);
        }
        if self.fwmark != 0 {
            line(&mut head, "fwmark", self.fwmark);
        }
        let peers = self.peers.into_iter().flat_map(SnapshotPeer::pieces);
        std::iter::once(head)
            .chain(peers)
            .chain(std::iter::once("errno=0\n\n".to_owned()))
    }
}

impl SnapshotPeer {
    fn pieces(self) -> impl Iterator<Item = String> {
        let mut head = String::new();
        let peer = &self.peer;
        hex_line(&mut head, "public_key", &peer.public_key().0);
        // Shown even when there is none, as the kernel's and wireguard-go's are.
        hex_line(&mut head, "preshared_key", &self.preshared_key.0);
        line(&mut head, "protocol_version", 1);
        if let Some(endpoint) = peer.endpoint() {
            line(&mut head, "endpoint", unmapped(endpoint.remote));
        }
        let handshake = self.last_handshake.unwrap_or_default();
        line(&mut head, "last_handshake_time_sec", handshake.as_secs());
        line(
            &mut head,
            "last_handshake_time_nsec",
            handshake.subsec_nanos(),
        );
        line(&mut head, "tx_bytes", peer.tx_bytes());
        line(&mut head, "rx_bytes", peer.rx_bytes());
        line(
            &mut head,
            "persistent_keepalive_interval",
            self.persistent_keepalive,
        );
        let mut nets = self.allowed_ips.into_iter().peekable();
        std::iter::once(head).chain(std::iter::from_fn(move || {
            nets.peek()?;
            let mut text = String::with_capacity(CHUNK + 128);
            while text.len() < CHUNK
                && let Some(net) = nets.next()
            {
                line(&mut text, "allowed_ip", net);
            }
            Some(text)
        }))
    }
}

fn line(text: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{key}={value}");
}

fn hex_line(text: &mut String, key: &str, bytes: &[u8]) {
    line(text, key, format_args!("{:x}", base16ct::HexDisplay(bytes)));
}

/// An IPv4 peer is shown as one, whatever our socket is.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(ip.into(), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::device::{Device, PeerSettings, Settings};
    use crate::protocol::randomness::Randomness;
    use crate::protocol::time::Time;

    #[test]
    fn an_answer_has_the_lines_that_wg_reads_and_comes_in_pieces() {
        let mut device = Device::new(Settings {
            private_key: PrivateKey::from_bytes([1; 32]),
            randomness: Randomness::seeded([0; 32]),
            wall_clock_at_zero: Duration::ZERO,
            mtu: 1420,
            local_addresses: Vec::new(),
            relay: false,
        });
        let peer = device
            .add_peer(
                PeerSettings {
                    public_key: crate::crypto::PublicKey([2; 32]),
                    preshared_key: PresharedKey::default(),
                    endpoint: Some("[fe80::1%3]:7".parse::<SocketAddr>().unwrap().into()),
                    allowed_ips: Vec::new(),
                    persistent_keepalive: None,
                },
                Time::START,
            )
            .unwrap();
        let many = (0..130_000_u32).map(|n| IpNet::from(std::net::IpAddr::from(n.to_be_bytes())));
        let snapshot = Snapshot {
            private_key: device.private_key().cloned(),
            listen_port: 51820,
            fwmark: 0,
            peers: vec![SnapshotPeer {
                peer,
                preshared_key: PresharedKey::default(),
                last_handshake: Some(Duration::new(12, 34)),
                persistent_keepalive: 25,
                allowed_ips: many.collect(),
            }],
        };
        let pieces: Vec<String> = snapshot.pieces().collect();
        assert!(pieces.len() > 50);
        assert!(pieces.iter().all(|piece| piece.len() < CHUNK + 128));
        let text = pieces.concat();
        let (head, rest) = text.split_once("allowed_ip=").unwrap();
        let private = "01".repeat(32).replacen("01", "00", 1);
        let private = format!("{}41", &private[..62]);
        assert_eq!(
            head,
            format!(
                "private_key={private}\nlisten_port=51820\npublic_key={}\npreshared_key={}\n\
                 protocol_version=1\nendpoint=[fe80::1%3]:7\nlast_handshake_time_sec=12\n\
                 last_handshake_time_nsec=34\ntx_bytes=0\nrx_bytes=0\n\
                 persistent_keepalive_interval=25\n",
                "02".repeat(32),
                "00".repeat(32)
            )
        );
        assert_eq!(rest.matches("allowed_ip=").count(), 130_000 - 1);
        assert!(rest.ends_with("allowed_ip=0.1.251.207/32\nerrno=0\n\n"));
    }
}
