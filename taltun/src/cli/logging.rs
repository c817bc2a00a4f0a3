//! The log: lines on standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;

/// Starts logging for the whole process; `debug` logs each decision. Under systemd, which
/// stamps lines itself, they carry no time.
pub(super) fn start(debug: bool) {
    start_at(if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    });
}

/// Starts logging for the whole process at the given level.
pub(super) fn start_at(level: LevelFilter) {
    let debug = level >= LevelFilter::DEBUG;
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(debug)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // An error means that a log is set up already, which is as good.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().try_init()
    } else {
        builder.try_init()
    };
}
