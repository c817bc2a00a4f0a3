//! Whether this machine is a copy: the kernel sends an event when a virtual machine was cloned or
//! goes on from a snapshot (`vmgenid`).

use std::io;

use rtnetlink::sys::protocols::NETLINK_KOBJECT_UEVENT;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// The group that the kernel itself sends events to.
const KERNEL_EVENTS: u32 = 1;
/// What the kernel says of a new generation of the machine, as one of an event's variables.
const NEW_GENERATION: &[u8] = b"NEW_VMGENID=1";
/// Bytes of the longest event (`UEVENT_BUFFER_SIZE`), and some.
const LONGEST: usize = 4096;
/// Bytes of events that may wait for us.
const BUFFER: libc::c_int = 1 << 20;

/// Waits for the kernel to say so.
pub struct Clones {
    /// `None` where it doesn't, or doesn't any more.
    socket: Option<TokioSocket>,
    event: Vec<u8>,
}

impl Clones {
    /// Listens from now on; says so where that isn't possible.
    pub fn watch() -> Self {
        Self {
            socket: listen().inspect_err(unnoticed).ok(),
            event: Vec::with_capacity(LONGEST),
        }
    }

    /// Returns when this machine has become a copy, or may have: events can get lost.
    pub async fn next(&mut self) {
        while let Some(socket) = &mut self.socket {
            self.event.clear();
            match socket.recv_from(&mut self.event).await {
                // Only the kernel is believed.
                Ok(from) if from.port_number() == 0 && is_new_generation(&self.event) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return,
                Err(error) => {
                    unnoticed(&error);
                    self.socket = None;
                }
            }
        }
        std::future::pending::<()>().await;
    }
}

fn listen() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_KOBJECT_UEVENT)?;
    let plain = socket.socket_mut();
    // As many as may come at once when devices appear; as many as usual if that is refused.
    let _ = plain.set_rx_buf_sz(BUFFER);
    plain.bind(&SocketAddr::new(0, KERNEL_EVENTS))?;
    Ok(socket)
}

fn unnoticed(error: &io::Error) {
    tracing::warn!("clones of this machine go unnoticed: {error}");
}

/// Whether an event says that the machine is a copy. It is a line and variables, each with a
/// zero byte at its end.
fn is_new_generation(event: &[u8]) -> bool {
    event
        .split(|byte| *byte == 0)
        .skip(1)
        .any(|variable| variable == NEW_GENERATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_variable_itself_is_a_new_generation() {
        let event = |variables: &str| format!("change@/devices/vmgenid\0{variables}\0SEQNUM=9\0");
        let says = |text: &str| is_new_generation(event(text).as_bytes());
        assert!(says("ACTION=change\0NEW_VMGENID=1"));
        assert!(says("NEW_VMGENID=1\0SUBSYSTEM=acpi"));
        for other in [
            "ACTION=change",
            "NEW_VMGENID=0",
            "NEW_VMGENID=10",
            "SYNTH_ARG_NEW_VMGENID=1",
            "XNEW_VMGENID=1",
        ] {
            assert!(!says(other), "{other}");
        }
        assert!(!is_new_generation(b"NEW_VMGENID=1\0ACTION=change\0"));
        assert!(!is_new_generation(b""));
    }

    #[tokio::test]
    async fn watching_works_here_and_says_nothing_by_itself() {
        let mut clones = Clones::watch();
        assert!(clones.socket.is_some());
        let limit = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(limit, clones.next()).await.is_err());
    }
}
