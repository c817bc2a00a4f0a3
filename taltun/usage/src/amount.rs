//! Amounts of data as people write them: `100 GB`, `1.5 TiB`, `500MB`.

/// Units, each with its bytes: a thousand times the one before, or 1024 times.
const UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
];

/// The bytes of an amount, at least one.
///
/// # Errors
/// The half sentence that says what is wrong.
pub fn bytes(text: &str) -> Result<u64, String> {
    let expected =
        || format!("expected an amount such as \"100 GB\" or \"1.5 TiB\", found {text:?}");
    let text = text.trim();
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim_start();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = !whole.is_empty() && fraction.len() <= 9 && !number.ends_with('.');
    if !is_number || fraction.contains('.') {
        return Err(expected());
    }
    let known = || {
        UNITS
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if unit.is_empty() {
        return Err(format!("the unit is missing: one of {}", known()));
    }
    let found = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let Some((name, size)) = found else {
        if let Some(rest) = unit.strip_prefix(',') {
            return Err(format!(
                "write a point and no comma in an amount, such as \"{number}.{rest}\""
            ));
        }
        let more = |(name, _): &&(&str, u64)| name.eq_ignore_ascii_case(&format!("{unit}B"));
        if let Some((name, _)) = UNITS.iter().find(more) {
            return Err(format!("there is no unit {unit:?}; did you mean {name:?}?"));
        }
        return Err(format!(
            "there is no unit {unit:?}; it is one of {}",
            known()
        ));
    };
    // A small b is for bits, in which nobody counts amounts.
    if unit.ends_with('b') {
        return Err(format!("{unit:?} would be bits; write {name:?} for bytes"));
    }
    let too_much = || format!("{text:?} is more than anybody moves; take less than 10,000 PB");
    let whole: u64 = whole.parse().map_err(|_| too_much())?;
    let mut parts = u128::from(whole) * u128::from(*size);
    if !fraction.is_empty() {
        let digits: u32 = fraction.parse().map_err(|_| expected())?;
        let scale = 10_u128.pow(fraction.len() as u32);
        parts += u128::from(digits) * u128::from(*size) / scale;
    }
    match u64::try_from(parts) {
        Ok(0) => Err("0 would be nothing at all; remove the peer, or leave the quota out".into()),
        Ok(bytes) if bytes < 10_000_000_000_000_000_000 => Ok(bytes),
        _ => Err(too_much()),
    }
}

/// An amount in the largest unit that says it exactly, as the file may have it.
pub fn exact(bytes: u64) -> String {
    let fits = |(_, size): &&(&str, u64)| bytes >= *size && bytes.is_multiple_of(*size);
    let unit = UNITS.iter().filter(fits).max_by_key(|(_, size)| *size);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(name, size)| format!("{} {name}", bytes / size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_decimal_and_binary_units() {
        for (text, expected) in [
            ("1 B", 1),
            ("100 GB", 100_000_000_000),
            ("100GB", 100_000_000_000),
            ("100 gB", 100_000_000_000),
            ("1.5 TiB", 3 << 39),
            ("0.5 kB", 500),
            ("2 KiB", 2048),
            ("2 kiB", 2048),
            ("0.000000001 GB", 1),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        assert_eq!(exact(100_000_000_000), "100 GB");
        assert_eq!(exact(3 << 40), "3 TiB");
        assert_eq!(exact(1001), "1001 B");
    }

    #[test]
    fn what_is_no_amount_is_refused_with_what_it_may_be() {
        for (text, told) in [
            ("", "such as"),
            ("GB", "such as"),
            ("-1 GB", "such as"),
            ("1. GB", "such as"),
            ("1.2.3 GB", "such as"),
            ("0.0000000001 GB", "such as"),
            ("100", "the unit is missing: one of B, kB"),
            ("100 XB", "no unit \"XB\"; it is one of B, kB, MB"),
            ("100 G", "no unit \"G\"; did you mean \"GB\"?"),
            ("100 ti", "did you mean \"TiB\"?"),
            (
                "1,5 GB",
                "write a point and no comma in an amount, such as \"1.5 GB\"",
            ),
            ("100 Gb", "would be bits; write \"GB\""),
            ("0 GB", "nothing at all"),
            ("0.0001 B", "nothing at all"),
            ("10000 PB", "more than anybody"),
            ("99999999999999999999 GB", "more than anybody"),
        ] {
            let error = bytes(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
