//! In place of `programs`, when Taltun is built without the `ebpf` feature: programs that
//! can't exist.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::Request;
use crate::report::{Source, TcStatus, XdpStatus};

pub(super) struct Programs {
    pub(super) maps: Maps,
}

impl Programs {
    pub(super) fn start(_: &Request<'_>) -> Result<Self, String> {
        Err("built without eBPF".into())
    }

    pub(super) fn refresh(&mut self) {
        match self.maps {}
    }

    pub(super) fn rebind(&mut self, _: SocketAddr) {
        match self.maps {}
    }

    pub(super) fn status(&self) -> Vec<XdpStatus> {
        match self.maps {}
    }

    pub(super) fn tunnel_status(&self) -> TcStatus {
        match self.maps {}
    }

    pub(super) fn guards_outside(&self) -> bool {
        match self.maps {}
    }

    pub(super) fn guards_inside(&self) -> bool {
        match self.maps {}
    }
}

pub(super) enum Maps {}

impl Maps {
    pub(super) fn allow_index(&mut self, _: u32) {
        match *self {}
    }

    pub(super) fn forget_index(&mut self, _: u32) {
        match *self {}
    }

    pub(super) fn set_mac1_key(&mut self, _: &[u8; 32]) {
        match *self {}
    }

    pub(super) fn set_initiations_per_second(&mut self, _: u32) {
        match *self {}
    }

    pub(super) fn add_routes(&mut self, _: &[IpNet]) {
        match *self {}
    }

    pub(super) fn set_routes(&mut self, _: &[IpNet]) {
        match *self {}
    }

    pub(super) fn ban(&mut self, _: IpNet) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn unban(&mut self, _: IpNet) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn ban_inner(&mut self, _: IpNet) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn unban_inner(&mut self, _: IpNet) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        match *self {}
    }

    pub(super) fn sources_inner(&self) -> Vec<Source> {
        match *self {}
    }

    pub(super) fn drops(&self) -> BTreeMap<&'static str, u64> {
        match *self {}
    }
}
