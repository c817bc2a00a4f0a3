//! What is above and below the list: totals, modes, keys and questions.

use std::time::Instant;

use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line as Text, Span};

use super::super::history::History;
use super::super::model::{Mode, Model, Question, Whom};
use super::super::places::View;
use crate::cli::grid::Cell;
use crate::cli::human;
use crate::cli::screen::Style;
use crate::cli::width::{cut, printable, width, wrap};
use crate::control::request::PeerOrder;
use crate::layer::Layer;
use crate::report::{TcAttachment, XdpAttachment};

/// A line of the terminal: texts with their styles.
pub(super) type Line = Vec<Cell>;

/// Writes a line into a row of the frame, inverse and without colours if it is the chosen one; one that
/// is too long ends in `…`.
pub(super) fn put(frame: &mut Frame<'_>, row: usize, line: &Line, colours: bool, chosen: bool) {
    let area = frame.area();
    let Ok(row) = u16::try_from(row) else { return };
    if row >= area.height {
        return;
    }
    let mut left = usize::from(area.width);
    let mut spans = Vec::new();
    for (at, cell) in line.iter().enumerate() {
        let is_more = line[at + 1..]
            .iter()
            .any(|cell| !cell.text.trim().is_empty());
        // What fits to the last column isn't all, if there is more.
        let text = if is_more && width(&cell.text) == left {
            cut(&format!("{} ", cell.text), left).into_owned()
        } else {
            cut(&cell.text, left).into_owned()
        };
        left -= width(&text);
        spans.push(Span::styled(text, look(cell.style, colours && !chosen)));
        if left == 0 {
            break;
        }
    }
    let text = Text::from(spans);
    let buffer = frame.buffer_mut();
    buffer.set_line(area.x, area.y + row, &text, area.width);
    if chosen {
        let whole = ratatui::layout::Rect::new(area.x, area.y + row, area.width, 1);
        buffer.set_style(whole, Look::new().add_modifier(Modifier::REVERSED));
    }
}

/// The terminal's own colours, of which each is readable on its background; without colours what is
/// bad is bold.
fn look(style: Style, colours: bool) -> Look {
    let look = Look::new();
    match style {
        Style::Good if colours => look.fg(Color::Green),
        Style::Plain | Style::Good => look,
        Style::Bad if colours => look.fg(Color::Red),
        Style::Bad | Style::Strong => look.add_modifier(Modifier::BOLD),
        Style::Faint => look.add_modifier(Modifier::DIM),
    }
}

/// What the tunnel is and moves: on a narrow terminal without pictures, and without what matters least.
pub(super) fn totals(model: &Model, room: usize) -> Line {
    let Some(overview) = &model.overview else {
        return Vec::new();
    };
    let rates = overview.stats.rates.unwrap_or_default();
    let name = cut(&overview.status.interface, room).into_owned();
    let peers = human::counted(overview.peers.all(), "peer");
    let online = human::count(overview.peers.online);
    let mut line: Line = vec![
        Cell::of(name, Style::Strong),
        format!(" · {peers}, {online} online").into(),
    ];
    let drops = rates.drops.sum();
    let dropped = if drops > 0 { Style::Bad } else { Style::Plain };
    let parts = [
        (
            "↓",
            &model.received,
            human::rate(rates.traffic.rx_bytes),
            Style::Plain,
        ),
        (
            "↑",
            &model.sent,
            human::rate(rates.traffic.tx_bytes),
            Style::Plain,
        ),
        (
            "drops",
            &model.dropped,
            format!("{}/s", human::count(drops)),
            dropped,
        ),
        (
            "relayed",
            &model.relayed,
            human::rate(rates.traffic.relayed_bytes),
            Style::Plain,
        ),
    ];
    let taken: usize = line.iter().map(|cell| width(&cell.text)).sum();
    let mut left = room.saturating_sub(taken);
    // As much picture as there is room for beside all four, or else beside the first three.
    let places = |parts: &[(&str, &History, String, Style)]| {
        let texts = parts
            .iter()
            .map(|(word, _, rate, _)| width(word) + width(rate) + 5);
        left.saturating_sub(texts.sum()) / parts.len()
    };
    let places = match places(&parts) {
        places @ 4.. => places,
        _ => places(&parts[..3]),
    };
    let places = places.min(16);
    for (word, history, rate, style) in parts {
        let spark = if places >= 3 {
            format!("{} ", history.spark(places))
        } else {
            String::new()
        };
        let needed = width(word) + width(&spark) + width(&rate) + 4;
        if needed > left {
            continue;
        }
        left -= needed;
        line.push(format!("   {word} ").into());
        line.push(Cell::of(spark, Style::Good));
        line.push(Cell::of(rate, style));
    }
    line
}

/// How it is attached, what is banned and what the list is.
pub(super) fn modes(model: &Model) -> Line {
    let Some(overview) = &model.overview else {
        return Vec::new();
    };
    let status = &overview.status;
    let mut modes: Vec<XdpAttachment> = status.xdp.iter().map(|xdp| xdp.mode).collect();
    modes.dedup();
    let xdp = modes.iter().map(|mode| match mode {
        XdpAttachment::Off => "no XDP".to_owned(),
        mode => format!("{mode} XDP"),
    });
    let mut parts: Vec<String> = xdp.collect();
    parts.push(match status.tc.mode {
        TcAttachment::Off => "no TC".to_owned(),
        _ => "TC".to_owned(),
    });
    parts.push(format!("up {}", human::span(status.uptime_seconds)));
    if status.bans > 0 {
        parts.push(format!("{} banned", human::count(status.bans)));
    }
    let mut line = vec![Cell::of(parts.join(" · "), Style::Faint)];
    let list = match model.view {
        View::Peers => format!("   peers by {}", order(model.order)),
        view => format!("   {}", view.name()),
    };
    line.push(Cell::of(list, Style::Strong));
    if !model.find.is_empty() {
        line.push(format!(" with {:?}", printable(&model.find)).into());
    }
    let length = model.length();
    if length > model.rows {
        let last = (model.first + model.rows).min(length);
        let (first, last, all) = (model.first + 1, last, length);
        line.push(Cell::of(
            format!("   {first}–{last} of {all}"),
            Style::Faint,
        ));
    }
    line
}

fn order(order: PeerOrder) -> &'static str {
    match order {
        PeerOrder::Rate => "rate",
        PeerOrder::Total => "total",
        PeerOrder::Seen => "last heard",
        PeerOrder::Name => "name",
    }
}

/// What is asked, or what went wrong, or what was done, or else the keys: in as many lines as it takes,
/// but no more than a few.
pub(super) fn foot(model: &Model, room: usize, now: Instant) -> Vec<Line> {
    const MOST: usize = 3;
    let (text, style) = match (&model.mode, model.trouble(now), model.said(now)) {
        (Mode::Question(question), _, _) => return asked(question, room),
        (Mode::Find, _, _) => (
            format!(
                "find: {}▏  Enter keeps it, Esc ends it",
                printable(&model.find)
            ),
            Style::Strong,
        ),
        (_, Some((reason, since)), _) => (
            format!(
                "NO ANSWER for {}: {reason}; waiting for it, q quits",
                human::span(since.as_secs())
            ),
            Style::Bad,
        ),
        (_, _, Some(said)) => (printable(said).into_owned(), Style::Strong),
        (Mode::Help(_), _, _) => (
            keys(&["↑ ↓ scroll", "any other key goes back"], room),
            Style::Faint,
        ),
        (Mode::Details(_), _, _) => (
            keys(
                &["Esc back", "↑ ↓ scroll", "q quit", "b ban", "u unban"],
                room,
            ),
            Style::Faint,
        ),
        (Mode::List, _, _) => (keys(KEYS, room), Style::Faint),
    };
    let mut lines = wrap(&text, room, 0);
    if lines.len() > MOST {
        let rest = lines.split_off(MOST - 1).join(" ");
        lines.push(cut(&rest, room).into_owned());
    }
    lines
        .into_iter()
        .map(|line| vec![Cell::of(line, style)])
        .collect()
}

/// The keys of the list, those first that lead to the others.
const KEYS: &[&str] = &[
    "q quit",
    "? help",
    "Tab list",
    "s sort",
    "/ find",
    "Enter details",
    "b ban",
    "u unban",
];

/// As many keys as there is room for.
fn keys(all: &[&str], room: usize) -> String {
    let mut text = String::new();
    for key in all {
        if width(&text) + width(key) + 2 > room {
            break;
        }
        if !text.is_empty() {
            text.push_str("  ");
        }
        text.push_str(key);
    }
    text
}

/// The question and what its keys do: beside it, or below where there is no room. A long name is cut, and
/// never the keys.
fn asked(question: &Question, room: usize) -> Vec<Line> {
    let (whom, place) = match &question.whom {
        Whom::Peer { title, .. } => (printable(title).into_owned(), " (its addresses inside)?"),
        Whom::Address(address, Layer::Outer) => (address.to_string(), " (outside)?"),
        Whom::Address(address, Layer::Inner) => (address.to_string(), " (inside the tunnel)?"),
    };
    let verb = if question.ban {
        "ban "
    } else {
        "end the ban of "
    };
    let taken = width(verb) + width(place);
    let whom = cut(&whom, room.saturating_sub(taken).max(1));
    let asked = format!("{verb}{whom}{place}");
    let answers = match (question.ban, room) {
        (true, 66..) => "1 for 10 min, 2 for 1 h, 3 until unbanned or restarted; else no",
        (true, _) => "1: 10 min, 2: 1 h, 3: no end; else no",
        (false, _) => "y yes; other keys: no",
    };
    let lines = if width(&asked) + 1 + width(answers) <= room {
        vec![format!("{asked} {answers}")]
    } else {
        let mut lines = wrap(&asked, room, 0);
        lines.extend(wrap(answers, room, 0));
        lines
    };
    let lines = lines.into_iter();
    lines
        .map(|line| vec![Cell::of(line, Style::Strong)])
        .collect()
}

/// All keys and signs.
pub(super) fn help(room: usize) -> Vec<Line> {
    const BESIDE: usize = 16;
    const HELP: &[(&str, &str)] = &[
        (
            "Tab, ← →, 1-5",
            "peers, senders outside, inside, drops, peer to peer",
        ),
        ("↑ ↓, j k", "choose; also PgUp, PgDn, Home, End"),
        ("Enter", "all of a peer; ↑ ↓ scroll"),
        ("s", "sort peers by rate, total, last heard, name"),
        ("/", "find by name, key or address; Esc ends it"),
        ("b, u", "ban the chosen one, end its ban; asks first"),
        ("Ctrl-L", "draw it all anew"),
        ("q, Ctrl-C", "quit"),
        (
            "● ○ ✗ !",
            "a session; had one; never had one; something is amiss",
        ),
        ("↓ ↑", "from a peer; to a peer"),
        (
            "HANDSHAKE",
            "the last one's age: below 3 min there is a session",
        ),
        (
            "a sparkline",
            "the last seconds, as high as its own largest",
        ),
    ];
    let rows = HELP.iter().flat_map(|(key, what)| {
        let blanks = " ".repeat((BESIDE - 1).saturating_sub(width(key)));
        let key = Cell::of(format!(" {key}{blanks}"), Style::Strong);
        let lines = wrap(what, room.saturating_sub(BESIDE), 0);
        lines.into_iter().enumerate().map(move |(at, line)| {
            let before = match at {
                0 => key.clone(),
                _ => " ".repeat(BESIDE).into(),
            };
            vec![before, line.into()]
        })
    });
    rows.collect()
}
