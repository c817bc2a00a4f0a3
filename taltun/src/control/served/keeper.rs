//! Keeps a process that serves clients alive, and lets what it asks be answered.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command as Process;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use crate::control::caller::Caller;
use crate::control::request::{Call, Command};
use crate::control::response::{Answer as _, Response};
use crate::report::{ProcessRights, Refused};
use crate::server_process::{Line, REFUSED, send_sockets, told_rights};

/// Before a process that ended is started again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Clients may wait so long for a process to come back. If it takes longer, they are hung up on.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// A process that lived so long begins with the first pause again.
const HEALTHY: Duration = Duration::from_secs(120);
/// A process that says nothing for so long, or doesn't read what it asked for, hangs. Its beat comes
/// five times as often.
pub(in crate::control) const SILENCE: Duration = Duration::from_secs(15);
/// A process that hung up has so long to end.
const TO_END: Duration = Duration::from_secs(2);
/// How much of what it says about its end is told, bytes.
const LAST_WORDS: usize = 512;

/// Of what it says besides, so much is passed on to the log in so long. More is left out: it may be somebody else's
/// words by then.
const LINES: u32 = 100;
const OF_LINES: Duration = Duration::from_secs(10);
/// The longest line of it, bytes.
const LINE_MAX: u64 = 1024;

/// How a process is.
#[derive(Debug, Default)]
pub(in crate::control) struct Life {
    /// Why it isn't there, while it isn't.
    pub(in crate::control) ended: Option<String>,
    /// What it may do, while it is there.
    pub(in crate::control) rights: Option<ProcessRights>,
}

/// Where clients of a process come to.
pub(in crate::control) trait Listens: Send + Sync + 'static {
    /// The sockets, in an order that the process knows.
    fn sockets(&self) -> Vec<BorrowedFd<'_>>;

    /// Hangs up on who waits, as nobody is there to answer for a while.
    fn turn_away(&self);
}

/// Who knows what a process asks.
pub(in crate::control) trait Answers: Clone + Send + Sync + 'static {
    /// The section that switches it on, whose name the log has, too.
    const SECTION: &'static str;
    /// The hidden command of the process.
    const COMMAND: &'static str;

    /// Sockets that each process gets for itself, behind those that it listens on.
    fn own_sockets(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }

    /// Answers what comes over the channel, until the process hangs up. It is an error of the kind
    /// [`TimedOut`](io::ErrorKind::TimedOut) if that says nothing for longer than [`SILENCE`].
    fn answer(
        &self,
        channel: tokio::net::UnixStream,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// Starts the process, again and again when it ends.
pub(in crate::control) async fn keep<A: Answers>(
    listens: impl Listens,
    arguments: Vec<String>,
    answers: A,
    life: Arc<Mutex<Life>>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let start = Instant::now();
        let reason = match serve(&listens, &arguments, &answers, &life).await {
            Ok(reason) => reason,
            Err(error) => format!("it cannot be started: {error}"),
        };
        if start.elapsed() > HEALTHY {
            pause = FIRST_PAUSE;
        }
        let seconds = pause.as_secs();
        let section = A::SECTION;
        warn!("{section}: its process ended ({reason}); it is started again in {seconds} s");
        set(&life, |life| {
            life.ended = Some(format!("{reason}; it is started again after {seconds} s"));
            life.rights = None;
        });
        wait(&listens, pause).await;
        set(&life, |life| life.ended = None);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

fn set(life: &Mutex<Life>, change: impl FnOnce(&mut Life)) {
    change(&mut life.lock().unwrap_or_else(PoisonError::into_inner));
}

async fn wait(listens: &impl Listens, pause: Duration) {
    let end = Instant::now() + pause;
    while pause > SHORT_PAUSE && Instant::now() + SHORT_PAUSE < end {
        listens.turn_away();
        sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep_until(end).await;
}

/// Runs the process to its end; tells how it ended.
async fn serve<A: Answers>(
    listens: &impl Listens,
    arguments: &[String],
    answers: &A,
    told: &Mutex<Life>,
) -> io::Result<String> {
    let (ours, theirs) = UnixStream::pair()?;
    {
        let own = answers.own_sockets()?;
        let mut sockets = listens.sockets();
        sockets.extend(own.iter().map(AsFd::as_fd));
        send_sockets(&ours, &sockets)?;
    }
    let mut child = Process::new("/proc/self/exe")
        .arg0("taltun")
        .arg(A::COMMAND)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        // Not ours: that may be a pipe that nobody reads, and it would wait for that for ever.
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    ours.set_nonblocking(true)?;
    let mut channel = tokio::net::UnixStream::from_std(ours)?;
    let words = child.stderr.take();
    let life = async {
        let answered = match timeout(SILENCE, told_rights(&mut channel)).await {
            Ok(Ok(rights)) => {
                set(told, |life| life.rights = Some(rights));
                answers.answer(channel).await
            }
            // It ended, and says why.
            Ok(Err(_)) => Ok(()),
            Err(late) => Err(late.into()),
        };
        let hung = answered.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        // Without its channel it ends by itself.
        if hung || timeout(TO_END, child.wait()).await.is_err() {
            child.kill().await?;
        }
        Ok::<_, io::Error>((hung, child.wait().await?))
    };
    let (ended, words) = tokio::join!(life, last_words(words, A::SECTION));
    let (hung, status) = ended?;
    let status = if hung {
        format!("it hung for {} s", SILENCE.as_secs())
    } else {
        status.to_string()
    };
    Ok(if words.is_empty() {
        status
    } else {
        format!("{status}: {words}")
    })
}

/// What the process writes to its standard error, to its end: all is read. Lines of its log are passed on, and of
/// anything else the end is told.
async fn last_words(from: Option<impl AsyncRead + Unpin>, section: &str) -> String {
    let Some(from) = from else {
        return String::new();
    };
    let mut from = BufReader::new(from);
    let (mut words, mut line) = (Vec::new(), Vec::new());
    let (mut since, mut lines) = (Instant::now(), 0);
    while let Ok(1..) = (&mut from)
        .take(LINE_MAX)
        .read_until(b'\n', &mut line)
        .await
    {
        if since.elapsed() > OF_LINES {
            (since, lines) = (Instant::now(), 0);
        }
        let now = String::from_utf8_lossy(&line);
        if let Some(of_log) = Line::of(&now) {
            lines += 1;
            if lines <= LINES {
                of_log.tell();
            }
        } else {
            if now.starts_with(REFUSED) {
                warn!(
                    "{section}: its process {}; please report this line",
                    now.trim_end()
                );
            }
            words.extend_from_slice(&line);
            words.drain(..words.len().saturating_sub(LAST_WORDS));
        }
        line.clear();
    }
    let words = String::from_utf8_lossy(&words);
    let words: Vec<&str> = words.split_whitespace().collect();
    let words = words.join(" ");
    let words = words.strip_prefix("taltun: ").unwrap_or(&words);
    let words = words.strip_prefix(section).unwrap_or(words);
    words.trim_start_matches(": ").to_owned()
}

/// Asks the controller, as this process itself or for somebody.
pub(in crate::control) async fn ask<C: Command>(
    calls: &mpsc::Sender<Call>,
    command: C,
    by: Caller,
) -> Result<C::Answer, Refused> {
    let gone = || Refused::from("the tunnel goes down");
    let (answer, answered) = oneshot::channel();
    let call = Call {
        request: command.request(),
        by,
        answer: answer.into(),
    };
    calls.send(call).await.map_err(|_| gone())?;
    let response = answered.await.map_err(|_| gone())?;
    C::Answer::of(response).map_err(|other| match other {
        Response::Error(reason) => reason,
        Response::Misconfigured(reason) => reason.into(),
        other => format!("the tunnel answered with {}", other.noun()).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_words_the_last_are_told_in_one_line() {
        let words = format!(
            "{}\ntaltun: metrics: no\n way\n",
            "x".repeat(2 * LAST_WORDS)
        );
        let told = last_words(Some(words.as_bytes()), "metrics").await;
        assert!(told.ends_with("x taltun: metrics: no way"), "{told}");
        assert!(told.len() <= LAST_WORDS);
        assert_eq!(
            last_words(Some(&b"taltun: metrics: no\n"[..]), "metrics").await,
            "no"
        );
    }
}
