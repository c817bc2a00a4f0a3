//! Ports that the kernel gives to no program that asks for any: a list that several write to.
//!
//! So ours are added to it and taken out again, and what others have put there stays. A journal
//! has those that we have added.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The setting with the list.
pub(super) const LIST: &str = "net/ipv4/ip_local_reserved_ports";
/// The setting with the ports that the kernel gives.
const GIVEN: &str = "net/ipv4/ip_local_port_range";

/// The list that has to be there for `ports` to be given to nobody; `None` where the kernel gives
/// none of them.
pub(super) fn wanted(
    ports: &RangeInclusive<u16>,
    read: impl Fn(&str) -> std::io::Result<String>,
) -> Option<String> {
    let given = read(GIVEN).ok()?;
    let mut ends = given.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return None;
    };
    let overlaps = *ports.start() <= last && first <= *ports.end();
    overlaps.then(|| text(&ports.clone().collect()))
}

/// What of a list another one lacks.
pub(super) fn missing(list: &str, other: &str) -> String {
    text(&(&parse(list) - &parse(other)))
}

/// All of two lists.
pub(super) fn both(list: &str, other: &str) -> String {
    text(&(&parse(list) | &parse(other)))
}

/// Whether two lists have a port in common.
pub(super) fn meet(list: &str, other: &str) -> bool {
    !parse(list).is_disjoint(&parse(other))
}

/// The ports of a list as the kernel writes it: `53,4096-8191`. What isn't a port is left out.
fn parse(list: &str) -> BTreeSet<u16> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

fn text(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some(range) if range.end().checked_add(1) == Some(*port) => {
                *range = *range.start()..=*port;
            }
            _ => ranges.push(*port..=*port),
        }
    }
    let written = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
    written.collect::<Vec<String>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_entries_stay() {
        assert_eq!(both("", "4096-8191"), "4096-8191");
        assert_eq!(both("53,8000-9000", "4096-8191"), "53,4096-9000");
        let added = missing("4096-8191", "53,8000-9000");
        assert_eq!(added, "4096-7999");
        // Somebody added 9100 meanwhile.
        assert_eq!(missing("53,4096-9000,9100", &added), "53,8000-9000,9100");
        assert_eq!(missing("4096-8191", "1-65535"), "");
        assert!(meet("1-10", "10-20"));
        assert!(!meet("1-10", "11"));
        assert!(!meet("", ""));
    }

    #[test]
    fn a_list_is_written_as_the_kernel_writes_it() {
        assert_eq!(both("3,1,2,7-7,65535", ""), "1-3,7,65535");
        assert_eq!(both("nonsense,5", "\n"), "5");
    }

    #[test]
    fn only_what_the_kernel_gives_is_reserved() {
        let given = |text: &'static str| move |_: &str| Ok(text.to_owned());
        let wanted = |ports, text| wanted(&ports, given(text));
        assert_eq!(wanted(4096..=8191, "32768\t60999"), None);
        assert_eq!(
            wanted(40_000..=40_100, "32768\t60999"),
            Some("40000-40100".into())
        );
        assert_eq!(
            wanted(30_000..=32_768, "32768\t60999"),
            Some("30000-32768".into())
        );
        assert_eq!(
            wanted(60_999..=61_000, "32768\t60999"),
            Some("60999-61000".into())
        );
        assert_eq!(wanted(1..=9, "nonsense"), None);
    }
}
