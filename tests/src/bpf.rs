//! The BPF objects that a process holds: programs, maps and links, by the numbers that the
//! kernel gives them. It gives none twice, so a number that is still known once its process
//! is gone is something left behind: attached, pinned, or held by somebody else.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::command::output_of;

/// Objects of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects(BTreeSet<(ObjectKind, u64)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ObjectKind {
    Program,
    Map,
    Link,
}

impl ObjectKind {
    const ALL: [Self; 3] = [Self::Program, Self::Map, Self::Link];

    /// The line of `/proc/PID/fdinfo` that has the number.
    fn line(self) -> &'static str {
        match self {
            Self::Program => "prog_id:",
            Self::Map => "map_id:",
            Self::Link => "link_id:",
        }
    }

    /// What `bpftool` calls it.
    fn word(self) -> &'static str {
        match self {
            Self::Program => "prog",
            Self::Map => "map",
            Self::Link => "link",
        }
    }
}

impl Objects {
    /// What the process `pid` holds; at least a program and a map, or there is nothing to be
    /// seen by it.
    pub fn of(pid: u32) -> Result<Self> {
        let mut objects = BTreeSet::new();
        for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            // A file may have been closed since.
            let text = fs::read_to_string(file?.path()).unwrap_or_default();
            for kind in ObjectKind::ALL {
                let numbers = text
                    .lines()
                    .filter_map(|line| line.strip_prefix(kind.line())?.trim().parse().ok());
                objects.extend(numbers.map(|number| (kind, number)));
            }
        }
        for kind in [ObjectKind::Program, ObjectKind::Map] {
            ensure!(
                objects.iter().any(|(other, _)| *other == kind),
                "process {pid} holds no BPF {}",
                kind.word()
            );
        }
        Ok(Self(objects))
    }

    /// Those that the kernel still knows, as `bpftool` calls them.
    pub fn remaining(&self) -> Result<Vec<String>> {
        let mut remaining = Vec::new();
        for kind in ObjectKind::ALL {
            let json = output_of(Command::new("bpftool").args(["-j", kind.word(), "show"]))?;
            let shown: Value = serde_json::from_str(&json)?;
            let shown = shown.as_array().into_iter().flatten();
            let known: BTreeSet<u64> = shown.filter_map(|it| it["id"].as_u64()).collect();
            let ours = self.0.iter().filter(|(other, _)| *other == kind);
            let left = ours.filter(|(_, number)| known.contains(number));
            remaining.extend(left.map(|(_, number)| format!("{} {number}", kind.word())));
        }
        Ok(remaining)
    }
}
