//! In place of `programs`, when Taltun is built without the `ebpf` feature: programs that
//! can't exist.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use ipnet::IpNet;

use super::{ShieldSettings, Turning};
use crate::dataplane::redirect::XdpInterface;
use crate::layer::Layer;
use crate::report::{Drops, Source, SteeringStatus, TcStatus, XdpStatus};

pub(super) struct Programs {
    pub(super) maps: Maps,
    pub(super) sockets: Sockets,
}

pub(super) enum Sockets {}

impl Sockets {
    pub(super) fn connect(
        &mut self,
        _: u32,
        _: u32,
        _: BorrowedFd<'_>,
        _: usize,
    ) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn disconnect(&mut self, _: u32, _: u32) {
        match *self {}
    }
}

impl Programs {
    pub(super) fn start(_: &ShieldSettings<'_>) -> Result<Self, String> {
        Err("built without eBPF".into())
    }

    pub(super) fn steer(&mut self, _: &[BorrowedFd<'_>]) {
        match self.maps.under_load {}
    }

    pub(super) fn needs_none(&self) -> bool {
        match self.maps.under_load {}
    }

    pub(super) fn steering_status(&self) -> SteeringStatus {
        match self.maps.under_load {}
    }

    pub(super) fn refresh(&mut self) {
        match self.maps.under_load {}
    }

    pub(super) fn set_port_range(&mut self, _: Option<(u16, u16)>) {
        match self.maps.under_load {}
    }

    pub(super) fn turning(&self) -> Option<Result<Turning, String>> {
        match self.maps.under_load {}
    }

    pub(super) fn rebind(&mut self, _: SocketAddr) {
        match self.maps.under_load {}
    }

    pub(super) fn status(&self) -> Vec<XdpStatus> {
        match self.maps.under_load {}
    }

    pub(super) fn tunnel_status(&self) -> TcStatus {
        match self.maps.under_load {}
    }

    pub(super) fn interfaces(&self) -> Vec<XdpInterface> {
        match self.sockets {}
    }

    pub(super) fn guards_outside(&self) -> bool {
        match self.maps.under_load {}
    }

    pub(super) fn guards_inside(&self) -> bool {
        match self.maps.under_load {}
    }
}

pub(super) struct Maps {
    pub(super) under_load: UnderLoadMaps,
}

pub(super) enum UnderLoadMaps {}

impl UnderLoadMaps {
    pub(super) fn set_under_load(&mut self, _: Duration) {
        match *self {}
    }

    pub(super) fn give_cookie(&mut self, _: IpAddr, _: &[u8; 32], _: Duration) {
        match *self {}
    }

    pub(super) fn set_endpoints(&mut self, _: impl Iterator<Item = IpAddr>) {
        match *self {}
    }
}

impl Maps {
    pub(super) fn allow_index(&mut self, _: u32) {
        match self.under_load {}
    }

    pub(super) fn set_expects_misrouted(&mut self, _: bool) {
        match self.under_load {}
    }

    pub(super) fn set_passes_misrouted(&mut self, _: bool) {
        match self.under_load {}
    }

    pub(super) fn note_session(&mut self, _: u32, _: u32) {
        match self.under_load {}
    }

    pub(super) fn forget_index(&mut self, _: u32) {
        match self.under_load {}
    }

    pub(super) fn set_mac1_key(&mut self, _: &[u8; 32]) {
        match self.under_load {}
    }

    pub(super) fn set_initiations_per_second(&mut self, _: u32) {
        match self.under_load {}
    }

    pub(super) fn add_routes(&mut self, _: &[IpNet]) {
        match self.under_load {}
    }

    pub(super) fn remove_routes(&mut self, _: &[IpNet]) {
        match self.under_load {}
    }

    pub(super) fn open_all(&mut self) {
        match self.under_load {}
    }

    pub(super) fn has_open_all(&self) -> bool {
        match self.under_load {}
    }

    pub(super) fn close(&mut self, _: BTreeSet<IpNet>) {
        match self.under_load {}
    }

    pub(super) fn ban(&mut self, _: Layer, _: IpNet) -> Result<(), String> {
        match self.under_load {}
    }

    pub(super) fn unban(&mut self, _: Layer, _: IpNet) -> Result<(), String> {
        match self.under_load {}
    }

    pub(super) fn sources(&self, _: Layer) -> Vec<Source> {
        match self.under_load {}
    }

    pub(super) fn some_sources(&self, _: Layer, _: usize) -> Vec<Source> {
        match self.under_load {}
    }

    pub(super) fn drops(&self) -> Drops {
        match self.under_load {}
    }
}
