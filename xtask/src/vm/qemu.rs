//! QEMU with the network cards that tests ask for, as the program that runs a machine is told of
//! it.
//!
//! `$VMRUN_QEMU` stands for QEMU and its first arguments: options are added to what is there
//! already. For cards with several queues QEMU is called by way of a script, as root; where that
//! can't be, there are none.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use taltun_tests::cards;
use taltun_tests::command::output_of;
use taltun_tests::sys;

use crate::setup;

/// The variable that names QEMU for the program which runs a virtual machine, with options.
pub const VARIABLE: &str = "VMRUN_QEMU";
/// What it stands for where it isn't set.
const QEMU: &str = "qemu-system-x86_64";

/// QEMU, with the network cards that tests ask for; `share` is a directory for the script.
pub fn with_cards(share: &Path) -> String {
    let qemu = env::var(VARIABLE).unwrap_or_else(|_| QEMU.to_owned());
    let through = join_cards(share).unwrap_or_else(|error| {
        setup::step(&format!("no network cards with several queues: {error:#}"));
        Vec::new()
    });
    let options = cards::qemu_options(!through.is_empty());
    [through, vec![qemu], options].concat().join(" ")
}

/// The words by way of which a program is called with the taps for cards with several queues.
fn join_cards(share: &Path) -> Result<Vec<String>> {
    ensure!(sys::is_root(), "they take root");
    let script = share.join("cards.sh");
    fs::write(&script, cards::JOINED)
        .with_context(|| format!("can't write {}", script.display()))?;
    let path = script
        .to_str()
        .filter(|path| !path.contains(char::is_whitespace))
        .with_context(|| format!("{VARIABLE} can't hold {}", script.display()))?;
    let through = [&cards::ALONE[..], &["sh", path]].concat();
    output_of(Command::new(through[0]).args(&through[1..]).arg("true"))?;
    Ok(through.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cards_are_asked_for_behind_what_qemu_is_told_already() {
        let share = env::temp_dir().join(format!("taltun-xtask-vm-{}", std::process::id()));
        fs::create_dir_all(&share).unwrap();
        let qemu = with_cards(&share);
        fs::remove_dir_all(&share).unwrap();
        assert!(qemu.contains(" -device virtio-net-pci,"), "{qemu}");
        let told = env::var(VARIABLE).unwrap_or_else(|_| QEMU.to_owned());
        let joined = qemu.starts_with("unshare --net sh /") && qemu.contains(" -netdev tap,");
        assert!(joined || qemu.starts_with(&told), "{qemu}");
        assert!(qemu.contains(&format!("{told} -netdev ")), "{qemu}");
    }
}
