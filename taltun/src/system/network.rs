//! Sets the TUN interface's MTU, addresses and routes, and removes them; also the policy rules for
//! some of these routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::error::errno;
use super::routes::{Holder, Holders};
use super::{SystemError, policy, routes, sysctl};
use crate::config::{Interface, leads_around};
use crate::os::interface;

/// Packets that the kernel keeps for us while we are busy. The usual 500 of a TUN lose
/// bursts that a batch later would have been read.
const TX_QUEUE_LENGTH: u32 = 1000;

/// What was done to the host, so that it can be undone.
///
/// Dropping this without [`undo`](Self::undo) leaves addresses and routes in place for as
/// long as the TUN interface exists.
#[derive(Debug)]
pub(super) struct Network {
    handle: Handle,
    /// Carries the netlink conversation.
    connection: JoinHandle<()>,
    index: u32,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
    /// The mark whose rules lead to a table of our own.
    mark: Option<u32>,
    rules: Vec<RuleMessage>,
}

/// What the interface is to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Its name.
    pub(super) tun_name: &'a str,
    /// Its MTU, bytes.
    pub(super) mtu: u16,
    /// Its addresses with their subnets.
    pub(super) vip: &'a [IpNet],
    /// What leads into it.
    pub(super) routes: &'a [IpNet],
    /// Where our own datagrams go: no route may lead them back to us.
    pub(super) endpoints: &'a [IpAddr],
    /// The mark on our own datagrams, where routes have to lead around them.
    pub(super) mark: Option<u32>,
}

impl Network {
    /// Sets up the interface, which must exist, and brings it up. What was done is undone if
    /// a part of it fails.
    ///
    /// Where IPv6 is switched off, IPv6 addresses and routes are left out with a warning,
    /// as long as there is an IPv4 address.
    pub(super) async fn configure(wanted: Wanted<'_>) -> Result<Self, SystemError> {
        let name = wanted.tun_name;
        let index =
            interface::index(name).ok_or_else(|| SystemError::NoInterface(name.to_owned()))?;
        let (connection, handle) = connect()?;
        let mut network = Self {
            handle,
            connection,
            index,
            addresses: Vec::new(),
            routes: Vec::new(),
            mark: None,
            rules: Vec::new(),
        };
        match network.apply(wanted).await {
            Ok(()) => Ok(network),
            Err(error) => {
                network.undo().await;
                Err(error)
            }
        }
    }

    /// The number of the interface.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// The addresses, routes and rules that there are to be.
    pub(super) fn made(&self) -> (&[AddressMessage], &[RouteMessage], &[RuleMessage]) {
        (&self.addresses, &self.routes, &self.rules)
    }

    /// Whether this address was added.
    pub(super) fn has(&self, address: &IpAddr) -> bool {
        let is_it = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Address(found) if found == address);
        let mut added = self.addresses.iter();
        added.any(|added| added.attributes.iter().any(is_it))
    }

    /// Takes routes and addresses back and the interface down. What has gone already, with
    /// the interface perhaps, is no matter.
    pub(super) async fn undo(mut self) {
        if let Some(mark) = self.mark.take() {
            policy::remove(&self.handle, mark).await;
        }
        for route in std::mem::take(&mut self.routes).into_iter().rev() {
            gone(self.handle.route().del(route).execute().await);
        }
        for address in std::mem::take(&mut self.addresses).into_iter().rev() {
            gone(self.handle.address().del(address).execute().await);
        }
        let down = LinkUnspec::new_with_index(self.index).down().build();
        gone(self.handle.link().change(down).execute().await);
    }

    /// Leads one more network into the interface, by the main table. An error where somebody else
    /// has a route to it, which may win over ours.
    pub(super) async fn lead(&mut self, net: &IpNet) -> Result<(), SystemError> {
        if let Some(holder) = Holders::new(&self.handle, self.index).of(net).await? {
            return Err(holder.error(*net));
        }
        self.make_route(net, routes::led(net, self.index), None)
            .await
    }

    /// Takes that route back, if it is ours.
    pub(super) async fn release(&mut self, net: &IpNet) {
        let route = routes::led(net, self.index);
        if let Some(at) = self.routes.iter().position(|made| *made == route) {
            gone(
                self.handle
                    .route()
                    .del(self.routes.swap_remove(at))
                    .execute()
                    .await,
            );
        }
    }

    /// Makes the routes those of `new` instead of `old`. An error leaves them as they were.
    pub(super) async fn change_routes(
        &mut self,
        old: &[IpNet],
        new: &Interface,
        endpoints: &[IpAddr],
        mark: Option<u32>,
    ) -> Result<(), SystemError> {
        let around = |net: &IpNet| mark.filter(|_| leads_around(net, endpoints));
        let is_subnet = |net: &IpNet| new.vip.iter().any(|vip| vip.trunc() == *net);
        let added: Vec<&IpNet> = new
            .routes
            .iter()
            .filter(|net| !old.contains(net) && !is_subnet(net))
            .collect();
        let mut holders = Holders::new(&self.handle, self.index);
        for net in &added {
            if (net.prefix_len() > 0 || around(net).is_none())
                && let Some(holder) = holders.of(net).await?
            {
                return Err(holder.error(**net));
            }
        }
        let mut families = Vec::new();
        if let Some(mark) = mark {
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                if !self.leads(family, mark) {
                    families.push(family);
                }
            }
        }
        for (at, net) in added.iter().enumerate() {
            if let Err(error) = self.add_route(net, around(net)).await {
                for net in &added[..at] {
                    self.remove_route(net, around(net)).await;
                }
                return Err(error);
            }
        }
        // Of a family that had no route of ours in the table before.
        for family in families {
            let Some(mark) = mark.filter(|mark| self.leads(family, *mark)) else {
                continue;
            };
            match policy::add(&self.handle, family, mark).await {
                Ok(made) => self.rules.extend(made),
                Err(error) => {
                    for net in &added {
                        self.remove_route(net, around(net)).await;
                    }
                    return Err(error);
                }
            }
        }
        for net in old.iter().filter(|net| !new.routes.contains(net)) {
            self.remove_route(net, None).await;
            self.remove_route(net, mark).await;
        }
        Ok(())
    }

    /// Whether a route of ours of this family is in the table of this number.
    fn leads(&self, family: AddressFamily, mark: u32) -> bool {
        self.routes
            .iter()
            .any(|route| route.header.address_family == family && routes::table(route) == mark)
    }

    /// Takes a route back, if it is ours.
    async fn remove_route(&mut self, net: &IpNet, table: Option<u32>) {
        let route = routes::into_interface(net, self.index, table);
        if let Some(at) = self.routes.iter().position(|made| *made == route) {
            let made = self.routes.swap_remove(at);
            gone(self.handle.route().del(made).execute().await);
        }
    }

    async fn apply(&mut self, wanted: Wanted<'_>) -> Result<(), SystemError> {
        let Wanted {
            tun_name,
            mtu,
            vip,
            routes,
            endpoints,
            mark,
        } = wanted;
        let around = |net: &IpNet| mark.filter(|_| leads_around(net, endpoints));
        // Before anything is changed.
        let added: Vec<&IpNet> = routes
            .iter()
            .filter(|route| !vip.iter().any(|vip| vip.trunc() == **route))
            .collect();
        let mut holders = Holders::new(&self.handle, self.index);
        // A default route leaves the main table's alone, as it stands in a table of its own.
        for net in added
            .iter()
            .filter(|net| net.prefix_len() > 0 || around(net).is_none())
        {
            if let Some(holder) = holders.of(net).await? {
                return Err(holder.error(**net));
            }
        }
        for vip in vip {
            match holders.of(&vip.trunc()).await? {
                None => {}
                Some(Holder::Interface(device)) => warn!(
                    "{} is the network of {device} too: what is meant for one may go to the \
                     other; choose a vip in another network, or vip = \"{}\" and the peers' \
                     networks in routes",
                    vip.trunc(),
                    IpNet::from(vip.addr())
                ),
                Some(holder) => return Err(holder.error(vip.trunc())),
            }
        }

        let link = LinkUnspec::new_with_index(self.index)
            .mtu(u32::from(mtu))
            .txqueuelen(TX_QUEUE_LENGTH)
            .build();
        let link = self.handle.link().change(link).execute().await;
        link.map_err(|error| SystemError::refused(format!("set the MTU of {tun_name}"), &error))?;
        self.no_link_local_addresses().await;
        sysctl::send_no_redirects(tun_name);
        if vip.iter().chain(routes).any(|net| net.addr().is_ipv6()) {
            sysctl::allow_ipv6(tun_name);
        }
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
            match self.add_route(net, around(net)).await {
                Err(SystemError::NoIpv6(_)) if has_v4 => {
                    warn!(
                        "IPv6 is switched off on this machine: going on without a route to {net}"
                    );
                    has_v6 = false;
                }
                outcome => outcome?,
            }
        }
        self.add_rules(mark).await
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
        let mut message = match vip.addr() {
            IpAddr::V4(addr) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(self.index)
                .address(addr, vip.prefix_len())
                .build(),
            IpAddr::V6(addr) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(self.index)
                .address(addr, vip.prefix_len())
                .build(),
        };
        if vip.addr().is_ipv6() {
            // There is no neighbour on a TUN to have the address already, and until the kernel
            // had looked for one nothing could be bound to it.
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
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

    /// The rules that lead to the table of ours, of the families that it has routes of.
    async fn add_rules(&mut self, mark: Option<u32>) -> Result<(), SystemError> {
        let Some(mark) = mark else { return Ok(()) };
        // Those of a process that was killed, if there are any: they outlive it.
        policy::remove(&self.handle, mark).await;
        self.mark = Some(mark);
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let leads = |route: &RouteMessage| {
                route.header.address_family == family && routes::table(route) == mark
            };
            if self.routes.iter().any(leads) {
                let made = policy::add(&self.handle, family, mark).await?;
                self.rules.extend(made);
            }
        }
        Ok(())
    }

    async fn add_route(&mut self, net: &IpNet, table: Option<u32>) -> Result<(), SystemError> {
        let route = routes::into_interface(net, self.index, table);
        self.make_route(net, route, table).await
    }

    async fn make_route(
        &mut self,
        net: &IpNet,
        route: RouteMessage,
        table: Option<u32>,
    ) -> Result<(), SystemError> {
        match self.handle.route().add(route.clone()).execute().await {
            Ok(()) => {
                self.routes.push(route);
                Ok(())
            }
            // In the main table nobody else has it, as we looked, so it is ours: the subnet of
            // an address.
            Err(error) if errno(&error) == Some(libc::EEXIST) => match table {
                None => Ok(()),
                Some(table) => Err(SystemError::RouteInTable { net: *net, table }),
            },
            Err(error) if net.addr().is_ipv6() && ipv6_is_off(&error) => {
                Err(SystemError::NoIpv6(*net))
            }
            Err(error) => Err(SystemError::refused(
                format!("add a route to {net}"),
                &error,
            )),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A conversation with the kernel, and what carries it.
pub(super) fn connect() -> Result<(JoinHandle<()>, Handle), SystemError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|reason| SystemError::Refused {
            action: "talk to the kernel over netlink".into(),
            reason,
        })?;
    Ok((tokio::spawn(connection), handle))
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
