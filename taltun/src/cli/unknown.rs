//! A word that is no command: what was meant by it, perhaps.

use clap::error::{ContextKind, ContextValue};

use super::interface::BY_NAME;
use crate::config;

/// What other programs call a thing, and what to do here.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["show", "peers", "list", "ls", "info", "ps", "who"],
        "`taltun status` shows the tunnel and its peers",
    ),
    (
        &["add", "new", "user", "invite", "qr", "qrcode"],
        "`taltun peer new NAME` adds a peer and prints its file",
    ),
    (
        &["watch", "monitor", "traffic", "htop"],
        "`taltun top` shows what comes and goes",
    ),
    (
        &["up", "start", "server", "client", "serve", "connect"],
        "`taltun run --config FILE` starts a tunnel",
    ),
    (
        &["down", "stop", "quit", "kill", "disconnect"],
        "a tunnel ends with Ctrl-C or SIGTERM, or with `systemctl stop` where systemd runs it",
    ),
    (
        &["restart"],
        "`taltun reload` reads the file again; `systemctl restart` starts anew where systemd \
         runs it",
    ),
    (
        &["log", "logs", "journal"],
        "the log is on standard error; under systemd see `journalctl -u taltun@NAME`",
    ),
    (
        &["config", "test", "verify", "validate", "lint"],
        "`taltun check --config FILE` checks a configuration",
    ),
    (&["keygen", "key"], "`taltun genkey` makes a private key"),
];

/// The word that a usage error is about, if it is one that stands for a command.
pub(super) fn word(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => Some(word),
        _ => None,
    }
}

/// What to write instead of an unknown option, where that is clear: a command with dashes
/// before it, or the letter that others have for the version.
pub(super) fn option(error: &clap::Error, commands: &[&str]) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_picture = !option.starts_with('-') && option.to_lowercase().ends_with(".png");
    if is_picture {
        return Some(format!(
            "{option} isn't expected here; to name the picture of a code: --qr={option}"
        ));
    }
    let word = option.trim_start_matches('-');
    if option == "-v" {
        return Some(
            "there is no option -v; `taltun -V` prints the version, and `taltun run --debug` logs \
             more"
                .to_owned(),
        );
    }
    commands
        .contains(&word)
        .then(|| format!("there is no option {option}; write `taltun {word}`"))
}

/// Whether whoever wrote `word` may have meant a command.
pub(super) fn is_like(word: &str, commands: &[&str]) -> bool {
    elsewhere(word).is_some() || config::nearest(word, commands).is_some()
}

fn elsewhere(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    let known = ELSEWHERE
        .iter()
        .find(|(words, _)| words.contains(&word.as_str()));
    known.map(|(_, hint)| *hint)
}

/// Why `word` does nothing, and what does.
pub(super) fn explain(word: &str, commands: &[&str]) -> String {
    let hint = match (elsewhere(word), config::nearest(word, commands)) {
        (Some(hint), _) => hint.to_owned(),
        (None, Some(near)) => format!("did you mean `taltun {near}`?"),
        (None, None) => "see `taltun --help`".to_owned(),
    };
    if config::interface_name(word).is_ok() {
        format!(
            "there is no command {word}; {hint} (to make an interface called {word}: \
             `taltun {BY_NAME} {word}`)"
        )
    } else {
        format!("there is no command {word:?}; {hint}")
    }
}

/// The same of a word behind a command that has commands of its own.
pub(super) fn below(above: &str, word: &str, error: &clap::Error) -> String {
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(near)) => Some(near),
        Some(ContextValue::Strings(all)) => all.first(),
        _ => None,
    };
    match near {
        Some(near) => {
            format!("there is no command {above} {word}; did you mean `taltun {above} {near}`?")
        }
        None => format!("there is no command {above} {word}; see `taltun {above} --help`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: &[&str] = &["run", "status", "stats", "reload", "version", "interface"];

    #[test]
    fn a_word_of_other_programs_leads_to_ours() {
        for (word, expected) in [
            ("show", "`taltun status`"),
            ("peers", "`taltun status`"),
            ("list", "`taltun status`"),
            ("watch", "`taltun top`"),
            ("up", "`taltun run --config FILE`"),
            ("down", "SIGTERM"),
            ("log", "journalctl"),
            ("statsu", "did you mean `taltun stats`?"),
            ("Status", "did you mean `taltun status`?"),
            ("office", "see `taltun --help`"),
        ] {
            let text = explain(word, COMMANDS);
            assert!(text.starts_with(&format!("there is no command {word}; ")));
            assert!(text.contains(expected), "{text}");
            assert!(
                text.ends_with(&format!("`taltun interface {word}`)")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_can_be_no_interface_is_not_offered_as_one() {
        let text = explain("10.0.0.0/8", COMMANDS);
        assert_eq!(
            text,
            "there is no command \"10.0.0.0/8\"; see `taltun --help`"
        );
    }

    #[test]
    fn no_command_of_ours_is_taken_for_one_of_others() {
        let definition = <super::super::Cli as clap::CommandFactory>::command();
        for command in definition.get_subcommands() {
            let name = command.get_name();
            assert!(
                ELSEWHERE.iter().all(|(words, _)| !words.contains(&name)),
                "{name}"
            );
        }
    }
}
