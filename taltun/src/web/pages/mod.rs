//! The pages: HTML, made by a template that escapes whatever it is given. A peer's name is whatever
//! somebody called it, and a text of the tunnel's may have it in it.
//!
//! | file | concern |
//! |---|---|
//! | [`layout`] | what is around each page |
//! | [`overview`] | how the tunnel is, and the list of peers |
//! | [`listed`] | which peers are in that list |
//! | [`graph`] | traffic and drops, drawn |
//! | [`peer`] | a peer by itself |
//! | [`set`] | what a peer has and may, to be changed |
//! | [`new`] | a peer to be added, and what its device needs |
//! | [`part`] | what changes of a page while somebody looks |
//! | [`forms`] | pieces of forms |
//! | [`sources`] | who sends, and bans |
//! | [`rules`], [`usage`] | what rules decided; what peers moved |
//! | [`login`] | who isn't logged in sees no more |

mod forms;
mod graph;
mod layout;
mod listed;
mod login;
mod new;
mod overview;
mod part;
mod peer;
mod query;
mod rules;
mod set;
mod sources;
mod usage;

use maud::Markup;

pub(super) use self::layout::{Frame, sorry};
pub(super) use self::login::login;
pub(super) use self::new::keyed;
pub(super) use self::part::Part;
pub(super) use self::query::{Query, of_peer};
use super::reports::Seen;
use crate::report::Usage;

/// The style of all pages.
pub(super) const STYLE: &str = include_str!("../assets/style.css");
/// What puts parts of a page in their place while somebody looks.
pub(super) const SCRIPT: &str = include_str!("../assets/script.js");
/// What browsers show in a tab.
pub(super) const ICON: &str = include_str!("../assets/icon.svg");

/// The paths of all pages for who is logged in.
pub(super) const PATHS: &[&str] = &["/", "/peer", "/new", "/sources", "/rules", "/usage"];

/// Whose usage a page has.
pub(super) enum UsageOf {
    /// Everybody's.
    All,
    /// Of the peer with this key.
    Peer(String),
    /// It shows none.
    Nobody,
}

/// Whose usage the page of this path has.
pub(super) fn usage_of(path: &str, query: &Query) -> UsageOf {
    match path {
        "/usage" => UsageOf::All,
        "/peer" => UsageOf::Peer(query.peer.clone()),
        _ => UsageOf::Nobody,
    }
}

/// A page; `None` if there is no such peer.
pub(super) fn of(
    frame: &Frame<'_>,
    seen: &Seen,
    usage: Option<&Usage>,
    query: &Query,
) -> Option<Markup> {
    Some(match frame.path {
        "/peer" => peer::page(frame, seen, usage, query)?,
        "/new" => new::form(frame, &seen.report.status.interface),
        "/sources" => sources::page(frame, seen),
        "/rules" => rules::page(frame, &seen.report),
        "/usage" => usage::page(frame, &seen.report.status.interface, usage),
        _ => overview::page(frame, seen, query),
    })
}

/// What somebody looks at, as it was chosen when they began.
#[derive(Debug, Default)]
pub(super) struct View {
    listed: Option<listed::Listed>,
    sources: sources::Shown,
}

impl View {
    /// The parts of a page that change.
    pub(super) fn parts(&mut self, query: &Query, seen: &Seen, frame: &Frame<'_>) -> Vec<Part> {
        if query.view == sources::VIEW {
            self.sources = std::mem::take(&mut self.sources).with_new(seen);
            return sources::parts(frame, seen, &self.sources);
        }
        if !query.peer.is_empty() {
            return peer::parts(seen, query, frame.language);
        }
        let choose = || listed::choose(seen, query);
        let listed = self.listed.get_or_insert_with(choose);
        overview::parts(seen, listed, frame.language)
    }
}
