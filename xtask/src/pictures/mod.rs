//! `cargo xtask pictures`: the pictures of the README, from what runs.
//!
//! Each picture is a module with one function that runs what it shows and returns its files. Those of
//! terminals are drawn as SVG from the screen of a real terminal ([`svg`]).

mod lab;
mod office;
mod page;
mod status;
pub mod svg;
mod top;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use taltun_tests::sys;

use crate::workspace::root;
use crate::{build, setup};

/// The arguments of `cargo xtask pictures`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which ones; without a name all.
    #[arg(value_name = "NAME")]
    names: Vec<Picture>,
    /// Where they go.
    #[arg(long, value_name = "DIRECTORY", default_value = "taltun/docs/pictures")]
    into: PathBuf,
}

/// A picture, or two of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Picture {
    /// `taltun status` of a hub.
    Status,
    /// `taltun top` of the same.
    Top,
    /// The lab of `cargo xtask run`.
    Lab,
    /// The page in the browser.
    Page,
}

/// A picture's file.
pub struct Drawn {
    /// Its name.
    pub file: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// Runs what it shows and draws it.
    fn draw(self, taltun: &Path) -> Result<Vec<Drawn>> {
        match self {
            Self::Status => status::draw(taltun),
            Self::Top => top::draw(taltun),
            Self::Lab => lab::draw(taltun),
            Self::Page => page::draw(taltun),
        }
    }
}

/// Makes the pictures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !sys::is_root() {
        bail!("the pictures are of tunnels in network namespaces, which takes root");
    }
    setup::programs(setup::LAB)?;
    let taltun = build::taltun()?;
    let names: &[Picture] = if arguments.names.is_empty() {
        Picture::value_variants()
    } else {
        &arguments.names
    };
    let directory = root().join(&arguments.into);
    fs::create_dir_all(&directory)
        .with_context(|| format!("can't make {}", directory.display()))?;
    for name in names {
        let drawn = name
            .draw(&taltun)
            .with_context(|| format!("picture {name:?}"))?;
        for Drawn { file, bytes } in drawn {
            let path = directory.join(file);
            fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))?;
            println!("{}", arguments.into.join(file).display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
