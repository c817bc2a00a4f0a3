//! What the hubs of one network agree on: signed records in etcd, and what each hub keeps of them.
//!
//! ```text
//!            etcd ──► Mirror ──► Put, Deleted, Synced, Lost ──► the hub
//!              ▲                                                 │
//!  Store: calls with limits                         Ledger: what counts of it
//!              ▲                                    Homes, Bans: merged, without a clock
//!              └───────── what it lost ◄────────────────┤
//!                                                   Snapshot: on the hub's disk
//! ```
//!
//! etcd holds intent; hubs hold the truth of sessions, and no packet waits for etcd. The [`Ledger`]
//! believes signatures, not the store. What merges needs no I/O and no clock, and gives the same in
//! any order.

mod backoff;
pub mod bans;
pub mod edit;
pub mod etcd;
pub mod export;
mod hex;
mod home_writer;
pub mod homes;
pub mod key;
pub mod label;
pub mod ledger;
pub mod mesh;
mod mirror;
mod pace;
mod presence;
pub mod record;
pub mod signed;
pub mod snapshot;
pub mod token;
pub mod trust;

pub use bans::Bans;
pub use etcd::Store;
pub use home_writer::HomeWriter;
pub use homes::{Heard, Home, Homes};
pub use key::Key;
pub use label::Label;
pub use ledger::{Ledger, Refusal, Verdict};
pub use mirror::{Event, Mirror};
pub use pace::Pace;
pub use presence::Presence;
pub use signed::Signed;
pub use token::Token;
pub use trust::Trust;

#[cfg(test)]
mod tests;
