//! What each peer moved, by day: kept across restarts in a database, and added up for quotas.
//!
//! ```text
//! counters ──► Batch ──► Book: a queue ──► its thread ──► Store: SQLite
//!                 └────► Totals: this month's sums, in memory, which quotas are judged by
//! ```
//!
//! Nobody ever waits for the disk but the [`Book`]'s own thread: whoever counts looks whether the
//! queue [has room](Book::has_room), and where it has none, goes on counting until it has. What
//! can't be written stays in memory, is told once, and is tried again.
//!
//! Days are those of UTC, by a [`Clock`] that doesn't go back.

pub mod amount;
pub mod book;
pub mod clock;
pub mod counts;
pub mod date;
pub mod quota;
pub mod store;
pub mod totals;

pub use book::{Book, Event, Kept};
pub use clock::Clock;
pub use counts::{Batch, Counts, Entry, Key};
pub use date::Day;
pub use quota::{Period, Quota};
pub use store::{OpenError, Store, Used};
pub use totals::Totals;

#[cfg(test)]
mod tests;
