//! The log: lines on standard error. Nobody waits until they are read: see [`LogQueue`].
//!
//! Where standard error is the journal's, each line begins with its priority (`<3>` for an
//! error, as `sd-daemon(3)` has it), so that `journalctl -p err` finds it, and has no time,
//! which the journal adds itself.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::human;
use super::log_queue::LogQueue;
use super::screen::wants_colour;

/// How long the end of the process waits for a reader of the last lines.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Starts logging for the whole process; `debug` logs more.
pub(super) fn start(debug: bool) {
    start_at(if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    });
}

/// Starts logging for the whole process at the given level.
pub(super) fn start_at(level: LevelFilter) {
    start_to(level, io::stderr().as_fd(), io::stderr().is_terminal());
}

/// The same, with lines on standard output.
pub(super) fn start_on_stdout(level: LevelFilter) {
    start_to(level, io::stdout().as_fd(), io::stdout().is_terminal());
}

fn start_to(level: LevelFilter, output: BorrowedFd<'_>, terminal: bool) {
    // Without one, lines go to standard error as they come.
    if let Ok(queue) = LogQueue::start(output, missing) {
        let _ = QUEUE.set(queue);
    }
    let debug = level >= LevelFilter::DEBUG;
    let (filter, handle) = reload::Layer::new(level);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(debug)
        .with_ansi(terminal && wants_colour(std::env::var_os("NO_COLOR")))
        .with_writer(|| Line);
    // An error means that a log is set up already, which is as good.
    let started = if to_journal() {
        std::panic::set_hook(Box::new(|panic| {
            add(with_priority(Priority::Critical, &panic.to_string()).as_bytes());
            flush();
        }));
        let format = Format::default()
            .without_time()
            .with_level(false)
            .with_target(debug);
        let lines = lines.with_ansi(false).event_format(Journal(format));
        registry.with(lines).try_init()
    } else {
        registry.with(lines).try_init()
    };
    if started.is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// What lines wait in, once the log has started.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// Adds finished lines to the log. Before it has started, they go to standard error.
pub(super) fn add(lines: &[u8]) {
    match QUEUE.get() {
        Some(queue) => queue.add(lines),
        // Nobody is left to tell if that fails.
        None => drop(io::stderr().write_all(lines)),
    }
}

/// Waits until the log's lines are written, before the process ends; not for long if nobody reads
/// them.
pub(super) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_WAIT);
    }
}

/// The line that says how many others are missing.
fn missing(lines: u64) -> String {
    let text = format!(
        "taltun: warning: dropped {} of the log here: its reader was too slow\n",
        human::counted(lines, "line")
    );
    if to_journal() {
        with_priority(Priority::Warning, &text)
    } else {
        text
    }
}

/// An event on its way to the log.
struct Line;

impl io::Write for Line {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        add(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What decides which lines there are, once the log has started.
static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Logs more from now on, or no longer.
pub(super) fn set_debug(debug: bool) {
    let level = if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    if let Some(filter) = FILTER.get() {
        // It fails only without a log.
        let _ = filter.reload(level);
    }
}

/// How much a line of the journal matters (`syslog(3)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// The process ends by it.
    Critical = 2,
    /// What was asked for isn't done.
    Error = 3,
    /// It is, but.
    Warning = 4,
    /// What somebody may want to know.
    Info = 6,
    /// Each decision.
    Debug = 7,
}

impl From<&Level> for Priority {
    fn from(level: &Level) -> Self {
        match *level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// `text`, each of its lines with the priority in front, and a line feed at the end.
pub(super) fn with_priority(priority: Priority, text: &str) -> String {
    let mut lines = String::new();
    for line in text.trim_end_matches('\n').split('\n') {
        // Writing to a String can't fail.
        let _ = writeln!(lines, "<{}>{line}", priority as u8);
    }
    lines
}

/// Whether standard error is the journal's. `JOURNAL_STREAM` alone doesn't say so: whoever
/// inherits it may have another standard error.
pub(super) fn to_journal() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let own = io::stderr().as_fd().try_clone_to_owned();
        let own = own.and_then(|fd| File::from(fd).metadata());
        own.is_ok_and(|own| is_stream(stream.as_deref(), own.dev(), own.ino()))
    })
}

/// Whether `DEVICE:INODE` names this file.
fn is_stream(stream: Option<&str>, device: u64, inode: u64) -> bool {
    let parts = stream.and_then(|stream| stream.split_once(':'));
    parts.is_some_and(|(a, b)| a.parse() == Ok(device) && b.parse() == Ok(inode))
}

/// Lines as the journal takes them.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0
            .format_event(context, Writer::new(&mut text), event)?;
        let priority = Priority::from(event.metadata().level());
        writer.write_str(&with_priority(priority, &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_file_is_the_journals_stream() {
        assert!(is_stream(Some("8:1234"), 8, 1234));
        assert!(!is_stream(Some("8:1234"), 8, 1235));
        assert!(!is_stream(Some("9:1234"), 8, 1234));
        for text in ["", "8", "8:", ":", "8:1234:1", "x:y"] {
            assert!(!is_stream(Some(text), 8, 1234), "{text}");
        }
        assert!(!is_stream(None, 8, 1234));
    }

    #[test]
    fn every_line_has_its_priority() {
        assert_eq!(
            with_priority(Priority::Error, "one\ntwo\n"),
            "<3>one\n<3>two\n"
        );
        assert_eq!(Priority::from(&Level::WARN), Priority::Warning);
        assert_eq!(Priority::from(&Level::TRACE), Priority::Debug);
    }
}
