//! Which requests change something of a running tunnel, and what they are about.

use crate::control::request::{
    Ban, BanPeer, FleetDrain, FleetHubRemove, FleetKeyRotate, PeerEdit, Request, Unban, UnbanPeer,
    WebRevoke, WebToken,
};
use crate::layer::Layer;

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct Change {
    /// The command's name.
    pub(super) action: &'static str,
    /// What it is about.
    pub(super) target: String,
}

impl Change {
    /// What a request changes at once. A reload is answered later, and tells then what it changed.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let (action, target) = match request {
            Request::Ban(Ban {
                net,
                layer,
                seconds,
                ..
            }) => ("ban", described(&net.to_string(), *layer, *seconds)),
            Request::BanPeer(BanPeer {
                peer,
                layer,
                seconds,
                ..
            }) => ("ban", described(peer, Some(*layer), *seconds)),
            Request::Unban(Unban { net, layer }) => {
                ("unban", described(&net.to_string(), Some(*layer), None))
            }
            Request::UnbanPeer(UnbanPeer { peer, layer }) => {
                ("unban", described(peer, Some(*layer), None))
            }
            Request::WebToken(WebToken { name, seconds }) => {
                let name = name.as_deref().unwrap_or("without a name");
                ("web token", described(name, None, Some(*seconds)))
            }
            Request::WebRevoke(WebRevoke { name }) => ("web revoke", name.clone()),
            Request::FleetDrain(FleetDrain { leaving }) => {
                let what = if *leaving { "on" } else { "off" };
                ("fleet hub drain", what.to_owned())
            }
            // Questions, and what is answered later.
            Request::Status
            | Request::Stats
            | Request::Overview(_)
            | Request::Metrics
            | Request::Export
            | Request::Explain(_)
            | Request::Trace(_)
            | Request::Capture(_)
            | Request::Usage(_)
            | Request::PeerEdit(_)
            | Request::WebTokens
            | Request::FleetStatus
            | Request::FleetKeyRotate(_)
            | Request::FleetHubRemove(_)
            | Request::Reload => return None,
        };
        Some(Self { action, target })
    }

    /// What a request begins to change that another thread answers.
    pub(super) fn begun(request: &Request) -> Option<Self> {
        let (action, target) = match request {
            Request::FleetKeyRotate(FleetKeyRotate { without, .. }) => {
                ("fleet key rotate", without.join(" "))
            }
            Request::FleetHubRemove(FleetHubRemove { hub }) => ("fleet hub remove", hub.clone()),
            _ => return None,
        };
        Some(Self { action, target })
    }

    /// Peers that other hubs of the fleet changed.
    pub(in crate::control) fn of_fleet(fleet: &str) -> Self {
        Self {
            action: "fleet",
            target: fleet.to_owned(),
        }
    }

    /// What a change of a peer is about: never a key that is a secret.
    pub(in crate::control) fn of_peer(edit: &PeerEdit) -> Self {
        let (action, target) = match edit {
            PeerEdit::New(new) => ("peer new", new.name.clone()),
            PeerEdit::Remove(remove) => ("peer remove", remove.peer.clone()),
            PeerEdit::Rename(rename) => {
                ("peer rename", format!("{} to {}", rename.peer, rename.name))
            }
            PeerEdit::Rotate(rotate) => ("peer rotate", rotate.peer.clone()),
            PeerEdit::Set(set) => ("peer set", set.peer.clone()),
        };
        Self { action, target }
    }
}

fn described(what: &str, layer: Option<Layer>, seconds: Option<u64>) -> String {
    let layer = match layer {
        Some(Layer::Inner) => ", inside",
        Some(Layer::Outer) => ", outside",
        None => "",
    };
    let lasting = seconds.map_or_else(String::new, |seconds| format!(", for {seconds} s"));
    format!("{what}{layer}{lasting}")
}
