//! Finding a mark for our datagrams that nobody else on this host uses.
//!
//! Other programs' policy rules show their masks, and their firewall rules the values that they
//! compare and set. The number is also that of the table with our routes.

use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::RuleAttribute;
use tracing::debug;

use super::{SystemError, policy, program};
use crate::config::marks_for;

/// What others do with a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Compare some of its bits with a value.
    Bits { value: u32, mask: u32 },
    /// A table has the same number.
    Table(u32),
}

impl Use {
    /// Whether this mark means something to them. What no mark at all means to them as well is
    /// no reason.
    fn claims(self, mark: u32) -> bool {
        match self {
            Self::Bits { value, mask } => value & mask != 0 && mark & mask == value & mask,
            Self::Table(table) => table == mark,
        }
    }
}

/// A mark for the tunnel `tun_name` that nobody uses; `before` is the one that it had when a
/// process was killed, whose rules may still be there.
pub(super) async fn unused(
    handle: &Handle,
    tun_name: &str,
    before: Option<u32>,
) -> Result<Option<u32>, SystemError> {
    let mut uses = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for rule in policy::rules(handle, family).await? {
            uses.extend(uses_of_rule(&rule.attributes, policy::table(&rule)));
        }
    }
    match program::run("nft", &["list", "ruleset"], "").await {
        Ok(ruleset) => uses.extend(uses_of_ruleset(&ruleset, tun_name)),
        Err(reason) => debug!("marks in firewall rules: {reason}"),
    }
    let is_free = |mark: &u32| Some(*mark) == before || !uses.iter().any(|used| used.claims(*mark));
    Ok(marks_for(tun_name).find(is_free))
}

fn uses_of_rule(attributes: &[RuleAttribute], table: Option<u32>) -> Vec<Use> {
    let mut uses: Vec<Use> = table.map(Use::Table).into_iter().collect();
    let (mut value, mut mask) = (None, u32::MAX);
    for attribute in attributes {
        match attribute {
            RuleAttribute::FwMark(mark) => value = Some(*mark),
            RuleAttribute::FwMask(bits) => mask = *bits,
            _ => {}
        }
    }
    uses.extend(value.map(|value| Use::Bits { value, mask }));
    uses
}

/// What a listing of nftables has of marks, but in our own table: `mark 0x1`, `mark & 0x8000 ==
/// 0x8000`, `mark and 0x8000 == 0x8000`, `mark set 0x1`.
fn uses_of_ruleset(ruleset: &str, tun_name: &str) -> Vec<Use> {
    let own = format!("table inet taltun-{tun_name} {{");
    let (mut uses, mut is_own) = (Vec::new(), false);
    for line in ruleset.lines() {
        if line.starts_with("table ") {
            is_own = line == own;
        }
        if is_own || !line.contains("mark") {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        for (at, _) in words
            .iter()
            .enumerate()
            .filter(|(_, word)| **word == "mark")
        {
            let rest = &words[at + 1..];
            let number = |at: usize| rest.get(at).copied().and_then(number);
            let (value, mask) = match (rest.first().copied(), rest.get(2).copied()) {
                (Some("&" | "and"), Some("==" | "!=")) => (number(3), number(1)),
                (Some("set" | "==" | "!="), _) => (number(1), None),
                _ => (number(0), None),
            };
            uses.extend(value.map(|value| Use::Bits {
                value,
                mask: mask.unwrap_or(u32::MAX),
            }));
        }
    }
    uses
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_claimed_by_who_compares_bits_of_it() {
        let bits = |value, mask| Use::Bits { value, mask };
        assert!(bits(0x1001, u32::MAX).claims(0x1001));
        assert!(bits(0x1000, 0xf000).claims(0x1001));
        assert!(!bits(0x2000, 0xf000).claims(0x1001));
        assert!(!bits(0, 0xff00_0000).claims(0x1001));
        assert!(Use::Table(0x1001).claims(0x1001));
    }

    #[test]
    fn a_listing_tells_which_marks_are_used() {
        let listing = "table inet taltun-t0 {\n\t\tmeta mark 0x00001007 accept\n}\n\
            table ip nat {\n\t\tmeta mark & 0x00004000 == 0x00004000 masquerade\n\
            \t\tmeta mark set 0x00000051\n\t\tct mark 0x00001003 meta mark set ct mark\n}\n";
        let used = uses_of_ruleset(listing, "t0");
        let bits = |value, mask| Use::Bits { value, mask };
        assert_eq!(
            used,
            [
                bits(0x4000, 0x4000),
                bits(0x51, u32::MAX),
                bits(0x1003, u32::MAX)
            ]
        );
        assert!(uses_of_ruleset(listing, "other").contains(&bits(0x1007, u32::MAX)));
    }
}
