//! What is measured: who defends, against what.

use std::fmt::{self, Display};

use clap::ValueEnum;
use taltun_tests::node::XdpMode;
use taltun_tests::sys::Attach;
use taltun_tests::traffic::flood;

use crate::bench::Xdp;
use crate::bench::contender::{Contender, Kind};

/// A flood, by the name that `--only` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FloodName {
    /// Initiations with a wrong mac1.
    WrongMac1,
    /// Initiations with a right mac1 of an unknown peer, from 16 sources.
    RightMac1,
    /// The same, each from another source.
    NewSources,
    /// Data for no session.
    Data,
    /// Random bytes.
    Random,
}

impl FloodName {
    /// What is sent, and what that is, for people.
    pub fn meaning(self) -> (flood::Kind, &'static str) {
        use flood::Kind;
        match self {
            Self::WrongMac1 => (Kind::WrongMac1, "initiations, wrong mac1"),
            Self::RightMac1 => (Kind::RightMac1, "initiations, right mac1, 16 sources"),
            Self::NewSources => (
                Kind::RightMac1NewSources,
                "initiations, right mac1, ever new sources",
            ),
            Self::Data => (Kind::Data, "data for no session"),
            Self::Random => (Kind::Random, "random bytes"),
        }
    }

    /// How much of the throughput Taltun's XDP programs are to keep, of what is left where a
    /// bare program eats the flood.
    pub fn target(self) -> f64 {
        match self {
            // Only cookies can refuse these.
            Self::NewSources => 0.85,
            _ => 0.95,
        }
    }
}

/// A contender, Taltun once for each shield.
#[derive(Debug, Clone)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// Who it is.
    pub contender: Contender,
    /// How Taltun attaches its XDP program.
    pub xdp: XdpMode,
}

impl Column {
    /// How the bare program is attached that stands in for the contender's defence.
    pub fn eater(&self) -> Attach {
        match self.xdp {
            XdpMode::Driver => Attach::Driver,
            _ => Attach::Generic,
        }
    }

    /// Whether it is Taltun with a program to meet the targets with.
    pub fn has_targets(&self) -> bool {
        self.contender.kind == Kind::Taltun && self.xdp != XdpMode::Off
    }
}

/// A row: under what the stream is measured. Rates are packets a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// No flood.
    Quiet,
    /// A flood that a bare `XDP_DROP` eats.
    Eaten(u32),
    /// A flood.
    Flood(FloodName, u32),
}

impl Case {
    /// Packets a second.
    pub fn rate(self) -> Option<u32> {
        match self {
            Self::Quiet => None,
            Self::Eaten(rate) | Self::Flood(_, rate) => Some(rate),
        }
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet => f.write_str("no flood"),
            Self::Eaten(rate) => write!(f, "{}/s eaten by a bare XDP_DROP", thousands(*rate)),
            Self::Flood(name, rate) => write!(f, "{}/s {}", thousands(*rate), name.meaning().1),
        }
    }
}

/// The columns: of Taltun those with these shields, or with all.
pub fn columns(contenders: &[Contender], shields: &[Xdp]) -> Vec<Column> {
    let all = [Xdp::Driver, Xdp::Generic, Xdp::Off];
    let shields = if shields.is_empty() { &all } else { shields };
    let columns = contenders.iter().flat_map(|contender| {
        let column = |name: String, xdp: XdpMode| Column {
            name,
            contender: contender.clone(),
            xdp,
        };
        let word = contender.kind.word();
        if contender.kind == Kind::Taltun {
            let shields = shields.iter().map(|xdp| XdpMode::from(*xdp));
            shields
                .map(|xdp| column(format!("{word} {}", xdp.name()), xdp))
                .collect()
        } else {
            vec![column(word.to_owned(), XdpMode::Off)]
        }
    });
    columns.collect()
}

/// The rows: these floods, or all, at each rate, with what they are compared to.
pub fn cases(only: &[FloodName], rates: &[u32]) -> Vec<Case> {
    let floods = match only {
        [] => FloodName::value_variants(),
        only => only,
    };
    let mut cases = vec![Case::Quiet];
    for &rate in rates {
        cases.push(Case::Eaten(rate));
        cases.extend(floods.iter().map(|name| Case::Flood(*name, rate)));
    }
    cases
}

/// `300000` as `300,000`.
fn thousands(rate: u32) -> String {
    match (rate / 1000, rate % 1000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{thousands},{rest:03}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn taltun_is_there_once_for_each_shield() {
        let contender = |kind| Contender {
            kind,
            version: String::new(),
            program: PathBuf::new(),
        };
        let contenders = [contender(Kind::Taltun), contender(Kind::WireguardGo)];
        let names = |shields: &[Xdp]| -> Vec<String> {
            let columns = columns(&contenders, shields).into_iter();
            columns.map(|column| column.name).collect()
        };
        let all = [
            "taltun driver",
            "taltun generic",
            "taltun off",
            "wireguard-go",
        ];
        assert_eq!(names(&[]), all);
        assert_eq!(names(&[Xdp::Generic]), ["taltun generic", "wireguard-go"]);
    }

    #[test]
    fn each_rate_has_its_own_standard() {
        let cases = cases(&[FloodName::Data], &[100_000, 300_000]);
        assert_eq!(
            cases,
            [
                Case::Quiet,
                Case::Eaten(100_000),
                Case::Flood(FloodName::Data, 100_000),
                Case::Eaten(300_000),
                Case::Flood(FloodName::Data, 300_000),
            ]
        );
        assert_eq!(cases[2].to_string(), "100,000/s data for no session");
    }
}
