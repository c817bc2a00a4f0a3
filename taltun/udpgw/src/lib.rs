//! BadVPN's UDP gateway: clients behind tun2socks or an ssh tunnel reach UDP services through
//! one TCP connection.
//!
//! [`codec`] is the protocol, without I/O. A [`Server`] accepts clients and gives them to
//! worker threads, each a runtime of its own; a client is one task there, and so is each of its
//! connections, which is a UDP socket. Nothing that a client does reaches another: what it
//! can make the gateway hold is bounded ([`Options::memory_bound`]), and what goes beyond is
//! dropped and counted.

mod buffers;
mod client;
pub mod codec;
mod connection;
mod connections;
mod counters;
mod destinations;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gone;
mod host;
mod options;
mod outbox;
mod own;
mod receive;
mod routes;
mod scope;
mod server;
mod shared;
mod sockets;
mod turn;
mod worker;

pub use buffers::Buffers;
pub use counters::{Snapshot, Stats};
pub use destinations::{Destinations, Guard, is_everywhere};
pub use host::raise_file_limit;
pub use options::{Listen, LocalPorts, Options, QUEUE, UDP_MTU};
pub use own::own_addresses;
pub use scope::listens_twice;
pub use server::{Listening, Server, StartError, Started, Watch};
