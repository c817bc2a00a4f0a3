//! `taltun capture`

mod copy;
mod files;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::target::Target;
use super::width::shown;
use super::{human, output};
use crate::control::request;
use crate::system::{self, NoFilter};
use copy::{CannotCopy, Captured, Ended, Stop};
use files::{CannotWrite, Cut, Output};

/// Capture packets of a running tunnel for Wireshark.
///
/// Packets inside the tunnel are in the clear, each once, those from peer to peer included, which
/// tcpdump on the hub doesn't see. Datagrams outside are encrypted, as they arrive and leave. A
/// comment on each packet says whom it is between and what became of it. The format is pcapng.
/// No packet of the tunnel waits for a capture: what isn't taken in time is lost to the capture,
/// and counted.
///
/// If the first word is the name or public key of a peer, only that peer is captured. All other
/// words are a filter in the language of tcpdump, which has to be installed for it. The filter looks at
/// IP packets, inside or outside.
#[derive(Args)]
#[command(override_usage = "taltun capture [OPTIONS] [PEER] [FILTER]...")]
#[command(after_help = "\
Examples:
  ssh hub taltun capture ana | wireshark -k -i -
  taltun capture --inner -w ping.pcapng ana icmp
  taltun capture -w hub.pcapng --file-size '100 MB' --files 10
  taltun capture --relayed --count 20 -w relayed.pcapng -- not port 22

Exit codes: 0 captured; 2 wrong usage, or a filter that doesn't compile; 1 anything else.")]
pub(super) struct Capture {
    /// The only peer to capture, then a filter; each can be left out.
    #[arg(value_name = "PEER|FILTER")]
    words: Vec<String>,

    /// Only what is inside the tunnel.
    #[arg(long)]
    inner: bool,

    /// Only the datagrams outside.
    #[arg(long)]
    outer: bool,

    /// Of what is inside only packets from peer to peer.
    #[arg(long)]
    relayed: bool,

    /// The file to write, for its owner only; - for standard output, the default.
    #[arg(long = "write", short, value_name = "FILE")]
    write: Option<PathBuf>,

    /// End when the file is so long; with --files, go on in the next one.
    #[arg(long, value_name = "SIZE", value_parser = taltun_usage::amount::bytes, requires = "write")]
    file_size: Option<u64>,

    /// Keep the last N files, with numbers in their names.
    #[arg(long, value_name = "N", requires = "file_size", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    files: Option<u32>,

    /// Keep so many bytes of each packet [default: all].
    #[arg(long, short, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=262_144))]
    snaplen: Option<u32>,

    /// End after so many packets.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,

    #[command(flatten)]
    target: Target,
}

impl Capture {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = self.write.as_deref().filter(|path| *path != Path::new("-"));
        if file.is_none() && self.file_size.is_some() {
            return Err(Failure::Usage(
                "--file-size is for a file; name one with -w FILE".into(),
            ));
        }
        if file.is_none() && io::stdout().is_terminal() {
            return Err(Failure::Usage(
                "a capture isn't for a terminal; write it to a file with -w FILE, or pass it on: \
                 taltun capture | wireshark -k -i -"
                    .into(),
            ));
        }
        let command = self.command()?;
        // A peer may have a name that is a word of filters, too.
        let whom = match &command.peer {
            Some(peer) => format!("peer {peer} on "),
            None => "on ".to_owned(),
        };
        let (started, stream) = self.target.open(command)?;
        let (first_bytes, stream) = (stream.buffer().to_vec(), stream.into_inner());
        let mut output = match file {
            Some(path) => {
                let cut = Cut {
                    size: self.file_size,
                    files: self.files,
                };
                Output::to_files(path, cut).map_err(|error| cannot_write(&error))?
            }
            None => Output::to_stdout(),
        };
        let time = self
            .seconds
            .map(|seconds| Duration::from_secs(seconds.into()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let mut captured = Captured::default();
        let ended = runtime.block_on(async {
            stream.set_nonblocking(true).map_err(CannotCopy::Read)?;
            let stream = tokio::net::UnixStream::from_std(stream).map_err(CannotCopy::Read)?;
            let stop = Stop::new(time).map_err(CannotCopy::Read)?;
            // Who reads that may send a signal.
            output::note(&format!(
                "capturing {whom}{}; Ctrl-C ends it",
                started.interface
            ));
            let limit = self.count;
            copy::copy(stream, first_bytes, &mut output, limit, stop, &mut captured).await
        });
        // A write to somebody who doesn't read is left where it is.
        runtime.shutdown_background();
        output::note(&summary(&captured, &output));
        match ended {
            Ok(Ended::ByUs | Ended::Unread) => Ok(()),
            Ok(Ended::ByTunnel) => Err(Failure::Other(format!(
                "{} ended the capture: it stops, or the capture wasn't read for a minute",
                started.interface
            ))),
            Err(CannotCopy::Write(error)) => Err(cannot_write(&error)),
            Err(CannotCopy::Read(error)) => Err(Failure::Other(format!(
                "cannot read what {} sends: {error}",
                started.interface
            ))),
        }
    }

    /// What is asked of the tunnel.
    fn command(&self) -> Result<request::Capture, Failure> {
        let (peer, filter) = self.peer_and_filter()?;
        let all = !(self.inner || self.outer || self.relayed);
        Ok(request::Capture {
            peer,
            inner: all || self.inner,
            outer: all || self.outer,
            relayed: all || self.inner || self.relayed,
            snap_length: self.snaplen.unwrap_or(0),
            filter,
        })
    }

    /// The peer that is meant, and the filter.
    fn peer_and_filter(&self) -> Result<(Option<String>, Option<request::CaptureFilter>), Failure> {
        let Some((first, rest)) = self.words.split_first() else {
            return Ok((None, None));
        };
        let status = self.target.ask(request::Status)?;
        let is_peer = |peer: &crate::report::PeerStatus| {
            peer.name.as_ref() == Some(first) || peer.public_key == *first
        };
        if status.peers.iter().any(is_peer) {
            return Ok((Some(first.clone()), compiled(rest)?));
        }
        match compiled(&self.words) {
            Ok(filter) => Ok((None, filter)),
            Err(Failure::Usage(problem)) => Err(Failure::Usage(format!(
                "{:?} is no peer of {}, and {problem}",
                shown(first),
                status.interface
            ))),
            Err(other) => Err(other),
        }
    }
}

/// A filter as the tunnel takes it.
fn compiled(words: &[String]) -> Result<Option<request::CaptureFilter>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    let words = words.join(" ");
    match system::compile_filter(&words) {
        Ok(filter) => Ok(Some(request::CaptureFilter {
            program: filter.words().to_vec(),
            words,
        })),
        Err(NoFilter::Refused(why)) => Err(Failure::Usage(format!(
            "the filter {words:?} doesn't compile: {why}"
        ))),
        Err(NoFilter::Failed(why)) => Err(Failure::Other(why)),
    }
}

fn cannot_write(failed: &CannotWrite) -> Failure {
    let place = failed.path.as_ref().map_or_else(
        || "standard output".to_owned(),
        |path| path.display().to_string(),
    );
    let advice = match failed.error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, or keep less with --file-size, --files and --snaplen"
        }
        _ => "",
    };
    Failure::Other(format!("cannot write {place}: {}{advice}", failed.error))
}

/// What is said at the end.
fn summary(captured: &Captured, output: &Output) -> String {
    let packets = human::counted(captured.packets, "packet");
    let said = format!("{packets} captured to {}", output.name());
    match captured.lost {
        Some(0) => said,
        None => format!("{said}; how many were lost isn't known"),
        Some(lost) => {
            let lost = human::counted(lost, "packet");
            format!("{said}, {lost} lost, as they weren't taken in time")
        }
    }
}
