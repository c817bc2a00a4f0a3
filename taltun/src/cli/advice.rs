//! The commands that messages advise. Whoever named a tunnel by `--interface` has to name it to the
//! advised command as well: several may be running.

use clap::{Command, CommandFactory};

use super::Cli;

/// A message, in which each command between backquotes names the tunnel.
pub(super) fn for_tunnel(message: &str, interface: Option<&str>) -> String {
    if interface.is_none() {
        return message.to_owned();
    }
    let pieces = message.split('`').enumerate().map(|(at, piece)| {
        if at % 2 == 1 {
            command(piece, interface)
        } else {
            piece.to_owned()
        }
    });
    pieces.collect::<Vec<String>>().join("`")
}

/// A command that names the tunnel, if one was named and the command asks a tunnel.
pub(super) fn command(line: &str, interface: Option<&str>) -> String {
    // What the shell does with the command comes after it.
    let ends = [" | ", " > ", " < "].iter().filter_map(|it| line.find(it));
    let (command, rest) = line.split_at(ends.min().unwrap_or(line.len()));
    match interface {
        Some(interface) if lacks_interface(command) => {
            format!("{command} --interface {interface}{rest}")
        }
        _ => line.to_owned(),
    }
}

/// Whether it is one of our commands that takes a tunnel and doesn't name one.
fn lacks_interface(line: &str) -> bool {
    let mut words = line.split_whitespace();
    if words.next() != Some("taltun") {
        return false;
    }
    let mut words = words.peekable();
    let definition = Cli::command();
    let mut meant: &Command = &definition;
    while let Some(below) = words.peek().and_then(|word| meant.find_subcommand(word)) {
        meant = below;
        words.next();
    }
    let mut options = meant.get_arguments();
    options.any(|it| it.get_long() == Some("interface"))
        && !words.any(|word| word == "-i" || word.starts_with("--interface"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advised_command_names_the_tunnel_that_was_named() {
        for (message, expected) in [
            (
                "run `taltun reload` first",
                "run `taltun reload --interface hub` first",
            ),
            (
                "`taltun peer rotate ana`, or `taltun peer remove ana`",
                "`taltun peer rotate ana --interface hub`, or `taltun peer remove ana --interface hub`",
            ),
            (
                "`taltun capture ana | wireshark -k -i -`",
                "`taltun capture ana --interface hub | wireshark -k -i -`",
            ),
            (
                "`taltun web token -i hub` and `taltun unban ana --interface=hub`",
                "`taltun web token -i hub` and `taltun unban ana --interface=hub`",
            ),
            // They ask no tunnel, or name it otherwise.
            (
                "`taltun genkey`, `taltun undo hub`, `wg set`, `taltun run --config F`",
                "`taltun genkey`, `taltun undo hub`, `wg set`, `taltun run --config F`",
            ),
            ("taltun reload", "taltun reload"),
        ] {
            assert_eq!(for_tunnel(message, Some("hub")), expected);
            assert_eq!(for_tunnel(message, None), message);
        }
        assert_eq!(
            command("taltun peer remove ana", Some("hub")),
            "taltun peer remove ana --interface hub"
        );
    }
}
