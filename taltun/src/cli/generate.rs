//! `taltun completions` and `taltun man-pages`: made from the commands and options that there are,
//! so they can't tell of others.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::Failure;
use super::{Cli, output};

/// Print completions for a shell.
///
/// Packages have them. Else, for bash:
/// taltun completions bash > /usr/share/bash-completion/completions/taltun
#[derive(Args)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "taltun", &mut text);
        output::print(&String::from_utf8_lossy(&text))
    }
}

/// Write a manual page for each command.
#[derive(Args)]
pub(super) struct ManPages {
    /// The directory to write them to; it is made.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl ManPages {
    pub(super) fn run(self) -> Result<(), Failure> {
        write_man_pages(&self.directory).map_err(|error| {
            Failure::Other(format!(
                "cannot write manual pages to {}: {error}",
                self.directory.display()
            ))
        })
    }
}

fn write_man_pages(directory: &Path) -> io::Result<()> {
    match std::fs::create_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All commands that are shown, and those below them, each with what its page is called.
    fn commands() -> Vec<(String, clap::Command)> {
        fn below(name: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
            for command in command.get_subcommands() {
                if !command.is_hide_set() {
                    let name = format!("{name}-{}", command.get_name());
                    all.push((name.clone(), command.clone()));
                    below(&name, command, all);
                }
            }
        }
        let mut all = Vec::new();
        below("taltun", &Cli::command(), &mut all);
        all
    }

    #[test]
    fn each_command_has_a_manual_page_with_its_options() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("man1");
        write_man_pages(&pages).unwrap();
        let mut expected = vec!["taltun.1".to_owned()];
        for (name, command) in commands() {
            let name = format!("{name}.1");
            let page = std::fs::read_to_string(pages.join(&name)).unwrap();
            for option in command.get_arguments().filter(|it| !it.is_hide_set()) {
                if let Some(long) = option.get_long() {
                    let long = long.replace('-', "\\-");
                    assert!(page.contains(&format!("\\-\\-{long}")), "{name}: {long}");
                }
            }
            expected.push(name);
        }
        let found = std::fs::read_dir(&pages).unwrap().flatten();
        let mut found: Vec<String> = found
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn completions_know_each_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "taltun", &mut text);
            let text = String::from_utf8(text).unwrap();
            for (_, command) in commands() {
                assert!(text.contains(command.get_name()), "{shell}");
            }
        }
    }
}
