//! A list of networks that takes several lines, changed member by member: comments in it stay where they
//! are. That of a member that goes stays as a line of its own.

use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What new members are indented by where there is none to go by.
const INDENT: &str = "  ";

/// The text of a list that has these members instead. A list in one line, or one that is written in
/// another way than this understands, is made anew.
pub(super) fn with_members(list: &str, new: &[IpNet], line_end: &str) -> String {
    let merged = list.contains('\n').then(|| merged(list, new, line_end));
    let merged = merged.flatten().filter(|merged| {
        let members = members(merged).unwrap_or_default();
        members.len() == new.len() && members.iter().all(|(_, net)| new.contains(net))
    });
    merged.unwrap_or_else(|| of(new))
}

/// A list in one line.
pub(super) fn of(nets: &[IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
    format!("[{}]", nets.join(", "))
}

fn merged(list: &str, new: &[IpNet], line_end: &str) -> Option<String> {
    let members = members(list)?;
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    let gone = members.iter().filter(|(_, net)| !new.contains(net));
    changes.extend(gone.map(|(span, _)| (with_its_place(list, span), String::new())));
    let missing: Vec<&IpNet> = new
        .iter()
        .filter(|net| !members.iter().any(|(_, member)| member == *net))
        .collect();
    if !missing.is_empty() {
        let mut staying = members.iter().filter(|(_, net)| new.contains(net));
        if let Some((span, _)) = staying.next_back()
            && !is_comma_next(list.get(span.end..)?)
        {
            changes.push((span.end..span.end, ",".to_owned()));
        }
        let first = members
            .first()
            .map(|(span, _)| line_before(list, span.start));
        let indent = first.filter(|before| !before.is_empty() && before.trim().is_empty());
        let indent = indent.unwrap_or(INDENT);
        let close = list.rfind(']')?;
        let before = line_before(list, close);
        let (at, first) = if before.trim().is_empty() {
            (close.checked_sub(before.len())?, String::new())
        } else {
            (close, line_end.to_owned())
        };
        let lines = missing
            .iter()
            .map(|net| format!("{indent}\"{net}\",{line_end}"));
        changes.push((at..at, first + &lines.collect::<String>()));
    }
    changes.sort_by_key(|(range, _)| range.start);
    let mut text = String::new();
    let mut at = 0;
    for (range, new) in &changes {
        text.push_str(list.get(at..range.start)?);
        text.push_str(new);
        at = range.end;
    }
    text.push_str(list.get(at..)?);
    Some(text)
}

/// The members of a list and where they stand.
fn members(list: &str) -> Option<Vec<(Range<usize>, IpNet)>> {
    const BEFORE: &str = "list = ";
    let text = format!("{BEFORE}{list}");
    let root = DeTable::parse(&text).ok()?;
    let DeValue::Array(members) = root.get_ref().get("list").map(Spanned::get_ref)? else {
        return None;
    };
    let member = |member: &Spanned<DeValue<'_>>| {
        let DeValue::String(net) = member.get_ref() else {
            return None;
        };
        let Range { start, end } = member.span();
        let span = start.checked_sub(BEFORE.len())?..end.checked_sub(BEFORE.len())?;
        Some((span, net.parse().ok()?))
    };
    members.iter().map(member).collect()
}

/// A member with its comma, and the line if nothing else is there.
fn with_its_place(list: &str, member: &Range<usize>) -> Range<usize> {
    let behind = list.get(member.end..).unwrap_or_default();
    let line = behind.split('\n').next().unwrap_or_default();
    let spaces = |text: &str| text.len().saturating_sub(text.trim_start().len());
    let comma = spaces(line);
    let comma = match line.get(comma..) {
        Some(rest) if rest.starts_with(',') => comma.saturating_add(1),
        _ => 0,
    };
    let rest = line.get(comma..).unwrap_or_default();
    let is_alone = line_before(list, member.start).trim().is_empty();
    if is_alone && rest.trim().is_empty() && line.len() < behind.len() {
        let start = line_before(list, member.start).len();
        let line_feed = member.end.saturating_add(line.len()).saturating_add(1);
        return member.start.saturating_sub(start)..line_feed;
    }
    let end = comma.saturating_add(spaces(rest).min(rest.trim_end_matches(['\r', '\n']).len()));
    member.start..member.end.saturating_add(end)
}

/// What is before this place in its line.
fn line_before(list: &str, at: usize) -> &str {
    let before = list.get(..at).unwrap_or_default();
    before.rsplit('\n').next().unwrap_or_default()
}

/// Whether a comma is the next thing that isn't a comment.
fn is_comma_next(text: &str) -> bool {
    let mut rest = text.trim_start();
    while rest.starts_with('#') {
        let line = rest.split_once('\n').map(|(_, rest)| rest);
        rest = line.unwrap_or_default().trim_start();
    }
    rest.starts_with(',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(list: &str, new: &[&str]) -> String {
        let new: Vec<IpNet> = new.iter().map(|net| net.parse().unwrap()).collect();
        with_members(list, &new, "\n")
    }

    #[test]
    fn comments_stay_and_those_of_members_that_go_are_lines_of_their_own() {
        let list = "[ # sites\n  \"10.1.0.0/16\", # office\n  # the lab, for now\n  \
                    \"10.2.0.0/16\",\n  \"10.3.0.0/16\" # home\n]";
        assert_eq!(
            with(list, &["10.1.0.0/16", "10.3.0.0/16", "10.9.0.0/16"]),
            "[ # sites\n  \"10.1.0.0/16\", # office\n  # the lab, for now\n  \
             \"10.3.0.0/16\", # home\n  \"10.9.0.0/16\",\n]"
        );
        assert_eq!(
            with(list, &["10.2.0.0/16"]),
            "[ # sites\n  # office\n  # the lab, for now\n  \"10.2.0.0/16\",\n  # home\n]"
        );
        assert_eq!(
            with(list, &["10.9.0.0/16"]),
            "[ # sites\n  # office\n  # the lab, for now\n  # home\n  \"10.9.0.0/16\",\n]"
        );
    }

    #[test]
    fn what_is_in_one_line_or_written_oddly_is_made_anew() {
        let anew = "[\"10.1.0.0/16\", \"10.9.0.0/16\"]";
        for list in [
            "[\"10.1.0.0/16\", \"10.2.0.0/16\"]",
            "[\n  \"10.2.0.0/16\"\n  , \"10.1.0.0/16\"\n]",
            "[]",
        ] {
            assert_eq!(with(list, &["10.1.0.0/16", "10.9.0.0/16"]), anew, "{list}");
        }
        // Several in a line.
        assert_eq!(
            with(
                "[\"10.1.0.0/16\", \"10.2.0.0/16\",\n\"10.3.0.0/16\"]",
                &["10.1.0.0/16", "10.9.0.0/16"]
            ),
            "[\"10.1.0.0/16\", \n\n  \"10.9.0.0/16\",\n]"
        );
    }
}
