//! A running `taltun trace --json`, and what it has told.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use taltun_tests::node::Node;

use crate::support::{UP_LIMIT, eventually};

/// What is told at most so long after it was counted: twice what a look at the programs' counters
/// takes, and a machine that is busy.
pub const TOLD_WITHIN: Duration = Duration::from_millis(800);

/// How long it may take until one that reads nothing is let go of: it has ten seconds for each of
/// the writes that it takes in part.
const LET_GO: Duration = Duration::from_secs(40);

/// Ended when it is dropped.
pub struct Tracer {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Tracer {
    /// With these words behind `trace --json`. Returns once it watches.
    pub fn start(node: &Node, words: &[&str]) -> Result<Self> {
        let mut command = node.command();
        let mut child = command
            .args(["trace", "--json"])
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("can't run taltun trace")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let told = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lock(&to).push(told);
            }
        });
        let tracer = Self {
            child,
            lines,
            reader: Some(reader),
        };
        let before = threads(node)?;
        eventually("somebody watches", UP_LIMIT, || {
            Ok(before > 0 || threads(node)? > 0)
        })?;
        // Threads notice with their next batch.
        Ok(tracer)
    }

    /// What it has told.
    pub fn told(&self) -> Vec<Value> {
        lock(&self.lines).clone()
    }

    /// How many packets it has told for which this is so.
    pub fn count(&self, wanted: impl Fn(&Value) -> bool) -> u64 {
        let told = lock(&self.lines);
        let wanted = told.iter().filter(|line| wanted(line));
        wanted.filter_map(|line| line["packets"].as_u64()).sum()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; what it said on standard error.
    pub fn wait(mut self) -> Result<String> {
        eventually("it has ended", UP_LIMIT, || {
            Ok(self.child.try_wait()?.is_some())
        })?;
        let stderr = self.child.stderr.take().context("no standard error")?;
        Ok(std::io::read_to_string(stderr)?)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Threads of a node that write to those who watch.
pub fn threads(node: &Node) -> Result<usize> {
    let mut count = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", node.pid()))? {
        let name = std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.trim() == "taltun-watch");
    }
    Ok(count)
}

/// No thread of a node is left that writes to those who watch.
pub fn ensure_none_left(node: &Node) -> Result<()> {
    eventually(
        "nobody watches any more",
        LET_GO,
        || Ok(threads(node)? == 0),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
