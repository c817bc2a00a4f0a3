//! From the tunnel's connection to where the capture is kept, until somebody or something ends it.
//!
//! The tunnel sends whole blocks. It is told to end by closing our half of the connection; then it
//! sends what it still has, and the statistics, and closes its half.

use std::io;
use std::time::Duration;

use taltun_capture::blocks::{self, Kind};
use taltun_capture::pcapng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::files::{Added, CannotWrite, Output};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// How long the tunnel may take to send the rest.
const PATIENCE: Duration = Duration::from_secs(5);

/// Signals within so long are one: a terminal, and `timeout`, send one to us and to our group.
const SAME: Duration = Duration::from_millis(500);

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// We did it: a signal, a limit, a full file.
    ByUs,
    /// Whoever reads standard output is gone.
    Unread,
    /// The tunnel closed the connection.
    ByTunnel,
}

/// What was captured.
#[derive(Debug, Default)]
pub(super) struct Captured {
    /// Packets that were written.
    pub(super) packets: u64,
    /// Packets that the tunnel had no room for, as they weren't taken in time; `None` if it
    /// didn't say.
    pub(super) lost: Option<u64>,
}

/// Why it failed.
#[derive(Debug)]
pub(super) enum CannotCopy {
    /// There is no more room, or the like.
    Write(CannotWrite),
    /// The connection broke, or something else came than blocks.
    Read(io::Error),
}

/// Copies until the end, at the latest so many packets. `captured` is told also where that is a
/// failure.
pub(super) async fn copy(
    mut stream: UnixStream,
    first_bytes: Vec<u8>,
    output: &mut Output,
    limit: Option<u64>,
    mut stop: Stop,
    captured: &mut Captured,
) -> Result<Ended, CannotCopy> {
    let mut copying = Copying {
        buffer: first_bytes,
        output,
        statistics: Vec::new(),
        limit,
        captured,
    };
    let mut is_full = copying.take()?;
    let mut ended = Ended::ByTunnel;
    loop {
        if !copying.write(&mut stop).await? {
            return Ok(Ended::Unread);
        }
        if is_full && stop.asked.is_none() {
            stop.ask();
        }
        if stop.asked.is_some() && ended == Ended::ByTunnel {
            ended = Ended::ByUs;
            // Where it is gone already, reading says so.
            let _ = stream.shutdown().await;
        }
        copying.buffer.reserve(CHUNK);
        tokio::select! {
            biased;
            asked = stop.next() => {
                if asked == Asked::Again {
                    break;
                }
            }
            read = stream.read_buf(&mut copying.buffer) => {
                if read.map_err(CannotCopy::Read)? == 0 {
                    break;
                }
                is_full = copying.take()?;
            }
        }
    }
    copying.finish()?;
    let is_read = copying.write(&mut stop).await?;
    Ok(if is_read { ended } else { Ended::Unread })
}

struct Copying<'c> {
    /// What was read and isn't a whole block yet.
    buffer: Vec<u8>,
    output: &'c mut Output,
    /// The last statistics of each interface: they count from the beginning.
    statistics: Vec<(u32, Vec<u8>)>,
    limit: Option<u64>,
    captured: &'c mut Captured,
}

impl Copying<'_> {
    /// Takes the whole blocks that were read; true where a limit is reached.
    fn take(&mut self) -> Result<bool, CannotCopy> {
        let mut done = 0;
        loop {
            let rest = self.buffer.get(done..).unwrap_or_default();
            let block = blocks::first(rest).map_err(|error| {
                CannotCopy::Read(io::Error::new(io::ErrorKind::InvalidData, error))
            })?;
            let Some((kind, block)) = block else {
                break;
            };
            done += block.len();
            match kind {
                Kind::Statistics => {
                    if let Some(statistics) = pcapng::read_statistics(block) {
                        let interface = statistics.interface;
                        self.statistics.retain(|(other, _)| *other != interface);
                        self.statistics.push((interface, block.to_vec()));
                    }
                }
                Kind::Packet if self.is_full() => {}
                Kind::Packet => match self.output.add(kind, block).map_err(CannotCopy::Write)? {
                    Added::Taken => self.captured.packets += 1,
                    // Nor is there room for a shorter one that comes later.
                    Added::Full => self.limit = Some(self.captured.packets),
                },
                Kind::Section | Kind::Interface | Kind::Other => {
                    self.output.add(kind, block).map_err(CannotCopy::Write)?;
                }
            }
        }
        self.buffer.drain(..done);
        Ok(self.is_full())
    }

    fn is_full(&self) -> bool {
        self.limit
            .is_some_and(|limit| self.captured.packets >= limit)
    }

    /// Adds what is left for the end.
    fn finish(&mut self) -> Result<(), CannotCopy> {
        for (_, block) in &self.statistics {
            let lost = pcapng::read_statistics(block).map_or(0, |it| it.dropped);
            self.captured.lost = Some(self.captured.lost.unwrap_or(0).saturating_add(lost));
            self.output
                .add(Kind::Statistics, block)
                .map_err(CannotCopy::Write)?;
        }
        Ok(())
    }

    /// Writes what was taken; false where nobody reads it any more.
    async fn write(&mut self, stop: &mut Stop) -> Result<bool, CannotCopy> {
        let Some((reader, bytes)) = self.output.flush().map_err(CannotCopy::Write)? else {
            return Ok(true);
        };
        let path = reader.path();
        // It may stop reading, and we are to end even so.
        let mut writing = tokio::task::spawn_blocking(move || reader.write(&bytes));
        let written = loop {
            tokio::select! {
                written = &mut writing => break written,
                asked = stop.next() => {
                    if asked == Asked::Again {
                        return Ok(false);
                    }
                }
            }
        };
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(CannotCopy::Write(CannotWrite { path, error })),
        }
    }
}

/// What asks us to end: a signal, a limit, or that time is up.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// When time is up: for the capture, and then for its end.
    deadline: Option<Instant>,
    /// When somebody asked first.
    asked: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// For an end in order.
    Once,
    /// For one at once: somebody is in a hurry, or the end takes too long.
    Again,
}

impl Stop {
    /// From now on signals and the end of `time` ask.
    pub(super) fn new(time: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            deadline: time.map(|time| Instant::now() + time),
            asked: None,
        })
    }

    /// Waits until somebody asks, or asks again.
    async fn next(&mut self) -> Asked {
        let deadline = self.deadline;
        let time_is_up = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            () = time_is_up => {}
        }
        self.ask()
    }

    /// A limit, a signal or the end of time asks.
    fn ask(&mut self) -> Asked {
        let now = Instant::now();
        match self.asked {
            Some(asked) if now < asked + SAME => Asked::Once,
            Some(_) => Asked::Again,
            None => {
                self.asked = Some(now);
                self.deadline = Some(now + PATIENCE);
                Asked::Once
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use taltun_capture::pcapng::{Direction, Packet, Statistics};

    use super::super::files::Cut;
    use super::*;

    fn packet() -> Vec<u8> {
        let mut block = Vec::new();
        let packet = Packet {
            interface: 0,
            time: 0,
            bytes: &[0x45; 100],
            length: 100,
            direction: Direction::Unknown,
            comment: None,
        };
        pcapng::packet(&mut block, &packet);
        block
    }

    fn statistics(dropped: u64) -> Vec<u8> {
        let mut block = Vec::new();
        let statistics = Statistics {
            interface: 0,
            start: 0,
            end: 0,
            received: 9,
            dropped,
            accepted: 9,
        };
        pcapng::statistics(&mut block, &statistics);
        block
    }

    fn section() -> Vec<u8> {
        let mut block = Vec::new();
        pcapng::section(&mut block, "taltun", "Linux");
        block
    }

    fn kinds(path: &PathBuf) -> Vec<Kind> {
        let file = std::fs::read(path).unwrap();
        let (mut kinds, mut rest) = (Vec::new(), &file[..]);
        while let Some((kind, block)) = blocks::first(rest).unwrap() {
            kinds.push(kind);
            rest = &rest[block.len()..];
        }
        kinds
    }

    /// What a capture comes to whose tunnel does as `tunnel` says.
    async fn captured<F: Future<Output = ()>>(
        limit: Option<u64>,
        time: Option<Duration>,
        cut: Cut,
        tunnel: impl FnOnce(UnixStream) -> F,
    ) -> (Result<Ended, CannotCopy>, Captured, Vec<Kind>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let mut output = Output::to_files(&path, cut).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut captured = Captured::default();
        let first = section();
        let stop = Stop::new(time).unwrap();
        let (ended, ()) = tokio::join!(
            copy(ours, first, &mut output, limit, stop, &mut captured),
            tunnel(theirs)
        );
        (ended, captured, kinds(&path))
    }

    /// Waits until the tunnel is told to end, and does so as it should.
    async fn end(mut stream: UnixStream, dropped: u64) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 0);
        stream.write_all(&packet()).await.unwrap();
        stream.write_all(&statistics(dropped)).await.unwrap();
    }

    #[tokio::test]
    async fn it_ends_after_its_packets_with_the_last_statistics() {
        let (ended, captured, kinds) =
            captured(Some(2), None, Cut::default(), async |mut stream| {
                let packets = [packet(), statistics(1), packet(), packet(), packet()].concat();
                // However it is cut.
                for part in packets.chunks(37) {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
                end(stream, 7).await;
            })
            .await;
        assert_eq!(ended.unwrap(), Ended::ByUs);
        assert_eq!((captured.packets, captured.lost), (2, Some(7)));
        let expected = [Kind::Section, Kind::Packet, Kind::Packet, Kind::Statistics];
        assert_eq!(kinds, expected);
    }

    #[tokio::test]
    async fn it_ends_when_time_is_up_or_the_file_is_full() {
        let time = Some(Duration::from_millis(20));
        let (ended, captured_in_time, _) =
            captured(None, time, Cut::default(), |stream| end(stream, 0)).await;
        assert_eq!(ended.unwrap(), Ended::ByUs);
        assert_eq!(
            (captured_in_time.packets, captured_in_time.lost),
            (1, Some(0))
        );

        let cut = Cut {
            size: Some(400),
            files: None,
        };
        let (ended, captured, kinds) = captured(None, None, cut, async |mut stream| {
            for _ in 0..5 {
                stream.write_all(&packet()).await.unwrap();
            }
            end(stream, 0).await;
        })
        .await;
        assert_eq!(ended.unwrap(), Ended::ByUs);
        assert_eq!(captured.packets, 2);
        assert_eq!(kinds.len(), 4);
    }

    #[tokio::test]
    async fn a_tunnel_that_ends_or_says_nonsense_is_told_from_each_other() {
        let (ended, captured_before, _) =
            captured(None, None, Cut::default(), async |mut stream| {
                stream.write_all(&packet()).await.unwrap();
            })
            .await;
        assert_eq!(ended.unwrap(), Ended::ByTunnel);
        assert_eq!((captured_before.packets, captured_before.lost), (1, None));

        let (ended, _, _) = captured(None, None, Cut::default(), async |mut stream| {
            stream.write_all(b"{\"error\":\"?\"}").await.unwrap();
        })
        .await;
        assert!(matches!(ended, Err(CannotCopy::Read(_))), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_does_not_end_is_left() {
        let time = Some(Duration::from_secs(1));
        let (ended, _, _) = captured(None, time, Cut::default(), async |stream| {
            tokio::time::sleep(PATIENCE * 3).await;
            drop(stream);
        })
        .await;
        assert_eq!(ended.unwrap(), Ended::ByUs);
    }
}
