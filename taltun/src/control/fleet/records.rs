//! Records of the store as peers of a configuration, and back.

use taltun_fleet::record::{Extra, Limits, Peer};

use crate::config::FleetPeer;
use crate::crypto::PublicKey;

/// A peer's record as a peer of a configuration. Whether that can be one, the configuration says.
pub(super) fn peer_of(public_key: PublicKey, record: Peer) -> FleetPeer {
    FleetPeer {
        name: record.name.to_string(),
        public_key,
        vip: record.vips,
        allowed_ips: record.networks,
        expires: record.limits.expires,
        quota: record.limits.quota,
        rate_up: record.limits.rate_up,
        rate_down: record.limits.rate_down,
    }
}

/// The record of a peer. What a newer version said of it stays: `before` is what there was.
pub(super) fn record_of(peer: &FleetPeer, before: Option<&Peer>) -> Result<Peer, String> {
    let name = peer.name.parse();
    let name = name.map_err(|error| format!("{:?}: {error}", peer.name))?;
    let limits = Limits {
        expires: peer.expires.clone(),
        quota: peer.quota.clone(),
        rate_up: peer.rate_up.clone(),
        rate_down: peer.rate_down.clone(),
        extra: before.map_or_else(Extra::new, |peer| peer.limits.extra.clone()),
    };
    Ok(Peer {
        name,
        vips: peer.vip.clone(),
        networks: peer.allowed_ips.clone(),
        limits,
        extra: before.map_or_else(Extra::new, |peer| peer.extra.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_goes_there_and_back_and_keeps_what_a_newer_version_says() {
        let peer = FleetPeer {
            name: "ana".to_owned(),
            public_key: PublicKey([7; 32]),
            vip: vec!["10.0.0.2".parse().unwrap()],
            allowed_ips: vec!["192.168.5.0/24".parse().unwrap()],
            expires: Some("2026-12-31".to_owned()),
            quota: Some("10 GB/month".to_owned()),
            rate_up: None,
            rate_down: Some("5 Mbit/s".to_owned()),
        };
        let mut record = record_of(&peer, None).unwrap();
        record.extra.insert("colour".to_owned(), "red".into());
        record.limits.extra.insert("mood".to_owned(), 7.into());
        let again = record_of(&peer, Some(&record)).unwrap();
        assert_eq!(again, record);
        assert_eq!(peer_of(peer.public_key, record), peer);
        let other = FleetPeer {
            name: "Ana's phone".to_owned(),
            ..peer
        };
        let error = record_of(&other, None).unwrap_err();
        assert!(error.contains("small letters"), "{error}");
    }
}
