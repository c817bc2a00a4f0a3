//! Brings what two programs report into one form, and compares it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::cases::{Expected, File};

type Parts = BTreeMap<String, Vec<String>>;

/// Looks at what both left in `directory`.
pub fn outcome(file: &File, directory: &Path) -> Result<()> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let (quick, ours) = (read("quick/code"), read("taltun/code"));
    let said = || {
        format!(
            "wg-quick: {}\ntaltun: {}",
            read("quick/err"),
            read("taltun/err")
        )
    };
    match file.expected {
        Expected::TakenThough(text) => {
            ensure!(quick.trim() != "0", "wg-quick takes it");
            ensure!(ours.trim() == "0", "refused: {}", said());
            ensure!(read("taltun/err").contains(text), "{}", said());
            return Ok(());
        }
        Expected::Refused(..) => bail!("this is no file for a comparison"),
        Expected::Same => {}
    }
    ensure!(quick.trim() == "0", "wg-quick refuses it: {}", said());
    ensure!(ours.trim() == "0", "taltun refuses it: {}", said());
    let (theirs, ours) = (parts(&read("quick/up")), parts(&read("taltun/up")));
    let context = || format!("{}\n{}", read("taltun/wg0.toml"), read("taltun/log"));
    let lower = String::from_utf8_lossy(&file.bytes()).to_lowercase();
    for part in ["mtu", "address", "route", "wg", "dns", "hooks"] {
        let (theirs, ours) = (normal(part, &theirs, &lower)?, normal(part, &ours, &lower)?);
        ensure!(
            theirs == ours,
            "{part} with wg-quick: {theirs:#?}\nwith taltun: {ours:#?}\n{}",
            context()
        );
    }
    // What a hook adds is in no file.
    let added = lower.contains("wg set %i peer");
    let again = parts(&format!("[wg]\n{}", read("taltun/again")));
    let (before, again) = (normal("wg", &ours, &lower)?, normal("wg", &again, &lower)?);
    ensure!(
        before == again || added,
        "before the export: {before:#?}\nafter it: {again:#?}\n{}\n{}",
        read("taltun/strip.err"),
        read("taltun/exported/wg0.conf")
    );
    ensure!(read("taltun/ended").trim() == "0", "{}", context());
    let (theirs, ours) = (read("quick/down"), read("taltun/down"));
    ensure!(
        theirs == ours,
        "afterwards with wg-quick: {theirs}\nwith taltun: {ours}\n{}",
        context()
    );
    Ok(())
}

/// The parts of a report, by their headers.
fn parts(report: &str) -> Parts {
    let mut parts = Parts::new();
    let mut name = String::new();
    for line in report.lines() {
        let header = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
        if let Some(header) = header {
            header.clone_into(&mut name);
            parts.entry(name.clone()).or_default();
        } else {
            parts.entry(name.clone()).or_default().push(line.to_owned());
        }
    }
    parts
}

fn normal(part: &str, parts: &Parts, file: &str) -> Result<Vec<String>> {
    let lines = parts.get(part).context("a part is missing")?;
    Ok(match part {
        "address" => sorted(lines.iter().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Some((*words.get(3)?).to_owned())
        })),
        "route" => sorted(lines.iter().map(|line| route(line, file))),
        "dns" => sorted(
            lines
                .iter()
                .filter(|line| line.starts_with("nameserver") || line.starts_with("search"))
                .cloned(),
        ),
        "wg" => showconf(lines, file),
        _ => lines.clone(),
    })
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    lines.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Where to, and a table that the file names. Which one a default route is kept in is each
/// program's own affair.
fn route(line: &str, file: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let to = words.first().copied().unwrap_or_default();
    let table = words
        .windows(2)
        .find(|pair| pair[0] == "table")
        .map(|pair| pair[1])
        .filter(|table| file.contains(&format!("table = {table}")));
    format!("{to} {}", table.unwrap_or_default())
}

/// Peers in any order, and what a program chose by itself left out.
fn showconf(lines: &[String], file: &str) -> Vec<String> {
    let mut sections: Vec<Vec<String>> = Vec::new();
    for line in lines {
        let chosen = (line.starts_with("ListenPort") && !file.contains("listenport = 5"))
            || (line.starts_with("FwMark") && !file.contains("fwmark = "));
        if line.starts_with('[') {
            sections.push(vec![line.clone()]);
        } else if let Some(list) = line.strip_prefix("AllowedIPs = ") {
            let list: BTreeSet<&str> = list.split(", ").collect();
            if let Some(section) = sections.last_mut() {
                section.push(format!("AllowedIPs = {list:?}"));
            }
        } else if !line.is_empty()
            && !chosen
            && let Some(section) = sections.last_mut()
        {
            section.push(line.clone());
        }
    }
    for section in &mut sections {
        section.sort();
    }
    let mut sections: Vec<String> = sections
        .into_iter()
        .map(|section| section.join("; "))
        .collect();
    sections.sort();
    sections
}
