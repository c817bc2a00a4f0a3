//! The files of `wg` and `wg-quick`, to TOML and back.
//!
//! Both ways go line by line, so that comments stay where they were. What one side has no
//! word for is kept in a comment that the other way understands again:
//!
//! * `# wg-quick: PreUp = …` in TOML is a line of wg-quick's that Taltun doesn't act on;
//! * `# taltun: mode = …` in a wg-quick file is a line of Taltun's.
//!
//! So a file that goes there and back means what it meant before.

mod export;
mod import;
mod running;
#[cfg(test)]
mod tests;

pub use export::export;
pub use import::{Imported, import};
pub use running::{Running, running};

/// Begins a comment that holds a line of wg-quick's.
const FOR_WG_QUICK: &str = "# wg-quick: ";
/// Begins a comment that holds a line of TOML.
const FOR_TALTUN: &str = "# taltun: ";
/// What wg-quick's `%i` is in commands of Taltun's.
const INTERFACE_VARIABLE: &str = "$TALTUN_INTERFACE";
