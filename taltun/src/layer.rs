//! The two layers on which packets have addresses.

use serde::{Deserialize, Serialize};

/// A layer of addresses. In JSON it is whether that is the inner one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "bool", into = "bool")]
pub enum Layer {
    /// Outside the tunnel: the network that carries its datagrams.
    #[default]
    Outer,
    /// Inside the tunnel.
    Inner,
}

impl Layer {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Outer, Self::Inner];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Outer => Self::Inner,
            Self::Inner => Self::Outer,
        }
    }
}

impl From<bool> for Layer {
    fn from(inner: bool) -> Self {
        if inner { Self::Inner } else { Self::Outer }
    }
}

impl From<Layer> for bool {
    fn from(layer: Layer) -> Self {
        layer == Layer::Inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_json_it_is_whether_it_is_the_inner_one() {
        for (layer, json) in [(Layer::Outer, "false"), (Layer::Inner, "true")] {
            assert_eq!(serde_json::to_string(&layer).unwrap(), json);
            assert_eq!(serde_json::from_str::<Layer>(json).unwrap(), layer);
            assert_eq!(layer.other().other(), layer);
        }
    }
}
