//! Files of captures: what is written is found again as blocks, however texts and packets are; and
//! what is read is cut into the blocks that its lengths say.

use taltun_capture::blocks::{self, Kind};
use taltun_capture::pcapng::{self, Direction, Interface, Packet, Statistics};

use crate::choices::Choices;

pub(crate) fn run(input: &[u8]) {
    read(input);
    write(&mut Choices::new(input));
}

/// Bytes of anybody's.
fn read(input: &[u8]) {
    let mut rest = input;
    loop {
        match blocks::first(rest) {
            Ok(Some((kind, block))) => {
                let length = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
                assert_eq!(block.len(), length);
                assert_eq!(block[length - 4..], block[4..8], "the length stands twice");
                let types = [
                    (Kind::Interface, 1),
                    (Kind::Statistics, 5),
                    (Kind::Packet, 6),
                ];
                if let Some((_, number)) = types.iter().find(|(of, _)| *of == kind) {
                    assert_eq!(u32::from_le_bytes(block[..4].try_into().unwrap()), *number);
                }
                rest = &rest[length..];
            }
            Ok(None) => {
                assert!(rest.len() < 1 << 20, "a block without end is waited for");
                break;
            }
            Err(_) => {
                assert!(rest.len() >= 8);
                break;
            }
        }
    }
}

fn write(choices: &mut Choices<'_>) {
    let text = |choices: &mut Choices<'_>| {
        let most = usize::from(choices.byte()) * 4;
        String::from_utf8_lossy(choices.bytes(most)).into_owned()
    };
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    let (program, system) = (text(choices), text(choices));
    pcapng::section(&mut stream, &program, &system);
    expected.push((Kind::Section, stream.len()));
    while !choices.is_over() {
        let before = stream.len();
        let kind = choices.byte() % 3;
        let words = text(choices);
        let words = (!words.is_empty()).then_some(words);
        let kind = match kind {
            0 => {
                let name = text(choices);
                let interface = Interface {
                    name: &name,
                    description: &name,
                    filter: words.as_deref(),
                    snap_length: choices.word().into(),
                };
                pcapng::interface(&mut stream, &interface);
                Kind::Interface
            }
            1 => {
                let length = u32::from(choices.word());
                let most = length as usize;
                let bytes = choices.bytes(most);
                let packet = Packet {
                    interface: 0,
                    time: u64::from_be_bytes(choices.array()),
                    bytes,
                    length,
                    direction: Direction::Inbound,
                    comment: words.as_deref(),
                };
                pcapng::packet(&mut stream, &packet);
                let block = &stream[before..];
                assert_eq!(block[20..24], (bytes.len() as u32).to_le_bytes());
                assert_eq!(block[24..28], length.to_le_bytes());
                assert_eq!(&block[28..28 + bytes.len()], bytes);
                Kind::Packet
            }
            _ => {
                let number = u64::from_be_bytes(choices.array());
                let statistics = Statistics {
                    interface: 0,
                    start: number,
                    end: number,
                    received: number,
                    dropped: 0,
                    accepted: number,
                };
                pcapng::statistics(&mut stream, &statistics);
                Kind::Statistics
            }
        };
        expected.push((kind, stream.len() - before));
    }
    let (mut rest, mut found) = (&stream[..], Vec::new());
    while let Some((kind, block)) = blocks::first(rest).expect("they are blocks") {
        found.push((kind, block.len()));
        rest = &rest[block.len()..];
    }
    assert!(rest.is_empty());
    assert_eq!(found, expected);
}
