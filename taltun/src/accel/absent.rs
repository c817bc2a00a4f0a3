//! In place of `programs`, when Taltun is built without the `ebpf` feature: programs that
//! can't exist.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::{Request, off};
use crate::report::{Source, XdpStatus};

pub(super) enum Programs {}

impl Programs {
    pub(super) fn start(_: &Request<'_>) -> (Vec<XdpStatus>, Option<Self>) {
        (vec![off("", "built without eBPF")], None)
    }

    pub(super) fn allow_index(&mut self, _: u32) {
        match *self {}
    }

    pub(super) fn forget_index(&mut self, _: u32) {
        match *self {}
    }

    pub(super) fn ban(&mut self, _: IpNet) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn unban(&mut self, _: IpNet) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        match *self {}
    }

    pub(super) fn drops(&self) -> BTreeMap<&'static str, u64> {
        match *self {}
    }

    pub(super) fn rebind(&mut self, _: SocketAddr) {
        match *self {}
    }
}
