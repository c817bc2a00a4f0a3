//! What a hub knew last, on its disk: it starts from this where the store can't be reached.
//!
//! The file is replaced in one go, and says by a hash whether it is whole. Each record in it is
//! verified as if it came from the store. One that is damaged, of a newer Taltun or of another
//! network is renamed, so that it can be looked at, and the hub says so and starts without. An old
//! one does no harm: the store, or another hub, has what is newer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::bans::Bans;
use crate::hex;
use crate::homes::{Homes, is_believable};
use crate::key::{Key, SHARDS};
use crate::label::Label;
use crate::ledger::{Ledger, Refusal, Verdict};
use crate::record::{self, Ban};
use crate::signed::Signed;
use crate::trust::Trust;

const MARK: &str = "taltun-fleet-snapshot";
const VERSION: u32 = 1;
/// Bytes of the file at the most.
const MAX_FILE: u64 = 256 << 20;

/// What was read.
#[derive(Debug)]
pub struct Loaded {
    /// What counts.
    pub ledger: Ledger,
    /// Where peers were.
    pub homes: Homes,
    /// Who was banned outside.
    pub bans: Bans,
    /// Who was banned inside the tunnel.
    pub inner_bans: Bans,
    /// Records that count no more, with the reason: an admin's key was taken away, for one.
    pub refused: Vec<(String, Refusal)>,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    /// There is none.
    #[error("there is no snapshot yet")]
    Missing,
    /// It is no good, and was renamed.
    #[error("the snapshot {why}; it is kept as {}", to.display())]
    SetAside {
        /// What is wrong.
        why: String,
        /// What it is called now.
        to: PathBuf,
    },
    /// The disk fails.
    #[error("cannot read the snapshot: {0}")]
    Io(#[from] io::Error),
}

#[derive(Serialize, Deserialize)]
struct Content {
    network: Label,
    records: Vec<(String, Signed)>,
    homes: record::Homes,
    bans: Vec<(IpNet, Ban)>,
    #[serde(default)]
    inner_bans: Vec<(IpNet, Ban)>,
}

/// Replaces the snapshot at `path`. The bans are those outside and those inside the tunnel.
pub fn save(
    path: &Path,
    ledger: &Ledger,
    homes: &Homes,
    bans: [&Bans; 2],
    now: u64,
) -> io::Result<()> {
    let record = |(key, signed): (&Key, &Signed)| (key.to_string(), signed.clone());
    let mut all_homes = record::Homes::default();
    for shard in 0..SHARDS {
        all_homes.peers.extend(homes.shard(shard).peers);
    }
    let content = Content {
        network: ledger.trust().network.clone(),
        records: ledger.all().map(record).collect(),
        homes: all_homes,
        bans: kept(bans[0], now),
        inner_bans: kept(bans[1], now),
    };
    let json = serde_json::to_vec(&content)?;
    let hash = hex::encode(&taltun_crypto::hash(&[&json]));
    let next = sibling(path, "new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(format!("{MARK} {VERSION} {hash}\n").as_bytes())?;
    file.write_all(&json)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    // The new name, too, is to outlive a loss of power.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

fn kept(bans: &Bans, now: u64) -> Vec<(IpNet, Ban)> {
    let kept = bans.to_write(now);
    kept.map(|(net, ban, _)| (*net, ban.clone())).collect()
}

/// Reads the snapshot at `path`. `now` is in seconds since 1970.
pub fn load(path: &Path, trust: Trust, now: u64) -> Result<Loaded, NotLoaded> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(NotLoaded::Missing),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    let (why, ending) = match parse(&bytes) {
        Ok(content) if content.network == trust.network => return Ok(believe(content, trust, now)),
        Ok(content) => (
            format!("is of the network {}", content.network),
            "other-network",
        ),
        Err(Wrong::Damaged) => ("is damaged".to_owned(), "damaged"),
        Err(Wrong::Newer(version)) => (
            format!("is of version {version}, which a newer Taltun wrote"),
            "newer",
        ),
    };
    let to = sibling(path, ending);
    fs::rename(path, &to)?;
    Err(NotLoaded::SetAside { why, to })
}

enum Wrong {
    Damaged,
    Newer(u32),
}

fn parse(bytes: &[u8]) -> Result<Content, Wrong> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (head, json) = bytes
        .split_at_checked(end.ok_or(Wrong::Damaged)?)
        .ok_or(Wrong::Damaged)?;
    let json = &json[1..];
    let head = std::str::from_utf8(head).map_err(|_| Wrong::Damaged)?;
    let mut words = head.split(' ');
    let (mark, version, hash) = (words.next(), words.next(), words.next());
    let version: u32 = version
        .and_then(|version| version.parse().ok())
        .filter(|_| mark == Some(MARK))
        .ok_or(Wrong::Damaged)?;
    if version > VERSION {
        return Err(Wrong::Newer(version));
    }
    let is_whole = hash.and_then(hex::decode) == Some(taltun_crypto::hash(&[json]));
    if version != VERSION || !is_whole || words.next().is_some() {
        return Err(Wrong::Damaged);
    }
    serde_json::from_slice(json).map_err(|_| Wrong::Damaged)
}

fn believe(content: Content, trust: Trust, now: u64) -> Loaded {
    let mut ledger = Ledger::new(trust);
    let mut refused = Vec::new();
    for (path, signed) in content.records {
        let Some(key) = Key::parse(&path) else {
            continue;
        };
        if let Verdict::Refused(refusal) = ledger.remember(&key, signed) {
            refused.push((path, refusal));
        }
    }
    let mut homes = Homes::default();
    for shard in 0..SHARDS {
        homes.read(shard, &content.homes, |peer, at| {
            let held = ledger.get(&Key::Peer(*peer));
            held.is_some_and(|held| !held.removed) && is_believable(at, Duration::from_secs(now))
        });
    }
    let [mut bans, mut inner_bans] = [Bans::default(), Bans::default()];
    for (net, ban) in content.bans {
        bans.learn(net, ban, now);
    }
    for (net, ban) in content.inner_bans {
        inner_bans.learn(net, ban, now);
    }
    Loaded {
        ledger,
        homes,
        bans,
        inner_bans,
        refused,
    }
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
