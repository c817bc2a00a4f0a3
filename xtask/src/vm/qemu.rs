//! The network cards that tests ask for, as words for QEMU.
//!
//! For cards with several queues QEMU is called by way of a script, as root; where that can't
//! be, there are none.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use taltun_tests::cards;
use taltun_tests::command::output_of;
use taltun_tests::sys;

use crate::setup;
use crate::workspace::keep_written;

/// The words before QEMU, and its first arguments; `share` is a directory for the script.
pub fn cards(share: &Path) -> (Vec<String>, Vec<String>) {
    let through = join_cards(share).unwrap_or_else(|error| {
        setup::step(&format!("no network cards with several queues: {error:#}"));
        Vec::new()
    });
    let options = cards::qemu_options(!through.is_empty());
    (through, options)
}

/// The words by way of which a program is called with the taps for cards with several queues.
fn join_cards(share: &Path) -> Result<Vec<String>> {
    ensure!(sys::is_root(), "they take root");
    let script = share.join("cards.sh");
    keep_written(&script, cards::JOINED)?;
    let path = script.display().to_string();
    let through = [&cards::ALONE[..], &["sh", &path]].concat();
    output_of(Command::new(through[0]).args(&through[1..]).arg("true"))?;
    Ok(through.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn cards_are_asked_for_with_several_queues_or_without() {
        let share = std::env::temp_dir().join(format!("taltun-xtask-vm-{}", std::process::id()));
        fs::create_dir_all(&share).unwrap();
        let (through, options) = cards(&share);
        fs::remove_dir_all(&share).unwrap();
        assert!(
            options
                .iter()
                .any(|word| word.starts_with("virtio-net-pci")),
            "{options:?}"
        );
        let joined = options.iter().any(|word| word.starts_with("tap,"));
        assert_eq!(joined, !through.is_empty(), "{options:?}");
    }
}
