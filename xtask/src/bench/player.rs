//! A program that plays the other side of a hub, told what to do by lines on its input.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The running program; it ends when dropped.
pub struct Player {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Player {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start the load")?;
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self {
            child,
            input,
            output,
        })
    }

    /// Tells it something.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.input, "{line}")?)
    }

    /// Has it go: how many it counted, in how many seconds.
    pub fn go(&mut self) -> Result<(u64, f64)> {
        self.tell("go")?;
        let line = self.line()?;
        let Some((count, nanos)) = line.split_once(' ') else {
            bail!("the load said {line:?}");
        };
        Ok((count.parse()?, nanos.parse::<f64>()? / 1e9))
    }

    /// The next that it says is this.
    pub fn expect(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == word, "the load said {line:?}, not {word:?}");
        Ok(())
    }

    /// The next that it says.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
