//! Commands that run when something happens: when they run, and that the tunnel goes on
//! meanwhile.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{output_of, wait_for};
use taltun_tests::node::{Keys, RUNTIME_DIR, Site};
use taltun_tests::snapshot::Snapshot;
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{Case, UP_LIMIT, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "hooks: while one runs, wg and taltun are answered, up to the end of the last",
        programs: &["wg"],
        run: hooks_may_ask,
    },
    Case {
        name: "hooks: where one of before_up fails nothing is made",
        programs: &[],
        run: before_up_fails,
    },
];

/// Each hook asks `wg` and `taltun`, and writes down what it was told.
fn hooks_may_ask() -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    let before = Snapshot::take(&net.left)?;
    let program = taltun()?;
    let keys = Keys::generate(&program)?;
    let name = format!("tt{}h", std::process::id());
    let directory = std::env::temp_dir().join(format!("{}-asking", private_prefix()));
    fs::create_dir_all(&directory)?;
    let said = directory.join("said");
    let ask = format!(
        "echo $TALTUN_HOOK link $(ip link show {name} > /dev/null 2>&1; echo $?) \
         wg $(timeout 5 wg show {name} fwmark 2> /dev/null || echo none) \
         taltun $(timeout 5 {} status {name} --json 2>&1 | grep -c -e listen -e 'try again') >> {}",
        program.display(),
        said.display()
    );
    let config = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"{name}\"\nvip = \"10.0.0.1/24\"\n\
         fwmark = 0x77\nprivate_key = \"{}\"\nbefore_up = {ask:?}\non_up = {ask:?}\n\
         on_down = [\"sleep 1\", {ask:?}]\nafter_down = {ask:?}\n",
        keys.private
    );
    let site = Site::prepare(&net.left, &program, &config)?;
    let mut process = site
        .run_command(&net.left, &[])
        .env("TALTUN_UAPI_DIR", "/var/run/wireguard")
        .stderr(Stdio::null())
        .spawn()?;
    let lines = || fs::read_to_string(&said).unwrap_or_default();
    let checks = || -> Result<()> {
        eventually("on_up has run", UP_LIMIT, || Ok(lines().contains("on_up")))?;
        sys::send_signal(process.id(), Signal::Terminate)?;
        // While the first command of on_down sleeps.
        eventually("it is going down", UP_LIMIT, || {
            let status = output_of(
                Command::new(&program)
                    .arg("status")
                    .env(RUNTIME_DIR, site.directory()),
            );
            Ok(status.is_err() || lines().contains("on_down"))
        })
    };
    let outcome = checks();
    let status = wait_for(&mut process, UP_LIMIT * 3)?;
    if status.is_none() {
        process.kill()?;
        process.wait()?;
    }
    outcome?;
    let status = status.context("it didn't end")?;
    ensure!(status.success(), "{status}");
    let found = lines();
    fs::remove_dir_all(&directory)?;
    let expected = "before_up link 1 wg none taltun 1\non_up link 0 wg 0x77 taltun 1\n\
                    on_down link 0 wg 0x77 taltun 1\nafter_down link 1 wg none taltun 1\n";
    ensure!(found == expected, "{found}");
    let changes = before.difference(&Snapshot::take(&net.left)?);
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}

fn before_up_fails() -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    let before = Snapshot::take(&net.left)?;
    let program = taltun()?;
    let keys = Keys::generate(&program)?;
    let config = format!(
        "[interface]\nvip = \"10.0.0.1/24\"\nprivate_key = \"{}\"\nbefore_up = \"exit 7\"\n",
        keys.private
    );
    let site = Site::prepare(&net.left, &program, &config)?;
    let output =
        taltun_tests::command::finish_within(&mut site.run_command(&net.left, &[]), UP_LIMIT)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{text}");
    ensure!(text.contains("before_up: `exit 7` failed"), "{text}");
    let changes = before.difference(&Snapshot::take(&net.left)?);
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}
