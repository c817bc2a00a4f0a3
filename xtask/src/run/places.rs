//! Where the machines of a recipe are on its drawing, and which ping shows that it works.

use taltun_tests::recipes::Recipe;

/// The places of a recipe.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Left of the middle; those that aren't named are on its right.
    pub left: &'static [&'static str],
    /// In the middle: the one that keys act on.
    pub centre: &'static str,
    /// Who pings whom all the time.
    pub ping: (&'static str, &'static str, [u8; 4]),
}

/// The places of `recipe`.
pub fn of(recipe: Recipe) -> Places {
    let (left, centre, ping): (&[_], _, _) = match recipe {
        Recipe::A => (&["laptop"], "hub", ("laptop", "hub", [10, 7, 0, 1])),
        Recipe::B => (
            &["alice", "mallory"],
            "hub",
            ("alice", "bob", [10, 6, 0, 3]),
        ),
        Recipe::C => (&["laptop"], "hub", ("laptop", "world", [198, 18, 0, 80])),
        Recipe::D => (&["cloud"], "office", ("cloud", "office", [10, 9, 0, 2])),
        Recipe::E => (&["anna"], "relay", ("anna", "bert", [10, 5, 0, 3])),
        Recipe::F => (
            &["ana", "guest", "visitor", "gate"],
            "hub",
            ("ana", "printer", [192, 168, 50, 16]),
        ),
    };
    Places { left, centre, ping }
}
