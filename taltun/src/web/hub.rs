//! The channel to the tunnel: one question at a time, each answered with a line.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::asked::{QUESTION_MAX, Question, Reply, Verb};
use crate::report::Refused;
use crate::secret::SecretText;
use crate::server_process;

/// How often it hears that this process lives.
const BEAT: Duration = Duration::from_secs(3);
/// Questions that may wait.
const WAITING: usize = 64;

/// Who can be asked.
#[derive(Debug, Clone)]
pub(super) struct Hub(mpsc::Sender<Asked>);

/// Questions on their way to the tunnel.
pub(super) type Questions = mpsc::Receiver<Asked>;

/// A question, and where its reply goes.
#[derive(Debug)]
pub(super) struct Asked {
    question: Question,
    reply: oneshot::Sender<Reply>,
}

/// A browser that asks.
#[derive(Debug, Clone)]
pub(super) struct Browser {
    /// The secret of its session, as it says.
    pub(super) session: Option<SecretText>,
    /// Where it is.
    pub(super) source: IpAddr,
}

/// Why there is nothing to show.
#[derive(Debug)]
pub(super) enum Nothing {
    /// The browser isn't logged in.
    NoSession,
    /// The tunnel says why.
    Refused(Refused),
    /// The tunnel is gone.
    Gone,
}

impl Hub {
    /// Nobody has asked yet.
    pub(super) fn new() -> (Self, Questions) {
        let (ask, questions) = mpsc::channel(WAITING);
        (Self(ask), questions)
    }

    /// Asks for a browser.
    pub(super) async fn ask(&self, browser: &Browser, verb: Verb) -> Result<Reply, Nothing> {
        match self.reply(browser, verb).await {
            Some(Reply::NoSession) => Err(Nothing::NoSession),
            Some(Reply::Refused { why, text }) => Err(Nothing::Refused(Refused { why, text })),
            Some(reply) => Ok(reply),
            None => Err(Nothing::Gone),
        }
    }

    async fn reply(&self, browser: &Browser, verb: Verb) -> Option<Reply> {
        let (reply, replied) = oneshot::channel();
        let question = Question {
            session: browser.session.clone(),
            source: browser.source,
            verb,
        };
        self.0.send(Asked { question, reply }).await.ok()?;
        replied.await.ok()
    }
}

impl Asked {
    /// The question, and where to reply.
    #[cfg(test)]
    pub(super) fn parts(self) -> (Question, oneshot::Sender<Reply>) {
        (self.question, self.reply)
    }
}

/// Carries questions to the tunnel, until it is gone.
pub(super) async fn carry(channel: UnixStream, mut questions: Questions) -> io::Result<()> {
    let mut channel = BufReader::new(channel);
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Gone, or it says something that nobody asked for.
            _ = channel.fill_buf() => return Ok(()),
            _ = beat.tick() => channel.write_all(b"\n").await?,
            Some(asked) = questions.recv() => {
                let mut line = Zeroizing::new(serde_json::to_vec(&asked.question)?);
                line.push(b'\n');
                let reply = if line.len() as u64 > QUESTION_MAX {
                    // The tunnel would take it for nonsense, and end this process.
                    Reply::Refused {
                        why: None,
                        text: "that is too long".to_owned(),
                    }
                } else {
                    server_process::ask(&mut channel, &line).await?
                };
                let _ = asked.reply.send(reply);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A form of 16 KB can be six times as long as JSON.
    #[tokio::test]
    async fn what_is_too_long_for_a_question_is_refused_and_the_next_one_asked() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (hub, questions) = Hub::new();
        tokio::spawn(carry(ours, questions));
        let browser = Browser {
            session: None,
            source: IpAddr::from([10, 0, 0, 2]),
        };
        let long = Verb::LogIn(SecretText::from("\u{1}".repeat(16_000)));
        let reply = hub.ask(&browser, long).await;
        assert!(matches!(reply, Err(Nothing::Refused(_))), "{reply:?}");
        let tunnel = async {
            let mut theirs = BufReader::new(theirs);
            let mut line = String::new();
            while line.trim().is_empty() {
                line.clear();
                theirs.read_line(&mut line).await.unwrap();
            }
            let reply = serde_json::to_string(&Reply::WrongToken).unwrap() + "\n";
            theirs.write_all(reply.as_bytes()).await.unwrap();
            line
        };
        let short = Verb::LogIn(SecretText::from("token".to_owned()));
        let (line, reply) = tokio::join!(tunnel, hub.ask(&browser, short));
        assert!(line.contains("\"token\""), "{line}");
        assert!(matches!(reply, Ok(Reply::WrongToken)), "{reply:?}");
    }
}
