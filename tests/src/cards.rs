//! Network cards of a virtual machine that are joined to each other in pairs, for what no
//! veth can show: a driver that does zero copy.
//!
//! `cargo xtask vm` asks QEMU for them by [`qemu_options`]; inside, they are found by their
//! addresses, which nothing else has. So no test ever takes a card that isn't meant for it.
//!
//! QEMU joins two cards by itself as long as they have one queue. One with several has to be on
//! a tap with as many, and two taps on a bridge: [`JOINED`] makes both in a network namespace
//! without a name, in which QEMU then runs, and which goes when QEMU does, however it ends.

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
    /// As [`Card::VirtioMapped`], with several queues.
    VirtioQueues,
}

/// Queue pairs of a card that has several: one for each of the machine's processors, and as
/// many for XDP, which the driver wants beside them.
const QUEUES: usize = 4;

/// A program for `sh` that makes what cards with several queues need, then becomes the command
/// that its arguments are. It is to be called in a network namespace of its own ([`ALONE`]).
pub const JOINED: &str = include_str!("cards.sh");

/// The words before a command that give it a network namespace of its own; they take root.
pub const ALONE: [&str; 2] = ["unshare", "--net"];

impl Card {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::VirtioMapped, Self::VirtioPlain, Self::VirtioQueues];

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

    /// What QEMU calls its ends: the names of their ports, or taps.
    fn ports(self) -> [String; 2] {
        [0, 1].map(|end| format!("card{}{end}", self as u8))
    }

    fn device(self) -> String {
        match self {
            Self::VirtioMapped => MAPPED.to_owned(),
            Self::VirtioPlain => "virtio-net-pci".to_owned(),
            // An interrupt for each direction of a queue pair, and two for the rest.
            Self::VirtioQueues => format!("{MAPPED},mq=on,vectors={}", 2 * QUEUES + 2),
        }
    }

    fn netdev(self, port: &str) -> String {
        match self {
            Self::VirtioMapped | Self::VirtioPlain => {
                format!("hubport,id={port},hubid={}", self as u8)
            }
            Self::VirtioQueues => format!(
                "tap,id={port},ifname={port},queues={QUEUES},vhost=off,script=no,downscript=no"
            ),
        }
    }
}

const MAPPED: &str = "virtio-net-pci,iommu_platform=on,disable-legacy=on";

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

/// What makes QEMU have a pair of each kind; of that with several queues only if it is called
/// by way of [`JOINED`].
pub fn qemu_options(joined: bool) -> Vec<String> {
    let mut options = Vec::new();
    for card in Card::ALL {
        if card == Card::VirtioQueues && !joined {
            continue;
        }
        for (port, address) in card.ports().into_iter().zip(card.addresses()) {
            let (netdev, device) = (card.netdev(&port), card.device());
            // No ROM to boot from: not everybody has it.
            options.extend([
                "-netdev".to_owned(),
                netdev,
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
        assert_eq!(addresses.len(), 6);
        // No test may take a card of the machine it happens to run on.
        assert!(addresses.iter().all(|address| address.starts_with("02:")));
    }

    #[test]
    fn the_options_are_words_without_blanks() {
        let options = qemu_options(false);
        assert_eq!(options.len(), 16);
        assert!(options.iter().all(|option| !option.contains(' ')));
        assert_eq!(options[1], "hubport,id=card00,hubid=0");
    }

    #[test]
    fn cards_with_several_queues_are_there_only_on_the_taps_that_are_made_for_them() {
        let options = qemu_options(true);
        assert_eq!(options.len(), 24);
        assert!(options.iter().all(|option| !option.contains(' ')));
        assert_eq!(options[..16], qemu_options(false));
        for port in Card::VirtioQueues.ports() {
            assert!(JOINED.contains(&port), "{port}");
            let of_port = |option: &&String| option.contains(&format!("ifname={port},queues=4,"));
            assert_eq!(options.iter().filter(of_port).count(), 1);
        }
    }
}
