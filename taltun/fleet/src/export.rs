//! All records of a fleet as a text, for a backup: JSON with a record a line, each with its signature.
//!
//! It has no secret: private keys that are sealed for hubs aren't in it, and the admin makes them anew. Who reads it
//! believes what it says no more than what etcd says.

use serde::{Deserialize, Serialize};
use taltun_crypto::signing::VerifyingKey;

use crate::key::Key;
use crate::label::Label;
use crate::ledger::Ledger;
use crate::signed::Signed;
use crate::trust::{MAX_ROTATIONS, Trust};

const VERSION: u32 = 1;

/// Why a text is no export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadExport {
    /// It isn't whole.
    #[error("this is no whole export of a fleet: {0}")]
    Malformed(String),
    /// A newer Taltun made it.
    #[error("a newer Taltun made this export (version {0}); update this hub")]
    Newer(u32),
}

/// What was exported.
#[derive(Debug)]
pub struct Export {
    /// Whom the hub believed that made it: to be compared with what is known otherwise.
    pub trust: Trust,
    /// The records.
    pub records: Vec<(Key, Signed)>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    taltun_fleet_export: u32,
    network: Label,
    admins: Vec<String>,
    former: Vec<String>,
    /// How many lines follow.
    records: usize,
}

/// The text of all that counts in a ledger.
pub fn write(ledger: &Ledger) -> String {
    let trust = ledger.trust();
    let told = ledger.all().filter(|(key, _)| is_told(key));
    let lines: Vec<String> = told
        .map(|(key, signed)| line(&(key.to_string(), signed)))
        .collect();
    let head = line(&Head {
        taltun_fleet_export: VERSION,
        network: trust.network.clone(),
        admins: trust.admins.iter().map(ToString::to_string).collect(),
        former: trust.former.iter().map(ToString::to_string).collect(),
        records: lines.len(),
    });
    let mut text = head;
    for line in lines {
        text.push('\n');
        text.push_str(&line);
    }
    text.push('\n');
    text
}

/// What an export has, and all that counts of one: who wrote to it may not have a rotation of an admin's key in it that the
/// fleet never heard of.
fn is_told(key: &Key) -> bool {
    !matches!(key, Key::Admin(_) | Key::Sealed(_) | Key::Group(_))
}

fn line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers are always JSON")
}

/// Reads what [`write()`] wrote.
pub fn read(text: &str) -> Result<Export, BadExport> {
    #[derive(Deserialize)]
    struct Version {
        taltun_fleet_export: u32,
    }
    let malformed = |why: &dyn std::fmt::Display| BadExport::Malformed(why.to_string());
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let version: Version = serde_json::from_str(first).map_err(|error| malformed(&error))?;
    if version.taltun_fleet_export != VERSION {
        return Err(BadExport::Newer(version.taltun_fleet_export));
    }
    let head: Head = serde_json::from_str(first).map_err(|error| malformed(&error))?;
    let keys = |texts: &[String]| -> Result<Vec<VerifyingKey>, BadExport> {
        let keys = texts.iter().map(|key| key.parse());
        keys.collect::<Result<_, _>>()
            .map_err(|_| malformed(&"it names an admin that is no key"))
    };
    let (admins, former) = (keys(&head.admins)?, keys(&head.former)?);
    if former.len() > MAX_ROTATIONS {
        return Err(malformed(&"it has too many former admins"));
    }
    let mut records = Vec::new();
    for (number, line) in lines.enumerate() {
        let read: (String, Signed) = serde_json::from_str(line)
            .map_err(|error| malformed(&format!("line {}: {error}", number + 2)))?;
        // One of a newer version is left to that.
        if let Some(key) = Key::parse(&read.0).filter(is_told) {
            records.push((key, read.1));
        }
    }
    if text.lines().count().checked_sub(1) != Some(head.records) {
        return Err(malformed(&format!(
            "it says that it has {} records",
            head.records
        )));
    }
    Ok(Export {
        trust: Trust {
            network: head.network,
            admins: admins.into_iter().collect(),
            former,
        },
        records,
    })
}
