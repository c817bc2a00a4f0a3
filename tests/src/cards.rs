//! Network cards of a virtual machine that are joined to each other in pairs, for what no
//! veth can show: a driver that does zero copy.
//!
//! `cargo xtask vm` asks QEMU for them by [`qemu_options`]; inside, they are found by their
//! addresses, which nothing else has. So no test ever takes a card that isn't meant for it.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::command::output_of;
use crate::netns::Namespace;

/// How long the kernel may take to bring cards back from namespaces that are gone.
const RETURN_LIMIT: Duration = Duration::from_secs(10);

/// A kind of card, of which there is a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// virtio-net that goes by the kernel's DMA addresses (`VIRTIO_F_ACCESS_PLATFORM`), as
    /// zero copy needs it.
    VirtioMapped,
    /// virtio-net as most machines have it, which goes by physical addresses.
    VirtioPlain,
}

impl Card {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::VirtioMapped, Self::VirtioPlain];

    /// The names of the pair's interfaces in this network; `None` if it has no such pair.
    ///
    /// # Errors
    /// When one of them is here and the other one isn't, and doesn't come.
    pub fn find(self) -> Result<Option<[String; 2]>> {
        let start = Instant::now();
        loop {
            match self.addresses().map(|address| interface_with(&address)) {
                [Some(one), Some(other)] => return Ok(Some([one, other])),
                [None, None] => return Ok(None),
                found => ensure!(
                    start.elapsed() < RETURN_LIMIT,
                    "of a pair of cards there is only {found:?}"
                ),
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// The link addresses of the pair. They are ours to give, and spell our name.
    fn addresses(self) -> [String; 2] {
        let kind = self as u8;
        [1, 2].map(|end| format!("02:74:61:6c:{kind:02x}:{end:02x}"))
    }

    fn device(self) -> &'static str {
        match self {
            Self::VirtioMapped => "virtio-net-pci,iommu_platform=on,disable-legacy=on",
            Self::VirtioPlain => "virtio-net-pci",
        }
    }
}

/// Moves an interface of this network into a namespace and gives it another name.
pub fn lend(interface: &str, namespace: &Namespace, name: &str) -> Result<()> {
    let words = ["link", "set", interface, "down"];
    ip(&words)?;
    ip(&[
        "link",
        "set",
        interface,
        "netns",
        namespace.name(),
        "name",
        name,
    ])
}

/// Moves it back. Namespaces that go bring theirs back, too, but nobody knows when.
pub fn bring_back(namespace: &Namespace, name: &str, interface: &str) -> Result<()> {
    let pid = std::process::id();
    let words = format!("link set {name} netns {pid} name {interface}");
    namespace.ip(&words).map(drop)
}

/// What makes QEMU have a pair of each kind.
pub fn qemu_options() -> Vec<String> {
    let mut options = Vec::new();
    for (hub, card) in Card::ALL.into_iter().enumerate() {
        for (end, address) in card.addresses().into_iter().enumerate() {
            let port = format!("card{hub}{end}");
            let device = card.device();
            // No ROM to boot from: not everybody has it.
            options.extend([
                "-netdev".to_owned(),
                format!("hubport,id={port},hubid={hub}"),
                "-device".to_owned(),
                format!("{device},netdev={port},mac={address},romfile="),
            ]);
        }
    }
    options
}

/// The interface of this network that has this link address.
fn interface_with(address: &str) -> Option<String> {
    let interfaces = fs::read_dir("/sys/class/net").ok()?.flatten();
    interfaces
        .filter(|interface| {
            let read = fs::read_to_string(interface.path().join("address"));
            read.is_ok_and(|read| read.trim() == address)
        })
        .find_map(|interface| interface.file_name().into_string().ok())
}

fn ip(words: &[&str]) -> Result<()> {
    output_of(Command::new("ip").args(words)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_has_an_address_of_its_own_and_no_machine_has_one_by_chance() {
        let mut addresses = Card::ALL.map(Card::addresses).concat();
        assert_eq!(addresses[0], "02:74:61:6c:00:01");
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 4);
        // No test may take a card of the machine it happens to run on.
        assert!(addresses.iter().all(|address| address.starts_with("02:")));
    }

    #[test]
    fn the_options_are_words_without_blanks() {
        let options = qemu_options();
        assert_eq!(options.len(), 16);
        assert!(options.iter().all(|option| !option.contains(' ')));
        assert_eq!(options[1], "hubport,id=card00,hubid=0");
    }
}
