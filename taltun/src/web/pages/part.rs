//! A part of a page that changes while somebody looks.

use maud::Markup;

/// What is in the element of this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) markup: String,
}

impl Part {
    pub(super) fn of(id: impl Into<String>, markup: Markup) -> Self {
        Self {
            id: id.into(),
            markup: markup.into_string(),
        }
    }
}
