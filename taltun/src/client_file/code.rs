//! A text as a QR code (ISO/IEC 18004): for a terminal, as a picture, or module by module.

use fast_qr::{ECL, QRBuilder, QRCode};
use zeroize::Zeroize;

/// Light modules around a code, as the standard asks for.
pub const QUIET: usize = 4;
/// The fewest that readers get along with in practice, for a terminal that has no room for more.
const NARROW: usize = 2;
/// Black on white whatever the terminal's own colours are: two of the 216 that themes leave alone.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// A QR code. Wiped from memory when dropped.
pub struct Code {
    size: usize,
    dark: Vec<bool>,
}

/// A code that a terminal is too small for: what it takes, and what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Columns and lines that it takes.
    pub needed: (usize, usize),
}

impl Code {
    /// That of a text; `None` for one that is longer than a code can be, near 3 kB.
    pub fn of(text: &str) -> Option<Self> {
        // Nothing covers a part of a screen, so that the code may be as small as can be.
        let made = QRBuilder::new(text).ecl(ECL::L).build().ok()?;
        Some(Self {
            size: made.size,
            dark: modules(&made),
        })
    }

    /// Modules of a side, without what is around it.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether a module is dark; what is around it isn't.
    pub fn is_dark(&self, x: usize, y: usize) -> bool {
        let at = y.checked_mul(self.size).and_then(|row| row.checked_add(x));
        x < self.size && at.and_then(|at| self.dark.get(at)) == Some(&true)
    }

    /// For a terminal of so many columns and lines, each character two modules. Without colours, it
    /// is meant for light letters on a dark ground.
    pub fn terminal(
        &self,
        (columns, lines): (usize, usize),
        colours: bool,
    ) -> Result<String, TooLarge> {
        let needed = |quiet: usize| (self.size + 2 * quiet, (self.size + 2 * quiet).div_ceil(2));
        let fits = |quiet: &usize| {
            let (width, height) = needed(*quiet);
            // The cursor takes a line.
            width <= columns && height < lines
        };
        let quiet = [QUIET, NARROW].into_iter().find(fits).ok_or(TooLarge {
            needed: (needed(NARROW).0, needed(NARROW).1 + 1),
        })?;
        Ok(self.half_blocks(quiet, colours))
    }

    fn half_blocks(&self, quiet: usize, colours: bool) -> String {
        let is_dark = |x: usize, y: usize| {
            let (x, y) = (x.checked_sub(quiet), y.checked_sub(quiet));
            matches!((x, y), (Some(x), Some(y)) if self.is_dark(x, y))
        };
        let side = self.size + 2 * quiet;
        let mut text = String::new();
        for y in (0..side).step_by(2) {
            if colours {
                text.push_str(BLACK_ON_WHITE);
            }
            for x in 0..side {
                let (above, below) = (is_dark(x, y), is_dark(x, y + 1));
                // What is drawn is dark where there are colours, and else light.
                text.push(match (above == colours, below == colours) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            if colours {
                text.push_str(RESET);
            }
            text.push('\n');
        }
        text
    }

    /// As a picture in PNG, each module so many pixels wide.
    pub fn png(&self, scale: usize) -> Vec<u8> {
        let side = (self.size + 2 * QUIET) * scale;
        let is_dark = |x: usize, y: usize| {
            let module = |at: usize| (at / scale).checked_sub(QUIET);
            matches!((module(x), module(y)), (Some(x), Some(y)) if self.is_dark(x, y))
        };
        let mut pixels = Vec::with_capacity(side * side.div_ceil(8));
        for y in 0..side {
            for x in (0..side).step_by(8) {
                let bits = (x..x + 8).map(|x| u8::from(!is_dark(x, y)));
                pixels.push(bits.fold(0, |byte, bit| byte << 1 | bit));
            }
        }
        let mut picture = Vec::new();
        let mut encoder = png::Encoder::new(&mut picture, side as u32, side as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let written = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&pixels));
        written.expect("a vector takes all of a picture whose pixels are as many as it has");
        pixels.zeroize();
        picture
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.dark.zeroize();
    }
}

fn modules(made: &QRCode) -> Vec<bool> {
    let rows = (0..made.size).map(|y| &made[y]);
    rows.flat_map(|row| row.iter().take(made.size).map(|module| module.value()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader makes of a picture with a light ground.
    fn read(width: usize, height: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
        let grey = |x, y| if is_dark(x, y) { 0 } else { 255 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    fn read_terminal(text: &str, colours: bool) -> String {
        let plain = text.replace(BLACK_ON_WHITE, "").replace(RESET, "");
        assert_eq!(plain == text, !colours);
        let rows: Vec<Vec<char>> = plain.lines().map(|row| row.chars().collect()).collect();
        let scale = 4;
        let drawn = |x: usize, y: usize| {
            let c = rows[y / scale / 2][x / scale];
            match c {
                '█' => true,
                '▀' => (y / scale).is_multiple_of(2),
                '▄' => !(y / scale).is_multiple_of(2),
                _ => false,
            }
        };
        let (width, height) = (rows[0].len() * scale, rows.len() * 2 * scale);
        read(width, height, |x, y| drawn(x, y) == colours)
    }

    fn text(length: usize) -> String {
        let letters = "[Interface]\nPrivateKey = aBc+/=0123456789\n";
        letters.chars().cycle().take(length).collect()
    }

    #[test]
    fn a_code_is_read_back_from_a_terminal_and_from_a_picture() {
        for length in [1, 90, 300, 425, 1000, 2900] {
            let text = text(length);
            let code = Code::of(&text).unwrap();
            for colours in [true, false] {
                let shown = code.terminal((400, 400), colours).unwrap();
                assert_eq!(read_terminal(&shown, colours), text);
            }
            let picture = code.png(3);
            let mut reader = png::Decoder::new(std::io::Cursor::new(&picture))
                .read_info()
                .unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            let row = info.line_size;
            let is_dark = |x: usize, y: usize| pixels[y * row + x / 8] >> (7 - x % 8) & 1 == 0;
            let side = info.width as usize;
            assert_eq!(side, (code.size() + 2 * QUIET) * 3);
            assert_eq!(read(side, side, is_dark), text);
        }
        assert!(Code::of(&text(3000)).is_none());
    }

    #[test]
    fn a_terminal_that_is_too_small_is_told_what_it_takes() {
        let code = Code::of(&text(300)).unwrap();
        assert_eq!(code.size(), 61);
        assert_eq!(
            code.terminal((64, 100), true),
            Err(TooLarge { needed: (65, 34) })
        );
        assert_eq!(
            code.terminal((80, 33), true),
            Err(TooLarge { needed: (65, 34) })
        );
        // Just enough, which is read as well.
        let shown = code.terminal((65, 34), true).unwrap();
        assert_eq!(read_terminal(&shown, true), text(300));
        assert_eq!(shown.lines().count(), 33);
        let shown = code.terminal((80, 40), true).unwrap();
        assert_eq!(shown.lines().count(), 35);
    }
}
