//! The programs' samples of dropped packets, as lines of the log.
//!
//! Switched on by `debug = true` when the programs are loaded; else they hold no code for it.

use std::error::Error;
use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};

use taltun_common::drops::DropReason;
use taltun_common::maps::Sample;

use super::named::map;
use crate::os::interface;

/// The switch in the programs.
pub(super) const SWITCH: &str = "TALTUN_SAMPLES";

/// The ring that samples come in.
pub(super) struct Samples {
    ring: RingBuf<MapData>,
}

impl Samples {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            ring: map(ebpf, "SAMPLES")?.try_into()?,
        })
    }

    /// Writes into the log what has come.
    pub(super) fn log(&mut self) {
        while let Some(bytes) = self.ring.next() {
            let Some(sample) = read(&bytes) else { continue };
            let place = DropReason::ALL.get(sample.reason as usize);
            tracing::debug!(
                reason = place.map_or("unknown", |reason| reason.label()),
                source = %source(&sample),
                interface = name(sample.interface),
                bytes = sample.length,
                "dropped"
            );
        }
    }
}

/// A sample as the programs write it.
fn read(bytes: &[u8]) -> Option<Sample> {
    let (source, rest) = bytes.split_first_chunk()?;
    let [reason, interface, length, port] = rest.as_chunks().0 else {
        return None;
    };
    Some(Sample {
        source: *source,
        reason: u32::from_ne_bytes(*reason),
        interface: u32::from_ne_bytes(*interface),
        length: u32::from_ne_bytes(*length),
        port: u32::from_ne_bytes(*port),
    })
}

/// Where it came from, with the port if there is one.
fn source(sample: &Sample) -> String {
    let addr = IpAddr::from(sample.source).to_canonical();
    match (sample.port, addr) {
        (0, addr) => addr.to_string(),
        (port, IpAddr::V4(v4)) => format!("{v4}:{port}"),
        (port, IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
    }
}

/// An interface's name, or its number where it has none any more.
fn name(index: u32) -> String {
    interface::name(index).unwrap_or_else(|| index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_as_it_was_written() {
        let mut bytes = vec![0; 10];
        bytes.extend([0xff, 0xff, 192, 0, 2, 7]);
        for number in [3_u32, 1, 148, 40_000] {
            bytes.extend(number.to_ne_bytes());
        }
        assert_eq!(bytes.len(), size_of::<Sample>());
        let sample = read(&bytes).unwrap();
        assert_eq!(
            (sample.reason, sample.interface, sample.length),
            (3, 1, 148)
        );
        assert_eq!(source(&sample), "192.0.2.7:40000");
        assert_eq!(source(&Sample { port: 0, ..sample }), "192.0.2.7");
        assert!(read(&bytes[1..]).is_none());
    }

    #[test]
    fn an_interface_that_is_gone_has_its_number() {
        assert_eq!(name(1), "lo");
        assert_eq!(name(u32::MAX), u32::MAX.to_string());
    }
}
