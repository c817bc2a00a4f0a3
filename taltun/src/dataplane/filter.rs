//! Bans, as user space enforces them: the same lists as the eBPF programs have, for when
//! these don't run or didn't see the packet.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use ipnet::IpNet;

use crate::protocol::allowed_ips::AllowedIps;

/// Denied sources, outside and inside of the tunnel; shared with the workers.
#[derive(Debug, Default)]
pub struct Filter {
    lists: RwLock<Lists>,
}

/// The lists, held for reading during a batch.
#[derive(Debug, Default)]
pub struct Lists {
    outer: AllowedIps<()>,
    inner: AllowedIps<()>,
}

impl Filter {
    /// The lists, for a batch.
    pub fn read(&self) -> RwLockReadGuard<'_, Lists> {
        self.lists.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces both lists.
    pub fn set(&self, outer: &[IpNet], inner: &[IpNet]) {
        let lists = Lists {
            outer: collect(outer),
            inner: collect(inner),
        };
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = lists;
    }
}

impl Lists {
    /// Whether datagrams from this outer source are dropped.
    pub fn denies(&self, source: IpAddr) -> bool {
        !self.outer.is_empty() && self.outer.lookup(source).is_some()
    }

    /// Whether inner packets from this source are dropped.
    pub fn denies_inner(&self, source: IpAddr) -> bool {
        !self.inner.is_empty() && self.inner.lookup(source).is_some()
    }
}

fn collect(nets: &[IpNet]) -> AllowedIps<()> {
    let mut table = AllowedIps::default();
    for net in nets {
        table.insert(net.trunc(), ());
    }
    table
}
