//! Old spellings of the command line.
//!
//! The Go version had one command and long options with a single dash. Both keep working:
//! `-config F` and `-config=F` become `--config F`, and a command line that begins with an
//! option is one for `run`. Only the known names are rewritten, so `-i` stays `-i`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Options of the Go version, and those anyone tries.
const LONG_WITH_ONE_DASH: &[&str] = &[
    "config", "mode", "local", "key", "vip", "peer", "tun", "mtu", "debug", "help", "version",
];

/// Rewrites an argument vector, the program's name included, to today's spelling.
pub(super) fn modernise(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_else(|| "taltun".into());
    let mut literal = false;
    let mut rest: Vec<OsString> = arguments
        .map(|argument| {
            literal = literal || argument == "--";
            if !literal && is_old(&argument) {
                let mut bytes = vec![b'-'];
                bytes.extend(argument.as_bytes());
                OsString::from_vec(bytes)
            } else {
                argument
            }
        })
        .collect();
    if rest.first().is_some_and(|first| begins_run(first)) {
        rest.insert(0, "run".into());
    }
    rest.insert(0, program);
    rest
}

fn is_old(argument: &OsStr) -> bool {
    let Some(name) = argument.as_bytes().strip_prefix(b"-") else {
        return false;
    };
    let name = name.split(|byte| *byte == b'=').next().unwrap_or(name);
    LONG_WITH_ONE_DASH
        .iter()
        .any(|known| known.as_bytes() == name)
}

fn begins_run(first: &OsStr) -> bool {
    let asks_about_us = ["-h", "--help", "-V", "--version"];
    first.as_bytes().starts_with(b"-") && !asks_about_us.iter().any(|known| first == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modernised(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        let words: Vec<String> = modernise(words)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn one_dash_becomes_two_for_the_known_names() {
        assert_eq!(modernised("taltun run -config F"), "taltun run --config F");
        assert_eq!(modernised("taltun run -config=F"), "taltun run --config=F");
        assert_eq!(modernised("taltun run --config F"), "taltun run --config F");
        assert_eq!(modernised("taltun status -i hub"), "taltun status -i hub");
        assert_eq!(modernised("taltun run -conf F"), "taltun run -conf F");
        assert_eq!(modernised("taltun -help"), "taltun --help");
    }

    #[test]
    fn options_without_a_command_are_for_run() {
        assert_eq!(
            modernised("taltun -config F -debug"),
            "taltun run --config F --debug"
        );
        assert_eq!(
            modernised("taltun --mode=server"),
            "taltun run --mode=server"
        );
        assert_eq!(modernised("taltun -V"), "taltun -V");
        assert_eq!(modernised("taltun genkey"), "taltun genkey");
        assert_eq!(modernised("taltun"), "taltun");
    }

    #[test]
    fn what_follows_two_dashes_is_left_alone() {
        assert_eq!(modernised("taltun status -- -key"), "taltun status -- -key");
    }
}
