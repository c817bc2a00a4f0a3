//! WireGuard without I/O, without a clock and without randomness of its own.
//!
//! Two halves share one state:
//!
//! * [`device::Device`], owned by one thread, is the control half: handshakes, timers,
//!   cookies, peers. It is a pure state machine; its documentation has the order of the
//!   calls.
//! * [`tunnel::Tunnel`], shared by all workers, is the data half: sealing, opening and
//!   relaying packets in place.
//!
//! Callers pass in time ([`time::Time`]) and randomness ([`randomness::Randomness`]), so every
//! test of the rules in the WireGuard paper runs on
//! a virtual clock and gives the same bytes each time.
//!
//! # Two devices on a virtual clock
//!
//! One sends a packet to the other. There is no session yet, so the packet waits for the
//! handshake. The loop carries the datagrams of both.
//!
//! ```
//! use std::net::{Ipv4Addr, SocketAddr};
//! use std::time::Duration;
//!
//! use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};
//! use taltun_protocol::device::{Device, PeerSettings, Settings};
//! use taltun_protocol::messages::{DATA_HEADER_LEN, DATA_OVERHEAD, Message};
//! use taltun_protocol::randomness::Randomness;
//! use taltun_protocol::time::Time;
//! use taltun_protocol::batch::{NotSealed, Opened};
//!
//! const INNER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
//!
//! fn outer(number: usize) -> SocketAddr {
//!     SocketAddr::from(([192, 0, 2, number as u8], 51820))
//! }
//!
//! fn device(number: usize, key: PrivateKey, peer: PublicKey) -> Device {
//!     let mut device = Device::new(Settings {
//!         private_key: key,
//!         randomness: Randomness::seeded([number as u8; 32]),
//!         wall_clock_at_zero: Duration::from_secs(1_700_000_000),
//!         mtu: 1420,
//!         local_addresses: vec![INNER[number].into()],
//!         relay: false,
//!     });
//!     let other = 1 - number;
//!     let peer = PeerSettings {
//!         public_key: peer,
//!         preshared_key: PresharedKey::default(),
//!         endpoint: Some(outer(other).into()),
//!         allowed_ips: vec![std::net::IpAddr::from(INNER[other]).into()],
//!         persistent_keepalive: None,
//!     };
//!     device.add_peer(peer, Time::START).expect("it is the first one");
//!     device
//! }
//!
//! let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
//! let public = keys.each_ref().map(PrivateKey::public_key);
//! let [a, b] = keys;
//! let mut devices = [device(0, a, public[1]), device(1, b, public[0])];
//! let mut now = Time::START;
//!
//! // An IPv4 header is all of this packet, and around it is room for what it becomes.
//! let mut packet = [0; 20];
//! (packet[0], packet[3], packet[8]) = (0x45, 20, 64);
//! packet[12..16].copy_from_slice(&INNER[0].octets());
//! packet[16..20].copy_from_slice(&INNER[1].octets());
//! let mut buffer = [0; DATA_OVERHEAD + 32];
//! buffer[DATA_HEADER_LEN..][..20].copy_from_slice(&packet);
//! let sealed = devices[0].tunnel().batch(now).seal(&mut buffer, packet.len());
//! assert_eq!(sealed.unwrap_err(), NotSealed::Staged { displaced: 0 });
//!
//! let mut arrived = Vec::new();
//! for _ in 0..10 {
//!     now = now + Duration::from_millis(10);
//!     for from in [0, 1] {
//!         // What a program does after it has called a device: requests, events, datagrams.
//!         devices[from].handle_requests(now);
//!         while devices[from].poll_event().is_some() {}
//!         while let Some(mut transmit) = devices[from].poll_transmit() {
//!             let to = &mut devices[1 - from];
//!             match Message::parse(&transmit.payload) {
//!                 Ok(Message::Data { receiver, counter }) => {
//!                     let payload = &mut transmit.payload;
//!                     let mut batch = to.tunnel().batch(now);
//!                     let opened = batch.open(receiver, counter, payload, outer(from).into());
//!                     if let Ok(Opened::Local(inner)) = opened {
//!                         arrived.push(payload[DATA_HEADER_LEN..][..inner.len].to_vec());
//!                     }
//!                 }
//!                 _ => to
//!                     .handle_handshake(&transmit.payload, outer(from).into(), false, now)
//!                     .expect("the other device is a friend"),
//!             }
//!         }
//!         if devices[from].poll_timeout().is_some_and(|due| due <= now) {
//!             devices[from].handle_timeout(now);
//!         }
//!     }
//! }
//! assert_eq!(arrived, [packet]);
//! ```
//!
//! One concept a file; [`messages`] is the page with every constant and wire layout.
#![forbid(unsafe_code)]

pub mod allowed_ips;
mod at;
pub mod batch;
pub mod control_message;
pub mod cookie;
mod counter;
pub mod device;
pub mod ecn;
pub mod endpoint;
pub mod hub_message;
pub mod ip;
pub mod messages;
pub mod misrouted;
mod nesting;
pub mod noise;
pub mod peer;
mod place;
pub mod plan;
pub mod randomness;
pub mod ratelimiter;
pub mod replay;
mod requests;
pub mod session;
mod staged;
pub mod tai64n;
#[cfg(any(test, feature = "testing"))]
pub mod tests;
pub mod time;
mod timers;
mod trie;
pub mod tunnel;
mod wipe;

// Where a test takes each order of threads, this name leads to what does so (`tests/interleavings`).
use std::sync;
