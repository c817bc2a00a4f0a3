//! Sending past the network stack: for small packets, which no offload of the kernel can merge.
//!
//! Each AF_XDP lane lends other threads frames of its socket: that is a [`TransmitQueue`]. A
//! [`Transmitter`] fills them with headers and datagram, where the kernel knows the next hop.
//! All else leaves by the UDP socket, and so it does when no frame is free.
//!
//! | file | concern |
//! |---|---|
//! | `headers` | the headers before a datagram that leaves |
//! | `lookup` | the questions to the kernel about where it goes |
//! | `route_asker` | who asks them, so that nobody who sends waits for an answer |
//! | `routes` | where it goes, as a thread remembers the answers |
//! | `queues` | which lanes others can send by |
//! | `transmitter` | what of a batch leaves by them |

pub mod headers;
mod lookup;
mod queues;
mod route_asker;
mod routes;
mod transmitter;

pub(super) use queues::Counts;
pub use queues::{TransmitQueue, TransmitQueues};
pub use transmitter::Transmitter;
