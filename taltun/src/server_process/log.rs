//! What such a process has to say: lines on its standard error, which the tunnel passes on to its log.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing::{Level, debug, error, info, warn};

/// What its lines begin with.
const LEVELS: [(&str, Level); 4] = [
    ("ERROR", Level::ERROR),
    ("WARN", Level::WARN),
    ("INFO", Level::INFO),
    ("DEBUG", Level::DEBUG),
];

/// From now on this process writes what it has to say in such lines, `debug` or not.
pub(crate) fn log_to_tunnel(debug: bool) {
    let most = if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(most)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .init();
}

/// Such a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    level: Level,
    text: &'a str,
}

impl<'a> Line<'a> {
    /// What a line says, if it is one.
    pub(crate) fn of(line: &'a str) -> Option<Self> {
        let (word, text) = line.trim_start().split_once(' ')?;
        let (_, level) = LEVELS.into_iter().find(|(name, _)| *name == word)?;
        let text = text.trim();
        Some(Self { level, text })
    }

    /// Passes it on.
    pub(crate) fn tell(&self) {
        let text = self.text;
        match self.level {
            Level::ERROR => error!("{text}"),
            Level::WARN => warn!("{text}"),
            Level::INFO => info!("{text}"),
            _ => debug!("{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_has_a_level() {
        let text = "udpgw: it ends";
        for (line, level) in [
            (" WARN udpgw: it ends", Level::WARN),
            ("ERROR udpgw: it ends", Level::ERROR),
            ("DEBUG  udpgw: it ends\n", Level::DEBUG),
        ] {
            assert_eq!(Line::of(line), Some(Line { level, text }), "{line}");
        }
        for line in ["", "WARN", "taltun: metrics: no way", "WARNING x"] {
            assert_eq!(Line::of(line), None, "{line}");
        }
    }
}
