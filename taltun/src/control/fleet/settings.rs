//! What the configuration says of a hub.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use taltun_fleet::etcd::{Endpoint, Limits, Tls};
use taltun_fleet::record::{Extra, Hub as HubRecord};
use taltun_fleet::{Label, Store};

use crate::config::{Fleet, Interface};
use crate::crypto::PrivateKey;

/// How long calls may take: somebody waits for a change of a peer.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(2),
    call: Duration::from_secs(4),
};

/// What the configuration says of this hub.
pub(super) struct Settings {
    pub network: Label,
    pub hub: Label,
    pub endpoints: Vec<Endpoint>,
    pub tls: Option<Tls>,
    /// What the others are told of it.
    pub says: HubRecord,
    pub private_key: PrivateKey,
}

impl Settings {
    pub(super) fn of(fleet: &Fleet, interface: &Interface) -> anyhow::Result<Self> {
        let endpoints = fleet.etcd.iter().map(|text| text.parse());
        let endpoints: Result<Vec<Endpoint>, _> = endpoints.collect();
        let file = |file: &Option<PathBuf>| file.as_deref().map(|file| fleet.path_of(file));
        let (ca, cert, key) = (file(&fleet.ca), file(&fleet.cert), file(&fleet.key));
        let own = cert.as_deref().zip(key.as_deref());
        let tls = ca.as_deref().map(|ca| Tls::read(ca, own));
        let group = fleet.group.as_deref().map(str::parse).transpose();
        Ok(Self {
            network: fleet.name.parse().context("fleet.name")?,
            hub: fleet.hub.parse().context("fleet.hub")?,
            endpoints: endpoints.context("fleet.etcd")?,
            tls: tls.transpose().context("[fleet]")?,
            says: HubRecord {
                identity: interface.private_key.public_key().0,
                endpoints: fleet.endpoints.clone(),
                group: group.context("fleet.group")?,
                shared: fleet.shared_address,
                vips: interface.vip.iter().map(ipnet::IpNet::addr).collect(),
                extra: Extra::new(),
            },
            private_key: interface.private_key.clone(),
        })
    }

    /// This hub's own key is another one.
    pub(super) fn set_own(&mut self, key: PrivateKey) {
        self.says.identity = key.public_key().0;
        self.private_key = key;
    }

    pub(super) fn store(&self) -> anyhow::Result<Store> {
        Store::new(self.endpoints.clone(), self.tls.clone(), LIMITS)
            .context("fleet.etcd names no member of etcd")
    }
}
