//! The table of networks against a list: whatever is inserted, taken and looked up, in any order.

use std::net::IpAddr;

use ipnet::IpNet;
use taltun_protocol::allowed_ips::{AllowedIps, canonical};

use crate::choices::Choices;

/// Networks that nest and part at every length: few values of each byte.
fn net(choices: &mut Choices<'_>) -> IpNet {
    const FEW: [u8; 6] = [0, 1, 128, 254, 255, 10];
    let kind = choices.byte();
    let bits = choices.byte();
    if kind & 1 == 0 {
        let bytes = [(); 4].map(|()| choices.of(&FEW));
        return IpNet::new(IpAddr::from(bytes), bits % 33).unwrap();
    }
    let mut bytes = [0; 16];
    if kind & 2 == 0 {
        // IPv4 in its mapped form.
        bytes[10..12].fill(255);
    }
    let from = if kind & 2 == 0 { 12 } else { 0 };
    for byte in &mut bytes[from..] {
        *byte = choices.of(&FEW);
    }
    IpNet::new(IpAddr::from(bytes), bits % 129).unwrap()
}

/// A list, searched from end to end.
#[derive(Default)]
struct List(Vec<(IpNet, u8)>);

impl List {
    fn get(&self, net: IpNet) -> Option<u8> {
        let found = self.0.iter().find(|(known, _)| *known == canonical(net));
        found.map(|(_, owner)| *owner)
    }

    fn remove(&mut self, net: IpNet) {
        self.0.retain(|(known, _)| *known != canonical(net));
    }

    fn covering(&self, address: IpAddr) -> Vec<(u8, u8)> {
        let of = self.0.iter().filter(|(net, _)| net.contains(&address));
        let mut of: Vec<_> = of.map(|(net, owner)| (net.prefix_len(), *owner)).collect();
        of.sort_unstable();
        of
    }

    fn within(&self, around: IpNet) -> Vec<(IpNet, u8)> {
        let around = canonical(around);
        let of = self.0.iter().filter(|(net, _)| around.contains(net));
        let mut of: Vec<_> = of.copied().collect();
        of.sort_unstable();
        of
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (mut table, mut list) = (AllowedIps::<u8>::default(), List::default());
    while !choices.is_over() {
        let step = choices.byte();
        let net = net(&mut choices);
        let address = net.addr();
        let owner = step >> 4;
        match step % 8 {
            0..=3 => {
                let before = list.get(net);
                list.remove(net);
                list.0.push((canonical(net), owner));
                assert_eq!(table.insert(net, owner), before);
            }
            4 => {
                let owned = list.get(net) == Some(owner);
                assert_eq!(table.remove_if(net, |of| *of == owner), owned);
                if owned {
                    list.remove(net);
                }
            }
            5 => {
                table.retain(|of| *of != owner);
                list.0.retain(|(_, of)| *of != owner);
            }
            6 => {
                let found: Vec<_> = table.within(net).map(|(net, of)| (net, *of)).collect();
                assert!(found.is_sorted_by_key(|(net, _)| net.network()));
                let mut found = found;
                found.sort_unstable();
                assert_eq!(found, list.within(net), "within {net}");
            }
            _ => {
                let found: Vec<_> = table
                    .covering(address)
                    .map(|(len, of)| (len, *of))
                    .collect();
                assert_eq!(found, list.covering(address), "around {address}");
            }
        }
        assert_eq!(table.get(net).copied(), list.get(net));
        let found = table.lookup(address);
        let found = found.map(|found| (found.prefix_len, *found.value));
        assert_eq!(found, list.covering(address).last().copied(), "{address}");
        assert_eq!(
            (table.len(), table.is_empty()),
            (list.0.len(), list.0.is_empty())
        );
    }
    let mut all: Vec<_> = table.iter().map(|(net, of)| (net, *of)).collect();
    all.sort_unstable();
    list.0.sort_unstable();
    assert_eq!(all, list.0);
}
