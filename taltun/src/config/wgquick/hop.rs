//! `[hop]` in comments of a wg-quick file.

use crate::config::{Hop, PortRange, declared, keys};

/// The keys of a section with what a struct of its settings has for them, in TOML.
macro_rules! written {
    ({ $from:expr } $section:literal; $($key:ident => $setting:ident: $type:ty { $($said:tt)* })*) => {
        [$((&keys::hop::$key, $from.$setting.written())),*]
    };
}

/// The keys that aren't as by default, and their values in TOML.
pub(super) fn not_default(hop: &Hop) -> Vec<(&'static str, String)> {
    let all = declared::hop::declared! { written! { hop } };
    let given = all
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let others = given.filter(|(key, value)| key.default != value);
    others.map(|(key, value)| (key.name, value)).collect()
}

/// The text of a setting in TOML, where it has a value.
trait Written {
    fn written(&self) -> Option<String>;
}

impl Written for u32 {
    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Written for Option<PortRange> {
    fn written(&self) -> Option<String> {
        self.map(|PortRange { first, last }| format!("[{first}, {last}]"))
    }
}
