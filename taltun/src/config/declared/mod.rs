//! What there is to know of each key, once: its name, what its value may be, its default, what
//! other programs call it, whether a reload takes it over, and what it does in the words of both
//! manuals.
//!
//! A key that is a setting by itself names it with its type, `=> udp_gso: bool`. Then the field of
//! the section's struct, its reading and its comparison come of the declaration: whoever uses the
//! setting is all that there is to write. Any other key has `same`, which compares two
//! configurations, and is read by hand in `read`.
//!
//! Each section is a macro that hands its declarations to another macro: `keys!` makes the statics,
//! [`settings!`](settings) the struct, `read!` reads it.

pub(in crate::config) mod accel;
pub(in crate::config) mod audit;
pub(in crate::config) mod dataplane;
pub(in crate::config) mod dns_routes;
pub(in crate::config) mod fleet;
pub(in crate::config) mod forward;
pub(in crate::config) mod groups;
pub(in crate::config) mod hop;
pub(in crate::config) mod interface;
pub(in crate::config) mod metrics;
pub(in crate::config) mod names;
pub(in crate::config) mod nat;
pub(in crate::config) mod peers;
pub(in crate::config) mod policy;
pub(in crate::config) mod rules;
pub(in crate::config) mod shaping;
pub(in crate::config) mod udpgw;
pub(in crate::config) mod usage;
pub(in crate::config) mod web;

/// Makes a struct of the settings of a section that are keys by themselves, with the fields that
/// are given besides.
macro_rules! settings {
    (
        { $(#[$meta:meta])* $visibility:vis struct $struct:ident { $($others:tt)* } }
        $section:literal;
        $($key:ident $(=> $setting:ident: $type:ty)? { $($declared:tt)* })*
    ) => {
        $(#[$meta])*
        $visibility struct $struct {
            $($(
                #[doc = concat!("`", $section, ".", stringify!($setting), "`")]
                pub $setting: $type,
            )?)*
            $($others)*
        }
    };
}
pub(in crate::config) use settings;
