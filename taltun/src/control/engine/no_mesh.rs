//! Without fleets there are no other hubs.

use super::Engine;
use crate::control::fleet::FleetHub;
use crate::protocol::peer::PeerId;
use crate::protocol::time::Time;
use crate::report::FleetStatus;

#[expect(
    clippy::unused_self,
    reason = "they do something where there are fleets"
)]
impl Engine {
    pub(in crate::control) fn next_for_hubs(&self) -> Option<Time> {
        None
    }

    pub(in crate::control) fn tell_hubs(&self) {}

    pub(in crate::control) fn follow_hubs(&self, _: &[FleetHub]) {}

    pub(in crate::control) fn follow_homes(&self) {}

    pub(super) fn may_speak_first(&self) -> bool {
        true
    }

    pub(super) fn hear_hubs(&self) {}

    pub(super) fn follow_fleet_peers(&self) {}

    pub(super) fn peer_came(&self, _: PeerId) {}

    pub(super) fn peer_roamed(&self, _: PeerId) {}

    pub(super) fn drain(&self, _: bool) -> Result<u64, String> {
        Err("this Taltun is built without fleets".into())
    }

    pub(super) fn own_key_changed(&self) {}

    pub(super) fn keep_hubs(&self) {}

    pub(super) fn fill_fleet_status(&self, _: &mut FleetStatus) {}
}
