//! What the rules decided.

use maud::{Markup, html};

use super::layout::{self, Frame};
use crate::report::RuleAction;
use crate::web::{Report, units};

/// The page.
pub(super) fn page(frame: &Frame<'_>, report: &Report) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let count = |number| units::count(number, language);
    layout::page(
        frame,
        &report.status.interface,
        words.rules,
        None,
        &html! {
            h1 { (words.rules) }
            section.card {
                @match &report.status.policy {
                    None => p.empty { (words.no_rules) },
                    Some(policy) => {
                        p { (words.by_default) ": " b { @match policy.default {
                            RuleAction::Allow => (words.allow),
                            RuleAction::Deny => (words.deny),
                        } } " · " (words.flows) ": " b { (count(policy.flows)) } " / " (count(policy.flows_max)) }
                        table.cards role="table" {
                            thead role="rowgroup" { tr role="row" {
                                th role="columnheader" { (words.rule) }
                                th.number role="columnheader" { (words.allowed) }
                                th.number role="columnheader" { (words.denied) }
                            } }
                            tbody role="rowgroup" {
                                @for rule in &policy.rules {
                                    tr role="row" {
                                        th scope="row" role="rowheader" { (rule.origin) }
                                        td.number role="cell" data-label=(words.allowed) { (count(rule.allowed)) }
                                        td.number role="cell" data-label=(words.denied) { (count(rule.denied)) }
                                    }
                                }
                                tr role="row" {
                                    th scope="row" role="rowheader" { (words.by_default) }
                                    td.number role="cell" data-label=(words.allowed) { (count(policy.by_default.allowed)) }
                                    td.number role="cell" data-label=(words.denied) {
                                        (count(policy.by_default.denied.saturating_add(policy.denied_by_tc)))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}
