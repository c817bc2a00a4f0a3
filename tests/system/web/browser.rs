//! The page in a real browser: wide and on a phone, light and dark, with its scripts and its forms.

use std::env;
use std::io::Cursor;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::chromium::{CHROMIUM, Chromium};
use taltun_tests::http;
use taltun_tests::sys::Signal;

use super::hub::{Hub, ORIGIN};
use crate::support::Case;

pub const CASES: &[Case] = &[Case {
    name: "the page in a browser fits a desk and a phone, breaks no policy, and its forms work",
    programs: &[CHROMIUM],
    run: fits,
}];

/// A directory in which pictures of all that is looked at are left.
const PICTURES: &str = "TALTUN_TESTS_PICTURES";

const SIZES: &[(u32, u32)] = &[(1280, 900), (390, 844)];

fn fits() -> Result<()> {
    let rules = "[[rules]]\nfrom = \"ana\"\nto = \"hub\"\nallow = \"any\"\n";
    let sections = format!("{}{rules}", super::hub::SECTION);
    let hub = Hub::with(&sections, "ana")?;
    let mut browser = Chromium::start(hub.browser(), "en")?;
    let token = hub.token(&["--name", "ana"])?;

    log_in_by_the_form(&mut browser, &token)?;

    let key = http::encoded(&hub.keys[1].public);
    let pages = [
        ("overview", "/".to_owned()),
        ("peer", format!("/peer?key={key}")),
        ("new", "/new".to_owned()),
        ("sources", "/sources".to_owned()),
        ("rules", "/rules".to_owned()),
        ("usage", "/usage".to_owned()),
    ];
    // Something to see.
    hub.node.tell(&["ban", "198.51.100.0/24", "--for", "1h"])?;
    for (width, height) in SIZES {
        for dark in [false, true] {
            browser.resize(*width, *height, dark)?;
            for (name, path) in &pages {
                browser.open(&format!("{ORIGIN}{path}"))?;
                look(&mut browser, &format!("{name}-{width}"), dark)?;
            }
        }
    }

    // It is drawn anew each second, without being loaded again.
    browser.open(&format!("{ORIGIN}/"))?;
    browser.evaluate(
        "window.stays = true; window.seen = document.querySelector('#tiles').innerText",
    )?;
    browser
        .wait_until("window.stays && document.querySelector('#tiles').innerText !== window.seen")?;
    ensure!(browser.evaluate("document.querySelector('#offline').hidden")? == true);

    // Bans and unbans.
    browser.open(&format!("{ORIGIN}/sources"))?;
    browser.fill("#net", "203.0.113.0/24")?;
    browser.click_to_page("form[action='/ban'] button")?;
    ensure!(browser.evaluate("document.querySelector('.notice.done') !== null")? == true);
    ensure!(
        hub.node
            .stats()?
            .denied
            .iter()
            .any(|net| *net == "203.0.113.0/24")
    );
    let unban = "form[action='/unban']:has([value='203.0.113.0/24']) button";
    browser.click_to_page(unban)?;
    ensure!(
        hub.node
            .stats()?
            .denied
            .iter()
            .all(|net| *net != "203.0.113.0/24")
    );

    // A phone: its code is read from the screen, dark as that is.
    browser.resize(390, 844, true)?;
    browser.open(&format!("{ORIGIN}/new"))?;
    browser.fill("#name", "phone")?;
    browser.fill("#endpoint", "10.99.1.1:9100")?;
    browser.click_to_page("form[action='/new'] button")?;
    look(&mut browser, "added-390", true)?;
    let read = read_code(&browser.picture()?)?;
    let shown = browser.evaluate("document.querySelector('#wg-file').value")?;
    ensure!(
        shown == read.as_str() && read.contains("PrivateKey"),
        "{shown}"
    );

    limits(&mut browser)?;

    // In Spanish, at a click.
    browser.open(&format!("{ORIGIN}/sources"))?;
    browser.click_to_page("a.language")?;
    ensure!(browser.evaluate("document.documentElement.lang + location.pathname")? == "es/sources");
    // A wrong token is an answer that the browser counts as an error; nothing else is one.
    let complaints = browser.complaints()?;
    let others = complaints.iter().filter(|it| !it.contains("403"));
    let others: Vec<_> = others.collect();
    ensure!(others.is_empty(), "{others:?}");

    // Its session ends under the page, which says so by leaving.
    browser.open(&format!("{ORIGIN}/"))?;
    hub.node.tell(&["web", "revoke", "ana"])?;
    browser.wait_until("location.pathname === '/login'")?;
    // The hub ends under another.
    let token = hub.token(&[])?;
    browser.fill("#token", &token)?;
    browser.click_to_page("form button")?;
    let Hub {
        node, pair, spoke, ..
    } = hub;
    node.stop(Signal::Terminate)?;
    browser.wait_until("!document.querySelector('#offline').hidden")?;
    drop((browser, spoke, pair));
    Ok(())
}

/// The peer that was just added gets a limit, in the form that its page has closed until then.
fn limits(browser: &mut Chromium) -> Result<()> {
    browser.click_to_page("p a[href^='/peer?key=']")?;
    browser.evaluate(
        "document.querySelector('form[action=\"/set\"]').closest('details').open = true",
    )?;
    look(browser, "set-390", true)?;
    browser.fill("#rate_down", "20 Mbit/s")?;
    browser.click_to_page("form[action='/set'] button")?;
    ensure!(browser.evaluate("document.querySelector('.notice.done') !== null")? == true);
    ensure!(browser.evaluate("document.querySelector('#rate_down').value")? == "20 Mbit/s");
    Ok(())
}

/// What the code in a picture says.
fn read_code(picture: &[u8]) -> Result<String> {
    let mut decoder = png::Decoder::new(Cursor::new(picture));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().context("a huge picture")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels)?;
    let bytes = info.color_type.samples();
    let grey = |x: usize, y: usize| pixels[y * info.line_size + x * bytes];
    let (width, height) = (info.width as usize, info.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
    let grids = image.detect_grids();
    let [grid] = &grids[..] else {
        bail!("{} codes were found", grids.len());
    };
    Ok(grid.decode()?.1)
}

/// Nothing scrolls sideways, whatever can be operated has a name, and nothing is left out.
fn look(browser: &mut Chromium, name: &str, dark: bool) -> Result<()> {
    let shade = if dark { "-dark" } else { "" };
    if let Some(directory) = env::var_os(PICTURES) {
        let file = PathBuf::from(directory).join(format!("{name}{shade}.png"));
        browser.picture_to(&file)?;
    }
    let wide = browser.evaluate(
        "[document.documentElement.scrollWidth, window.innerWidth, [...document.querySelectorAll('body *')]\
         .filter((it) => !it.closest('.hidden, .skip, thead, svg') && it.getBoundingClientRect().right > window.innerWidth + 1)\
         .map((it) => it.outerHTML.slice(0, 80))]",
    )?;
    ensure!(
        wide[0].as_f64() <= wide[1].as_f64(),
        "{name}: it scrolls: {wide}"
    );
    ensure!(
        wide[2].as_array().is_none_or(Vec::is_empty),
        "{name}: {wide}"
    );
    let nameless = browser.evaluate(
        "[...document.querySelectorAll('a, button, input:not([type=hidden]), select')]\
         .filter((it) => !(it.innerText || it.ariaLabel || (it.labels && it.labels.length)))\
         .map((it) => it.outerHTML)",
    )?;
    ensure!(
        nameless.as_array().is_none_or(Vec::is_empty),
        "{name}: without a name: {nameless}"
    );
    let faint = browser.evaluate(CONTRAST)?;
    ensure!(
        faint.as_array().is_none_or(Vec::is_empty),
        "{name}{shade}: too faint: {faint}"
    );
    Ok(())
}

/// Texts whose colour is too near to that behind them (WCAG 2.2, 1.4.3).
const CONTRAST: &str = r"
(() => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const behind = (it) => {
    for (; it; it = it.parentElement) {
      const colour = numbers(getComputedStyle(it).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((it) => it / 255).map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll('body *')]
    .filter((it) => !it.closest('svg') && [...it.childNodes].some((text) => text.nodeType === 3 && text.nodeValue.trim()))
    .map((it) => {
      const [one, other] = [light(numbers(getComputedStyle(it).color)), light(behind(it))];
      return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), it.outerHTML.slice(0, 80)];
    })
    .filter(([ratio]) => ratio < 4.5);
})()
";

/// As a person does, first with a wrong token.
fn log_in_by_the_form(browser: &mut Chromium, token: &str) -> Result<()> {
    browser.resize(390, 844, false)?;
    browser.open(&format!("{ORIGIN}/"))?;
    look(browser, "login", false)?;
    browser.fill("#token", "wrong")?;
    browser.click_to_page("form button")?;
    ensure!(
        browser.evaluate("document.querySelector('[role=alert]').innerText.length > 10")? == true
    );
    browser.fill("#token", token)?;
    browser.click_to_page("form button")?;
    ensure!(browser.evaluate("location.pathname")? == "/");
    Ok(())
}
