//! Traffic of our own making, so that the lab needs no other program, and so that what
//! arrives can be checked to the byte.

pub mod bad_wire;
pub mod capture;
pub mod checked_datagrams;
pub mod datagrams;
pub mod dns;
pub mod flood;
pub mod flow;
pub mod neighbour;
mod pace;
pub mod packets;
pub mod ping;
pub mod sending;
pub mod service;
pub mod stream;
