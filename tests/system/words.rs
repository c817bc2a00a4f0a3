//! What people type and read: words that are no command, the log in the journal, a terminal
//! that is closed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{finish_within, output_of, wait_for};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, RUNTIME_DIR, Site};
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::private_prefix;

use crate::support::{Case, eventually, taltun};

/// How long something may take that happens at once.
const SOON: Duration = Duration::from_secs(20);

pub const CASES: &[Case] = &[
    Case {
        name: "a word that is no command makes no interface, and is told what does",
        programs: &[],
        run: words,
    },
    Case {
        name: "an interface made by its name alone is told of",
        programs: &[],
        run: by_name,
    },
    Case {
        name: "lines have a priority where standard error is the journal's, and nowhere else",
        programs: &[],
        run: priorities,
    },
    Case {
        name: "a tunnel ends when its terminal is closed",
        programs: &["script"],
        run: closed_terminal,
    },
];

fn words() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let before = namespace.ip("-o link")?;
    for word in [
        "show", "peers", "up", "down", "list", "log", "logs", "restart", "office", "statsu",
    ] {
        for variable in ["", "taltun"] {
            if word == "office" && !variable.is_empty() {
                continue; // as wg-quick would call it
            }
            let mut command = namespace.command(taltun()?);
            command
                .arg(word)
                .env("WG_QUICK_USERSPACE_IMPLEMENTATION", variable);
            let output = finish_within(&mut command, SOON)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.code() == Some(2), "{word}: {said}");
            ensure!(
                said.starts_with(&format!("taltun: there is no command {word}; "))
                    && said.contains(&format!("`taltun interface {word}`"))
                    && said.lines().count() == 1,
                "{word}: {said}"
            );
        }
    }
    ensure!(namespace.ip("-o link")? == before, "an interface was made");
    let version = output_of(Command::new(taltun()?).arg("version"))?;
    ensure!(version == output_of(Command::new(taltun()?).arg("--version"))?);
    let help = output_of(Command::new(taltun()?).arg("help"))?;
    ensure!(help.contains("\n  interface "), "{help}");
    Ok(())
}

fn by_name() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let directory = tempdir()?;
    for words in [&["wg7"][..], &["interface", "office"]] {
        let name = words[words.len() - 1];
        let mut command = namespace.command(taltun()?);
        command.args(words).env(RUNTIME_DIR, &directory);
        let output = finish_within(&mut command, SOON)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{said}");
        ensure!(
            said.contains(&format!("made the interface {name}")) && said.contains("background"),
            "{said}"
        );
        namespace.ip(&format!("link delete {name}"))?;
    }
    fs::remove_dir_all(&directory)?;
    Ok(())
}

fn priorities() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let keys = Keys::generate(&taltun()?)?;
    let good = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n",
        keys.private
    );
    for (is_journal, config) in [(true, good.as_str()), (false, &good), (true, "nonsense\n")] {
        let site = Site::prepare(&namespace, &taltun()?, config)?;
        let path = site.config().with_file_name("journal");
        let log = File::create(&path)?;
        let inode = log.metadata()?.ino() + u64::from(!is_journal);
        let mut child = site
            .run_command(&namespace, &[])
            .env(
                "JOURNAL_STREAM",
                format!("{}:{inode}", log.metadata()?.dev()),
            )
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        let read = || fs::read_to_string(&path).context("the log is gone");
        if config == good {
            eventually("it is up", SOON, || Ok(read()?.contains(" is up")))?;
            sys::send_signal(child.id(), Signal::Terminate)?;
        }
        let status = wait_for(&mut child, SOON)?.context("it didn't end")?;
        let log = read()?;
        if config != good {
            ensure!(status.code() == Some(2), "{status}");
            ensure!(log.starts_with("<3>taltun: "), "{log}");
        } else if is_journal {
            ensure!(log.lines().all(|line| line.starts_with('<')), "{log}");
            ensure!(
                log.contains("\n<6>") && log.starts_with("<4>") && log.contains("no peers"),
                "{log}"
            );
        } else {
            ensure!(!log.contains("<6>") && log.contains(" INFO "), "{log}");
        }
    }
    Ok(())
}

fn closed_terminal() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let keys = Keys::generate(&taltun()?)?;
    let config = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
         private_key = \"{}\"\n",
        keys.private
    );
    let site = Site::prepare(&namespace, &taltun()?, &config)?;
    let line = format!(
        "{} run --config {}",
        taltun()?.display(),
        site.config().display()
    );
    let mut terminal = namespace
        .command("env")
        // Whoever runs the tests by nohup has it ignored, and Taltun heeds that.
        .args([
            "--default-signal=HUP",
            "script",
            "-qfec",
            &line,
            "/dev/null",
        ])
        .env(RUNTIME_DIR, site.config().parent().context("no directory")?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = || {
        let mut command = Command::new(taltun()?);
        let directory = site.config();
        command
            .arg("status")
            .env(RUNTIME_DIR, directory.parent().context("no directory")?);
        Ok(command.output()?.status.success())
    };
    eventually("it is up", SOON, status)?;
    terminal.kill()?;
    terminal.wait()?;
    eventually("the interface is gone", SOON, || {
        Ok(namespace.ip("link show taltun0").is_err())
    })
}

/// A directory for sockets.
fn tempdir() -> Result<std::path::PathBuf> {
    let path = std::env::temp_dir().join(format!("{}-words", private_prefix()));
    fs::create_dir_all(&path)?;
    Ok(path)
}
