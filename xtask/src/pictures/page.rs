//! The page in the browser, on a desk and on a phone, by the hub's own browser.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use taltun_tests::chromium::{CHROMIUM, Chromium};
use taltun_tests::command::output_of;

use super::Drawn;
use super::office::{Office, PAGE};
use crate::setup;

/// How long traffic goes on before it is looked at, so that there is something to draw.
const SETTLED: Duration = Duration::from_secs(60);
/// Each file, its window, and whether it is dark.
const PICTURES: [(&str, u32, u32, bool); 2] = [
    ("page-1280.png", 1280, 900, false),
    ("page-390-dark.png", 390, 844, true),
];

/// Runs it and takes its pictures.
pub fn draw(taltun: &Path) -> Result<Vec<Drawn>> {
    setup::programs(&[(CHROMIUM, CHROMIUM)])?;
    let office = Office::start(taltun)?;
    let token = output_of(&mut office.command(taltun, &["web", "token"]))?;
    sleep(SETTLED);
    let mut browser = Chromium::start(office.namespace(), "en")?;
    browser.open(&format!("http://{PAGE}/"))?;
    browser.fill("#token", token.trim())?;
    browser.click_to_page("form button")?;
    let mut drawn = Vec::new();
    for (file, width, height, dark) in PICTURES {
        browser.resize(width, height, dark)?;
        browser.open(&format!("http://{PAGE}/"))?;
        // The rates of peers come with the second look.
        browser.wait_until("/bit/.test(document.querySelector('#rows').innerText)")?;
        drawn.push(Drawn {
            file,
            bytes: browser.picture()?,
        });
    }
    Ok(drawn)
}
