//! Runs programs of the host for what no system call does: `nft`, `resolvectl` and the like, each
//! with a time limit and the reason of its failure.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long such a program may take. They all answer at once, unless something is stuck.
const LIMIT: Duration = Duration::from_secs(10);

/// Where on PATH `program` is, if anywhere; the directories of the system administrator
/// count too, which a service manager's PATH may lack.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs `program` with `input` on its standard input, and returns what it printed.
///
/// # Errors
/// The command and what it complained of, in one line.
pub(super) async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let shown = std::iter::once(program)
        .chain(arguments.iter().copied())
        .collect::<Vec<_>>()
        .join(" ");
    let Some(path) = find(program) else {
        return Err(format!("{program} is not installed"));
    };
    let work = async {
        let mut child = Command::new(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that has read enough, or failed, tells by its exit code.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        output
    };
    let output = match tokio::time::timeout(LIMIT, work).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("cannot run `{shown}`: {error}")),
        Err(_) => return Err(format!("`{shown}` took more than {} s", LIMIT.as_secs())),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace(['\n', '\r'], "; ");
        return Err(format!("`{shown}` failed ({}): {said}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_goes_in_and_output_comes_out() {
        assert_eq!(run("cat", &["-"], "hello").await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_failure_names_the_command_and_what_it_said() {
        let error = run("sh", &["-c", "echo no such luck >&2; exit 3"], "")
            .await
            .unwrap_err();
        assert!(error.contains("exit status: 3): no such luck"), "{error}");
        let error = run("no-such-program-here", &[], "").await.unwrap_err();
        assert_eq!(error, "no-such-program-here is not installed");
    }
}
