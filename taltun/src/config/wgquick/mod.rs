//! The files of `wg` and `wg-quick`, to TOML and back.
//!
//! Both ways go line by line, so that comments stay where they were. What one side has no
//! word for is kept in a comment that the other way understands again:
//!
//! * `# wg-quick: SaveConfig = true` in TOML is a line of wg-quick's that Taltun doesn't act on;
//! * `# taltun: mode = …` in a wg-quick file is a line of Taltun's.
//!
//! So a file that goes there and back means what it meant before, but for commands: those of
//! Taltun's that wg-quick has no word for are lost, as no comment may become a command.

mod commands;
mod export;
mod hop;
mod import;
mod lines;
mod names;
mod own;
mod refuse;
mod running;
mod section;
#[cfg(test)]
mod tests;
mod text;
mod values;

pub use export::export;
pub use import::{Imported, import};
pub use running::{Running, running};

/// Begins a comment that holds a line of wg-quick's.
const FOR_WG_QUICK: &str = "# wg-quick: ";
/// Begins a comment that holds a line of TOML.
const FOR_TALTUN: &str = "# taltun: ";
/// What wg-quick's `%i` is in commands of Taltun's.
const INTERFACE_VARIABLE: &str = "$TALTUN_INTERFACE";

/// The name of an interface as wg-quick takes it. It stands in commands in place of `%i`, so it
/// has nothing that means something to a shell.
pub fn interface_name(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_=+.-".contains(&b);
    let fits = (1..=15).contains(&text.len()) && text.bytes().all(plain);
    (fits && text != "." && text != "..").then(|| text.to_owned())
}
