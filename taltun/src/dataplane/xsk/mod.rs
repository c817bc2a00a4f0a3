//! Receiving and sending through AF_XDP: for small packets of many peers, which no offload of
//! the kernel can merge.
//!
//! The XDP program hands transport messages, and only those, to the socket of the queue they
//! came in on. A lane is that socket and the thread that serves it: it takes frames off
//! the ring in batches, finds the messages in them, and does with these what a worker does
//! with its own, opening them where the frame lies.
//!
//! ```text
//!        XDP            receive, parse     open in place    ┌──── write ──────────► TUN
//!  NIC ───────► RX ring ─────────────► UMEM ────────────────┤
//!                  ▲                                        └─ seal ─► TX ring ───► NIC
//!                  └───────── fill ring ◄─── recycle ◄─── completion ring ◄─────────┘
//! ```
//!
//! What is relayed leaves in the frame that it came in, with other headers, by the TX ring of
//! the same socket, if it leaves by the same interface and the kernel knows the next hop.
//!
//! Whatever else is small leaves by a [`TransmitQueue`](super::transmit::TransmitQueue): each lane
//! lends other threads, the workers' and other lanes', frames of its socket.
//!
//! | file | concern |
//! |---|---|
//! | `frame` | from a frame to the datagram in it |
//! | `lane` | the thread of a queue |
//! | `lanes` | which queues have one, and why others have none |
//!
//! A lane is a thread of its own, and not one more source for a worker to wait on, because
//! queues come and go with interfaces, settings and drivers: so a lane starts and ends, or
//! fails, without a worker noticing. A flow has one queue and so one lane; only while one
//! starts or ends can its packets overtake each other.

pub mod frame;
mod lane;
mod lanes;

pub use lanes::{LanePolicy, Lanes};
