//! Which wireguard-go is on PATH.

use std::process::Command;

use crate::command::output_of;

/// The first year whose wireguard-go finds its way when its own address is taken away on recent
/// kernels, and has segmentation offloads.
const FIRST_YEAR: u32 = 2023;

/// Whether there is one, and it isn't older than our tests and our bench take.
pub fn is_recent() -> bool {
    output_of(Command::new("wireguard-go").arg("--version"))
        .is_ok_and(|version| year(&version).is_some_and(|year| year >= FIRST_YEAR))
}

/// The year in `wireguard-go v0.0.20231211`.
fn year(version: &str) -> Option<u32> {
    let word = version.split_whitespace().nth(1)?;
    word.rsplit('.').next()?.get(..4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_year_is_in_its_version() {
        assert_eq!(year("wireguard-go v0.0.20220316\n\nUserspace"), Some(2022));
        assert_eq!(year("wireguard-go v0.0.20231211"), Some(2023));
        assert_eq!(year("wireguard-go"), None);
        assert_eq!(year(""), None);
    }
}
