//! Inputs made of those of a corpus: with bytes changed, taken out, doubled, and parts of each other.
//! The same ones in each run, so that a failure comes back.

/// Numbers that bounds are at.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'0', b'\n'];
/// The longest input that is made, bytes.
const LONGEST: usize = 8192;

/// Makes them.
pub struct Mutations<'a> {
    inputs: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Those of the target with this name.
    pub fn of(name: &str, inputs: &'a [Vec<u8>]) -> Self {
        let state = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { inputs, state }
    }

    /// The next one.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.inputs[self.below(self.inputs.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let length = self.below(16) + 1;
        match self.below(9) {
            0 => input.insert(at, self.next() as u8),
            1 => drop(input.drain(at..(at + length).min(input.len()))),
            2 => input.truncate(at),
            3 => {
                let part = input[at..(at + length).min(input.len())].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, part);
            }
            4 => {
                let other = &self.inputs[self.below(self.inputs.len())];
                let from = self.below(other.len() + 1);
                let length = self.below(128);
                let part = other[from..(from + length).min(other.len())].to_vec();
                let end = if self.below(2) == 0 {
                    at
                } else {
                    (at + part.len()).min(input.len())
                };
                input.splice(at..end, part);
            }
            kind => {
                let edge = EDGES[self.below(EDGES.len())];
                let byte = self.next() as u8;
                if let Some(place) = input.get_mut(at) {
                    *place = match kind {
                        5 => edge,
                        6 => byte,
                        7 => *place ^ 1 << (byte % 8),
                        _ => place.wrapping_add(byte % 9).wrapping_sub(4),
                    };
                }
            }
        }
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}
