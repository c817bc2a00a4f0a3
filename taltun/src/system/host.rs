//! Gives the TUN interface its MTU, addresses and routes, and takes them back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::error::errno;
use super::{SystemError, interface, routes};

/// Packets that the kernel keeps for us while we are busy. The usual 500 of a TUN lose
/// bursts that a batch later would have been read.
const TX_QUEUE_LENGTH: u32 = 1000;

/// What was done to the host, so that it can be undone.
///
/// Dropping this without [`undo`](Self::undo) leaves addresses and routes in place for as
/// long as the TUN interface exists.
#[derive(Debug)]
pub struct Host {
    handle: Handle,
    /// Carries the netlink conversation.
    connection: JoinHandle<()>,
    index: u32,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
}

impl Host {
    /// Sets up the interface `tun_name`, which must exist: `mtu` in bytes, the addresses
    /// `vip` with their subnets, up, and `routes` leading into it. What was done is undone
    /// if a part of it fails.
    ///
    /// Where IPv6 is switched off, IPv6 addresses and routes are left out with a warning,
    /// as long as there is an IPv4 address.
    pub async fn configure(
        tun_name: &str,
        mtu: u16,
        vip: &[IpNet],
        routes: &[IpNet],
    ) -> Result<Self, SystemError> {
        let index = interface::index(tun_name)
            .ok_or_else(|| SystemError::NoInterface(tun_name.to_owned()))?;
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| SystemError::Refused {
                action: "talk to the kernel over netlink".into(),
                source,
            })?;
        let mut host = Self {
            handle,
            connection: tokio::spawn(connection),
            index,
            addresses: Vec::new(),
            routes: Vec::new(),
        };
        match host.apply(tun_name, mtu, vip, routes).await {
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

    /// Takes routes and addresses back and the interface down. What has gone already, with
    /// the interface perhaps, is no matter.
    pub async fn undo(mut self) {
        for route in std::mem::take(&mut self.routes).into_iter().rev() {
            gone(self.handle.route().del(route).execute().await);
        }
        for address in std::mem::take(&mut self.addresses).into_iter().rev() {
            gone(self.handle.address().del(address).execute().await);
        }
        let down = LinkUnspec::new_with_index(self.index).down().build();
        gone(self.handle.link().change(down).execute().await);
    }

    async fn apply(
        &mut self,
        tun_name: &str,
        mtu: u16,
        vip: &[IpNet],
        routes: &[IpNet],
    ) -> Result<(), SystemError> {
        // Before anything is changed.
        let added: Vec<&IpNet> = routes
            .iter()
            .filter(|route| !vip.iter().any(|vip| vip.trunc() == **route))
            .collect();
        for net in &added {
            if let Some(device) = routes::elsewhere(&self.handle, net, self.index).await? {
                return Err(SystemError::RouteElsewhere { net: **net, device });
            }
        }
        for vip in vip {
            if let Some(device) = routes::elsewhere(&self.handle, &vip.trunc(), self.index).await? {
                warn!(
                    "{} is the network of {device} too: what is meant for one may go to the other",
                    vip.trunc()
                );
            }
        }

        let link = LinkUnspec::new_with_index(self.index)
            .mtu(u32::from(mtu))
            .txqueuelen(TX_QUEUE_LENGTH)
            .build();
        let link = self.handle.link().change(link).execute().await;
        link.map_err(|error| SystemError::refused(format!("set the MTU of {tun_name}"), &error))?;
        self.no_link_local_addresses().await;
        let has_v4 = vip.iter().any(|vip| vip.addr().is_ipv4());
        let mut has_v6 = true;
        for vip in vip {
            match self.add_address(vip).await {
                Ok(()) => {}
                Err(SystemError::NoIpv6(_)) if has_v4 => {
                    warn!("IPv6 is switched off on this machine: going on without {vip}");
                    has_v6 = false;
                }
                Err(error) => return Err(error),
            }
        }
        let up = LinkUnspec::new_with_index(self.index).up().build();
        let up = self.handle.link().change(up).execute().await;
        up.map_err(|error| SystemError::refused(format!("bring {tun_name} up"), &error))?;
        for net in added {
            if net.addr().is_ipv6() && !has_v6 {
                warn!("IPv6 is switched off on this machine: going on without a route to {net}");
                continue;
            }
            self.add_route(net).await?;
        }
        Ok(())
    }

    /// Keeps the kernel from giving the interface a link-local address and soliciting
    /// routers through it: there is no link to be local to.
    async fn no_link_local_addresses(&self) {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let attribute = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
        let link = LinkUnspec::new_with_index(self.index)
            .append_extra_attribute(attribute)
            .build();
        // A kernel without IPv6 refuses, and then there is nothing to prevent.
        if let Err(error) = self.handle.link().change(link).execute().await {
            debug!("link-local addresses: {error}");
        }
    }

    async fn add_address(&mut self, vip: &IpNet) -> Result<(), SystemError> {
        let mut request = self
            .handle
            .address()
            .add(self.index, vip.addr(), vip.prefix_len());
        let message = match vip.addr() {
            IpAddr::V4(addr) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(self.index)
                .address(addr, vip.prefix_len())
                .build(),
            IpAddr::V6(addr) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(self.index)
                .address(addr, vip.prefix_len())
                .build(),
        };
        *request.message_mut() = message.clone();
        match request.execute().await {
            Ok(()) => {
                self.addresses.push(message);
                Ok(())
            }
            Err(error) if vip.addr().is_ipv6() && ipv6_is_off(&error) => {
                Err(SystemError::NoIpv6(*vip))
            }
            Err(error) => Err(SystemError::refused(
                format!("add the address {vip}"),
                &error,
            )),
        }
    }

    async fn add_route(&mut self, net: &IpNet) -> Result<(), SystemError> {
        let route = routes::into_interface(net, self.index);
        match self.handle.route().add(route.clone()).execute().await {
            Ok(()) => {
                self.routes.push(route);
                Ok(())
            }
            // It isn't elsewhere, as we looked, so it is ours: the subnet of an address.
            Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
            Err(error) => Err(SystemError::refused(
                format!("add a route to {net}"),
                &error,
            )),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What the kernel answers to an IPv6 address where IPv6 is switched off, by sysctl, at
/// boot, or when it was built.
fn ipv6_is_off(error: &rtnetlink::Error) -> bool {
    matches!(
        errno(error),
        Some(libc::EACCES | libc::EPERM | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
    )
}

fn gone(outcome: Result<(), rtnetlink::Error>) {
    if let Err(error) = outcome {
        debug!("undoing: {error}");
    }
}
