//! QR codes, read back from what a terminal shows and from a picture.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Pixels of a module.
const SCALE: usize = 4;

/// What is in the code that a terminal shows: its half blocks are dark on a light ground.
pub fn read_terminal(shown: &str) -> Result<String> {
    let rows: Vec<Vec<char>> = shown
        .lines()
        .filter(|line| line.contains('█'))
        .map(|line| without_escapes(line).chars().collect())
        .collect();
    ensure!(rows.len() > 10, "there is no code:\n{shown}");
    // The light lines above and below it have no blocks.
    let width = rows[0].len();
    ensure!(
        rows.iter().all(|row| row.len() == width),
        "a line was cut:\n{shown}"
    );
    let margin = 4;
    let is_dark = |x: usize, y: usize| {
        let Some(y) = y.checked_sub(margin * SCALE) else {
            return false;
        };
        let row = rows.get(y / SCALE / 2);
        match row.and_then(|row| row.get(x / SCALE)) {
            Some('█') => true,
            Some('▀') => (y / SCALE).is_multiple_of(2),
            Some('▄') => !(y / SCALE).is_multiple_of(2),
            _ => false,
        }
    };
    let height = (rows.len() * 2 + 2 * margin) * SCALE;
    read(width * SCALE, height, is_dark)
}

/// What is in the code of a picture in PNG.
pub fn read_picture(path: &Path) -> Result<String> {
    let file = BufReader::new(File::open(path)?);
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().context("a huge picture")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels)?;
    ensure!(info.color_type == png::ColorType::Grayscale, "{info:?}");
    let (width, height) = (info.width as usize, info.height as usize);
    read(width, height, |x, y| pixels[y * info.line_size + x] < 128)
}

fn read(width: usize, height: usize, is_dark: impl Fn(usize, usize) -> bool) -> Result<String> {
    let grey = |x, y| if is_dark(x, y) { 0 } else { 255 };
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
    let grids = image.detect_grids();
    let [grid] = &grids[..] else {
        anyhow::bail!("{} codes were found", grids.len());
    };
    Ok(grid.decode()?.1)
}

/// A line without what sets colours.
fn without_escapes(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.trim_end_matches('\r');
    while let Some((before, after)) = rest.split_once("\x1b[") {
        text.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    text
}
