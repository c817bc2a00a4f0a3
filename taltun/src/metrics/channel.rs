//! What the tunnel and its metrics process say to each other, over a pair of Unix sockets.
//!
//! First the sockets to listen on go over. From then on the process writes a line feed, and the
//! tunnel answers with a line of JSON, an [`Answer`]. A dot every three seconds tells the tunnel that
//! the process doesn't hang. If the tunnel is gone, so is the process.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::seen::Answer;
use super::texts::Tunnel;

/// How long the tunnel may take. It is stuck if it takes longer; a scraper hears of it before its
/// own patience ends, which is ten seconds mostly.
const PATIENCE: Duration = Duration::from_secs(8);
/// What the process writes to get an answer.
pub const QUESTION: u8 = b'\n';
/// What it writes to say that it lives.
const BEAT: u8 = b'.';
/// The longest answer, bytes: a hundred thousand peers.
const ANSWER_MAX: u64 = 256 << 20;

/// The process's end of it.
#[derive(Debug)]
pub(super) struct Channel(BufReader<UnixStream>);

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// Asks the tunnel. After an error there is no use in asking again.
    async fn question(&mut self) -> io::Result<Answer> {
        let asked = timeout(PATIENCE, async {
            self.0.write_all(&[QUESTION]).await?;
            let mut line = Vec::new();
            (&mut self.0)
                .take(ANSWER_MAX)
                .read_until(b'\n', &mut line)
                .await?;
            if line.last() != Some(&b'\n') {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(serde_json::from_slice(&line)?)
        });
        asked
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Tells the tunnel that this process lives.
    pub(super) async fn beat(&mut self) -> io::Result<()> {
        self.0.write_all(&[BEAT]).await
    }

    /// Waits until the tunnel is gone, or says something that nobody asked for.
    pub(super) async fn gone(&mut self) {
        let _ = self.0.fill_buf().await;
    }
}

impl Tunnel for Channel {
    async fn ask(&mut self) -> io::Result<Answer> {
        self.question().await
    }
}
