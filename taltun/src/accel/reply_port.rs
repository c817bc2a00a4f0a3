//! The program that lets replies leave from the port that their receiver sent to, on each interface
//! that they may leave by.
//!
//! Routes may lead a reply out of another interface than its question came in by, PPP or a tunnel of
//! another VPN among them. So the program is attached to all but loopback and our own tunnel, also where
//! no XDP program is or can be. The range is turned only while that is so: a client behind a NAT never hears an answer from another port than it sent to.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::programs::TcAttachType;

use super::netlink::Link;
use super::tc::{self, Filter, Hooked};

/// The program, which sees what leaves.
const PROGRAM: [Hooked; 1] = [("taltun_reply_port", TcAttachType::Egress)];

/// Where the program is attached.
pub(super) struct ReplyPorts {
    /// By index, because names change hands.
    attached: BTreeMap<u32, Filter>,
    /// Or why it isn't. Later nobody may load it.
    loaded: Result<(), String>,
}

impl ReplyPorts {
    /// Loads the program, which is attached nowhere.
    pub(super) fn load(ebpf: &mut Ebpf) -> Self {
        Self {
            attached: BTreeMap::new(),
            loaded: tc::load(ebpf, &PROGRAM),
        }
    }

    /// Attaches the program wherever replies may leave, as the interfaces are now. The error says
    /// where that can't be.
    pub(super) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        links: &[Link],
        tun_name: &str,
    ) -> Result<(), String> {
        self.loaded.clone()?;
        let leaves_by = |link: &&Link| !link.loopback && link.name != tun_name;
        let wanted: BTreeMap<u32, &str> = links
            .iter()
            .filter(leaves_by)
            .map(|link| (link.index, link.name.as_str()))
            .collect();
        self.attached.retain(|index, _| wanted.contains_key(index));
        for (index, name) in wanted {
            if self.attached.contains_key(&index) {
                continue;
            }
            let (mode, reason, filter) = tc::attach(ebpf, name, &PROGRAM)
                .map_err(|error| format!("replies that leave by {name}: {error}"))?;
            tracing::debug!(interface = name, mode = mode.word(), reason, "reply ports");
            self.attached.insert(index, filter);
        }
        Ok(())
    }

    /// Detaches it everywhere.
    pub(super) fn detach(&mut self) {
        self.attached.clear();
    }
}
