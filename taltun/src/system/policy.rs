//! Policy rules: everything goes into the tunnel except our own datagrams and traffic for local
//! networks.
//!
//! Two rules per family:
//!
//! ```text
//! 32500: not fwmark MARK lookup main suppress_prefixlength 0    local routes first, but no default
//! 32501: not fwmark MARK lookup MARK                            then the table with our routes
//! ```
//!
//! Our own datagrams have the mark and match neither. Both rules contain the mark, which
//! identifies them as ours after the process was killed, which they outlive.
//!
//! Their priorities are fixed and next to each other, so that no rule can come between them.
//! Left to itself the kernel puts a new rule in front of the second one there is, which turns
//! the two round where somebody has a rule of priority 1. The pair comes before the main
//! table's own rule (32766), and after rules that somebody gave a place of their own, which
//! are for some of the traffic. One that is for all of it is an error.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteHeader;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{Handle, IpVersion};
use tracing::debug;

use super::error::errno;
use super::{SystemError, routes};

/// The priority of the first rule of the first tunnel; the second rule has the next one.
const FIRST: u32 = 32_500;
/// Tunnels that can have such rules at once; each takes the two priorities before those of
/// the one that came before it.
const PAIRS: u32 = 16;
/// More rules than anybody has left behind, so that removing them comes to an end.
const MANY: usize = 16;

/// Adds the two rules for `mark`, whose number is also that of the table. They are returned
/// with their priorities.
pub(super) async fn add(
    handle: &Handle,
    family: AddressFamily,
    mark: u32,
) -> Result<Vec<RuleMessage>, SystemError> {
    let others = others(handle, family, mark).await?;
    let priority = free(&others)?;
    overruled(handle, family, &others, priority).await?;
    let made = at(family, mark, priority);
    for rule in &made {
        make(handle, rule)
            .await
            .map_err(|error| SystemError::refused("add a policy rule", &error))?;
    }
    Ok(made)
}

/// Adds a rule; that it is there already is an error.
pub(super) async fn make(handle: &Handle, rule: &RuleMessage) -> Result<(), rtnetlink::Error> {
    let mut request = handle.rule().add();
    *request.message_mut() = rule.clone();
    request.execute().await
}

/// The two rules at these priorities, the one into the tunnel first: between adding the two
/// nothing may go around it.
fn at(family: AddressFamily, mark: u32, first: u32) -> Vec<RuleMessage> {
    let rules = [
        (to_table(family, mark), first + 1),
        (to_local(family, mark), first),
    ];
    let with = |(mut rule, priority): (RuleMessage, u32)| {
        rule.attributes.push(RuleAttribute::Priority(priority));
        rule
    };
    rules.into_iter().map(with).collect()
}

/// Looks whether our rules of a family come before all that would lead everything elsewhere.
/// Where others have taken one of their priorities, which may be before us there, ours are made
/// again at two that nobody has, and are returned.
///
/// # Errors
/// [`SystemError::Overruled`] or [`SystemError::LocalRule`], as at the start.
pub(super) async fn keep_first(
    handle: &Handle,
    ours: &[RuleMessage],
) -> Result<Option<Vec<RuleMessage>>, SystemError> {
    let Some((family, mark)) = ours
        .first()
        .and_then(|rule| Some((rule.header.family, fwmark(rule)?)))
    else {
        return Ok(None);
    };
    let others = others(handle, family, mark).await?;
    let taken = |rule: &RuleMessage| ours.iter().any(|own| priority(own) == priority(rule));
    if others.iter().any(taken) {
        let made = at(family, mark, free(&others)?);
        for rule in &made {
            match make(handle, rule).await {
                Err(error) if errno(&error) != Some(libc::EEXIST) => {
                    return Err(SystemError::refused("add a policy rule", &error));
                }
                _ => {}
            }
        }
        for rule in ours {
            // Gone already is as good.
            let _ = handle.rule().del(rule.clone()).execute().await;
        }
        return Ok(Some(made));
    }
    let first = ours.iter().map(priority).min().unwrap_or(FIRST);
    overruled(handle, family, &others, first).await?;
    Ok(None)
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

/// The marks of rules of a family that look like ours, by their shape and their priority.
pub(super) async fn marks(handle: &Handle, family: AddressFamily) -> Result<Vec<u32>, SystemError> {
    let ours = FIRST - 2 * (PAIRS - 1)..=FIRST + 1;
    let rules = rules(handle, family).await?;
    let ours = rules.iter().filter(|rule| ours.contains(&priority(rule)));
    Ok(ours.filter_map(mark_of).collect())
}

/// The mark of a rule that has the shape of one of ours.
fn mark_of(rule: &RuleMessage) -> Option<u32> {
    let mark = fwmark(rule)?;
    let local = RuleAttribute::SuppressPrefixLen(0);
    let leads = match table(rule)? {
        table if table == mark => true,
        table => table == u32::from(RouteHeader::RT_TABLE_MAIN) && rule.attributes.contains(&local),
    };
    (leads && rule.header.flags.contains(RuleFlags::Invert)).then_some(mark)
}

/// The mark that a rule asks for, or that it is not to have.
fn fwmark(rule: &RuleMessage) -> Option<u32> {
    rule.attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::FwMark(mark) => Some(*mark),
            _ => None,
        })
}

/// The rules of a family; none where the kernel lacks it.
pub(super) async fn rules(
    handle: &Handle,
    family: AddressFamily,
) -> Result<Vec<RuleMessage>, SystemError> {
    let version = match family {
        AddressFamily::Inet6 => IpVersion::V6,
        _ => IpVersion::V4,
    };
    let all: Result<Vec<_>, _> = handle.rule().get(version).execute().try_collect().await;
    match all {
        Ok(rules) => Ok(rules),
        Err(error) if matches!(errno(&error), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        Err(error) => Err(SystemError::refused("read the policy rules", &error)),
    }
}

/// The table that a rule leads to; `None` for a rule that does something else.
pub(super) fn table(rule: &RuleMessage) -> Option<u32> {
    let named = rule
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        });
    (rule.header.action == RuleAction::ToTable)
        .then(|| named.unwrap_or(u32::from(rule.header.table)))
}

/// The rules of a family that aren't ours.
async fn others(
    handle: &Handle,
    family: AddressFamily,
    mark: u32,
) -> Result<Vec<RuleMessage>, SystemError> {
    let mut rules = rules(handle, family).await?;
    rules.retain(|rule| mark_of(rule) != Some(mark));
    Ok(rules)
}

/// The first of two priorities that nobody has, the highest that there are.
fn free(others: &[RuleMessage]) -> Result<u32, SystemError> {
    let taken = |wanted| others.iter().any(|rule| priority(rule) == wanted);
    let pairs = (0..PAIRS).map(|pair| FIRST - 2 * pair);
    let mut free = pairs.filter(|first| !taken(*first) && !taken(first + 1));
    free.next().ok_or(SystemError::NoPriority {
        first: FIRST - 2 * (PAIRS - 1),
        last: FIRST + 1,
    })
}

/// An error where a rule before ours leads everything elsewhere.
async fn overruled(
    handle: &Handle,
    family: AddressFamily,
    others: &[RuleMessage],
    ours: u32,
) -> Result<(), SystemError> {
    let local = u32::from(libc::RT_TABLE_LOCAL);
    let mut to_us = others.iter().filter(|rule| table(rule) == Some(local));
    if !to_us.any(|rule| priority(rule) < ours) {
        return Err(SystemError::LocalRule {
            ours,
            family: if family == AddressFamily::Inet6 {
                " -6"
            } else {
                ""
            },
        });
    }
    let earlier = others.iter().filter(|rule| priority(rule) < ours);
    let mut decided = None;
    for rule in earlier {
        let Some(table) = table(rule) else { continue };
        let main = u32::from(RouteHeader::RT_TABLE_MAIN);
        let all = if table == local {
            false
        } else if table == main {
            is_for_all(rule)
        } else {
            // A table may hold only some networks, and its rule may be for us or not: the
            // kernel tells where a packet to anybody goes as things are.
            if decided.is_none() {
                decided = Some(decided_by(handle, family).await);
            }
            decided
                .as_ref()
                .is_some_and(|tables| tables.contains(&table))
        };
        if all {
            return Err(SystemError::Overruled {
                priority: priority(rule),
                table: if table == main {
                    "main".into()
                } else {
                    table.to_string()
                },
                ours,
                family: if family == AddressFamily::Inet6 {
                    " -6"
                } else {
                    ""
                },
            });
        }
    }
    Ok(())
}

/// The tables whose default route, whole or in halves, has packets to anybody.
async fn decided_by(handle: &Handle, family: AddressFamily) -> Vec<u32> {
    // One in each half. Nothing is sent there.
    let anybody: [IpAddr; 2] = match family {
        AddressFamily::Inet6 => [
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1_u16]),
            IpAddr::from([0x9fff, 0, 0, 0, 0, 0, 0, 1_u16]),
        ],
        _ => [IpAddr::from([11, 1, 1, 1]), IpAddr::from([198, 51, 100, 1])],
    };
    let mut tables = Vec::new();
    for address in anybody {
        if let Ok(Some(route)) = routes::best(handle, address).await
            && route.header.destination_prefix_length <= 1
        {
            tables.push(routes::table(&route));
        }
    }
    tables
}

/// Whether a rule asks nothing of a packet, and lets default routes count.
fn is_for_all(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    header.src_len == 0
        && header.dst_len == 0
        && header.tos == 0
        && !header.flags.contains(RuleFlags::Invert)
        && rule.attributes.iter().all(|attribute| match attribute {
            RuleAttribute::SuppressPrefixLen(length) => *length == u32::MAX,
            RuleAttribute::SuppressIfGroup(group) => *group == u32::MAX,
            RuleAttribute::L3MDev(l3mdev) => !l3mdev,
            RuleAttribute::Priority(_)
            | RuleAttribute::Table(_)
            | RuleAttribute::Protocol(_)
            | RuleAttribute::Realm(_)
            | RuleAttribute::Other(_) => true,
            _ => false,
        })
}

/// The kernel leaves out a priority of 0.
fn priority(rule: &RuleMessage) -> u32 {
    let priority = rule
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
    priority.unwrap_or(0)
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
