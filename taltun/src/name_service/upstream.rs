//! Asking name servers, one after the other, as little as possible of it to be guessed by a
//! forger.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::dns_message::{Question, is_answer_to};
use crate::os::sockets;

/// How long a name server may take before the next is asked.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// The largest message there is.
pub(super) const LARGEST: usize = 65_535;

/// Asks one name server after the other.
pub(super) async fn ask_all(
    servers: &[IpAddr],
    port: u16,
    asked: &[u8],
    question: &Question,
    tcp: bool,
) -> Option<Vec<u8>> {
    for server in servers {
        let at = SocketAddr::new(*server, port);
        let asking = async {
            if tcp {
                ask_by_tcp(at, asked, question.end).await
            } else {
                ask_by_udp(at, asked, question.end).await
            }
        };
        match timeout(ANSWER_LIMIT, asking).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => debug!("name service: {server}: {error}"),
            Err(_) => debug!("name service: {server} doesn't answer"),
        }
    }
    None
}

/// The question with a number of our own, which nobody knows beforehand, and that number.
fn renumbered(asked: &[u8]) -> io::Result<(Vec<u8>, u16)> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut sent = asked.to_vec();
    let number = sent.first_chunk_mut().ok_or(io::ErrorKind::InvalidInput)?;
    *number = id;
    Ok((sent, u16::from_be_bytes(id)))
}

/// Asks a name server. `end` is where the question ends.
async fn ask_by_udp(server: SocketAddr, asked: &[u8], end: usize) -> io::Result<Vec<u8>> {
    // A socket each: its port is another secret that a forger would have to guess.
    let socket = sockets::ask(server, 0)?;
    let (sent, id) = renumbered(asked)?;
    socket.send(&sent).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if is_answer_to(answer, id, asked, end) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, asked: &[u8], end: usize) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (sent, id) = renumbered(asked)?;
    write_message(&mut stream, &sent).await?;
    let answer = read_message(&mut stream).await?;
    if is_answer_to(&answer, id, asked, end) {
        Ok(answer)
    } else {
        Err(io::Error::other("an answer to another question"))
    }
}

/// Reads a message with its length in front, as there is one over TCP.
pub(super) async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one.
pub(super) async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message);
    stream.write_all(&bytes).await
}
