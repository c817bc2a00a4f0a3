//! Filters of classic BPF, which come from clients: a program is what the kernel takes for one, and
//! says of a packet what a plain reading of its words says, within as many steps as it has words.

use taltun_capture::{Filter, FilterError};

use crate::choices::Choices;

/// The codes that compilers write, so that programs get far.
const CODES: [u32; 44] = [
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x80, 0x60, 0x01, 0x81, 0x61, 0xb1, 0x02, 0x03, 0x84,
    0x05, 0x06, 0x16, 0x07, 0x87, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x94, 0x9c, 0x44,
    0x4c, 0x54, 0x5c, 0xa4, 0xac, 0x64, 0x6c, 0x74, 0x7c, 0x15, 0x25, 0x45,
];

pub(crate) fn run(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(filter) = Filter::parse(text)
    {
        compare(&filter, &[0x45; 60]);
    }
    let mut choices = Choices::new(input);
    let count = choices.below(24) + 1;
    let mut words = Vec::new();
    for _ in 0..count {
        let kind = choices.byte();
        let code = match kind >> 6 {
            0..=2 => CODES[usize::from(kind) % CODES.len()],
            _ => u32::from(choices.byte()) | u32::from(kind & 1) << 8,
        };
        let (jt, jf) = (choices.byte() % 8, choices.byte() % 8);
        let k = match choices.byte() {
            255 => u32::from_be_bytes(choices.array()),
            254 => u32::from(jt) << 8,
            small => u32::from(small),
        };
        words.push([code, u32::from(jt), u32::from(jf), k]);
    }
    if choices.byte() != 0 {
        words.push([0x06, 0, 0, u32::from(choices.byte())]);
    }
    let packet = choices.rest();
    match Filter::new(words.clone()) {
        Ok(filter) => {
            assert_eq!(filter.words(), words, "words are kept");
            compare(&filter, packet);
            // What is printed is read as the same.
            let lines = words
                .iter()
                .map(|[a, b, c, d]| format!("{a} {b} {c} {d}\n"));
            let listing = format!("{}\n{}", words.len(), lines.collect::<String>());
            assert_eq!(Filter::parse(&listing), Ok(filter));
        }
        Err(error) => {
            assert!(is_refused(&words), "{error} of {words:?}");
            if let FilterError::Instruction(at) | FilterError::Jump(at) = error {
                assert!(at < words.len());
            }
        }
    }
}

fn compare(filter: &Filter, packet: &[u8]) {
    let words = filter.words();
    assert!(!is_refused(words), "{words:?}");
    let length = packet.len() as u32 + 7;
    let wanted = interpret(words, packet, length).is_some_and(|result| result != 0);
    assert_eq!(filter.matches(packet, length), wanted, "{words:?}");
}

/// Whether the kernel's `bpf_check_classic` would refuse it, or it asks what only a kernel knows.
fn is_refused(words: &[[u32; 4]]) -> bool {
    let is_known = |[code, jt, jf, k]: [u32; 4]| match code {
        // Loads and stores of memory.
        0x60 | 0x61 | 0x02 | 0x03 => k < 16,
        // Division by a constant.
        0x34 | 0x94 => k != 0,
        0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => jt < 256 && jf < 256,
        0x20 | 0x28 | 0x30 => k < 0x8000_0000,
        // Loads from beyond the packet end a program; the others can't go wrong.
        0x40 | 0x48 | 0x50 | 0xb1 | 0x00 | 0x80 | 0x01 | 0x81 | 0x05 | 0x06 | 0x16 | 0x07
        | 0x87 | 0x84 | 0x04 | 0x0c | 0x14 | 0x1c | 0x24 | 0x2c | 0x3c | 0x9c | 0x44 | 0x4c
        | 0x54 | 0x5c | 0xa4 | 0xac | 0x64 | 0x6c | 0x74 | 0x7c => true,
        _ => false,
    };
    let leads_out = |at: usize, [code, jt, jf, k]: [u32; 4]| {
        let farthest = match code {
            0x05 => k,
            0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => jt.max(jf),
            _ => 0,
        };
        at as u64 + u64::from(farthest) + 1 >= words.len() as u64 && farthest > 0
    };
    let returns = words
        .last()
        .is_some_and(|word| matches!(word[0], 0x06 | 0x16));
    words.is_empty()
        || words.len() > 4096
        || !returns
        || words.iter().any(|word| !is_known(*word))
        || (words.iter().enumerate()).any(|(at, word)| leads_out(at, *word))
}

/// Runs the words as the manual of BPF describes them; `None` if they end without a result.
fn interpret(words: &[[u32; 4]], packet: &[u8], length: u32) -> Option<u32> {
    let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; 16], 0_usize);
    let load = |offset: u64, size: u64| -> Option<u32> {
        if offset + size > packet.len() as u64 {
            return None;
        }
        let bytes = &packet[offset as usize..(offset + size) as usize];
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        )
    };
    // Each step leads forward.
    for _ in 0..words.len() {
        let [code, jt, jf, k] = *words.get(at)?;
        at += 1;
        let operand = if code & 8 == 0 { k } else { x };
        match code {
            0x20 => a = load(k.into(), 4)?,
            0x28 => a = load(k.into(), 2)?,
            0x30 => a = load(k.into(), 1)?,
            0x40 | 0x48 | 0x50 => {
                let offset = u64::from(x) + u64::from(k);
                let size = [4, 2, 1][(code as usize - 0x40) / 8];
                a = u32::try_from(offset)
                    .is_ok()
                    .then(|| load(offset, size))??;
            }
            0x00 => a = k,
            0x80 => a = length,
            0x60 => a = memory[k as usize],
            0x01 => x = k,
            0x81 => x = length,
            0x61 => x = memory[k as usize],
            0xb1 => x = 4 * (load(k.into(), 1)? % 16),
            0x02 => memory[k as usize] = a,
            0x03 => memory[k as usize] = x,
            0x84 => a = 0_u32.wrapping_sub(a),
            0x05 => at += k as usize,
            0x06 => return Some(k),
            0x16 => return Some(a),
            0x07 => x = a,
            0x87 => a = x,
            0x04 | 0x0c => a = a.wrapping_add(operand),
            0x14 | 0x1c => a = a.wrapping_sub(operand),
            0x24 | 0x2c => a = a.wrapping_mul(operand),
            0x34 | 0x3c => a = a.checked_div(operand)?,
            0x94 | 0x9c => a = a.checked_rem(operand)?,
            0x44 | 0x4c => a |= operand,
            0x54 | 0x5c => a &= operand,
            0xa4 | 0xac => a ^= operand,
            0x64 | 0x6c => a = (u64::from(a) << operand.min(32)) as u32,
            0x74 | 0x7c => a = (u64::from(a) >> operand.min(32)) as u32,
            _ => {
                let holds = match code & 0xf0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    _ => a & operand != 0,
                };
                at += if holds { jt } else { jf } as usize;
            }
        }
    }
    None
}
