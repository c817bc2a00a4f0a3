//! Ports that the kernel gives to no program that asks for any: a list that several write to.
//!
//! So ours are added to it and taken out again, and what others have put there stays. A journal
//! has those that we have added. Without a port to give, the kernel lets no program start a connection.
//! So where a range takes nearly all, some of it stay with the kernel.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The setting with the list.
pub(super) const LIST: &str = "net/ipv4/ip_local_reserved_ports";
/// The setting with the ports that the kernel gives.
const GIVEN: &str = "net/ipv4/ip_local_port_range";

/// So many ports stay with the kernel at the least, or all where it has no more.
const LEFT: usize = 4096;

/// What is to become of the ports of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Those to be given to nobody, as the kernel lists them; empty for none.
    pub list: String,
    /// Ports that the kernel gives to programs.
    pub given: RangeInclusive<u16>,
    /// Those of the range that stay with it, else too few were left.
    pub left: Option<RangeInclusive<u16>>,
}

/// The list that has to be there for `ports` to be given to nobody; `None` where the kernel gives
/// none of them.
pub(super) fn wanted(
    ports: &RangeInclusive<u16>,
    read: impl Fn(&str) -> std::io::Result<String>,
) -> Option<Reservation> {
    let text_of_given = read(GIVEN).ok()?;
    let mut ends = text_of_given.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return None;
    };
    let given = first..=last;
    let both = first.max(*ports.start())..=last.min(*ports.end());
    if both.is_empty() {
        return None;
    }
    let free = given.len() - both.len();
    let lacking = LEFT.min(given.len()).saturating_sub(free);
    // The highest of them; `lacking` are there, as all of them and those that are free are `given`.
    let left = (lacking > 0).then(|| *both.end() - (lacking - 1) as u16..=*both.end());
    let is_ours = |port: &u16| left.as_ref().is_none_or(|left| !left.contains(port));
    let ours: BTreeSet<u16> = ports.clone().filter(is_ours).collect();
    let takes_any = ours.range(both).next().is_some();
    Some(Reservation {
        list: text(&if takes_any { ours } else { BTreeSet::new() }),
        given,
        left,
    })
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
        let wanted = |ports, text| {
            let reservation = wanted(&ports, given(text))?;
            assert_eq!(reservation.left, None);
            Some(reservation.list)
        };
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

    #[test]
    fn the_kernel_keeps_ports_to_give() {
        let wanted = |ports: RangeInclusive<u16>, given: &'static str| {
            let reservation = wanted(&ports, |_| Ok(given.to_owned())).unwrap();
            (reservation.list, reservation.left)
        };
        let all = wanted(1024..=65_535, "32768\t60999");
        assert_eq!(
            all,
            ("1024-56903,61000-65535".into(), Some(56_904..=60_999))
        );
        let same = wanted(32_768..=60_999, "32768\t60999");
        assert_eq!(same, ("32768-56903".into(), Some(56_904..=60_999)));
        // 96 outside of it.
        let most = wanted(32_864..=65_535, "32768\t60999");
        assert_eq!(most.1, Some(57_000..=60_999));
        assert_eq!(wanted(32_864..=56_999, "32768\t60999").1, None);
        // It has hardly any.
        let few = wanted(1024..=65_535, "40000\t40999");
        assert_eq!(few, (String::new(), Some(40_000..=40_999)));
        let one = wanted(1..=65_535, "65535\t65535");
        assert_eq!(one, (String::new(), Some(65_535..=65_535)));
        assert_eq!(wanted(1..=65_535, "1\t65535").1, Some(61_440..=65_535));
    }
}
