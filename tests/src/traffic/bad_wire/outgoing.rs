//! Datagrams on their way out, those of one length that follow each other as one message.

use crate::sys::{MOST_BYTES, MOST_SEGMENTS};

/// Datagrams in the order in which they leave.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    start: usize,
    len: usize,
    /// The length of each of its datagrams but the last, which may be shorter.
    segment: usize,
}

impl Message {
    /// Whether a datagram of `len` bytes may follow in it.
    fn takes(self, len: usize) -> bool {
        self.len.is_multiple_of(self.segment)
            && (1..=self.segment).contains(&len)
            && self.len / self.segment < MOST_SEGMENTS
            && self.len + len <= MOST_BYTES
    }
}

impl Outgoing {
    /// Puts a datagram behind all others; none is empty.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        if datagram.is_empty() {
            return;
        }
        match self.messages.last_mut() {
            Some(last) if last.takes(datagram.len()) => last.len += datagram.len(),
            _ => self.messages.push(Message {
                start: self.bytes.len(),
                len: datagram.len(),
                segment: datagram.len(),
            }),
        }
        self.bytes.extend_from_slice(datagram);
    }

    /// All messages, each with the length of its datagrams.
    pub(super) fn messages(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let bytes = |it: &Message| &self.bytes[it.start..it.start + it.len];
        self.messages.iter().map(move |it| (bytes(it), it.segment))
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(datagrams: impl IntoIterator<Item = usize>) -> Vec<(usize, usize)> {
        let mut out = Outgoing::default();
        for len in datagrams {
            out.push(&vec![0; len]);
        }
        let lengths = out
            .messages()
            .map(|(bytes, segment)| (bytes.len(), segment));
        lengths.collect()
    }

    #[test]
    fn datagrams_of_one_length_leave_together_with_one_shorter_at_the_end() {
        assert_eq!(lengths([100, 100, 60]), [(260, 100)]);
        assert_eq!(
            lengths([100, 60, 60, 100]),
            [(160, 100), (60, 60), (100, 100)]
        );
    }

    #[test]
    fn no_message_is_more_than_the_kernel_takes() {
        assert_eq!(lengths(vec![10; 70]), [(640, 10), (60, 10)]);
        assert_eq!(lengths(vec![1452; 50]), [(65_340, 1452), (7260, 1452)]);
    }
}
