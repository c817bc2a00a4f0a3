//! A client's connection, and how it ends.
//!
//! The kernel keeps what a closed connection hasn't sent yet, for as long as the other end likes: a
//! client that doesn't read would leave it an answer each time. So a connection is reset when it is
//! dropped, which frees all of it at once, and it is closed in order only once all is read.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

/// What the kernel is asked to hold at most of what a client hasn't read; it takes twice as much
/// with all that belongs to it.
const SEND_BUFFER: usize = 256 << 10;
/// How long a client may take to ask.
pub(crate) const TO_ASK: Duration = Duration::from_secs(5);
/// How often to look whether a client has all of its answer.
const LOOK: Duration = Duration::from_millis(50);

/// Limits what a client makes the kernel hold: to a buffer while it is here, and to nothing after
/// its end, since the connection is reset when it is dropped.
pub(super) fn limit(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_linger(Some(Duration::ZERO))
}

/// A connection of HTTP with one request, whose head has to be there in time and is no longer than this.
pub(crate) fn http(head_max: usize) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(TO_ASK)
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(head_max);
    http
}

/// A connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether the other end has all that was sent to it.
    fn is_sent(&self) -> bool;

    /// Has it closed in order when it is dropped.
    fn close_when_dropped(&self);

    /// Where the other end is, if that is an address.
    fn address(&self) -> Option<IpAddr>;
}

impl Stream for TcpStream {
    fn is_sent(&self) -> bool {
        // One that was reset has no other end.
        let is_there = self.peer_addr().is_ok();
        !is_there || unacknowledged(self).is_none_or(|bytes| bytes == 0)
    }

    fn close_when_dropped(&self) {
        // If it fails, it is reset.
        let _ = SockRef::from(self).set_linger(None);
    }

    fn address(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|address| address.ip())
    }
}

impl Stream for UnixStream {
    /// What is sent is with the reader already.
    fn is_sent(&self) -> bool {
        true
    }

    fn close_when_dropped(&self) {}

    fn address(&self) -> Option<IpAddr> {
        None
    }
}

/// Bytes that are sent, or wait to be, and that the other host hasn't acknowledged; the end of the
/// connection counts as one.
fn unacknowledged(stream: &TcpStream) -> Option<i32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes a number to `bytes`, which outlives the call.
    let outcome = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (outcome == 0).then_some(bytes)
}

/// Closes a connection in order, once the other end has read all or closed its own.
pub(crate) async fn close(mut stream: Box<dyn Stream>) {
    // An error is the end of it as well.
    let _ = stream.shutdown().await;
    let mut rest = [0; 1024];
    loop {
        tokio::select! {
            read = stream.read(&mut rest) => match read {
                Ok(0) if !stream.is_sent() => sleep(LOOK).await,
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            },
            () = sleep(LOOK) => {}
        }
        if stream.is_sent() {
            break;
        }
    }
    stream.close_when_dropped();
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A connection that is limited, and its other end.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (ours, _) = listener.accept().await.unwrap();
        limit(&ours).unwrap();
        (ours, other.unwrap())
    }

    /// Writes until the kernel takes no more, and returns how much that was.
    fn fill(stream: &TcpStream) -> usize {
        let zeros = vec![0; 65_536];
        let mut bytes = 0;
        while let Ok(written) = stream.try_write(&zeros) {
            bytes += written;
        }
        bytes
    }

    #[tokio::test]
    async fn what_is_dropped_with_something_unread_is_reset() {
        let (ours, mut other) = pair().await;
        ours.writable().await.unwrap();
        fill(&ours);
        assert!(!ours.is_sent());
        drop(ours);
        let error = timeout(LIMIT, other.read_to_end(&mut Vec::new())).await;
        let error = error.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_reads_all_sees_the_end() {
        let (ours, mut other) = pair().await;
        ours.writable().await.unwrap();
        let bytes = fill(&ours);
        let closed = tokio::spawn(close(Box::new(ours)));
        sleep(4 * LOOK).await;
        assert!(!closed.is_finished());
        let mut read = Vec::new();
        timeout(LIMIT, other.read_to_end(&mut read))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(read.len(), bytes);
        timeout(LIMIT, closed).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_is_gone_is_not_waited_for() {
        let (ours, other) = pair().await;
        ours.writable().await.unwrap();
        fill(&ours);
        SockRef::from(&other)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(other);
        timeout(LIMIT, close(Box::new(ours))).await.unwrap();
    }
}
