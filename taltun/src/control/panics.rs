//! What happens if the program has a fault that ends it: a panic anywhere ends the process,
//! as nothing is certain any more after it. It must not be silent: one line in the log says
//! where it was. The process then dies of a signal, which systemd takes for a failure and
//! starts it again; a kill switch stays closed, as nothing is undone on that way out.

use std::panic::PanicHookInfo;
use std::sync::Once;

use tracing::error;

/// From now on, a panic is a line in the log, and the end, however the program was built.
/// `flush_log` waits until that line is written.
pub(super) fn report(flush_log: Option<fn()>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(move |info| {
            error!("{}", line(info));
            if let Some(flush) = flush_log {
                flush();
            }
            std::process::abort();
        }));
    });
}

fn line(info: &PanicHookInfo<'_>) -> String {
    format!(
        "{}; the tunnel ends, and what keeps traffic from leaving outside of it stays. Please \
         report this line",
        fault(info)
    )
}

/// What happened, where.
fn fault(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    // One line, whatever is in it.
    let message = message.replace('\n', " ");
    let place = info.location().map_or_else(
        || "an unknown place".to_owned(),
        |at| format!("{}:{}", at.file(), at.line()),
    );
    let thread = std::thread::current();
    format!(
        "internal error in {} at {place}: {message}",
        thread.name().unwrap_or("a thread")
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Set for the child below.
    const VARIABLE: &str = "TALTUN_TEST_PANICS";

    /// Not a test of its own: what the child of the test below does.
    #[test]
    fn child_of_a_panic_is_told() {
        if std::env::var_os(VARIABLE).is_none() {
            return;
        }
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        report(None);
        let thread = std::thread::Builder::new()
            .name("controller".into())
            .spawn(|| panic!("two\nlines"))
            .unwrap();
        // Where panics don't end the process, as in tests, this one does.
        assert!(thread.join().is_ok());
    }

    #[test]
    fn a_panic_is_told_in_one_line_with_its_place_and_is_a_failure() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("control::panics::tests::child_of_a_panic_is_told")
            .env(VARIABLE, "1")
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr);
        let told = text
            .lines()
            .find(|line| line.contains("internal error in controller at "))
            .unwrap_or_else(|| panic!("nothing is told: {text}"));
        assert!(told.contains("ERROR"), "{told}");
        assert!(told.contains("panics.rs:"), "{told}");
        assert!(told.contains("two lines; the tunnel ends"), "{told}");
    }
}
