//! A proxy in front of a member, which can refuse, or take everything and pass nothing.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cluster::port;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes all.
    Passes,
    /// Takes connections and bytes, and passes none.
    Hangs,
    /// Cuts all connections.
    Cuts,
}

/// A proxy on a port of its own, until it is dropped.
pub struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts one to a port.
    pub async fn start(to: u16) -> Self {
        let port = port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Passes));
        let modes = mode.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut mode = modes.subscribe();
                tokio::spawn(async move {
                    if *mode.borrow() != Mode::Cuts {
                        // Cut by leaving it.
                        tokio::select! {
                            () = pass(near, to, mode.clone()) => {}
                            _ = mode.wait_for(|mode| *mode == Mode::Cuts) => {}
                        }
                    }
                });
            }
        });
        Self { port, mode, task }
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn pass(near: TcpStream, to: u16, mode: watch::Receiver<Mode>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    tokio::join!(
        copy(&mut near_read, &mut far_write, mode.clone()),
        copy(&mut far_read, &mut near_write, mode),
    );
}

async fn copy(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let passes = mode.wait_for(|mode| *mode == Mode::Passes).await.is_ok();
        if !passes || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
