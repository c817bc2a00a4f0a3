//! What of the host's firewall follows the file, the interfaces and the routes.

use super::Engine;
use crate::control::port_range;
use crate::system::Host;

impl Engine {
    /// Has the range of ports lead to ours, as the file and the interfaces are now.
    pub(super) async fn lead_ports(&mut self, host: &mut Option<Host>) {
        let listen = self.data_plane.listen_address();
        // Before a port is turned: what leaves past the stack would come from the wrong one.
        self.data_plane
            .set_has_range(port_range::of(&self.config).is_some());
        let (shield, host) = (&mut self.shield, host.as_mut());
        self.led_ports
            .follow(&self.config, listen, shield, host)
            .await;
    }

    /// Has ports lead to peers, as the file says and as the host is by now.
    pub(super) async fn forward_ports(&mut self, host: &mut Option<Host>) {
        let listen = self.data_plane.listen_address();
        let own = self.network.own_addresses();
        self.forwards
            .follow(&self.config, listen, own, host.as_mut())
            .await;
    }

    /// Tells whether the kernel passes on what is left to it, as the file and its settings are now.
    pub(super) fn follow_kernel_relay(&mut self, host: Option<&Host>) {
        if host.is_some() {
            self.kernel_relay.follow(&self.config);
        }
    }

    /// Has nobody beside the tunnel send in another's name, as the file and the routes are now.
    pub(super) async fn refuse_pretenders(&mut self, host: &mut Option<Host>) {
        if self.network.has_new_within() {
            self.pretenders.look_again();
        }
        let within = self.network.within();
        self.pretenders
            .follow(&self.config, self.peers.filed(), within, host.as_mut())
            .await;
    }
}
