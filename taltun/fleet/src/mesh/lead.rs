//! Which hub of those that share an address has it: by what each hears of the others, without any vote.
//!
//! Who has it keeps it, so that a hub that comes back moves nobody. Where nobody has it, the first by
//! name takes it; where two have it, as after a split, the first by name keeps it. A hub that gives
//! up its peers hands it over: it goes on until another one has it.

use crate::label::Label;

/// Another hub that shares the address, and answers.
#[derive(Debug, Clone, Copy)]
pub struct Other<'a> {
    /// What it is called.
    pub name: &'a Label,
    /// Whether it says that it has the address.
    pub leads: bool,
    /// Whether it gives up its peers.
    pub leaving: bool,
}

/// Whether this hub is to have the address from now on. `leads` says whether it has it so far,
/// `leaving` whether it gives up its peers, and `others` are those that answer.
pub fn is_to_lead<'a>(
    own: &Label,
    leads: bool,
    leaving: bool,
    others: &(impl Iterator<Item = Other<'a>> + Clone),
) -> bool {
    let stays = |other: &Other<'_>| !other.leaving;
    if leaving {
        // Until somebody else has it.
        return leads && !others.clone().any(|other| other.leads && stays(&other));
    }
    let mut leading = others.clone().filter(|other| other.leads && stays(other));
    if leads {
        return !leading.any(|other| other.name < own);
    }
    if leading.next().is_some() {
        return false;
    }
    !others.clone().filter(stays).any(|other| other.name < own)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who leads after each has looked once at all that answer it.
    fn round(names: &[Label], leads: &mut [bool], leaving: &[bool], hears: &[Vec<usize>]) {
        let before = leads.to_vec();
        for (at, name) in names.iter().enumerate() {
            let others = hears[at].iter().map(|other| Other {
                name: &names[*other],
                leads: before[*other],
                leaving: leaving[*other],
            });
            leads[at] = is_to_lead(name, before[at], leaving[at], &others);
        }
    }

    #[test]
    fn one_leads_and_keeps_it_and_a_split_heals() {
        let names = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let all = vec![vec![1, 2], vec![0, 2], vec![0, 1]];
        let none = [false; 3];
        let mut leads = [false; 3];
        round(&names, &mut leads, &none, &all);
        assert_eq!(leads, [true, false, false]);
        // The first is gone, and comes back.
        let without_a = vec![vec![], vec![2], vec![1]];
        leads[0] = false;
        round(&names[1..], &mut leads[1..], &none, &[vec![1], vec![0]]);
        assert_eq!(leads, [false, true, false]);
        round(&names, &mut leads, &none, &all);
        assert_eq!(leads, [false, true, false]);
        // A split: both sides have it, and one of them once it heals.
        round(&names, &mut leads, &none, &without_a);
        assert_eq!(leads, [true, true, false]);
        round(&names, &mut leads, &none, &all);
        assert_eq!(leads, [true, false, false]);
        // It is handed over before it is given up.
        let leaving = [true, false, false];
        round(&names, &mut leads, &leaving, &all);
        assert_eq!(leads, [true, true, false]);
        round(&names, &mut leads, &leaving, &all);
        assert_eq!(leads, [false, true, false]);
        // The last one keeps it.
        let alone = vec![vec![], vec![], vec![]];
        let mut last = [false, true, false];
        round(&names, &mut last, &[false, true, false], &alone);
        assert!(last[1]);
    }
}
