//! What goes over the channel: lines of JSON. A question to the tunnel, and its answer.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the tunnel may take. It is stuck if it takes longer; who asked hears of it before their
/// own patience ends, which is ten seconds mostly.
const PATIENCE: Duration = Duration::from_secs(8);
/// The longest line that a tunnel says, bytes: a hundred thousand peers.
pub(crate) const OF_TUNNEL: u64 = 256 << 20;

/// Asks the tunnel. After an error there is no use in asking again.
pub(crate) async fn ask<A: DeserializeOwned>(
    channel: &mut BufReader<UnixStream>,
    question: &[u8],
) -> io::Result<A> {
    let answer = timeout(PATIENCE, async {
        channel.write_all(question).await?;
        let answer = read_line(channel, OF_TUNNEL).await?;
        answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    });
    answer
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The next line, of so many bytes at `most`; `None` at the end of all lines.
pub(crate) async fn read_line<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    most: u64,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(most).read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Writes a line.
pub(crate) async fn write_line(
    to: &mut (impl AsyncWrite + Unpin),
    said: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    to.write_all(&line).await
}
