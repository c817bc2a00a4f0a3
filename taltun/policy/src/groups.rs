//! Groups of parties, of which some may be in others.
//!
//! They stay as they are written: with all that is in it in place of each group, a chain of
//! thousands of them would be of many millions of members.

use crate::party::Party;

/// Groups of which none is in itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups {
    members: Vec<Vec<Party>>,
    /// Each group's place, and a group's before those of the groups in it.
    order: Vec<usize>,
}

/// A group that is in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycle {
    /// The group.
    pub group: usize,
    /// The member that has it, which is the group itself where that is its own member.
    pub by: usize,
}

/// How far a group was followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    No,
    /// It is one of those that led here.
    Followed,
    Done,
}

impl Groups {
    /// Groups with these members. The work grows with the number of all members. A group that
    /// isn't there counts as empty.
    pub fn new(members: Vec<Vec<Party>>) -> Result<Self, Cycle> {
        let mut seen = vec![Seen::No; members.len()];
        let mut order = Vec::with_capacity(members.len());
        // Groups that led here, each with those of its members that are left. No recursion: a file
        // may have any number of groups in each other.
        let mut path = Vec::new();
        for start in 0..members.len() {
            if seen[start] == Seen::No {
                seen[start] = Seen::Followed;
                path.push((start, members[start].iter()));
            }
            while let Some((group, left)) = path.last_mut() {
                let group = *group;
                match left.next() {
                    Some(Party::Group(inner)) => match seen.get(*inner) {
                        Some(Seen::Followed) => {
                            let (group, by) = (*inner, group);
                            return Err(Cycle { group, by });
                        }
                        Some(Seen::No) => {
                            seen[*inner] = Seen::Followed;
                            path.push((*inner, members[*inner].iter()));
                        }
                        Some(Seen::Done) | None => {}
                    },
                    Some(_) => {}
                    None => {
                        seen[group] = Seen::Done;
                        order.push(group);
                        path.pop();
                    }
                }
            }
        }
        order.reverse();
        Ok(Self { members, order })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What a group has.
    pub fn members(&self, group: usize) -> &[Party] {
        self.members.get(group).map_or(&[], Vec::as_slice)
    }

    /// Each group with its place and what it has, before the groups in it.
    pub fn outermost_first(&self) -> impl Iterator<Item = (usize, &[Party])> {
        self.order
            .iter()
            .map(|group| (*group, self.members(*group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(of: &[&[usize]]) -> Result<Groups, Cycle> {
        let members = of.iter().map(|inner| {
            let inner = inner.iter().map(|inner| Party::Group(*inner));
            [Party::Hub].into_iter().chain(inner).collect()
        });
        Groups::new(members.collect())
    }

    #[test]
    fn a_group_comes_before_those_in_it() {
        let groups = groups(&[&[2], &[0, 2, 4], &[3, 3], &[], &[2]]).unwrap();
        let order: Vec<usize> = groups.outermost_first().map(|(group, _)| group).collect();
        assert_eq!(order.len(), 5);
        let place = |group| order.iter().position(|other| *other == group).unwrap();
        for (group, members) in groups.outermost_first() {
            for member in members {
                let &Party::Group(inner) = member else {
                    continue;
                };
                assert!(place(group) < place(inner), "{order:?}");
            }
        }
    }

    #[test]
    fn a_group_in_itself_is_found_with_the_member_that_has_it() {
        let cycle = |of: &[&[usize]]| groups(of).unwrap_err();
        assert_eq!(cycle(&[&[], &[1]]), Cycle { group: 1, by: 1 });
        assert_eq!(cycle(&[&[1], &[2], &[0]]), Cycle { group: 0, by: 2 });
        // The first leads into a circle that it isn't of.
        assert_eq!(cycle(&[&[2], &[2], &[1]]), Cycle { group: 2, by: 1 });
        assert!(groups(&[&[7]]).is_ok());
    }

    #[test]
    fn a_chain_of_groups_is_as_long_as_a_file_makes_it() {
        const MANY: usize = 200_000;
        let chain = |last: Option<usize>| {
            let links = (0..MANY).map(|group| match group + 1 {
                MANY => last.map(Party::Group).into_iter().collect(),
                next => vec![Party::Group(next), Party::Group(next)],
            });
            Groups::new(links.collect())
        };
        let order = chain(None).unwrap();
        assert!(order.outermost_first().map(|(group, _)| group).eq(0..MANY));
        let cycle = chain(Some(0)).unwrap_err();
        assert_eq!((cycle.group, cycle.by), (0, MANY - 1));
    }
}
