//! The committed limits: a line a piece, with its name, instructions a packet, and by how many
//! per cent a count may be off. In place of the number, a line may have the name of another piece:
//! the same work where something else is set that mustn't cost it anything. The two are counted
//! in one run, so that such a limit can be far closer than one that another libc has to keep.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

/// What a piece gets that had no limit before, in per cent.
const USUAL_TOLERANCE: f64 = 10.0;

const HEAD: &str = "\
# What a packet may cost: piece, instructions a packet, per cent that it may be off.
# Written by `cargo xtask instructions --bless`; only the tolerance is set by hand, and the name of
# another piece in place of a number: the piece mustn't cost more than that one in the same run.
";

/// What a piece may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Instructions a packet.
    pub count: f64,
    /// Per cent.
    pub tolerance: f64,
}

/// What the file has for a piece.
#[derive(Debug, Clone, PartialEq)]
enum Line {
    /// A count of its own.
    Own(Limit),
    /// What another piece is counted to cost in the same run, and per cent.
    Like(String, f64),
}

/// All of them, by the piece's name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits(BTreeMap<String, Line>);

/// How a count compares.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is as it was.
    Within(f64, Limit),
    /// It costs more than it may.
    Above(f64, Limit),
    /// It costs as much as the other piece that it is compared with.
    Alike(f64, Limit, String),
    /// It costs more than that.
    Dearer(f64, Limit, String),
    /// It costs so much less that the limit wouldn't notice if half of that were lost again.
    FarBelow(f64, Limit),
    /// Nobody said what it may cost.
    NoLimit(f64),
    /// Nobody counted it.
    NotCounted,
}

impl Verdict {
    /// Whether nothing has to be done.
    pub fn is_ok(&self) -> bool {
        matches!(
            self,
            Self::Within(..) | Self::FarBelow(..) | Self::Alike(..)
        )
    }
}

impl Limits {
    /// The names of all pieces that have one.
    pub fn pieces(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Compares each piece that was counted or has a limit.
    pub fn judge(&self, counts: &BTreeMap<String, f64>) -> BTreeMap<String, Verdict> {
        let uncounted = self.pieces().filter(|piece| !counts.contains_key(*piece));
        let uncounted = uncounted.map(|piece| (piece.clone(), Verdict::NotCounted));
        let counted = counts.iter().map(|(piece, count)| {
            let verdict = match self.0.get(piece) {
                None => Verdict::NoLimit(*count),
                Some(Line::Own(limit)) => limit.judge(*count),
                Some(Line::Like(other, tolerance)) => match counts.get(other) {
                    None => Verdict::NotCounted,
                    Some(limit) => like(*count, *limit, *tolerance, other),
                },
            };
            (piece.clone(), verdict)
        });
        uncounted.chain(counted).collect()
    }

    /// The same tolerances around what was counted.
    pub fn blessed(&self, counts: &BTreeMap<String, f64>) -> Self {
        let limit = |(piece, count): (&String, &f64)| {
            let tolerance = match self.0.get(piece) {
                Some(like @ Line::Like(..)) => return (piece.clone(), like.clone()),
                Some(Line::Own(old)) => old.tolerance,
                None => USUAL_TOLERANCE,
            };
            let count = count.round();
            (piece.clone(), Line::Own(Limit { count, tolerance }))
        };
        Self(counts.iter().map(limit).collect())
    }
}

impl Limit {
    fn judge(self, count: f64) -> Verdict {
        let off = 100.0 * (count - self.count) / self.count;
        if off > self.tolerance {
            Verdict::Above(count, self)
        } else if off < -self.tolerance {
            Verdict::FarBelow(count, self)
        } else {
            Verdict::Within(count, self)
        }
    }
}

/// What is to be said of a count beside that of another piece. To be cheaper is no news.
fn like(count: f64, of_other: f64, tolerance: f64, other: &str) -> Verdict {
    let limit = Limit {
        count: of_other,
        tolerance,
    };
    match limit.judge(count) {
        Verdict::Above(..) => Verdict::Dearer(count, limit, other.to_owned()),
        _ => Verdict::Alike(count, limit, other.to_owned()),
    }
}

impl FromStr for Limits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
        lines
            .map(|(at, line)| limit(line).with_context(|| format!("line {}: {line}", at + 1)))
            .collect::<Result<_>>()
            .map(Self)
    }
}

fn limit(line: &str) -> Result<(String, Line)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [piece, count, tolerance] = words[..] else {
        anyhow::bail!("expected a piece, instructions a packet and a tolerance in per cent");
    };
    let tolerance = tolerance.parse()?;
    let limit = if count.starts_with(|first: char| first.is_ascii_alphabetic()) {
        Line::Like(count.to_owned(), tolerance)
    } else {
        let count = count.parse()?;
        ensure!(count > 0.0, "expected more than zero");
        Line::Own(Limit { count, tolerance })
    };
    ensure!(tolerance > 0.0, "expected more than zero");
    Ok((piece.to_owned(), limit))
}

impl Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for (piece, line) in &self.0 {
            let (count, tolerance) = match line {
                Line::Own(Limit { count, tolerance }) => (count.to_string(), tolerance),
                Line::Like(other, tolerance) => (other.clone(), tolerance),
            };
            writeln!(f, "{piece:<22} {count:>9} {tolerance:>4}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        "# a comment\nseal 1000 5\n\nopen 200 10\n".parse().unwrap()
    }

    fn counts(all: &[(&str, f64)]) -> BTreeMap<String, f64> {
        let owned = |(piece, count): &(&str, f64)| ((*piece).to_owned(), *count);
        all.iter().map(owned).collect()
    }

    #[test]
    fn only_what_costs_more_than_it_may_or_is_unknown_fails() {
        let cases: [(f64, bool); 5] = [
            (1000.0, true),
            (1050.0, true),
            (1051.0, false),
            (949.0, true),
            (1.0, true),
        ];
        for (count, ok) in cases {
            let verdicts = limits().judge(&counts(&[("seal", count), ("open", 200.0)]));
            assert_eq!(verdicts["seal"].is_ok(), ok, "{count}");
            assert!(verdicts["open"].is_ok());
        }
        let verdicts = limits().judge(&counts(&[("seal", 949.0), ("new", 1.0)]));
        assert!(matches!(verdicts["seal"], Verdict::FarBelow(..)));
        assert_eq!(verdicts["new"], Verdict::NoLimit(1.0));
        assert_eq!(verdicts["open"], Verdict::NotCounted);
        assert!(!verdicts["new"].is_ok() && !verdicts["open"].is_ok());
    }

    #[test]
    fn blessing_keeps_tolerances_and_can_be_read_again() {
        let blessed = limits().blessed(&counts(&[("seal", 900.4), ("new", 7.0)]));
        let expected = "seal 900 5\nnew 7 10\n".parse().unwrap();
        assert_eq!(blessed, expected);
        assert_eq!(blessed.to_string().parse::<Limits>().unwrap(), expected);
    }

    #[test]
    fn a_piece_may_cost_no_more_than_another_in_the_same_run() {
        let limits: Limits = "seal 1000 5\nbeside seal 0.5\n".parse().unwrap();
        let verdict = |seal, beside| {
            let counts = counts(&[("seal", seal), ("beside", beside)]);
            limits.judge(&counts)["beside"].clone()
        };
        assert!(matches!(verdict(900.0, 904.0), Verdict::Alike(..)));
        assert!(matches!(verdict(900.0, 500.0), Verdict::Alike(..)));
        // Within what `seal` may cost by itself.
        assert!(matches!(verdict(900.0, 905.0), Verdict::Dearer(..)));
        assert!(!verdict(900.0, 905.0).is_ok() && verdict(900.0, 904.0).is_ok());
        let alone = limits.judge(&counts(&[("beside", 1.0)]));
        assert_eq!(alone["beside"], Verdict::NotCounted);
        let blessed = limits.blessed(&counts(&[("seal", 900.0), ("beside", 990.0)]));
        let expected = "seal 900 5\nbeside seal 0.5\n".parse().unwrap();
        assert_eq!(blessed, expected);
        assert_eq!(blessed.to_string().parse::<Limits>().unwrap(), expected);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let lines = [
            "seal 1000\n",
            "seal 10x 5\n",
            "seal 0 5\n",
            "seal 5 5 5\n",
            "seal open\n",
            "seal open 0\n",
        ];
        for text in lines {
            let error = format!("{:#}", text.parse::<Limits>().unwrap_err());
            assert!(error.starts_with("line 1: seal"), "{error}");
        }
    }
}
