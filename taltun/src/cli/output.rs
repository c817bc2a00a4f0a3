//! What the commands print. A reader that has seen enough, as in `taltun stats | head`,
//! is no error.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{OFlags, fcntl_getfl};

use super::failure::Failure;
use super::logging::{self, Priority};

/// Why nothing that is printed gets anywhere.
pub(super) const NOWHERE: &str = "standard output is closed or leads to /dev/null";

/// Prints `text` to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_while_read(text).map(drop)
}

/// The same; false when nobody reads any more.
pub(super) fn print_while_read(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The same for what nobody gets a second time: it is an error if nobody got it.
pub(super) fn print_once(text: &str) -> Result<(), Failure> {
    if is_nowhere() {
        return Err(Failure::Other(NOWHERE.to_owned()));
    }
    let mut out = io::stdout().lock();
    let outcome = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let is_read = written(outcome.and_then(|()| on_disk()))?;
    if is_read {
        Ok(())
    } else {
        Err(Failure::Other("nobody reads standard output".to_owned()))
    }
}

/// Whether nobody gets what is printed. Where a program is started without a standard output, it has
/// `/dev/null` for one: Rust opens it first. What is open for reading alone counts as closed, and Rust takes
/// writing to it for done.
pub(super) fn is_nowhere() -> bool {
    stdout_file().is_ok_and(|file| leads_nowhere(&file))
}

fn leads_nowhere(file: &File) -> bool {
    // As every Linux numbers them: /dev/null and /dev/zero.
    const NOWHERE: [(u32, u32); 2] = [(1, 3), (1, 5)];
    let device = |metadata: std::fs::Metadata| {
        let number = metadata.rdev();
        (libc::major(number), libc::minor(number))
    };
    let is_read_only =
        fcntl_getfl(file).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDONLY);
    let metadata = file.metadata();
    is_read_only
        || metadata.is_ok_and(|it| it.file_type().is_char_device() && NOWHERE.contains(&device(it)))
}

/// Standard output as a file.
pub(super) fn stdout_file() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Waits until what was printed into a file is on the disk, which may be full.
fn on_disk() -> io::Result<()> {
    let file = stdout_file()?;
    if file.metadata()?.is_file() {
        file.sync_all()?;
    }
    Ok(())
}

/// What became of writing to standard output: false when nobody reads any more.
pub(super) fn written(outcome: io::Result<()>) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Other(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// `value` as JSON in a line.
pub(super) fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(value);
    let line = line.map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
    Ok(line + "\n")
}

/// Prints `value` as indented JSON to standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print(&json_text(value)?)
}

/// `value` as indented JSON.
pub(super) fn json_text(value: &impl serde::Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

/// Prints `taltun: message`, each of its lines so, to where the log goes: standard error unless
/// somebody chose another place.
pub(super) fn complain(message: &str) {
    say(Priority::Error, message);
}

/// The same for what is odd, and no failure.
pub(super) fn warn(message: &str) {
    say(Priority::Warning, &format!("warning: {message}"));
}

/// The same for what was done.
pub(super) fn note(message: &str) {
    say(Priority::Info, message);
}

fn say(priority: Priority, message: &str) {
    let mut text = String::new();
    for line in message.lines() {
        text.push_str("taltun: ");
        text.push_str(&line.replace('\r', " "));
        text.push('\n');
    }
    let text = if logging::to_journal() {
        logging::with_priority(priority, &text)
    } else {
        text
    };
    logging::add(text.as_bytes());
}

/// The same for a message of several lines of our own.
pub(super) fn complain_lines(message: &str) {
    logging::add(format!("taltun: {message}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_there_is_lost_or_not() {
        let to = |path: &str, write: bool| {
            let mut options = File::options();
            let file = options.read(true).write(write).open(path).unwrap();
            leads_nowhere(&file)
        };
        for lost in ["/dev/null", "/dev/zero"] {
            assert!(to(lost, true), "{lost}");
        }
        assert!(!to("/dev/full", true));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(!to(path, true));
        assert!(to(path, false));
    }
}
