//! What a lab left on the machine after it was taken down. It has to be nothing.
//!
//! Others may be running labs of their own on the same machine, so only what is certainly
//! ours counts: named like our namespaces, started for one of our nodes, or a program of
//! Taltun's that appeared meanwhile and that no living process holds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use crate::command::{find, output_of};
use crate::files::FILES;
use crate::netns;
use crate::node::RUNTIME_DIR;

/// The kernel takes namespaces and programs down in the background.
const PATIENCE: Duration = Duration::from_secs(3);
/// The interfaces that our namespaces have.
const INTERFACES: [&str; 4] = ["to-a", "to-b", "to-hub", "taltun0"];

/// The machine before a lab was built on it.
#[derive(Debug)]
pub struct Before {
    prefix: String,
    programs: BTreeSet<u64>,
    interfaces: BTreeSet<String>,
}

impl Before {
    /// Looks at the machine; the lab's namespaces are going to be named `PREFIX-…`.
    pub fn look(prefix: &str) -> Result<Self> {
        Ok(Self {
            prefix: format!("{prefix}-"),
            programs: programs()?,
            interfaces: interfaces()?,
        })
    }

    /// What of the lab is still there: namespaces, interfaces, processes, files, programs.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let start = Instant::now();
        loop {
            let found = self.look_again()?;
            if found.is_empty() || start.elapsed() > PATIENCE {
                return Ok(found);
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn look_again(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for name in netns::names_with(&self.prefix) {
            found.push(format!("namespace {name}"));
        }
        for interface in interfaces()?.difference(&self.interfaces) {
            if INTERFACES.contains(&interface.as_str()) {
                found.push(format!("interface {interface}"));
            }
        }
        for pid in processes_for(&Path::new(FILES).join(&self.prefix).to_string_lossy()) {
            found.push(format!("process {pid}"));
        }
        for entry in fs::read_dir(FILES).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&self.prefix) {
                found.push(format!("directory {FILES}/{name}"));
            }
        }
        let new: BTreeSet<_> = programs()?.difference(&self.programs).copied().collect();
        if !new.is_empty() {
            // Ours are dead (see above), so what a living process holds is somebody else's.
            let held = held_programs();
            found.extend(new.difference(&held).map(|id| format!("BPF program {id}")));
        }
        Ok(found)
    }
}

/// The interfaces outside all namespaces.
fn interfaces() -> Result<BTreeSet<String>> {
    let json: Value =
        serde_json::from_str(&output_of(Command::new("ip").args(["-j", "link", "show"]))?)?;
    Ok(json
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|link| Some(link["ifname"].as_str()?.to_owned()))
        .collect())
}

/// The processes whose control socket is below a directory that begins with `directory`.
fn processes_for(directory: &str) -> Vec<String> {
    let wanted = format!("{RUNTIME_DIR}={directory}");
    process_ids()
        .into_iter()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable.starts_with(wanted.as_bytes()))
            })
        })
        .collect()
}

/// The numbers of the loaded BPF programs that are Taltun's, none where there is no
/// `bpftool` to ask.
fn programs() -> Result<BTreeSet<u64>> {
    let Some(bpftool) = find("bpftool") else {
        return Ok(BTreeSet::new());
    };
    let json: Value = serde_json::from_str(&output_of(
        Command::new(bpftool).args(["-j", "prog", "show"]),
    )?)?;
    Ok(json
        .as_array()
        .into_iter()
        .flatten()
        .filter(|program| {
            program["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("taltun"))
        })
        .filter_map(|program| program["id"].as_u64())
        .collect())
}

/// The programs that a living process has open, or attached by a link it has open.
fn held_programs() -> BTreeSet<u64> {
    let mut held = BTreeSet::new();
    for pid in process_ids() {
        for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            held.extend(
                text.lines()
                    .filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u64>().ok()),
            );
        }
    }
    held
}

fn process_ids() -> Vec<String> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}
