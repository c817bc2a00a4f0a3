//! Colours: few, of the terminal's own palette, readable on dark and on light; or none.

use ratatui::style::{Color, Modifier, Style};

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// Else weight and signs tell.
    pub colour: bool,
}

impl Theme {
    /// As the environment wants it: <https://no-color.org>.
    pub fn of_environment() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !unwanted }
    }

    /// Names and keys.
    pub fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is less important.
    pub fn faint() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is as it should be.
    pub fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    /// What isn't, or is kept out.
    pub fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}
