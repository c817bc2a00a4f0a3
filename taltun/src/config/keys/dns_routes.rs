//! The keys of `[dns_routes]` as `declared/dns_routes.rs` has them, and what compares their values.

use super::{Key, Kind, Reload, keys};
use crate::config::{Config, DnsRoutes};

crate::config::declared::dns_routes::declared! { keys! {} }

/// Compares the sections where both files have one: whether they do is told by itself.
fn both(old: &Config, new: &Config, same: fn(&DnsRoutes, &DnsRoutes) -> bool) -> bool {
    match (&old.dns_routes, &new.dns_routes) {
        (Some(old), Some(new)) => same(old, new),
        _ => true,
    }
}
