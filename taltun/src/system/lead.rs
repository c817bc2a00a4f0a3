//! Whether packets for one of our routes go into the tunnel, or elsewhere because of another's
//! route in its place or rule before it; and putting ours back.
//!
//! That such a route exists says little: to the kernel, routes with the same network, table and
//! metric are the same, whatever their interface.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::Handle;
use rtnetlink::packet_route::route::RouteMessage;

use super::routes;
use crate::os::interface;

/// Where packets to the network of a route of ours go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// By our route, or by one to a part of its network only, which is the business of others.
    Ours,
    /// By another route to the same network in the same table, or nowhere.
    Another(String),
    /// By another table, to which a policy rule sends them first.
    OtherTable(String),
}

/// Where packets to the network of `ours` go.
pub(super) async fn lead(handle: &Handle, ours: &RouteMessage) -> Lead {
    let Some((net, index)) = routes::destination(ours).zip(routes::output(ours)) else {
        return Lead::Ours;
    };
    let mut verdict = Lead::Ours;
    for to in probes(&net) {
        let Ok(found) = routes::best(handle, to).await else {
            return Lead::Ours;
        };
        let Some(found) = found else {
            verdict = Lead::Another(format!(
                "nothing leads to {net} any more (`ip route get {to}`)"
            ));
            continue;
        };
        let led = routes::destination(&found);
        let partly = led.is_none_or(|led| led.prefix_len() > net.prefix_len());
        if routes::output(&found) == Some(index) || partly {
            return Lead::Ours;
        }
        let through = routes::output(&found).map_or_else(|| "no interface".into(), interface::told);
        verdict = if routes::table(&found) == routes::table(ours) {
            Lead::Another(format!("a route of others leads {net} through {through}"))
        } else {
            Lead::OtherTable(format!(
                "a policy rule of others sends what goes to {net} to table {} first, and so \
                 through {through} (`ip rule`, `ip route get {to}`)",
                routes::table(&found)
            ))
        };
    }
    verdict
}

/// Puts our route in the place of another that the kernel takes for the same one. An error says
/// who leads its network even so.
pub(super) async fn take_back(handle: &Handle, ours: &RouteMessage) -> Result<(), String> {
    // Where ours is behind another one it would be there twice.
    let _ = handle.route().del(ours.clone()).execute().await;
    let replaced = handle.route().add(ours.clone()).replace().execute().await;
    replaced.map_err(|error| error.to_string())?;
    match lead(handle, ours).await {
        Lead::Ours => Ok(()),
        Lead::Another(reason) | Lead::OtherTable(reason) => Err(reason),
    }
}

/// Addresses that stand for a network; nothing is sent there. It counts as ours if one is led to
/// us, as of the others a part may be somebody else's.
fn probes(net: &IpNet) -> Vec<IpAddr> {
    let mut probes = vec![routes::inside(net)];
    let first = net.hosts().next();
    probes.extend(first.filter(|first| net.prefix_len() > 1 && !probes.contains(first)));
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_stood_for_by_addresses_of_its_own() {
        for net in [
            "0.0.0.0/0",
            "128.0.0.0/1",
            "10.9.0.0/24",
            "10.9.0.2/31",
            "10.9.0.2/32",
            "::/0",
            "fd00::/64",
            "fd00::2/127",
            "fd00::2/128",
        ] {
            let net: IpNet = net.parse().unwrap();
            let probes = probes(&net);
            assert!(!probes.is_empty());
            assert!(probes.iter().all(|to| net.contains(to)), "{net} {probes:?}");
        }
    }
}
