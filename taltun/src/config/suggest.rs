//! "Did you mean": the known word nearest to one that isn't known.

/// A hint to append to an error: the known word nearest to `word`, or all of them when
/// none is near.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The known word nearest to `word`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = fold(word);
    known
        .iter()
        .map(|candidate| (distance(&word, &fold(candidate)), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .map(|(_, candidate)| candidate)
}

/// Drops what separates words, so that wg-quick's `AllowedIPs` finds `allowed_ips`.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        // Far longer than any known word: as good as infinitely far away.
        .take(64)
        .collect()
}

/// Levenshtein distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["allowed_ips", "endpoint", "name", "public_key", "vip"];

    #[test]
    fn a_typing_error_finds_the_key() {
        assert_eq!(hint("pubic_key", KEYS), "did you mean public_key?");
        assert_eq!(
            hint("vpi", KEYS),
            "known here: allowed_ips, endpoint, name, public_key, vip"
        );
        assert_eq!(hint("vips", KEYS), "did you mean vip?");
    }

    #[test]
    fn the_spelling_of_wg_quick_finds_the_key() {
        assert_eq!(hint("AllowedIPs", KEYS), "did you mean allowed_ips?");
        assert_eq!(hint("public-key", KEYS), "did you mean public_key?");
    }

    #[test]
    fn a_word_of_any_length_is_no_trouble() {
        assert!(hint(&"x".repeat(1 << 20), KEYS).starts_with("known here"));
        assert!(hint("", KEYS).starts_with("known here"));
    }
}
