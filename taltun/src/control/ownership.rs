//! What peers own inside the tunnel, in the device and in the eBPF programs: a packet of an
//! address that somebody owns is never dropped as nobody's.

use ipnet::IpNet;

use crate::accel::Shield;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::{Device, RouteEdit};

/// Changes what peers own. What somebody gains is let through before; what nobody has any more
/// is until [`settle`].
pub(super) fn edit(device: &mut Device, shield: &mut Shield, edits: &[RouteEdit]) {
    shield.open_all();
    shield.add_routes(&gained(edits));
    device.edit_routes(edits);
}

/// Tells the programs what they must know of our key, and of what peers own no more.
pub(super) fn settle(device: &mut Device, shield: &mut Shield) {
    shield.set_mac1_key(device.mac1_key());
    shield.remove_routes(&device.take_lost_routes());
}

/// The networks that peers are given.
fn gained(edits: &[RouteEdit]) -> Vec<IpNet> {
    let gained = |edit: &RouteEdit| match edit {
        RouteEdit::Add(_, net) => Some(canonical(*net)),
        RouteEdit::Clear(_) | RouteEdit::Remove(..) => None,
    };
    edits.iter().filter_map(gained).collect()
}
