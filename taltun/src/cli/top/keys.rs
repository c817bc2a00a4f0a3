//! What keys do.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::hub::Command;
use super::model::{Mode, Model, Question, Whom};
use super::places::View;
use crate::control::request::{self, PeerOrder};
use crate::layer::Layer;

/// What somebody wants besides another picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing.
    Nothing,
    /// The end.
    Quit,
    /// The whole picture, whatever is on the terminal.
    Redraw,
    /// The tunnel is to do something.
    Command(Command),
}

/// The longest text to find.
const FIND_MAX: usize = 64;

/// Takes in a key.
pub(super) fn press(model: &mut Model, event: &Event) -> Wanted {
    let key = match event {
        Event::Key(key) => key,
        // Also where it has its old size again by now: what it showed may be gone.
        Event::Resize(..) => return Wanted::Redraw,
        _ => return Wanted::Nothing,
    };
    if key.kind == KeyEventKind::Release {
        return Wanted::Nothing;
    }
    model.hush();
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
        return Wanted::Quit;
    }
    if control && key.code == KeyCode::Char('l') {
        return Wanted::Redraw;
    }
    // What is pressed right after Esc comes as one key with Alt.
    if key.modifiers.contains(KeyModifiers::ALT)
        && (model.mode != Mode::List || !model.find.is_empty())
    {
        let escape = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        press(model, &Event::Key(escape));
    }
    match model.mode.clone() {
        Mode::List => in_list(model, key),
        Mode::Find => in_find(model, key),
        Mode::Details(first) => in_details(model, first, key),
        Mode::Help(first) => {
            model.mode = match scrolled(first, key) {
                Some(first) => Mode::Help(first),
                None => Mode::List,
            };
            Wanted::Nothing
        }
        Mode::Question(question) => {
            model.mode = Mode::List;
            answer(&question, key)
        }
    }
}

fn in_list(model: &mut Model, key: &KeyEvent) -> Wanted {
    let page = model.rows.max(2).cast_signed() - 1;
    match key.code {
        KeyCode::Char('q') => return Wanted::Quit,
        KeyCode::Esc if model.find.is_empty() => return Wanted::Quit,
        KeyCode::Esc => {
            model.find.clear();
            model.begin();
        }
        KeyCode::Up | KeyCode::Char('k') => model.go(-1),
        KeyCode::Down | KeyCode::Char('j') => model.go(1),
        KeyCode::PageUp => model.go(-page),
        KeyCode::PageDown | KeyCode::Char(' ') => model.go(page),
        KeyCode::Home | KeyCode::Char('g') => model.go(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.go(isize::MAX),
        KeyCode::Tab | KeyCode::Right => turn(model, 1),
        KeyCode::BackTab | KeyCode::Left => turn(model, View::ALL.len() - 1),
        KeyCode::Char(digit @ '1'..='5') => {
            let at = digit as usize - '1' as usize;
            look_at(model, View::ALL[at]);
        }
        KeyCode::Char('s') => {
            model.order = match model.order {
                PeerOrder::Rate => PeerOrder::Total,
                PeerOrder::Total => PeerOrder::Seen,
                PeerOrder::Seen => PeerOrder::Name,
                PeerOrder::Name => PeerOrder::Rate,
            };
            model.begin();
        }
        KeyCode::Char('/' | 'f') => model.mode = Mode::Find,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => model.mode = Mode::Help(0),
        KeyCode::Enter if model.chosen_peer().is_some() => model.mode = Mode::Details(0),
        KeyCode::Char(letter @ ('b' | 'u')) => ask(model, letter == 'b'),
        _ => {}
    }
    Wanted::Nothing
}

fn turn(model: &mut Model, by: usize) {
    let at = View::ALL.iter().position(|view| *view == model.view);
    look_at(model, View::ALL[(at.unwrap_or(0) + by) % View::ALL.len()]);
}

fn look_at(model: &mut Model, view: View) {
    model.view = view;
    model.begin();
}

fn ask(model: &mut Model, ban: bool) {
    match model.chosen_whom() {
        Some(whom) => model.mode = Mode::Question(Question { ban, whom }),
        None => model.say("choose a peer or a sender first".to_owned()),
    }
}

fn in_find(model: &mut Model, key: &KeyEvent) -> Wanted {
    match key.code {
        KeyCode::Enter => model.mode = Mode::List,
        KeyCode::Esc => {
            model.find.clear();
            model.mode = Mode::List;
        }
        KeyCode::Backspace => {
            model.find.pop();
        }
        KeyCode::Char(c) if model.find.chars().count() < FIND_MAX => model.find.push(c),
        _ => return Wanted::Nothing,
    }
    model.begin();
    Wanted::Nothing
}

fn in_details(model: &mut Model, first: u16, key: &KeyEvent) -> Wanted {
    if let Some(first) = scrolled(first, key) {
        model.mode = Mode::Details(first);
        return Wanted::Nothing;
    }
    match key.code {
        KeyCode::Char('q') => return Wanted::Quit,
        KeyCode::Char(letter @ ('b' | 'u')) => ask(model, letter == 'b'),
        KeyCode::Esc | KeyCode::Enter | KeyCode::Left => model.mode = Mode::List,
        _ => {}
    }
    Wanted::Nothing
}

/// The first line of a text that a key moves, if it does.
fn scrolled(first: u16, key: &KeyEvent) -> Option<u16> {
    const PAGE: u16 = 8;
    match key.code {
        KeyCode::Up | KeyCode::Char('k') => Some(first.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => Some(first.saturating_add(1)),
        KeyCode::PageUp => Some(first.saturating_sub(PAGE)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(first.saturating_add(PAGE)),
        KeyCode::Home | KeyCode::Char('g') => Some(0),
        _ => None,
    }
}

/// Does it, if the key says so; any other key means no.
fn answer(question: &Question, key: &KeyEvent) -> Wanted {
    let seconds = match (question.ban, key.code) {
        (true, KeyCode::Char('1')) => Some(600),
        (true, KeyCode::Char('2')) => Some(3600),
        (true, KeyCode::Char('3')) | (false, KeyCode::Char('y')) => None,
        _ => return Wanted::Nothing,
    };
    Wanted::Command(match (question.ban, &question.whom) {
        (true, Whom::Peer { key, .. }) => Command::BanPeer(request::BanPeer {
            peer: key.clone(),
            layer: Layer::Inner,
            force: false,
            seconds,
        }),
        (true, Whom::Address(address, layer)) => Command::Ban(request::Ban {
            net: (*address).into(),
            layer: Some(*layer),
            force: false,
            seconds,
        }),
        (false, Whom::Peer { key, .. }) => Command::UnbanPeer(request::UnbanPeer {
            peer: key.clone(),
            layer: Layer::Inner,
        }),
        (false, Whom::Address(address, layer)) => Command::Unban(request::Unban {
            net: (*address).into(),
            layer: *layer,
        }),
    })
}
