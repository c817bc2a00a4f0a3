//! All that is done to the host for one tunnel, in an order in which nothing leaks, and all
//! of it undone.
//!
//! The firewall comes first and goes last, so that a kill switch covers every moment between.
//! What wouldn't vanish with the process is written to a journal before it is done.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use tracing::{info, warn};

use super::journal::Journal;
use super::network::{self, Network, Wanted};
use super::{SystemError, dns, firewall, marks, policy, sysctl};
use crate::config::Config;

/// Where endpoints given by name are, by `HOST:PORT`.
pub type Endpoints = BTreeMap<String, SocketAddr>;

/// What was done to the host, so that it can be undone.
#[derive(Debug)]
pub struct Host {
    /// `None` once it was undone.
    network: Option<Network>,
    journal: Journal,
    directory: PathBuf,
    mark: Option<u32>,
    index: u32,
}

impl Host {
    /// Sets the host up for `config`, whose interface must exist. What was done is undone if
    /// a part of it fails. `names` are the endpoints that were looked up, `directory` is
    /// where to remember what is to be undone.
    ///
    /// What an earlier process for the same interface left is replaced or undone.
    pub async fn configure(
        config: &Config,
        names: &Endpoints,
        directory: &Path,
    ) -> Result<Self, SystemError> {
        let name = config.interface.tun_name.as_str();
        let endpoints = endpoints(config, names);
        let mark = mark(config, &endpoints, directory).await?;
        let policy = config.routes_around(&endpoints).next().is_some();
        let rules = firewall::Rules::of(config, mark, policy);

        // What could be missing is found out before anything is touched.
        let firewall = firewall::choose(config, &rules)?;
        let resolver = dns::choose(&config.host.dns)?;
        recover(directory, name, firewall).await;

        let settings = sysctl::wanted(config, policy);
        let mut host = Self {
            network: None,
            journal: Journal {
                mark: mark.filter(|_| policy),
                firewall,
                dns: resolver,
                settings: sysctl::before(&settings),
                endpoints: names.clone(),
                ..Journal::new(name)
            },
            directory: directory.to_owned(),
            mark,
            index: 0,
        };
        match host.apply(config, &endpoints, &rules, &settings).await {
            Ok(()) => Ok(host),
            Err(error) => {
                host.undo().await;
                Err(error)
            }
        }
    }

    /// The number of the interface.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The mark that our datagrams have to have.
    pub fn mark(&self) -> Option<u32> {
        self.mark
    }

    /// Leads one more network into the tunnel.
    pub async fn lead(&mut self, net: IpNet) -> Result<(), SystemError> {
        match &mut self.network {
            Some(network) => network.lead(&net).await,
            None => Ok(()),
        }
    }

    /// Takes back what [`lead`](Self::lead) did.
    pub async fn release(&mut self, net: IpNet) {
        if let Some(network) = &mut self.network {
            network.release(&net).await;
        }
    }

    /// Takes everything back. What has gone already, with the interface perhaps, is no
    /// matter.
    pub async fn undo(mut self) {
        let network = self.network.take();
        let journal = std::mem::take(&mut self.journal);
        take_back(journal, &self.directory, network, None).await;
    }

    async fn apply(
        &mut self,
        config: &Config,
        endpoints: &[IpAddr],
        rules: &firewall::Rules,
        settings: &sysctl::Settings,
    ) -> Result<(), SystemError> {
        let interface = &config.interface;
        if !self.journal.is_empty() {
            let written = self.journal.write(&self.directory);
            written.map_err(|reason| SystemError::Refused {
                action: format!(
                    "write {}",
                    Journal::path(&self.directory, &interface.tun_name).display()
                ),
                reason,
            })?;
        }
        if let Some(kind) = self.journal.firewall {
            firewall::apply(kind, rules).await?;
        }
        let network = Network::configure(Wanted {
            tun_name: &interface.tun_name,
            mtu: interface.mtu,
            vip: &interface.vip,
            routes: &interface.routes,
            endpoints,
            // A mark that was only asked for is for rules of others.
            mark: self.journal.mark,
        })
        .await?;
        self.index = network.index();
        self.network = Some(network);
        sysctl::set(settings, &self.journal.settings)?;
        if let Some(kind) = self.journal.dns {
            let everything = self.journal.mark.is_some();
            dns::set(kind, &interface.tun_name, &config.host.dns, everything).await?;
        }
        Ok(())
    }
}

/// For the ways out that an error takes: there is no waiting in a destructor, so a thread of
/// its own takes back what doesn't vanish with the interface.
impl Drop for Host {
    fn drop(&mut self) {
        if self.journal.is_empty() {
            return;
        }
        let journal = std::mem::take(&mut self.journal);
        let directory = std::mem::take(&mut self.directory);
        let undone = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(take_back(journal, &directory, None, None));
            std::io::Result::Ok(())
        })
        .join();
        if !matches!(undone, Ok(Ok(()))) {
            warn!("the host may not be as it was; the next start cleans up");
        }
    }
}

/// Where endpoints given by name were when the tunnel was last set up, if its end was no
/// orderly one: with a kill switch left behind no name can be looked up.
pub fn remembered_endpoints(directory: &Path, interface: &str) -> Endpoints {
    Journal::left_behind(directory, interface)
        .map(|journal| journal.endpoints)
        .unwrap_or_default()
}

/// Undoes what a killed process left, but for firewall rules that will be replaced.
async fn recover(directory: &Path, interface: &str, replaced_by: Option<firewall::Kind>) {
    if let Some(journal) = Journal::left_behind(directory, interface) {
        info!("undoing what an earlier {interface} left on this host");
        take_back(journal, directory, None, replaced_by).await;
    }
}

/// Undoes all of a journal, and `network`; firewall rules last, and not those that
/// `replaced_by` is about to replace.
async fn take_back(
    mut journal: Journal,
    directory: &Path,
    network: Option<Network>,
    replaced_by: Option<firewall::Kind>,
) {
    if journal.interface.is_empty() {
        return;
    }
    let interface = journal.interface.clone();
    if let Some(kind) = journal.dns {
        dns::unset(kind, &interface).await;
    }
    match network {
        Some(network) => network.undo().await,
        None => remove_rules(journal.mark).await,
    }
    journal.hand_over(directory);
    sysctl::restore(&journal.settings);
    if let Some(kind) = journal.firewall
        && replaced_by != Some(kind)
    {
        firewall::remove(kind, &interface).await;
    }
    Journal::remove(directory, &interface);
}

async fn remove_rules(mark: Option<u32>) {
    let Some(mark) = mark else { return };
    match network::connect() {
        Ok((connection, handle)) => {
            policy::remove(&handle, mark).await;
            connection.abort();
        }
        Err(error) => warn!("policy rules may be left: {error}"),
    }
}

/// The mark that our datagrams are to have: one that nobody else uses, unless the file says which.
async fn mark(
    config: &Config,
    endpoints: &[IpAddr],
    directory: &Path,
) -> Result<Option<u32>, SystemError> {
    let mark = config.mark(endpoints);
    if mark.is_none() || config.host.fwmark.is_some() {
        return Ok(mark);
    }
    let name = &config.interface.tun_name;
    let before = Journal::left_behind(directory, name).and_then(|journal| journal.mark);
    let (connection, handle) = network::connect()?;
    let unused = marks::unused(&handle, name, before).await;
    connection.abort();
    Ok(unused?.or(mark))
}

/// The addresses of all endpoints that are known.
fn endpoints(config: &Config, names: &Endpoints) -> Vec<IpAddr> {
    let literal = config.peers.iter().filter_map(|peer| match peer.endpoint {
        Some(crate::config::Endpoint::Address(address)) => Some(address.ip()),
        _ => None,
    });
    literal.chain(names.values().map(SocketAddr::ip)).collect()
}
