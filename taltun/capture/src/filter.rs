//! A filter: a program of classic BPF, as `tcpdump -ddd` prints it, run on a packet.
//!
//! The rules are those of the kernel: at most 4096 instructions, jumps lead forward and stay in
//! the program, its last instruction returns. So a program ends after as many steps as it has
//! instructions at the most. A load from beyond the packet returns 0: the packet doesn't pass.

use std::error::Error;
use std::fmt;

use crate::instruction::{
    Comparison, Instruction, MEMORY, Operand, Operation, Size, Value, Verdict, Word,
};

/// Instructions that a program may have, as in the kernel (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;

/// From here on offsets stand for what the kernel knows of a packet (`SKF_LL_OFF` and above).
const KERNELS: u32 = 0x8000_0000;

/// A program that says which packets are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    instructions: Vec<Instruction>,
    words: Vec<Word>,
}

/// Why something is no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterError {
    /// Not what `tcpdump -ddd` prints; the line, from 1.
    Line(usize),
    /// There is another number of instructions than its first line says.
    Count,
    /// None, or more than 4096.
    Length(usize),
    /// One isn't an instruction; which one, from 0.
    Instruction(usize),
    /// One leads out of the program; which one, from 0.
    Jump(usize),
    /// One asks for what isn't in the packet, and only a kernel knows; which one, from 0.
    Kernels(usize),
    /// The last one doesn't return.
    End,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line} of the filter's program isn't numbers"),
            Self::Count => f.write_str("the filter's program isn't complete"),
            Self::Length(length) => write!(
                f,
                "the filter's program has {length} instructions; expected 1 to {LONGEST}"
            ),
            Self::Instruction(at) => {
                write!(f, "instruction {at} of the filter's program is unknown")
            }
            Self::Jump(at) => write!(
                f,
                "instruction {at} of the filter's program jumps out of the program"
            ),
            Self::Kernels(_) => f.write_str(
                "the filter asks for what isn't in a packet, as inbound, outbound and ifname do",
            ),
            Self::End => f.write_str("the filter's program doesn't end with a return"),
        }
    }
}

impl Error for FilterError {}

impl Filter {
    /// Reads what `tcpdump -ddd` prints: the number of instructions, then one a line.
    pub fn parse(listing: &str) -> Result<Self, FilterError> {
        let mut lines = listing.lines();
        let count = lines.next().and_then(|line| line.trim().parse().ok());
        let count: usize = count.ok_or(FilterError::Line(1))?;
        let mut words = Vec::new();
        for (line, number) in lines.zip(2_usize..) {
            words.push(word(line).ok_or(FilterError::Line(number))?);
        }
        if words.len() != count {
            return Err(FilterError::Count);
        }
        Self::new(words)
    }

    /// Takes a program as words of `code jt jf k`, if it is one.
    pub fn new(words: Vec<[u32; 4]>) -> Result<Self, FilterError> {
        let length = words.len();
        if length == 0 || length > LONGEST {
            return Err(FilterError::Length(length));
        }
        let mut instructions = Vec::with_capacity(length);
        for (at, word) in words.iter().enumerate() {
            let instruction = Instruction::decode(*word).ok_or(FilterError::Instruction(at))?;
            // Behind this one there are as many left to skip and then one to go on with.
            let left = length.saturating_sub(at).saturating_sub(1);
            if instruction.longest_jump() as usize >= left.max(1) {
                return Err(FilterError::Jump(at));
            }
            if matches!(instruction, Instruction::LoadPacket { offset, .. } if offset >= KERNELS) {
                return Err(FilterError::Kernels(at));
            }
            instructions.push(instruction);
        }
        match instructions.last() {
            Some(Instruction::Return(_)) => Ok(Self {
                instructions,
                words,
            }),
            _ => Err(FilterError::End),
        }
    }

    /// Its words, which [`Self::new`] takes.
    pub fn words(&self) -> &[[u32; 4]] {
        &self.words
    }

    /// Whether a packet is wanted: its first bytes, and how many it had.
    pub fn matches(&self, packet: &[u8], length: u32) -> bool {
        Machine::new(packet, length)
            .run(&self.instructions)
            .is_some_and(|result| result != 0)
    }
}

fn word(line: &str) -> Option<Word> {
    let mut numbers = line.split_ascii_whitespace().map(|text| text.parse().ok());
    let word = [
        numbers.next()??,
        numbers.next()??,
        numbers.next()??,
        numbers.next()??,
    ];
    numbers.next().is_none().then_some(word)
}

struct Machine<'p> {
    packet: &'p [u8],
    length: u32,
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl<'p> Machine<'p> {
    fn new(packet: &'p [u8], length: u32) -> Self {
        Self {
            packet,
            length,
            a: 0,
            x: 0,
            memory: [0; MEMORY],
        }
    }

    /// What the program returns; `None` if it reads beyond the packet or divides by 0.
    fn run(&mut self, instructions: &[Instruction]) -> Option<u32> {
        let mut rest = instructions.iter();
        loop {
            let skip = match *rest.next()? {
                Instruction::LoadPacket { size, offset } => {
                    self.a = self.load(size, Some(offset))?;
                    0
                }
                Instruction::LoadPacketAtX { size, offset } => {
                    self.a = self.load(size, self.x.checked_add(offset))?;
                    0
                }
                Instruction::Load(value) => {
                    self.a = self.value(value);
                    0
                }
                Instruction::LoadX(value) => {
                    self.x = self.value(value);
                    0
                }
                Instruction::LoadHeaderLength(offset) => {
                    let byte = self.load(Size::Byte, Some(offset))?;
                    self.x = (byte & 15) << 2;
                    0
                }
                Instruction::Store(at) => {
                    self.memory[at] = self.a;
                    0
                }
                Instruction::StoreX(at) => {
                    self.memory[at] = self.x;
                    0
                }
                Instruction::Calculate(operation, operand) => {
                    self.a = calculate(operation, self.a, self.operand(operand))?;
                    0
                }
                Instruction::Negate => {
                    self.a = self.a.wrapping_neg();
                    0
                }
                Instruction::Jump(by) => by as usize,
                Instruction::Branch {
                    comparison,
                    operand,
                    if_true,
                    if_false,
                } => {
                    let holds = compare(comparison, self.a, self.operand(operand));
                    usize::from(if holds { if_true } else { if_false })
                }
                Instruction::Return(Verdict::Constant(result)) => return Some(result),
                Instruction::Return(Verdict::A) => return Some(self.a),
                Instruction::CopyToX => {
                    self.x = self.a;
                    0
                }
                Instruction::CopyToA => {
                    self.a = self.x;
                    0
                }
            };
            if let Some(last_skipped) = skip.checked_sub(1) {
                rest.nth(last_skipped)?;
            }
        }
    }

    fn load(&self, size: Size, offset: Option<u32>) -> Option<u32> {
        let bytes = self.packet.get(offset? as usize..)?;
        Some(match size {
            Size::Word => u32::from_be_bytes(*bytes.first_chunk()?),
            Size::Half => u16::from_be_bytes(*bytes.first_chunk()?).into(),
            Size::Byte => (*bytes.first()?).into(),
        })
    }

    fn value(&self, value: Value) -> u32 {
        match value {
            Value::Constant(constant) => constant,
            Value::Length => self.length,
            Value::Memory(at) => self.memory[at],
        }
    }

    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Constant(constant) => constant,
            Operand::X => self.x,
        }
    }
}

fn calculate(operation: Operation, a: u32, b: u32) -> Option<u32> {
    Some(match operation {
        Operation::Add => a.wrapping_add(b),
        Operation::Subtract => a.wrapping_sub(b),
        Operation::Multiply => a.wrapping_mul(b),
        Operation::Divide => a.checked_div(b)?,
        Operation::Remainder => a.checked_rem(b)?,
        Operation::Or => a | b,
        Operation::And => a & b,
        Operation::Xor => a ^ b,
        Operation::ShiftLeft => a.checked_shl(b).unwrap_or(0),
        Operation::ShiftRight => a.checked_shr(b).unwrap_or(0),
    })
}

fn compare(comparison: Comparison, a: u32, b: u32) -> bool {
    match comparison {
        Comparison::Equal => a == b,
        Comparison::Greater => a > b,
        Comparison::GreaterOrEqual => a >= b,
        Comparison::AnyBit => a & b != 0,
    }
}

#[cfg(test)]
mod tests;
