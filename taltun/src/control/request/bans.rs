//! What is asked to ban and to unban.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::layer::Layer;

/// [`Request::Ban`](super::Request::Ban)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BanOnSocket", into = "BanOnSocket")]
pub struct Ban {
    /// The network.
    pub net: IpNet,
    /// Where it is; `None` for outside, unless it looks like one inside: that asks back.
    pub layer: Option<Layer>,
    /// Do it without asking back.
    pub force: bool,
    /// For how long; `None` until unbanned or stopped.
    pub seconds: Option<u64>,
}

/// [`Request::BanPeer`](super::Request::BanPeer)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanPeer {
    /// Its name or public key.
    pub peer: String,
    /// Which of its addresses.
    #[serde(rename = "outer", with = "outer", default = "inner")]
    pub layer: Layer,
    /// Do it without asking back.
    #[serde(default)]
    pub force: bool,
    /// For how long; `None` until unbanned or stopped.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// [`Request::Unban`](super::Request::Unban)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unban {
    /// The network, exactly as it was banned.
    pub net: IpNet,
    /// Where it is.
    #[serde(rename = "inner", default)]
    pub layer: Layer,
}

/// [`Request::UnbanPeer`](super::Request::UnbanPeer)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnbanPeer {
    /// Its name or public key.
    pub peer: String,
    /// Which of its addresses.
    #[serde(rename = "outer", with = "outer", default = "inner")]
    pub layer: Layer,
}

/// [`Ban`] as it goes over the socket: the layer in two words, as the command line has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BanOnSocket {
    net: IpNet,
    #[serde(default)]
    inner: bool,
    #[serde(default)]
    outer: bool,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    seconds: Option<u64>,
}

impl From<BanOnSocket> for Ban {
    fn from(it: BanOnSocket) -> Self {
        Self {
            net: it.net,
            layer: (it.inner || it.outer).then_some(it.inner.into()),
            force: it.force,
            seconds: it.seconds,
        }
    }
}

impl From<Ban> for BanOnSocket {
    fn from(it: Ban) -> Self {
        Self {
            net: it.net,
            inner: it.layer == Some(Layer::Inner),
            outer: it.layer == Some(Layer::Outer),
            force: it.force,
            seconds: it.seconds,
        }
    }
}

/// A peer's addresses are those inside where nothing else is said.
fn inner() -> Layer {
    Layer::Inner
}

/// A layer as whether it is the outer one.
mod outer {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::layer::Layer;

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for it in this form"
    )]
    pub(super) fn serialize<S: Serializer>(layer: &Layer, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*layer == Layer::Outer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Layer, D::Error> {
        bool::deserialize(from).map(|outer| Layer::from(!outer))
    }
}
