//! What a peer's file is to be called. `wg-quick` and the apps make of it the name of an interface, and refuse
//! a file whose name can't be one.

/// The longest name of an interface, bytes.
const LONGEST: usize = 15;
/// What is called so where nothing else is left.
const OTHERWISE: &str = "peer";
/// The names that are taken, in words.
pub const TAKEN_NAMES: &str = "up to 15 of a-z A-Z 0-9 _ = + . - before .conf";

/// Whether `wg-quick` takes a file of this name, without its ending.
pub fn is_taken(stem: &str) -> bool {
    let fits = (1..=LONGEST).contains(&stem.len());
    fits && stem.chars().all(is_plain) && !stem.chars().all(|c| c == '.')
}

/// What a file of the peer `name` is called, without its ending: the name itself, if it is taken, and otherwise
/// what is left of it.
pub fn stem(name: &str) -> String {
    let mut stem = String::with_capacity(LONGEST);
    for c in name.chars() {
        let c = if is_plain(c) { c } else { '-' };
        // One for several, and none where the name begins: there it would be an option.
        if c == '-' && (stem.is_empty() || stem.ends_with('-')) {
            continue;
        }
        if stem.len() == LONGEST {
            break;
        }
        stem.push(c);
    }
    let kept = stem.trim_end_matches('-').len();
    stem.truncate(kept);
    if is_taken(&stem) {
        stem
    } else {
        OTHERWISE.to_owned()
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_=+.-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_becomes_one_that_is_taken() {
        for (name, expected) in [
            ("ana", "ana"),
            ("ana_2.lan+x=y", "ana_2.lan+x=y"),
            ("exactly15.bytes", "exactly15.bytes"),
            ("Ana's téléphone/of the office 2026", "Ana-s-t-l-phone"),
            ("sixteen.of.them!", "sixteen.of.them"),
            ("fourteen......  x", "fourteen......"),
            ("--help", "help"),
            ("東京の電話", "peer"),
            ("..", "peer"),
            ("", "peer"),
        ] {
            assert_eq!(stem(name), expected);
            assert!(is_taken(&stem(name)), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "sixteen.of.them!",
            "a b",
            "é",
            "0123456789abcdef",
        ] {
            assert!(!is_taken(name), "{name}");
        }
    }
}
