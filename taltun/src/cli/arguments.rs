//! Old spellings of the command line.
//!
//! The Go version had one command and long options with a single dash. Both keep working:
//! `-config F` and `-config=F` become `--config F`, and a command line that begins with an
//! option is one for `run`. Only the known names are rewritten, so `-i` stays `-i`.
//!
//! `taltun IFACE` takes the place of `wireguard-go IFACE` for the programs that call it so: it
//! means `taltun interface IFACE`. A word that somebody may have taken for a command never
//! does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::interface::BY_NAME;
use super::unknown;

/// Options of the Go version, and those anyone tries.
const LONG_WITH_ONE_DASH: &[&str] = &[
    "config", "mode", "local", "key", "vip", "peer", "tun", "mtu", "debug", "help", "version",
];

/// Where wg-quick finds the program that makes its interfaces; it is in that program's
/// environment, too.
pub(super) const WG_QUICK_VARIABLE: &str = "WG_QUICK_USERSPACE_IMPLEMENTATION";

/// Who may have called us for an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// wg-quick itself.
    WgQuick,
    /// Somebody who says what wg-quick is to use: wg-quick by way of another program, or a
    /// person whose shell has the variable.
    Perhaps,
    /// Anybody else.
    Other,
}

impl Caller {
    /// Who it is, as parent process and environment say.
    pub(super) fn find() -> Self {
        let parent = std::os::unix::process::parent_id();
        let is_wg_quick = std::fs::read_to_string(format!("/proc/{parent}/comm"))
            .is_ok_and(|name| name.trim() == "wg-quick");
        if is_wg_quick {
            Self::WgQuick
        } else if std::env::var_os(WG_QUICK_VARIABLE).is_some_and(|value| !value.is_empty()) {
            Self::Perhaps
        } else {
            Self::Other
        }
    }
}

/// Rewrites an argument vector, the program's name included, to today's spelling. What
/// isn't one of `commands` may be the name of an interface, which depends on `caller`.
pub(super) fn modernise(
    arguments: impl IntoIterator<Item = OsString>,
    commands: &[&str],
    mut caller: Caller,
) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_else(|| "taltun".into());
    let stands_in = Path::new(&program).file_name() == Some("wireguard-go".as_ref());
    if stands_in && caller == Caller::Other {
        caller = Caller::Perhaps;
    }
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
    if rest.len() == 2 && rest[0] == "help" && (rest[1] == "--help" || rest[1] == "-h") {
        // The command that shows help has no page of its own: it is a way to the others.
        rest.pop();
    }
    if is_by_name(&rest, commands, caller) {
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

/// Whether this is `IFACE` as the callers of wireguard-go write it: `-f IFACE`, a name with a
/// digit, which no command has, or any name that wg-quick gives. A word that looks like a
/// command is one, whoever it was that didn't say that he is wg-quick.
fn is_by_name(arguments: &[OsString], commands: &[&str], caller: Caller) -> bool {
    let mut words = arguments
        .iter()
        .filter(|word| *word != "-f" && *word != "--foreground");
    let (Some(name), None) = (words.next(), words.next()) else {
        return false;
    };
    let Some(name) = name.to_str() else {
        return false;
    };
    if name.is_empty() || name.starts_with('-') || commands.contains(&name) {
        return false;
    }
    let has_digit = name.bytes().any(|byte| byte.is_ascii_digit());
    let in_foreground = arguments.len() > 1;
    has_digit
        || caller == Caller::WgQuick
        || ((in_foreground || caller == Caller::Perhaps) && !unknown::is_like(name, commands))
}

fn begins_run(first: &OsStr) -> bool {
    let not_for_run = ["-h", "--help", "-V", "--version", "-f", "--foreground"];
    first.as_bytes().starts_with(b"-") && !not_for_run.iter().any(|known| first == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modernised(line: &str) -> String {
        called(line, Caller::Other)
    }

    fn called(line: &str, caller: Caller) -> String {
        let words = line.split(' ').map(OsString::from);
        let commands = ["run", "stats", "status", "genkey"];
        let words: Vec<String> = modernise(words, &commands, caller)
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
        assert_eq!(modernised("taltun help --help"), "taltun help");
        assert_eq!(modernised("taltun help -h"), "taltun help");
        assert_eq!(modernised("taltun help run"), "taltun help run");
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
    fn the_callers_of_wireguard_go_get_an_interface() {
        assert_eq!(modernised("taltun wg0"), "taltun interface wg0");
        assert_eq!(modernised("taltun run0"), "taltun interface run0");
        assert_eq!(modernised("taltun -f office"), "taltun interface -f office");
        assert_eq!(
            modernised("taltun --foreground office"),
            "taltun interface --foreground office"
        );
        for caller in [Caller::Perhaps, Caller::WgQuick] {
            assert_eq!(called("taltun office", caller), "taltun interface office");
            assert_eq!(called("taltun status", caller), "taltun status");
        }
        // A file of wg-quick may be called so; who types it means a command.
        assert_eq!(
            called("taltun client", Caller::WgQuick),
            "taltun interface client"
        );
        assert_eq!(called("taltun watch", Caller::Perhaps), "taltun watch");
        assert_eq!(modernised("taltun -f watch"), "taltun -f watch");
        assert_eq!(
            modernised("/usr/bin/wireguard-go office"),
            "/usr/bin/wireguard-go interface office"
        );
    }

    #[test]
    fn a_word_alone_is_never_an_interface() {
        for word in [
            "watch", "show", "peers", "up", "down", "list", "log", "version", "statsu", "office",
        ] {
            let line = format!("taltun {word}");
            assert_eq!(modernised(&line), line);
        }
        assert_eq!(modernised("taltun stats"), "taltun stats");
        assert_eq!(modernised("taltun stats wg0"), "taltun stats wg0");
        assert_eq!(modernised("taltun wg0 wg1"), "taltun wg0 wg1");
    }

    #[test]
    fn what_follows_two_dashes_is_left_alone() {
        assert_eq!(modernised("taltun status -- -key"), "taltun status -- -key");
    }
}
