//! wg-quick files: a mistake is told with its place, a file that is taken becomes a configuration, which
//! means the same after the way back; and no comment becomes a command.

use taltun::config;
use taltun::config::wgquick::{export, import};

use crate::toml::{Meaning, commands, has_places};

pub(crate) fn run(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').count();
    let imported = match import(input, "fuzz.conf", Some("wg0")) {
        Ok(imported) => imported,
        Err(error) => return has_places(&error.to_string(), "fuzz.conf", lines),
    };
    for said in imported.warnings.iter().chain(&imported.notes) {
        has_places(said, "fuzz.conf", lines);
    }
    // Something may be missing that wg-quick does without, such as an address.
    let toml_lines = imported.toml.split('\n').count();
    let there = match config::parse(&imported.toml, "fuzz.toml") {
        Ok(there) => there.config,
        Err(error) => return has_places(&error.to_string(), "fuzz.toml", toml_lines),
    };
    // wg-quick's commands are lines that begin with their key. A table of routes of its own becomes
    // one more.
    let text = String::from_utf8_lossy(input).to_lowercase();
    let of_wg_quick = text.lines().filter(|line| {
        let line = line.trim_start();
        ["preup", "postup", "predown", "postdown"]
            .iter()
            .any(|key| line.starts_with(key))
    });
    let most = of_wg_quick.count() + usize::from(text.contains("table"));
    let found = commands(&there).len();
    assert!(
        found <= most,
        "{found} commands of {most}\n{}",
        *imported.toml
    );

    let back = export(&imported.toml, &there);
    let again = import(back.as_bytes(), "back.conf", Some("wg0"));
    let again = match again {
        Ok(again) => again,
        Err(error) => panic!("the exported file is refused: {error}\n{back}"),
    };
    let again = config::parse(&again.toml, "again.toml").expect("it was taken before");
    assert_eq!(Meaning::of(&again.config), Meaning::of(&there), "{back}");
}
