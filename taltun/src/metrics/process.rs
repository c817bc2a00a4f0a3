//! What the metrics process does: it serves until the tunnel is gone.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::channel::Channel;
use super::server::{self, LIMITS, Question};
use super::texts::Texts;
use crate::server_process::{self, Process};

/// Questions of scrapers that may wait.
const WAITING: usize = 64;
/// How often the tunnel hears that this process lives.
const BEAT: Duration = Duration::from_secs(3);

/// Serves the tunnel that this process's standard input leads to, until it is gone.
pub fn serve() -> io::Result<()> {
    let process = Process {
        name: c"taltun-metrics",
        limits: LIMITS,
    };
    server_process::run(process, async |channel, listeners| {
        let (ask, questions) = mpsc::channel(WAITING);
        let (texts, first) = Texts::new();
        for listener in listeners {
            tokio::spawn(server::serve(listener, ask.clone(), first.clone()));
        }
        answer(Channel::new(channel), questions, texts).await
    })
}

/// Answers scrapers with what the tunnel tells, until that is gone.
async fn answer(
    mut channel: Channel,
    mut questions: mpsc::Receiver<Question>,
    mut texts: Texts,
) -> io::Result<()> {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = channel.gone() => return Ok(()),
            _ = beat.tick() => {
                texts.forget();
                channel.beat().await?;
            }
            Some(question) = questions.recv() => {
                let text = texts.get(question.format, &mut channel).await?;
                let _ = question.answer.send(text);
            }
        }
    }
}
