//! The keys of the drawing.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What somebody pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A letter or a digit; letters are small.
    Letter(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Ctrl-C, which raw terminals don't make a signal of.
    Interrupt,
}

impl Key {
    /// The key of an event of the terminal's, if it is one that we know.
    pub fn of(event: &Event) -> Option<Self> {
        let Event::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press,
            ..
        }) = event
        else {
            return None;
        };
        let held = *modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT);
        match code {
            KeyCode::Char('c') if held == KeyModifiers::CONTROL => Some(Self::Interrupt),
            KeyCode::Char(letter) if held.is_empty() => {
                Some(Self::Letter(letter.to_ascii_lowercase()))
            }
            KeyCode::Enter => Some(Self::Enter),
            KeyCode::Esc => Some(Self::Escape),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
        Key::of(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn letters_are_the_same_large_and_small_and_ctrl_c_isnt_c() {
        let c = KeyCode::Char('c');
        assert_eq!(key(c, KeyModifiers::NONE), Some(Key::Letter('c')));
        assert_eq!(key(c, KeyModifiers::CONTROL), Some(Key::Interrupt));
        assert_eq!(key(c, KeyModifiers::ALT), None);
        let large = key(KeyCode::Char('B'), KeyModifiers::SHIFT);
        assert_eq!(large, Some(Key::Letter('b')));
        assert_eq!(Key::of(&Event::Resize(80, 24)), None);
    }
}
