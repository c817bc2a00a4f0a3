//! The result of a run: what `--json` prints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use taltun_tests::report::Stats;

/// The whole result.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every check is.
    pub ok: bool,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// The median of each second's rate, the time around the ban aside, by name of the stream.
    pub throughput_gbps: BTreeMap<String, f64>,
    /// What the hub's XDP program was and did.
    pub xdp: Xdp,
    /// How many of the checks have been printed already.
    #[serde(skip)]
    pub printed: usize,
    /// Whether somebody ended it before everything was checked.
    #[serde(skip)]
    pub cut_short: bool,
}

/// Something that has to be so.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it is so.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// The hub's XDP program.
#[derive(Debug, Serialize)]
pub struct Xdp {
    /// How it was attached.
    pub mode: String,
    /// Who sent to the hub, most packets first.
    pub sources: Vec<Source>,
    /// Packets that the hub dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Somebody who sent to the hub.
#[derive(Debug, Serialize)]
pub struct Source {
    /// From where.
    pub addr: IpAddr,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Xdp {
    /// What it did, as `stats` tells it; its mode isn't known from there.
    pub fn of(stats: Stats) -> Self {
        let source = |source: &taltun_tests::report::Source| Source {
            addr: source.addr,
            packets: source.packets,
            bytes: source.bytes,
        };
        Self {
            mode: "off".to_owned(),
            sources: stats.sources.iter().map(source).collect(),
            drops: stats.drops,
        }
    }
}

impl Report {
    /// A result with these checks and nothing measured.
    pub fn of(checks: Vec<Check>) -> Self {
        let mut report = Self {
            ok: true,
            checks: Vec::new(),
            throughput_gbps: BTreeMap::new(),
            xdp: Xdp {
                mode: "off".to_owned(),
                sources: Vec::new(),
                drops: BTreeMap::new(),
            },
            printed: 0,
            cut_short: false,
        };
        for check in checks {
            report.add(check);
        }
        report
    }

    /// Adds a check.
    pub fn add(&mut self, check: Check) {
        self.ok &= check.ok;
        self.checks.push(check);
    }
}

impl Check {
    /// It is so.
    pub fn passed(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, true, detail.into())
    }

    /// It isn't.
    pub fn failed(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, false, detail.into())
    }

    /// It is so if `result` is the detail, and isn't if it is an error.
    pub fn from_result(name: &str, result: anyhow::Result<String>) -> Self {
        match result {
            Ok(detail) => Self::passed(name, detail),
            Err(error) => Self::failed(name, format!("{error:#}")),
        }
    }

    /// It is so, `detail` saying what, if there are no `faults`.
    pub fn nothing_in(name: &str, detail: &str, faults: &[String]) -> Self {
        if faults.is_empty() {
            Self::passed(name, detail)
        } else {
            Self::failed(name, faults.join("; "))
        }
    }

    fn new(name: &str, ok: bool, detail: String) -> Self {
        Self {
            name: name.to_owned(),
            ok,
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_fails_the_whole() {
        let mut report = Report::of(vec![Check::passed("one", "")]);
        assert!(report.ok);
        report.add(Check::failed("two", ""));
        report.add(Check::passed("three", ""));
        assert!(!report.ok);
    }

    #[test]
    fn the_json_has_the_fields_that_others_rely_on() {
        let mut report = Report::of(vec![Check::passed("ping", "fine")]);
        report.throughput_gbps.insert("tcp".into(), 1.5);
        report.xdp.drops.insert("denied".into(), 3);
        report.xdp.sources.push(Source {
            addr: [10, 99, 1, 2].into(),
            packets: 1,
            bytes: 2,
        });
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"ok":true,"checks":[{"name":"ping","ok":true,"detail":"fine"}],"throughput_gbps":{"tcp":1.5},"xdp":{"mode":"off","sources":[{"addr":"10.99.1.2","packets":1,"bytes":2}],"drops":{"denied":3}}}"#
        );
    }
}
