//! What is asked back before a ban that may mean something else than it does.

use ipnet::IpNet;

use super::owners::{Owners, is_huge};
use crate::layer::Layer;
use crate::report::{Refused, Why};

/// The question about a ban of `net`, if there is one. Without a layer the network is meant to
/// be one outside, as far as it doesn't look like one inside.
pub(super) fn about(net: IpNet, layer: Option<Layer>, owners: &mut Owners<'_>) -> Option<Refused> {
    if is_huge(net) {
        let whose = match layer {
            Some(Layer::Inner) => "from inside the tunnel",
            Some(Layer::Outer) | None => "that peers send",
        };
        return Some(Refused::because(
            Why::TooWide,
            format!("{net} would drop nearly everything {whose}; add --force if that is meant"),
        ));
    }
    let mut vips = owners.vips.iter().map(IpNet::addr);
    let own = vips.find(|vip| net.contains(vip));
    let address = net.addr();
    let is_alone = net.prefix_len() == net.max_prefix_len();
    let is_ours_alone = || {
        let text =
            format!("{address} is this machine's own address; add --force if it is to be banned");
        Refused::because(Why::OwnAddress, text)
    };
    if layer == Some(Layer::Inner) {
        return own.map(|vip| {
            if is_alone {
                return is_ours_alone();
            }
            let text = format!(
                "{net} has this machine's own address {vip} in it; add --force if all of it is to \
                 be banned"
            );
            Refused::because(Why::OwnAddress, text)
        });
    }
    // A network that this machine is in may well be meant; this machine alone hardly. The
    // tunnel's own network is asked about below.
    let is_ours = owners.own.contains(&address) || address.is_loopback();
    let mut networks = owners.vips.iter();
    if is_alone && is_ours && !networks.any(|vip| vip.contains(&address)) {
        return Some(is_ours_alone());
    }
    // Where a peer is heard from, it is an address outside, whatever else it is.
    if layer == Some(Layer::Outer) || !owners.peers_in(&[net], Layer::Outer).is_empty() {
        return None;
    }
    let (address, whose) = if let Some(vip) = own {
        (vip.to_string(), "this machine's own address".to_owned())
    } else {
        let (owned, key) = owners.of(net)?;
        let whose = format!("an address of {}", owners.peers.label(&key));
        (owned.to_string(), whose)
    };
    let text = format!(
        "{address} is {whose} inside the tunnel: add --inner to ban {net} there, or --outer to \
         drop datagrams that come from {net} outside"
    );
    Some(Refused::because(Why::IsInside, text))
}
