//! Who is measured: Taltun, its rivals as far as they are found, and no tunnel at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use taltun_tests::command::{find, output_of};

/// A program that makes a tunnel, or what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// No tunnel: what the veths and iperf3 can do.
    Bare,
    /// Ours.
    #[value(skip)]
    Taltun,
    /// The same with a cipher that does nothing: what all but the cipher allows.
    #[value(skip)]
    NullCipher,
    /// The one in Go, on whose heels everything is measured.
    WireguardGo,
    /// Cloudflare's.
    BoringtunCli,
    /// Mullvad's.
    GotatunCli,
    /// The kernel's own, where it has WireGuard.
    Kernel,
}

/// One that can be measured here.
#[derive(Debug, Clone)]
pub struct Contender {
    /// Which it is.
    pub kind: Kind,
    /// What it says of itself.
    pub version: String,
    /// Its program, if it is one.
    pub program: PathBuf,
}

/// Taltun and those of `wanted` that are here; one that isn't is an error. With none wanted,
/// all that are here.
pub fn choose(wanted: &[Kind], taltun: &Path) -> Result<Vec<Contender>> {
    let mut chosen = Vec::new();
    for kind in [
        Kind::Bare,
        Kind::Taltun,
        Kind::WireguardGo,
        Kind::BoringtunCli,
        Kind::GotatunCli,
        Kind::Kernel,
    ] {
        let is_wanted = kind == Kind::Taltun || wanted.contains(&kind);
        if !is_wanted && !wanted.is_empty() {
            continue;
        }
        match look_for(kind, taltun)? {
            Some(contender) => chosen.push(contender),
            None if is_wanted => bail!("{}: {}", kind.word(), kind.missing()),
            None => super::note(&format!("without {}: {}", kind.word(), kind.missing())),
        }
    }
    Ok(chosen)
}

/// The same of those that have handshakes and a CPU time of their own: bare has no tunnel, and the kernel's
/// WireGuard no process.
pub fn choose_hubs(wanted: &[Kind], taltun: &Path) -> Result<Vec<Contender>> {
    let mut chosen = choose(wanted, taltun)?;
    chosen.retain(|contender| !matches!(contender.kind, Kind::Bare | Kind::Kernel));
    Ok(chosen)
}

/// Taltun alone.
pub fn taltun_alone(taltun: &Path) -> Result<Contender> {
    let mut alone = choose(&[Kind::Taltun], taltun)?;
    alone.pop().context("there is no taltun")
}

/// Taltun with a cipher that does nothing, which is this program.
pub fn null_cipher(program: PathBuf) -> Contender {
    Contender {
        kind: Kind::NullCipher,
        version: "taltun that encrypts nothing".to_owned(),
        program,
    }
}

/// This contender, if it is here.
fn look_for(kind: Kind, taltun: &Path) -> Result<Option<Contender>> {
    let program = match kind {
        Kind::Bare => PathBuf::new(),
        Kind::Kernel => {
            if !kernel_has_wireguard() {
                return Ok(None);
            }
            PathBuf::new()
        }
        Kind::Taltun => taltun.to_owned(),
        Kind::NullCipher => return Ok(None),
        _ => match kind.program().0.iter().find_map(|name| find(name)) {
            Some(program) => program,
            None => return Ok(None),
        },
    };
    let version = match kind {
        Kind::Bare => "no tunnel, MTU 1500".to_owned(),
        Kind::Kernel => "of this kernel".to_owned(),
        _ => {
            let said = output_of(Command::new(&program).arg("--version"))
                .with_context(|| format!("can't use {}", kind.word()))?;
            said.lines().next().unwrap_or_default().trim().to_owned()
        }
    };
    Ok(Some(Contender {
        kind,
        version,
        program,
    }))
}

impl Kind {
    /// What it is called, on the command line and in the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Taltun => "taltun",
            Self::NullCipher => "null cipher",
            Self::WireguardGo => "wireguard-go",
            Self::BoringtunCli => "boringtun-cli",
            Self::GotatunCli => "gotatun-cli",
            Self::Kernel => "kernel",
        }
    }

    /// Whether it is somebody to be better than.
    pub fn is_rival(self) -> bool {
        !matches!(self, Self::Bare | Self::Taltun | Self::NullCipher)
    }

    /// The names that its program goes by, and the words that keep it in the foreground, and that
    /// it takes before the interface.
    fn program(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::WireguardGo => (&["wireguard-go"], &["--foreground"]),
            Self::BoringtunCli => (
                &["boringtun-cli"],
                &["--foreground", "--disable-drop-privileges"],
            ),
            Self::GotatunCli => (
                // The package is called gotatun-cli, the program it installs isn't.
                &["gotatun-cli", "gotatun"],
                &[
                    "--foreground",
                    "--disable-drop-privileges",
                    "--verbosity",
                    "error",
                ],
            ),
            Self::Bare | Self::Taltun | Self::NullCipher | Self::Kernel => (&[], &[]),
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::Kernel => "this kernel has no WireGuard",
            _ => "not on PATH",
        }
    }

    /// What its program takes before the interface.
    pub fn arguments(self) -> &'static [&'static str] {
        self.program().1
    }
}

/// Whether an interface of type `wireguard` can be made. It is one in our own namespace, with
/// a name that is nobody else's, for a moment.
fn kernel_has_wireguard() -> bool {
    let name = format!("tb{}", std::process::id());
    let link = |words: &[&str]| output_of(Command::new("ip").arg("link").args(words)).is_ok();
    let made = link(&["add", &name, "type", "wireguard"]);
    if made {
        link(&["del", &name]);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rival_is_called_in_the_table_as_on_the_command_line() {
        for kind in Kind::value_variants() {
            let value = kind.to_possible_value().unwrap();
            assert_eq!(value.get_name(), kind.word());
        }
    }

    #[test]
    fn taltun_is_no_rival_of_its_own() {
        assert!(!Kind::Taltun.is_rival());
        assert!(!Kind::NullCipher.is_rival());
        assert!(!Kind::Bare.is_rival());
        assert!(Kind::Kernel.is_rival());
    }
}
