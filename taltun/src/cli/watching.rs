//! `--watch`: the same again each second. A terminal is drawn over without flicker, and anything else
//! gets one after the other.

use std::thread;
use std::time::Duration;

use super::failure::Failure;
use super::output;
use super::screen::{self, Screen};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Moves the cursor home.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line, so that nothing of the last look shows behind it.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears all below.
const CLEAR_BELOW: &str = "\x1b[J";
/// Clears the terminal, once.
const CLEAR: &str = "\x1b[2J";

/// Prints what `next` makes each second until it fails, nobody reads any more, or somebody
/// interrupts it. What fits on no screen is cut at its bottom.
pub(super) fn watch(
    mut next: impl FnMut(&Screen) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let mut is_first = true;
    loop {
        let screen = Screen::of_stdout();
        let text = next(&screen)?;
        let text = match screen.size {
            Some((_, rows)) if !screen::is_dumb() => {
                let clear = if is_first { CLEAR } else { "" };
                format!("{HOME}{clear}{}", over(&text, rows))
            }
            _ if is_first => text,
            _ => format!("\n{text}"),
        };
        if !output::print_while_read(&text)? {
            return Ok(());
        }
        is_first = false;
        thread::sleep(INTERVAL);
    }
}

/// The same as lines of JSON.
pub(super) fn watch_json<T: serde::Serialize>(
    mut next: impl FnMut() -> Result<T, Failure>,
) -> Result<(), Failure> {
    while output::print_while_read(&output::json_line(&next()?)?)? {
        thread::sleep(INTERVAL);
    }
    Ok(())
}

/// What draws a text over the last one. The last row stays free for the cursor, else the terminal
/// would scroll.
fn over(text: &str, rows: usize) -> String {
    let room = rows.saturating_sub(1).max(1);
    let mut drawn = String::new();
    for line in text.lines().take(room) {
        drawn.push_str(line);
        drawn.push_str(CLEAR_LINE);
        drawn.push('\n');
    }
    drawn + CLEAR_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_drawn_over_the_one_before() {
        assert_eq!(over("a\nb\n", 24), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(over("a\nb\nc\n", 3), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(over("a\nb\n", 1), "a\x1b[K\n\x1b[J");
    }
}
