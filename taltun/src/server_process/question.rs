//! A question to the tunnel over the channel, and its answer: a line of JSON.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the tunnel may take. It is stuck if it takes longer; who asked hears of it before their
/// own patience ends, which is ten seconds mostly.
const PATIENCE: Duration = Duration::from_secs(8);
/// The longest answer, bytes: a hundred thousand peers.
const ANSWER_MAX: u64 = 256 << 20;

/// Asks the tunnel. After an error there is no use in asking again.
pub(crate) async fn ask<A: DeserializeOwned>(
    channel: &mut BufReader<UnixStream>,
    question: &[u8],
) -> io::Result<A> {
    let answer = timeout(PATIENCE, async {
        channel.write_all(question).await?;
        let mut line = Vec::new();
        channel
            .take(ANSWER_MAX)
            .read_until(b'\n', &mut line)
            .await?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    });
    answer
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
