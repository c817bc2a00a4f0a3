//! The keys of `[accel]` as `declared/accel.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::words::Words;
use crate::config::{Accel, AfXdp, Config, XdpMode};
use crate::layer::Layer;

crate::config::declared::accel::declared! { keys! {} }

/// Compares their settings.
fn compare(old: &Config, new: &Config, same: fn(&Accel, &Accel) -> bool) -> bool {
    same(&old.accel, &new.accel)
}

/// The key that lists the sources dropped on a layer.
pub fn deny(layer: Layer) -> &'static Key {
    match layer {
        Layer::Outer => &DENY,
        Layer::Inner => &DENY_INNER,
    }
}
