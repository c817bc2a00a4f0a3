//! Pictures of models, and what keys make of them.

use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use taltun_common::drops::DropReason;

use super::super::hub::Command;
use super::super::keys::{Wanted, press};
use super::super::model::{Mode, Model, Question, Whom};
use super::super::places::View;
use super::draw;
use crate::cli::status::example::hub;
use crate::cli::width::width;
use crate::control::request::{self, PeerOrder};
use crate::layer::Layer;
use crate::report::{
    Drops, Overview, PeerCounts, PeerRates, PeerStatus, Rates, RelayPair, Source, Stats, Traffic,
};

/// A hub with so many peers of which the screen has the first, at a second.
fn overview(all: u64, shown: usize, second: u64) -> Overview {
    let mut status = hub();
    let template = status.peers[0].clone();
    status.peers = (0..shown as u64)
        .map(|number| PeerStatus {
            name: Some(format!("peer-{number}")),
            public_key: format!("KEY{number}="),
            banned: Vec::new(),
            refused: None,
            unreachable: None,
            rates: Some(PeerRates {
                rx_bytes: (1000 - number) * 1000 * (second % 3 + 1),
                tx_bytes: 125,
            }),
            ..template.clone()
        })
        .collect();
    let source = |last: u8, packets, drops| Source {
        addr: [192, 0, 2, last].into(),
        packets,
        bytes: packets * 100,
        drops,
        reason: (drops > 0).then_some(DropReason::Mac1),
    };
    let drops: Drops = [(DropReason::Mac1, 98 * second)].into_iter().collect();
    let stats = Stats {
        drops,
        drops_last_minute: drops,
        rates: Some(Rates {
            over_seconds: 1.0,
            traffic: Traffic {
                rx_bytes: 26_500_000,
                tx_bytes: 125_000,
                ..Traffic::default()
            },
            drops: [(DropReason::Mac1, 98)].into_iter().collect(),
        }),
        sources: vec![
            source(1, 1000 * second, 0),
            source(66, 98 * second, 98 * second),
        ],
        ..Stats::default()
    };
    Overview {
        file: None,
        status,
        stats,
        peers: PeerCounts {
            online: all - 1,
            away: 1,
            never: 0,
        },
        found: all,
        pairs: vec![RelayPair {
            from: "peer-0".to_owned(),
            to: "peer-1".to_owned(),
            packets: 1000 * second,
            bytes: 1_250_000 * second,
        }],
    }
}

/// A model after three looks, a second apart.
fn model(size: (usize, usize), colours: bool) -> (Model, Instant) {
    let mut model = Model::new(colours);
    let start = Instant::now();
    for second in 1..4 {
        let wanted = model.wanted(size);
        let shown = (wanted.peers as usize).min(62);
        model.take_in(
            overview(62, shown, second),
            start + Duration::from_secs(second),
        );
    }
    (model, start + Duration::from_secs(3))
}

fn picture(model: &Model, now: Instant, (columns, rows): (usize, usize)) -> Buffer {
    let backend = TestBackend::new(columns as u16, rows as u16);
    let mut terminal = Terminal::new(backend).unwrap();
    terminal.draw(|frame| draw(frame, model, now)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    (0..area.height)
        .map(|row| {
            let cells = (0..area.width).map(|column| buffer[(column, row)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        })
        .collect()
}

fn shown(size: (usize, usize)) -> Vec<String> {
    let (model, now) = model(size, true);
    lines(&picture(&model, now, size))
}

fn key(model: &mut Model, code: KeyCode) -> Wanted {
    press(model, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

#[test]
fn eighty_columns_have_peers_drops_and_senders() {
    let lines = shown((80, 24));
    let text = lines.join("\n");
    assert!(
        lines[0].starts_with("hub · 62 peers, 61 online   ↓ "),
        "{text}"
    );
    assert!(
        lines[0].contains("212 Mbit/s") && lines[0].contains("98/s"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("driver XDP · TC · up 2 min 5 s · 2 banned   peers by rate"),
        "{text}"
    );
    assert!(lines[1].ends_with("1–14 of 62"), "{text}");
    for head in ["  PEER", "↓ NOW", "HANDSHAKE", "FROM"] {
        assert!(lines[2].contains(head), "{head}: {text}");
    }
    assert!(lines[3].starts_with("● peer-0 "), "{text}");
    assert!(
        lines[3].contains("8.0 Mbit/s") && lines[3].contains("203.0.113.1:9000"),
        "{text}"
    );
    assert!(lines[16].starts_with("● peer-13"), "{text}");
    assert!(lines[17].starts_with("────"), "{text}");
    assert!(
        lines[18].starts_with("DROPPED") && lines[18].contains("SENDER"),
        "{text}"
    );
    // Who is dropped comes before who sends more.
    assert!(
        lines[19].starts_with("mac1") && lines[19].contains("192.0.2.66"),
        "{text}"
    );
    assert!(lines[23].starts_with("q quit  ? help"), "{text}");
}

#[test]
fn a_small_terminal_has_less_and_a_wide_one_more() {
    let small = shown((40, 10));
    let text = small.join("\n");
    assert!(small[0].starts_with("hub · 62 peers, 61 online"), "{text}");
    assert!(small[1].starts_with("  PEER"), "{text}");
    assert!(
        small[2].starts_with("● peer-0") && small[2].contains("Mbit/s"),
        "{text}"
    );
    assert!(small[8].starts_with("● peer-6"), "{text}");
    assert!(small[9].starts_with("q quit"), "{text}");
    let wide = shown((120, 40));
    assert!(
        wide[2].contains("↑ NOW") && wide[2].contains("ADDRESS"),
        "{}",
        wide.join("\n")
    );
    // Whatever the size, nothing panics and nothing is outside.
    for columns in [1, 2, 5, 13, 39, 81, 200] {
        for rows in [1, 2, 3, 4, 11, 12, 19, 20, 60] {
            for view in View::ALL {
                let (mut model, now) = model((columns, rows), true);
                model.view = view;
                model.wanted((columns, rows));
                for mode in [
                    Mode::List,
                    Mode::Help(0),
                    Mode::Help(9),
                    Mode::Details(0),
                    Mode::Find,
                ] {
                    model.mode = mode;
                    assert_eq!(lines(&picture(&model, now, (columns, rows))).len(), rows);
                }
            }
        }
    }
}

#[test]
fn colours_are_the_terminals_own_or_none() {
    for colours in [true, false] {
        let (model, now) = model((80, 24), colours);
        let buffer = picture(&model, now, (80, 24));
        let cells = || buffer.content.iter();
        // Never a background, which would be wrong on one of light and dark.
        assert!(cells().all(|cell| cell.bg == Color::Reset));
        let fine = [Color::Reset, Color::Green, Color::Red];
        assert!(cells().all(|cell| fine.contains(&cell.fg)));
        assert_eq!(cells().any(|cell| cell.fg == Color::Red), colours);
        assert_eq!(cells().any(|cell| cell.fg == Color::Green), colours);
        // The chosen peer shows without colours, too.
        assert!(buffer[(0, 3)].modifier.contains(Modifier::REVERSED));
        assert!(!buffer[(0, 4)].modifier.contains(Modifier::REVERSED));
    }
}

#[test]
fn a_hub_that_is_gone_is_told_until_it_is_back() {
    let (mut model, now) = model((80, 24), true);
    model.no_answer("no tunnel hub is running", now);
    let later = now + Duration::from_secs(5);
    model.no_answer("no tunnel hub is running", later);
    let foot = lines(&picture(&model, later, (80, 24))).pop().unwrap();
    assert_eq!(
        foot,
        "NO ANSWER for 5 s: no tunnel hub is running; waiting for it, q quits"
    );
    model.take_in(overview(62, 14, 1), later);
    let foot = lines(&picture(&model, later, (80, 24))).pop().unwrap();
    assert!(foot.starts_with("q quit"), "{foot}");
    // And one that hangs, which no look says.
    let foot = lines(&picture(&model, later + Duration::from_secs(4), (80, 24)));
    assert!(foot[23].starts_with("NO ANSWER for 4 s"), "{}", foot[23]);
}

#[test]
fn a_ban_asks_before_and_other_keys_mean_no() {
    let (mut model, now) = model((80, 24), true);
    key(&mut model, KeyCode::Down);
    assert_eq!(key(&mut model, KeyCode::Char('b')), Wanted::Nothing);
    let foot = lines(&picture(&model, now, (80, 24))).split_off(22);
    assert_eq!(
        foot,
        [
            "ban peer-1 (its addresses inside)?",
            "1 for 10 min, 2 for 1 h, 3 until unbanned or restarted; else no"
        ]
    );
    assert_eq!(key(&mut model, KeyCode::Enter), Wanted::Nothing);
    assert_eq!(model.mode, Mode::List);
    key(&mut model, KeyCode::Char('b'));
    let expected = request::BanPeer {
        peer: "KEY1=".to_owned(),
        layer: Layer::Inner,
        force: false,
        seconds: Some(600),
    };
    assert_eq!(
        key(&mut model, KeyCode::Char('1')),
        Wanted::Command(Command::BanPeer(expected))
    );
    // A sender outside, and the end of its ban.
    key(&mut model, KeyCode::Char('2'));
    key(&mut model, KeyCode::Char('u'));
    let expected = request::Unban {
        net: "192.0.2.66/32".parse().unwrap(),
        layer: Layer::Outer,
    };
    assert_eq!(
        key(&mut model, KeyCode::Char('y')),
        Wanted::Command(Command::Unban(expected))
    );
    // Of a reason there is nobody to ban.
    key(&mut model, KeyCode::Char('4'));
    key(&mut model, KeyCode::Char('b'));
    assert_eq!(model.mode, Mode::List);
}

#[test]
fn a_question_has_all_its_keys_however_narrow_it_is() {
    let (mut model, now) = model((80, 24), true);
    let whom = Whom::Peer {
        key: "KEY1=".to_owned(),
        title: "a peer with a rather long name, number 1000".to_owned(),
    };
    let foot = |model: &Model, size, count: usize| {
        let mut all = lines(&picture(model, now, size));
        all.split_off(all.len() - count)
    };
    for ban in [true, false] {
        let whom = whom.clone();
        model.mode = Mode::Question(Question { ban, whom });
        let wide = foot(&model, (120, 24), 1).remove(0);
        let usual = foot(&model, (80, 24), 2);
        let narrow = foot(&model, (40, 10), 2);
        let keys = if ban {
            assert!(wide.ends_with("2 for 1 h, 3 until unbanned or restarted; else no"));
            [
                "or restarted; else no",
                "1: 10 min, 2: 1 h, 3: no end; else no",
            ]
        } else {
            assert!(wide.ends_with("inside)? y yes; other keys: no"), "{wide}");
            ["y yes; other keys: no"; 2]
        };
        let end = if ban { "1000" } else { "…" };
        let end = format!("{end} (its addresses inside)?");
        assert!(usual[0].ends_with(&end), "{usual:?}");
        assert!(usual[1].ends_with(keys[0]), "{usual:?}");
        assert!(
            narrow[0].ends_with("… (its addresses inside)?"),
            "{narrow:?}"
        );
        assert_eq!(narrow[1], keys[1]);
    }
    // What was done or not is told whole, until a key is pressed.
    model.mode = Mode::List;
    model.say("not done: 10.0.0.2/32 is what this command reaches the tunnel by".to_owned());
    let said = foot(&model, (40, 10), 2).join(" ");
    assert!(said.ends_with("reaches the tunnel by"), "{said}");
    key(&mut model, KeyCode::Char('?'));
    let said = foot(&model, (40, 10), 1).remove(0);
    assert_eq!(said, "↑ ↓ scroll  any other key goes back");
}

#[test]
fn nothing_to_show_says_why() {
    let (mut model, now) = model((80, 24), true);
    let empty = || {
        let mut empty = overview(1, 0, 4);
        (empty.peers, empty.found) = (PeerCounts::default(), 0);
        empty
    };
    model.take_in(empty(), now);
    let shown = |model: &Model| lines(&picture(model, now, (80, 24))).join("\n");
    assert!(shown(&model).contains("no peers; to add one: `taltun peer new NAME`"));
    model.find = "ana".to_owned();
    let text = shown(&model);
    assert!(
        text.contains("no peer is called so; Esc shows all"),
        "{text}"
    );
    // A peer's name hides no sender beside the peers.
    assert!(text.contains("192.0.2.66"), "{text}");
    model.view = View::Outside;
    model.wanted((80, 24));
    assert!(shown(&model).contains("no sender has such an address; Esc shows all"));
    model.find.clear();
    model.view = View::Inside;
    assert!(shown(&model).contains("no sender was seen"));
}

#[test]
fn what_is_too_long_is_wrapped_or_says_so() {
    let (mut model, now) = model((40, 60), true);
    model.mode = Mode::Details(0);
    let all = lines(&picture(&model, now, (40, 60)));
    let words_of = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = words_of(&all.join(" "));
    let peer = model.chosen_peer().unwrap();
    let whole = crate::cli::status::peer::alone(std::slice::from_ref(peer));
    for line in whole.lines() {
        assert!(words.contains(&words_of(line)), "{line}: {words}");
    }
    model.mode = Mode::Help(0);
    let help = lines(&picture(&model, now, (40, 60))).join(" ");
    assert!(help.contains("largest"), "{help}");
    // On a low one its end is reached by scrolling, and no further.
    let low = |mode: Mode, model: &mut Model| {
        model.mode = mode;
        lines(&picture(model, now, (40, 10))).join(" ")
    };
    assert!(!low(Mode::Help(0), &mut model).contains("largest"));
    let end = low(Mode::Help(u16::MAX), &mut model);
    assert!(end.contains("largest"), "{end}");
    let end = low(Mode::Details(u16::MAX), &mut model);
    assert!(end.contains('↑') && end.contains("hub · 62 peers"), "{end}");
    // One that is cut shows it.
    model.mode = Mode::List;
    let modes = lines(&picture(&model, now, (40, 24))).remove(1);
    assert!(modes.ends_with('…') && width(&modes) == 40, "{modes}");
}

#[test]
fn the_chosen_peer_stays_chosen_where_it_moves() {
    let (mut model, now) = model((80, 24), true);
    key(&mut model, KeyCode::Down);
    let mut moved = overview(62, 14, 4);
    moved.status.peers.swap(1, 7);
    model.take_in(moved, now);
    assert_eq!(model.chosen_peer().unwrap().public_key, "KEY1=");
    assert_eq!(model.chosen, 7);
    // To the end, where the hub is asked for the last ones.
    key(&mut model, KeyCode::End);
    let wanted = model.wanted((80, 24));
    assert_eq!((wanted.skip, wanted.peers), (48, 14));
    key(&mut model, KeyCode::Char('s'));
    let wanted = model.wanted((80, 24));
    assert_eq!((wanted.skip, wanted.order), (0, PeerOrder::Total));
}

#[test]
fn what_is_typed_is_looked_for_by_the_hub() {
    let (mut model, _) = model((80, 24), true);
    key(&mut model, KeyCode::Char('/'));
    for c in ['a', 'n', 'q'] {
        assert_eq!(key(&mut model, KeyCode::Char(c)), Wanted::Nothing);
    }
    key(&mut model, KeyCode::Backspace);
    assert_eq!(model.wanted((80, 24)).find.as_deref(), Some("an"));
    key(&mut model, KeyCode::Enter);
    assert_eq!(key(&mut model, KeyCode::Esc), Wanted::Nothing);
    assert_eq!(model.wanted((80, 24)).find, None);
    let resized = press(&mut model, &Event::Resize(80, 24));
    assert_eq!(resized, Wanted::Redraw);
    // Esc and what follows at once.
    model.find = "an".to_owned();
    press(
        &mut model,
        &Event::Key(KeyEvent::new(KeyCode::Char('2'), KeyModifiers::ALT)),
    );
    assert_eq!((model.find.as_str(), model.view), ("", View::Outside));
    assert_eq!(key(&mut model, KeyCode::Esc), Wanted::Quit);
    assert_eq!(key(&mut model, KeyCode::Char('q')), Wanted::Quit);
}

#[test]
fn nothing_that_others_wrote_moves_the_cursor() {
    let (mut model, now) = model((80, 24), true);
    let mut odd = overview(62, 14, 4);
    odd.status.peers[0].name = Some("\u{1b}[2J\u{202e}evil\n東京東京東京東京東京東京".to_owned());
    odd.status.peers[1].name = Some("東京東京東京東京東京東京東京東京".to_owned());
    model.take_in(odd, now);
    model.say("it said \u{1b}[31m".to_owned());
    for size in [(80, 24), (40, 10), (13, 24)] {
        model.wanted(size);
        let buffer = picture(&model, now, size);
        let text: String = buffer
            .content
            .iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect();
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{text}"
        );
    }
    key(&mut model, KeyCode::Enter);
    let text = lines(&picture(&model, now, (80, 24))).join("");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn who_sends_to_whom_is_a_list_of_its_own() {
    let (mut model, now) = model((80, 24), false);
    let key = KeyEvent::new(KeyCode::Char('5'), KeyModifiers::NONE);
    press(&mut model, &Event::Key(key));
    assert_eq!(model.view, View::Relayed);
    let shown = lines(&picture(&model, now, (80, 24)));
    let row = shown.iter().find(|line| line.starts_with("peer-0"));
    let row = row.unwrap_or_else(|| panic!("{shown:#?}"));
    assert!(row.contains("peer-1") && row.contains("10 Mbit/s"), "{row}");
    model.find = "nobody".to_owned();
    let shown = lines(&picture(&model, now, (80, 24)));
    assert!(
        shown.iter().any(|line| line.contains("no such peer")),
        "{shown:#?}"
    );
}
