//! What the tunnel and its metrics process say to each other, over a pair of Unix sockets.
//!
//! First the sockets to listen on go over. From then on the process writes a line feed, and the
//! tunnel answers with a line of JSON, an [`Answer`]. A dot every three seconds tells the tunnel that
//! the process doesn't hang. If the tunnel is gone, so is the process.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::seen::Answer;
use super::texts::Tunnel;
use crate::server_process;

/// What the process writes to get an answer.
pub const QUESTION: u8 = b'\n';
/// What it writes to say that it lives.
const BEAT: u8 = b'.';

/// The process's end of it.
#[derive(Debug)]
pub(super) struct Channel(BufReader<UnixStream>);

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
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
        server_process::ask(&mut self.0, &[QUESTION]).await
    }
}
