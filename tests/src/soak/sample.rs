//! How much a program has, and whether that grows.

use std::fs;

use anyhow::{Context, Result};

use crate::node::{Node, open_files};

/// More memory than this has to be there for a growth to be one: less is what an allocator keeps.
const SLACK_KIB: u64 = 4 * 1024;

/// What a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Memory in use (`VmRSS`), KiB.
    pub memory_kib: u64,
    /// Open files.
    pub files: usize,
}

impl Sample {
    /// What a node and its helpers have now, together.
    pub fn take(node: &Node) -> Result<Self> {
        let mut sum = Self {
            memory_kib: 0,
            files: 0,
        };
        for process in node.processes()? {
            sum.memory_kib += memory_kib(process)?;
            sum.files += open_files(process)?;
        }
        Ok(sum)
    }
}

fn memory_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let memory = status.lines().find_map(|line| {
        let rest = line.strip_prefix("VmRSS:")?;
        rest.split_whitespace().next()?.parse().ok()
    });
    memory.context("the kernel doesn't say what a program takes")
}

/// What there was in the first and in the last third of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// The most in the first third.
    pub first: Sample,
    /// The least in the last third: what stays.
    pub last: Sample,
}

impl Growth {
    /// Of samples in their order; `None` where there are too few.
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let third = samples.len() / 3;
        let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
        Some(Self {
            first: Sample {
                memory_kib: first.iter().map(|sample| sample.memory_kib).max()?,
                files: first.iter().map(|sample| sample.files).max()?,
            },
            last: Sample {
                memory_kib: last.iter().map(|sample| sample.memory_kib).min()?,
                files: last.iter().map(|sample| sample.files).min()?,
            },
        })
    }

    /// Why it isn't flat, if it isn't.
    pub fn trouble(&self) -> Option<String> {
        let (first, last) = (self.first, self.last);
        let allowed = first.memory_kib + first.memory_kib / 10 + SLACK_KIB;
        if last.memory_kib > allowed {
            return Some(format!(
                "memory grew from {} KiB to {} KiB",
                first.memory_kib, last.memory_kib
            ));
        }
        (last.files > first.files)
            .then(|| format!("open files grew from {} to {}", first.files, last.files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: &[(u64, usize)]) -> Vec<Sample> {
        let sample = |&(memory_kib, files): &(u64, usize)| Sample { memory_kib, files };
        of.iter().map(sample).collect()
    }

    #[test]
    fn what_comes_and_goes_is_no_growth_and_what_stays_is() {
        let flat = samples(&[
            (9000, 20),
            (30_000, 22),
            (9500, 20),
            (9000, 21),
            (50_000, 22),
            (9900, 20),
        ]);
        assert_eq!(Growth::of(&flat).unwrap().trouble(), None);
        let files = samples(&[(9000, 20), (9000, 21), (9000, 22)]);
        assert!(
            Growth::of(&files)
                .unwrap()
                .trouble()
                .unwrap()
                .contains("files")
        );
        let memory = samples(&[(9000, 20), (12_000, 20), (15_000, 20)]);
        assert!(
            Growth::of(&memory)
                .unwrap()
                .trouble()
                .unwrap()
                .contains("memory")
        );
        assert_eq!(Growth::of(&flat[..2]), None);
    }
}
