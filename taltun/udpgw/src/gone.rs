//! Whether a client is gone while something is on its way to it.
//!
//! The kernel's keepalive looks for clients that nothing is sent to, and no others. Its own limit
//! for what isn't acknowledged (`TCP_USER_TIMEOUT`) would also end a client that is there and
//! doesn't read. So this asks the kernel when it last heard of the client.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// A client that leaves something unacknowledged for so long is gone, as keepalive has it.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two questions whether a client still doesn't read, the kernel waits at most so long.
const PROBE: Duration = Duration::from_secs(120);

/// How often to look.
pub(crate) const LOOK: Duration = Duration::from_secs(15);

/// The kernel's name for a connection that both ends hold.
const ESTABLISHED: u8 = 1;

/// What the kernel knows of a connection.
#[derive(Debug, Clone, Copy)]
struct Heard {
    /// Since it last acknowledged something.
    since: Duration,
    /// Whether something is sent and not acknowledged.
    unacknowledged: bool,
    /// How many questions whether it reads again have no answer.
    probes: u8,
}

/// Whether the client of this connection is gone.
pub(crate) fn is_gone(socket: &impl AsFd) -> io::Result<bool> {
    heard(socket).map(Heard::is_gone)
}

/// Whether the client has closed its end, whatever it sent before.
pub(crate) fn has_hung_up(socket: &impl AsFd) -> io::Result<bool> {
    Ok(info(socket)?.tcpi_state != ESTABLISHED)
}

/// How many bytes are sent, or wait to be, that the client's host hasn't acknowledged.
pub(crate) fn unacknowledged(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes a number to `bytes`, which outlives the call.
    let outcome =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or_default())
}

impl Heard {
    fn is_gone(self) -> bool {
        (self.unacknowledged && self.since >= LIMIT)
            || (self.probes >= 2 && self.since >= LIMIT + PROBE)
    }
}

fn heard(socket: &impl AsFd) -> io::Result<Heard> {
    let info = info(socket)?;
    Ok(Heard {
        since: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        unacknowledged: info.tcpi_unacked > 0,
        probes: info.tcpi_probes,
    })
}

fn info(socket: &impl AsFd) -> io::Result<libc::tcp_info> {
    // SAFETY: all zeros is a value of this plain structure.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which outlives the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    #[test]
    fn a_client_that_does_not_read_is_not_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (reader, _) = listener.accept().unwrap();
        assert!(!is_gone(&sender).unwrap());
        sender.set_nonblocking(true).unwrap();
        while sender.write(&[0; 4096]).is_ok() {}
        // Until the kernel asks whether it reads again.
        thread::sleep(Duration::from_millis(500));
        let heard = heard(&sender).unwrap();
        assert!(!heard.unacknowledged, "{heard:?}");
        assert!(!heard.is_gone());
        // However long it stays so, each answer is heard.
        assert!(
            !Heard {
                since: PROBE,
                probes: 1,
                ..heard
            }
            .is_gone()
        );
        drop(reader);
    }

    #[test]
    fn who_closes_has_hung_up_with_all_that_it_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        client.write_all(&[0; 4096]).unwrap();
        assert!(!has_hung_up(&ours).unwrap());
        drop(client);
        assert!(has_hung_up(&ours).unwrap());
    }

    #[test]
    fn silence_ends_it_if_something_should_have_been_heard() {
        let heard = |seconds, unacknowledged, probes| Heard {
            since: Duration::from_secs(seconds),
            unacknowledged,
            probes,
        };
        // Nothing is on its way: that is for keepalive to find.
        assert!(!heard(100_000, false, 0).is_gone());
        assert!(!heard(119, true, 0).is_gone());
        assert!(heard(120, true, 0).is_gone());
        assert!(!heard(200, false, 2).is_gone());
        assert!(heard(240, false, 2).is_gone());
    }
}
