//! The lab toolkit: what it takes to put real `taltun` processes on a network of their own
//! and to see whether they did their job.
//!
//! A [`topology`] is a few network [namespaces](netns) joined by veth pairs; a [`node`] is a
//! running `taltun` in one of them; [`lab`] is the usual whole, a hub with two spokes;
//! [`recipes`] are the deployments of the manual, with the very files that it shows.
//! [`traffic`] goes through it and says what came out; [`snapshot`] and [`leftovers`] see
//! what was left behind. `cargo xtask run` and the system tests are both built on this.
//!
//! It knows `taltun` only by what it prints, as anybody's script would, and therefore
//! doesn't depend on the `taltun` crate.

pub mod bpf;
pub mod cards;
pub mod chaos;
pub mod chromium;
pub mod command;
pub mod control;
pub mod crowd;
pub mod etcd;
pub mod files;
pub mod http;
pub mod lab;
pub mod leftovers;
pub mod netns;
pub mod node;
pub mod programs;
pub mod random;
pub mod recipes;
pub mod report;
pub mod snapshot;
pub mod soak;
pub mod sys;
pub mod terminal;
pub mod topology;
pub mod traffic;
pub mod wireguard_go;
