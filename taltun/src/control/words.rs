//! Numbers in the controller's sentences, and words that others wrote.

/// Characters of a word that are said back to whoever wrote it: as many as the longest name has.
const WORD_SHOWN: usize = 64;

/// A word in quotes; of one that is too long to be anything its beginning.
pub(super) fn quoted(word: &str) -> String {
    match word.char_indices().nth(WORD_SHOWN) {
        Some((end, _)) => format!("{:?}", format!("{}…", &word[..end])),
        None => format!("{word:?}"),
    }
}

/// A count with its noun: `1 peer`, `2 peers`.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// A time by the units that it has: `1 hour`, `1 hour 30 minutes`, `90 seconds` as
/// `1 minute 30 seconds`.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, noun) in UNITS {
        let amount = rest / size;
        rest %= size;
        if amount > 0 {
            parts.push(count(amount as usize, noun));
        }
    }
    if parts.is_empty() {
        return "0 seconds".into();
    }
    parts.join(" ")
}

/// Words as a list: `a`, `a and b`, `a, b and c`.
pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_more_are_several() {
        assert_eq!(count(0, "peer"), "0 peers");
        assert_eq!(count(1, "peer"), "1 peer");
        assert_eq!(count(2, "peer"), "2 peers");
        assert_eq!(span(1), "1 second");
        assert_eq!(span(3600), "1 hour");
        assert_eq!(span(5400), "1 hour 30 minutes");
        assert_eq!(span(0), "0 seconds");
    }

    #[test]
    fn of_a_long_word_the_beginning_is_said_back() {
        assert_eq!(quoted("ana"), "\"ana\"");
        let key = "ñ".repeat(WORD_SHOWN);
        assert_eq!(quoted(&key), format!("\"{key}\""));
        assert_eq!(quoted(&format!("{key}x")), format!("\"{key}…\""));
    }

    #[test]
    fn lists_end_with_and() {
        let words = ["a", "b", "c"].map(String::from);
        assert_eq!(list(&words), "a, b and c");
        assert_eq!(list(&words[..2]), "a and b");
        assert_eq!(list(&words[..1]), "a");
        assert_eq!(list(&[]), "");
    }
}
