//! The instructions of classic BPF, decoded.
//!
//! A word of the program is `code jt jf k`. What it says is decoded and checked once, so that no
//! packet meets an instruction that there isn't.

/// Words of scratch memory that a program has.
pub(crate) const MEMORY: usize = 16;

/// An instruction as a compiler writes it: code, the jumps if true and if false, and the operand.
pub(crate) type Word = [u32; 4];

/// How much of the packet is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Word,
    Half,
    Byte,
}

/// The second operand of arithmetic and comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    Constant(u32),
    X,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// What is loaded into a register besides bytes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Constant(u32),
    /// The packet's length.
    Length,
    /// A word of memory.
    Memory(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// A := packet\[offset\]
    LoadPacket { size: Size, offset: u32 },
    /// A := packet\[X + offset\]
    LoadPacketAtX { size: Size, offset: u32 },
    /// A := value
    Load(Value),
    /// X := value
    LoadX(Value),
    /// X := 4 * (packet\[offset\] & 15), the length of an IPv4 header
    LoadHeaderLength(u32),
    /// memory := A
    Store(usize),
    /// memory := X
    StoreX(usize),
    /// A := A operation operand
    Calculate(Operation, Operand),
    /// A := -A
    Negate,
    /// Skips so many instructions.
    Jump(u32),
    /// Skips so many instructions, by how A compares.
    Branch {
        comparison: Comparison,
        operand: Operand,
        if_true: u8,
        if_false: u8,
    },
    /// The end: whether the packet passes.
    Return(Verdict),
    /// X := A
    CopyToX,
    /// A := X
    CopyToA,
}

/// A packet passes if this isn't 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Constant(u32),
    A,
}

impl Instruction {
    /// What a word says; `None` if it is no instruction.
    pub(crate) fn decode([code, if_true, if_false, k]: Word) -> Option<Self> {
        let operand = if code & 0x08 == 0 {
            Operand::Constant(k)
        } else {
            Operand::X
        };
        let memory = || usize::try_from(k).ok().filter(|&at| at < MEMORY);
        Some(match code {
            0x20 | 0x28 | 0x30 => Self::LoadPacket {
                size: size(code)?,
                offset: k,
            },
            0x40 | 0x48 | 0x50 => Self::LoadPacketAtX {
                size: size(code)?,
                offset: k,
            },
            0x00 => Self::Load(Value::Constant(k)),
            0x80 => Self::Load(Value::Length),
            0x60 => Self::Load(Value::Memory(memory()?)),
            0x01 => Self::LoadX(Value::Constant(k)),
            0x81 => Self::LoadX(Value::Length),
            0x61 => Self::LoadX(Value::Memory(memory()?)),
            0xb1 => Self::LoadHeaderLength(k),
            0x02 => Self::Store(memory()?),
            0x03 => Self::StoreX(memory()?),
            0x84 => Self::Negate,
            0x05 => Self::Jump(k),
            0x06 => Self::Return(Verdict::Constant(k)),
            0x16 => Self::Return(Verdict::A),
            0x07 => Self::CopyToX,
            0x87 => Self::CopyToA,
            _ if code > 0xff => return None,
            _ if code & 0x07 == 0x04 => Self::Calculate(operation(code, operand)?, operand),
            _ if code & 0x07 == 0x05 => Self::Branch {
                comparison: comparison(code)?,
                operand,
                if_true: u8::try_from(if_true).ok()?,
                if_false: u8::try_from(if_false).ok()?,
            },
            _ => return None,
        })
    }

    /// How many instructions are skipped at the most.
    pub(crate) fn longest_jump(&self) -> u32 {
        match *self {
            Self::Jump(by) => by,
            Self::Branch {
                if_true, if_false, ..
            } => u32::from(if_true.max(if_false)),
            _ => 0,
        }
    }
}

fn size(code: u32) -> Option<Size> {
    match code & 0x18 {
        0x00 => Some(Size::Word),
        0x08 => Some(Size::Half),
        0x10 => Some(Size::Byte),
        _ => None,
    }
}

fn operation(code: u32, operand: Operand) -> Option<Operation> {
    Some(match code & 0xf0 {
        0x00 => Operation::Add,
        0x10 => Operation::Subtract,
        0x20 => Operation::Multiply,
        // By a constant 0 it never has a result; by X it ends the program then.
        0x30 | 0x90 if operand == Operand::Constant(0) => return None,
        0x30 => Operation::Divide,
        0x90 => Operation::Remainder,
        0x40 => Operation::Or,
        0x50 => Operation::And,
        0xa0 => Operation::Xor,
        0x60 => Operation::ShiftLeft,
        0x70 => Operation::ShiftRight,
        _ => return None,
    })
}

fn comparison(code: u32) -> Option<Comparison> {
    Some(match code & 0xf0 {
        0x10 => Comparison::Equal,
        0x20 => Comparison::Greater,
        0x30 => Comparison::GreaterOrEqual,
        0x40 => Comparison::AnyBit,
        _ => return None,
    })
}
