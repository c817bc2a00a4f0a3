//! Old spellings of the command line.
//!
//! The Go version had one command and long options with a single dash. Both keep working:
//! `-config F` and `-config=F` become `--config F`, and a command line that begins with an
//! option is one for `run`. And `taltun IFACE` takes the place of `wireguard-go IFACE`. Only the known names are rewritten, so `-i` stays `-i`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::config;

/// Options of the Go version, and those anyone tries.
const LONG_WITH_ONE_DASH: &[&str] = &[
    "config", "mode", "local", "key", "vip", "peer", "tun", "mtu", "debug", "help", "version",
];

/// The command that makes an interface by its name alone. Nobody has to write it.
pub(super) const BY_NAME: &str = "interface";

/// Rewrites an argument vector, the program's name included, to today's spelling. What
/// isn't one of `commands` may be the name of an interface.
pub(super) fn modernise(
    arguments: impl IntoIterator<Item = OsString>,
    commands: &[&str],
) -> Vec<OsString> {
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
    if is_by_name(&rest, commands) {
        rest.insert(0, BY_NAME.into());
    } else if rest.first().is_some_and(|first| begins_run(first)) {
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

/// Whether this is `IFACE` or `-f IFACE`. A word that is nearly a command is a mistyped
/// command rather than an interface, unless it has a digit, as no command has.
fn is_by_name(arguments: &[OsString], commands: &[&str]) -> bool {
    let mut words = arguments
        .iter()
        .filter(|word| *word != "-f" && *word != "--foreground");
    let (Some(name), None) = (words.next(), words.next()) else {
        return false;
    };
    let Some(name) = name.to_str() else {
        return false;
    };
    let is_word = !name.is_empty() && !name.starts_with('-') && !commands.contains(&name);
    let has_digit = name.bytes().any(|byte| byte.is_ascii_digit());
    is_word && (has_digit || arguments.len() > 1 || config::nearest(name, commands).is_none())
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
        let words: Vec<String> = modernise(words, &["run", "stats", "status", "genkey"])
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
    fn a_word_that_is_no_command_is_an_interface() {
        assert_eq!(modernised("taltun wg0"), "taltun interface wg0");
        assert_eq!(modernised("taltun -f wg0"), "taltun interface -f wg0");
        assert_eq!(
            modernised("taltun --foreground office"),
            "taltun interface --foreground office"
        );
        assert_eq!(modernised("taltun office"), "taltun interface office");
        assert_eq!(modernised("taltun run0"), "taltun interface run0");
    }

    #[test]
    fn a_mistyped_command_is_not_an_interface() {
        assert_eq!(modernised("taltun statsu"), "taltun statsu");
        assert_eq!(modernised("taltun stats"), "taltun stats");
        assert_eq!(modernised("taltun stats wg0"), "taltun stats wg0");
        assert_eq!(modernised("taltun wg0 wg1"), "taltun wg0 wg1");
    }

    #[test]
    fn what_follows_two_dashes_is_left_alone() {
        assert_eq!(modernised("taltun status -- -key"), "taltun status -- -key");
    }
}
