//! Policy rules: everything goes into the tunnel but our own datagrams, and what stays on the
//! local networks.
//!
//! Two rules a family, as wg-quick makes them:
//!
//! ```text
//! not fwmark MARK lookup main suppress_prefixlength 0    local routes first, but no default
//! not fwmark MARK lookup MARK                            then the table with our routes
//! ```
//!
//! Datagrams with the mark, which are ours, see neither. Both rules name the mark, which
//! tells them from everybody else's: they outlive a process that is killed.

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteHeader;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{Handle, RuleAddRequest};
use tracing::debug;

use super::SystemError;
use super::error::errno;

/// More rules than anybody has left behind, so that removing them comes to an end.
const MANY: usize = 16;

/// Adds the two rules for `mark`, whose number is also that of the table.
pub(super) async fn add(
    handle: &Handle,
    family: AddressFamily,
    mark: u32,
) -> Result<(), SystemError> {
    // Without a priority each goes before all rules but the first, so the second in front.
    for rule in [to_table(family, mark), to_local(family, mark)] {
        let mut request: RuleAddRequest = handle.rule().add();
        *request.message_mut() = rule;
        request
            .execute()
            .await
            .map_err(|error| SystemError::refused("add a policy rule", &error))?;
    }
    Ok(())
}

/// Removes all rules for `mark`, of both families. None there are fine.
pub(super) async fn remove(handle: &Handle, mark: u32) {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for rule in [to_local(family, mark), to_table(family, mark)] {
            for _ in 0..MANY {
                match handle.rule().del(rule.clone()).execute().await {
                    Ok(()) => {}
                    Err(error) => {
                        if errno(&error) != Some(libc::ENOENT) {
                            debug!("removing a policy rule: {error}");
                        }
                        break;
                    }
                }
            }
        }
    }
}

/// What isn't marked goes by the table with our routes.
fn to_table(family: AddressFamily, mark: u32) -> RuleMessage {
    let mut rule = unmarked(family, mark);
    rule.attributes.push(RuleAttribute::Table(mark));
    rule
}

/// What isn't marked goes by the main table, as far as that has more than a default route.
fn to_local(family: AddressFamily, mark: u32) -> RuleMessage {
    let mut rule = unmarked(family, mark);
    rule.header.table = RouteHeader::RT_TABLE_MAIN;
    rule.attributes.push(RuleAttribute::SuppressPrefixLen(0));
    rule
}

fn unmarked(family: AddressFamily, mark: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.header.flags = RuleFlags::Invert;
    rule.attributes.push(RuleAttribute::FwMark(mark));
    rule
}
