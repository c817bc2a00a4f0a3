//! What is drawn, cell by cell.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::*;
use crate::run::model::{Host, Link, Mark, State, Track};

const COLOURS: Theme = Theme { colour: true };

fn spoke(name: &str, address: &str) -> Host {
    Host {
        name: name.into(),
        address: address.into(),
        link: Link::Tunnel,
        state: State::Up,
        rates: Some((1.05e9, 3.2e6)),
        note: String::new(),
    }
}

fn lab() -> Model {
    let mut pings = Track::new("ping a→hub");
    for millis in [1.0, 1.0, 2.0, 4.0] {
        pings.add(Mark::Level(millis));
    }
    pings.add(Mark::Miss);
    pings.value = "no answer".into();
    let mut drops = Track::of_losses("drops");
    for packets in [0.0, 0.0, 705.0] {
        drops.add(Mark::Level(packets));
    }
    drops.value = "705/s".into();
    let mut model = Model {
        title: "Taltun lab".into(),
        elapsed: Duration::from_secs(42),
        centre: Host {
            note: "XDP generic".into(),
            ..spoke("hub", "10.200.0.1")
        },
        left: vec![spoke("a", "10.200.0.2")],
        right: vec![spoke("b", "10.200.0.3")],
        tracks: vec![pings, drops],
        keys: [
            ("b", "ban a"),
            ("f", "flood"),
            ("k", "kill hub"),
            ("s", "shell"),
            ("q", "end"),
        ]
        .map(|(key, what)| (key.into(), what.into()))
        .into(),
        ..Model::default()
    };
    model.tell(Some(true), "ping a→hub: 5 of 5");
    model.tell(None, "banned a for 3 s");
    model
}

fn office() -> Model {
    Model {
        title: "recipe F, an office".into(),
        left: ["ana", "guest", "visitor", "gate"]
            .map(|name| spoke(name, "10.4.0.2"))
            .into(),
        right: ["office", "printer", "recorder", "world"]
            .map(|name| Host {
                name: name.into(),
                address: "192.168.50.16".into(),
                ..Host::default()
            })
            .into(),
        ..lab()
    }
}

fn drawn(model: &Model, theme: Theme, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, theme)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width);
    rows.map(|row| {
        let row: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        row.trim_end().to_owned()
    })
    .collect()
}

#[test]
fn the_lab_is_drawn_on_an_ordinary_terminal() {
    let shown = text(&drawn(&lab(), COLOURS, 80, 24));
    let expected = [
        "Taltun lab  42 s",
        "",
        "╔ a ═══════════════╗          ╔ hub ═════════════╗          ╔ b ═══════════════╗",
        "║    10.200.0.2    ║          ║    10.200.0.1    ║          ║    10.200.0.3    ║",
        "║  ↑ 1.05 Gbit/s   ║          ║   XDP generic    ║          ║  ↑ 1.05 Gbit/s   ║",
        "║   ↓ 3.2 Mbit/s   ║══════════║  ↑ 1.05 Gbit/s   ║══════════║   ↓ 3.2 Mbit/s   ║",
        "║                  ║          ║   ↓ 3.2 Mbit/s   ║          ║                  ║",
        "╚══════════════════╝          ╚══════════════════╝          ╚══════════════════╝",
        "",
        "ping a→hub                                                   ▃▃▄█✗     no answer",
        "drops                                                          ▁▁█         705/s",
        "",
        "✓ ping a→hub: 5 of 5",
        "42 s banned a for 3 s",
    ];
    assert_eq!(shown[..expected.len()], expected, "{}", shown.join("\n"));
    assert_eq!(shown[23], "b ban a  f flood  k kill hub  s shell  q end");
}

#[test]
fn a_ban_is_seen_where_it_falls() {
    let mut model = lab();
    model.left[0].link = Link::Banned(Some(Duration::from_millis(1200)));
    let buffer = drawn(&model, COLOURS, 80, 24);
    let shown = text(&buffer);
    assert!(shown[5].contains("✗ BANNED 2 s"), "{}", shown.join("\n"));
    assert!(shown[5].contains("─── ╳ ────║"), "{}", shown.join("\n"));
    let cross = shown[5].chars().position(|letter| letter == '╳').unwrap() as u16;
    assert_eq!(buffer[(cross, 5)].fg, Color::Red);
    model.left[0].link = Link::Banned(None);
    assert!(text(&drawn(&model, COLOURS, 80, 24))[5].contains("✗ BANNED "));
}

#[test]
fn a_hub_that_is_gone_cuts_every_tunnel() {
    let mut model = lab();
    model.centre.state = State::Killed(Duration::from_secs(2));
    let shown = text(&drawn(&model, COLOURS, 80, 24)).join("\n");
    assert!(shown.contains("✗ KILLED 2 s"), "{shown}");
    assert_eq!(shown.matches("╌╌╌ ╳ ╌╌╌╌").count(), 2, "{shown}");
    assert!(!shown.contains("║═"), "{shown}");
}

#[test]
fn eight_machines_fit_an_ordinary_terminal() {
    let shown = text(&drawn(&office(), COLOURS, 80, 24));
    for name in [
        "ana", "guest", "visitor", "gate", "hub", "office", "printer", "recorder", "world",
    ] {
        assert!(
            shown.iter().any(|row| row.contains(name)),
            "{name}: {}",
            shown.join("\n")
        );
    }
    assert!(shown.iter().any(|row| row.contains("banned a for 3 s")));
    assert!(shown.iter().any(|row| row.contains("no answer")));
    assert!(shown[23].contains("q end"));
}

#[test]
fn a_narrow_terminal_gets_a_list_and_all_keys() {
    let shown = text(&drawn(&lab(), COLOURS, 40, 12));
    assert_eq!(shown[1], "hub ═ ↑1.05 G ↓3.2 M XDP generic 10.200…");
    assert_eq!(shown[2], "a ═ ↑1.05 G ↓3.2 M 10.200.0.2");
    assert!(shown[4].starts_with("ping a→hub"), "{}", shown.join("\n"));
    let keys = shown[10..].join("  ");
    assert_eq!(keys, "b ban a  f flood  k kill hub  s shell  q end");
}

#[test]
fn no_size_is_too_small_to_be_drawn() {
    for model in [lab(), office(), Model::default()] {
        for width in 1..100 {
            for height in 1..40 {
                let shown = text(&drawn(&model, COLOURS, width, height));
                // Whoever sees anything sees how to get out.
                let keys = model.keys.is_empty() || width < SMALLEST.0 || height < SMALLEST.1;
                let found = keys
                    || shown
                        .iter()
                        .any(|row| row.contains("end") || row.contains("ban"));
                assert!(found, "{width} x {height}: {}", shown.join("\n"));
            }
        }
    }
}

#[test]
fn without_colours_everything_is_still_told() {
    let mut model = lab();
    model.left[0].link = Link::Banned(None);
    let plain = drawn(&model, Theme { colour: false }, 80, 24);
    let colourless =
        |cell: &ratatui::buffer::Cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset);
    assert!(plain.content.iter().all(colourless));
    assert_eq!(text(&plain), text(&drawn(&model, COLOURS, 80, 24)));
}

#[test]
fn colours_are_readable_on_dark_and_on_light() {
    let mut model = office();
    model.left[0].link = Link::Banned(None);
    model.tell(Some(false), "something that isn't so");
    for cell in &drawn(&model, COLOURS, 80, 24).content {
        assert!(
            matches!(cell.fg, Color::Reset | Color::Red | Color::Green),
            "{cell:?}"
        );
        assert_eq!(cell.bg, Color::Reset);
    }
}

#[test]
fn the_latest_is_seen_where_not_all_is() {
    let mut model = lab();
    for number in 1..=200 {
        model.tell(None, format!("event {number}"));
    }
    let shown = text(&drawn(&model, COLOURS, 80, 24));
    assert_eq!(shown[22], "42 s event 200");
}

#[test]
fn what_is_longer_than_a_line_goes_on_below() {
    let mut model = office();
    model.title = "Recipe C: all traffic through the hub".into();
    model.doing = Some(
        "checking: with the tunnel down nothing leaves the laptop, and its names are not asked \
         elsewhere"
            .into(),
    );
    let sentence = "the laptop's own address is not seen by any server on the Internet: 3 of 3 \
                    answers came to the hub's, and the kill switch held for as long as it had to";
    model.tell(Some(true), sentence);
    let shown = text(&drawn(&model, COLOURS, 80, 24));
    let told = shown.join("\n");
    assert!(!told.contains('…'), "{told}");
    assert!(shown[0].ends_with("42 s"), "{told}");
    assert!(shown[1].starts_with("checking: with the tunnel"), "{told}");
    let words = shown
        .iter()
        .map(|row| row.trim())
        .collect::<Vec<_>>()
        .join(" ");
    assert!(words.contains(&format!("✓ {sentence}")), "{told}");
    assert!(
        words.contains("its names are not asked elsewhere"),
        "{told}"
    );
}

#[test]
fn a_word_that_is_too_long_shows_that_it_is_cut() {
    let mut model = lab();
    model.tell(Some(true), "word".repeat(40));
    let shown = text(&drawn(&model, COLOURS, 80, 24)).join("\n");
    assert!(shown.contains("wordw…\n"), "{shown}");
}
