//! What the hubs of one network agree on: signed records in etcd, and what each hub keeps of them.
//!
//! ```text
//! etcd ──► records ──► Ledger: what counts of them, by its signatures
//!   ▲                  Homes, Bans: merged, without a clock
//!   └─ what it lost ◄────┘
//! ```
//!
//! etcd holds intent; hubs hold the truth of sessions, and no packet waits for etcd. The [`Ledger`]
//! believes signatures, not the store. What merges needs no I/O and no clock, and gives the same in
//! any order.

pub mod bans;
mod hex;
pub mod homes;
pub mod key;
pub mod label;
pub mod ledger;
pub mod record;
pub mod signed;
pub mod token;

pub use bans::Bans;
pub use homes::{Heard, Home, Homes};
pub use key::Key;
pub use label::Label;
pub use ledger::{Ledger, Refusal, Trust, Verdict};
pub use signed::Signed;
pub use token::Token;

#[cfg(test)]
mod tests;
