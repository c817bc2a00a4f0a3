//! The database: what each peer moved on each day.
//!
//! It is `SQLite` with a write-ahead log and one user at a time, so that nothing is shared in memory
//! with other processes. A transaction is in the kernel's hands when it is over, so it outlives
//! this process however that ends; the disk has it some time later, and a machine that loses its
//! power loses what the disk didn't have, but never more than that. Pages are small, as in most
//! seconds few peers move anything.

use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::clock::KeptClock;
use crate::counts::{Counts, Key};
use crate::date::Day;
use crate::totals::Sums;

/// The version of the tables.
const VERSION: i64 = 1;
/// What `SQLite`'s header says of a file of ours: `TALT`.
const APPLICATION: i64 = 0x5441_4c54;
/// How long somebody else may have the database.
const PATIENCE: Duration = Duration::from_secs(3);
/// Up to this size all of it is looked through when it is opened, bytes.
const LOOKED_THROUGH: u64 = 64 << 20;

const TABLES: &str = "
    CREATE TABLE peers (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, name TEXT);
    CREATE TABLE usage (
        day INTEGER NOT NULL, peer INTEGER NOT NULL,
        rx_bytes INTEGER NOT NULL, rx_packets INTEGER NOT NULL,
        tx_bytes INTEGER NOT NULL, tx_packets INTEGER NOT NULL,
        PRIMARY KEY (day, peer)
    ) WITHOUT ROWID;
    CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// Why a database isn't opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// There is none.
    Missing,
    /// A later version of Taltun made it.
    Newer(i64),
    /// It is no database, or a damaged one.
    Damaged(String),
    /// Another process has it open.
    InUse,
    /// Anything else.
    Other(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such file"),
            Self::Newer(version) => write!(
                f,
                "it is of version {version}, which a later Taltun made; this one knows version \
                 {VERSION}"
            ),
            Self::Damaged(reason) => write!(f, "it is damaged: {reason}"),
            Self::InUse => f.write_str("another process uses it"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// What a peer moved on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Who.
    pub key: Key,
    /// What it was last called, if it ever had a name.
    pub name: Option<String>,
    /// When.
    pub day: Day,
    /// How much.
    pub counts: Counts,
}

/// What is to be written: what each peer moved on a day, and names.
pub type Pending = HashMap<(Day, Key), Counts>;

/// Why a database that is open isn't read.
pub type ReadError = rusqlite::Error;

/// An open database.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    inode: u64,
    connection: Connection,
    /// The numbers of peers in it.
    ids: HashMap<Key, i64>,
}

impl Store {
    /// Opens the database, and makes it if there is none.
    pub fn open(file: &Path) -> Result<Self, OpenError> {
        if !file.exists() {
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file);
            made.map_err(|error| OpenError::Other(error.to_string()))?;
        }
        let mut store = Self::connect(file)?;
        store.prepare().map_err(|error| told(&error))?;
        Ok(store)
    }

    /// Opens a database that is there, to read it.
    pub fn open_existing(file: &Path) -> Result<Self, OpenError> {
        let store = Self::connect(file)?;
        if store.version().map_err(|error| told(&error))? == 0 {
            return Err(OpenError::Damaged("it has no tables".into()));
        }
        Ok(store)
    }

    fn connect(file: &Path) -> Result<Self, OpenError> {
        let metadata = match file.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OpenError::Missing);
            }
            Err(error) => return Err(OpenError::Other(error.to_string())),
        };
        if !metadata.is_file() {
            return Err(OpenError::Other("it is no regular file".into()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let open = || {
            let connection = Connection::open_with_flags(file, flags)?;
            connection.busy_timeout(PATIENCE)?;
            // Before the log is, which would need memory shared with other processes.
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "page_size", 1024)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| told(&error))?;
        let store = Self {
            file: file.to_owned(),
            inode: metadata.ino(),
            connection,
            ids: HashMap::new(),
        };
        match store.version() {
            Ok(version) if version > VERSION => return Err(OpenError::Newer(version)),
            Ok(_) => {}
            Err(error) => return Err(told(&error)),
        }
        if metadata.len() <= LOOKED_THROUGH {
            store.look_through()?;
        }
        Ok(store)
    }

    fn version(&self) -> rusqlite::Result<i64> {
        let read = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get(0))
        };
        let (version, application): (i64, i64) = (read("user_version")?, read("application_id")?);
        let tables = "SELECT count(*) FROM sqlite_schema";
        let tables: i64 = self.connection.query_row(tables, [], |row| row.get(0))?;
        let is_ours = application == APPLICATION || (application == 0 && tables == 0);
        if is_ours {
            Ok(version)
        } else {
            Err(damaged("a database of another program"))
        }
    }

    fn look_through(&self) -> Result<(), OpenError> {
        let sql = "PRAGMA quick_check(1)";
        let found: Result<String, _> = self.connection.query_row(sql, [], |row| row.get(0));
        match found {
            Ok(found) if found == "ok" => Ok(()),
            Ok(found) => Err(OpenError::Damaged(found.replace('\n', "; "))),
            Err(error) => Err(told(&error)),
        }
    }

    fn prepare(&mut self) -> rusqlite::Result<()> {
        // A transaction is one write; the disk is waited for only now and then.
        self.connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        self.connection
            .pragma_update(None, "synchronous", "NORMAL")?;
        let version = self.version()?;
        let transaction = self.connection.transaction()?;
        if version == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()
    }

    /// Whether it is still the file of that name.
    pub fn is_in_place(&self) -> bool {
        let found = self.file.symlink_metadata();
        found.is_ok_and(|found| found.ino() == self.inode)
    }

    /// Whether no transaction is open.
    pub fn is_at_rest(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// Adds what was moved, and keeps names and the clock, all or nothing.
    pub fn add(
        &mut self,
        pending: &Pending,
        names: &HashMap<Key, String>,
        clock: Option<KeptClock>,
    ) -> rusqlite::Result<()> {
        let outcome = self.try_add(pending, names, clock);
        if outcome.is_err() {
            // Some of these numbers may be of peers that weren't added after all.
            self.ids.clear();
        }
        outcome
    }

    fn try_add(
        &mut self,
        pending: &Pending,
        names: &HashMap<Key, String>,
        clock: Option<KeptClock>,
    ) -> rusqlite::Result<()> {
        let ids = &mut self.ids;
        let transaction = self.connection.transaction()?;
        {
            let mut add = transaction.prepare_cached(
                "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET
                    rx_bytes = rx_bytes + excluded.rx_bytes,
                    rx_packets = rx_packets + excluded.rx_packets,
                    tx_bytes = tx_bytes + excluded.tx_bytes,
                    tx_packets = tx_packets + excluded.tx_packets",
            )?;
            for ((day, key), counts) in pending {
                let id = match ids.get(key) {
                    Some(id) => *id,
                    None => *ids.entry(*key).or_insert(id_of(&transaction, key)?),
                };
                add.execute(params![
                    day.number(),
                    id,
                    stored(counts.rx_bytes),
                    stored(counts.rx_packets),
                    stored(counts.tx_bytes),
                    stored(counts.tx_packets),
                ])?;
            }
            let mut name = transaction
                .prepare_cached("UPDATE peers SET name = ?2 WHERE key = ?1 AND name IS NOT ?2")?;
            for (key, called) in names {
                let called = Some(called).filter(|called| !called.is_empty());
                name.execute(params![key, called])?;
            }
            if let Some(KeptClock { shown, sure }) = clock {
                transaction.execute(
                    "INSERT OR REPLACE INTO facts VALUES ('clock', ?1), ('sure', ?2)",
                    [stored(shown), stored(sure)],
                )?;
            }
        }
        transaction.commit()
    }

    /// The clock that was kept last.
    pub fn clock(&self) -> rusqlite::Result<Option<KeptClock>> {
        let fact = |name: &str| {
            let sql = "SELECT value FROM facts WHERE name = ?1";
            let found = self.connection.query_row(sql, [name], |row| number(row, 0));
            found.optional()
        };
        let Some(shown) = fact("clock")? else {
            return Ok(None);
        };
        // Before there were two of them, days were forgotten by the only one.
        let sure = fact("sure")?.unwrap_or(shown);
        Ok(Some(KeptClock { shown, sure }))
    }

    /// What each peer moved on a day, and in its month up to it.
    pub fn sums(&self, day: Day) -> rusqlite::Result<HashMap<Key, Sums>> {
        let mut sums: HashMap<Key, Sums> = HashMap::new();
        self.each(day.first_of_month(), day, &mut |used: Used| {
            let sums = sums.entry(used.key).or_default();
            let bytes = used.counts.bytes();
            sums.month = sums.month.saturating_add(bytes);
            if used.day == day {
                sums.day = sums.day.saturating_add(bytes);
            }
        })?;
        Ok(sums)
    }

    /// Gives what each peer moved on each day from the first to the last, by days.
    pub fn each(&self, first: Day, last: Day, take: &mut dyn FnMut(Used)) -> rusqlite::Result<()> {
        let mut find = self.connection.prepare_cached(
            "SELECT key, name, day, rx_bytes, rx_packets, tx_bytes, tx_packets
             FROM usage JOIN peers ON peer = id WHERE day BETWEEN ?1 AND ?2 ORDER BY day",
        )?;
        let mut rows = find.query([first.number(), last.number()])?;
        while let Some(row) = rows.next()? {
            take(Used {
                key: row.get(0)?,
                name: row.get(1)?,
                day: Day::of_number(number(row, 2)?),
                counts: Counts {
                    rx_bytes: number(row, 3)?,
                    rx_packets: number(row, 4)?,
                    tx_bytes: number(row, 5)?,
                    tx_packets: number(row, 6)?,
                },
            });
        }
        Ok(())
    }

    /// Forgets what was before that day, and peers of which nothing is left.
    pub fn forget_before(&mut self, day: Day) -> rusqlite::Result<usize> {
        let transaction = self.connection.transaction()?;
        let forgotten = transaction.execute("DELETE FROM usage WHERE day < ?1", [day.number()])?;
        if forgotten > 0 {
            transaction.execute(
                "DELETE FROM peers WHERE id NOT IN (SELECT peer FROM usage)",
                [],
            )?;
            self.ids.clear();
        }
        transaction.commit()?;
        Ok(forgotten)
    }
}

/// The number of a peer, which is added if it isn't there.
fn id_of(connection: &Connection, key: &Key) -> rusqlite::Result<i64> {
    let mut find = connection.prepare_cached("SELECT id FROM peers WHERE key = ?1")?;
    if let Some(id) = find.query_row([key], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let mut add = connection.prepare_cached("INSERT INTO peers (key) VALUES (?1)")?;
    add.execute([key])?;
    Ok(connection.last_insert_rowid())
}

/// A count as the database takes it.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn number(row: &rusqlite::Row, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| damaged("a count is negative"))
}

fn damaged(reason: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
    rusqlite::Error::SqliteFailure(code, Some(reason.to_owned()))
}

/// Whether a database is of no use any more that fails like that.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        Error::SqliteFailure(error, _) => {
            matches!(
                error.code,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
            )
        }
        // Tables that aren't as we made them.
        Error::SqlInputError { .. }
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => true,
        _ => false,
    }
}

fn told(error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse,
        _ if is_damage(error) => OpenError::Damaged(error.to_string()),
        _ => OpenError::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ANA: Key = [1; 32];
    const BOB: Key = [2; 32];

    fn day(number: u64) -> Day {
        Day::of_number(number)
    }

    fn counts(bytes: u64) -> Counts {
        Counts {
            rx_bytes: bytes,
            rx_packets: 1,
            tx_bytes: 2,
            tx_packets: 3,
        }
    }

    fn pending(entries: &[(u64, Key, u64)]) -> Pending {
        let entries = entries.iter();
        entries
            .map(|(at, key, bytes)| ((day(*at), *key), counts(*bytes)))
            .collect()
    }

    fn all(store: &Store) -> Vec<(u64, Key, u64)> {
        let mut all = Vec::new();
        let mut take = |used: Used| {
            all.push((used.day.number().into(), used.key, used.counts.rx_bytes));
        };
        store.each(day(0), Day::LAST, &mut take).unwrap();
        all.sort_unstable();
        all
    }

    fn names(names: &[(Key, &str)]) -> HashMap<Key, String> {
        names
            .iter()
            .map(|(key, name)| (*key, (*name).to_owned()))
            .collect()
    }

    #[test]
    fn what_was_added_is_there_at_the_next_start_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usage.db");
        let mut store = Store::open(&file).unwrap();
        let called = names(&[(ANA, "ana"), (BOB, "")]);
        let first = pending(&[(5, ANA, 10), (5, BOB, 1), (6, ANA, 100)]);
        let clock = KeptClock {
            shown: 77,
            sure: 66,
        };
        store.add(&first, &called, Some(clock)).unwrap();
        store
            .add(&pending(&[(6, ANA, 11)]), &names(&[]), None)
            .unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // As after SIGKILL: nothing is closed.
        std::mem::forget(store.connection);
        // The lock of a process that is gone is gone; this one's is its own.
        let copy = dir.path().join("copy.db");
        std::fs::copy(&file, &copy).unwrap();
        let log = |of: &Path| of.with_extension("db-wal");
        std::fs::copy(log(&file), log(&copy)).unwrap();
        let store = Store::open_existing(&copy).unwrap();
        assert_eq!(all(&store), [(5, ANA, 10), (5, BOB, 1), (6, ANA, 111)]);
        assert_eq!(store.clock().unwrap(), Some(clock));
        let sums = store.sums(day(6)).unwrap();
        assert_eq!(
            sums[&ANA],
            Sums {
                day: 115,
                month: 127
            }
        );
        assert_eq!(sums[&BOB], Sums { day: 0, month: 3 });
        let mut called = Vec::new();
        store
            .each(day(5), day(5), &mut |used| called.push(used.name))
            .unwrap();
        called.sort_unstable();
        assert_eq!(called, [None, Some("ana".to_owned())]);
    }

    #[test]
    fn old_days_are_forgotten_with_the_peers_that_had_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("usage.db")).unwrap();
        let moved = pending(&[(1, BOB, 1), (2, ANA, 2), (3, ANA, 3)]);
        store.add(&moved, &names(&[(BOB, "bob")]), None).unwrap();
        assert_eq!(store.forget_before(day(3)).unwrap(), 2);
        assert_eq!(store.forget_before(day(3)).unwrap(), 0);
        assert_eq!(all(&store), [(3, ANA, 3)]);
        // Who comes back is a new one.
        store
            .add(&pending(&[(3, BOB, 9)]), &names(&[]), None)
            .unwrap();
        assert_eq!(all(&store), [(3, ANA, 3), (3, BOB, 9)]);
        let mut called = Vec::new();
        store
            .each(day(3), day(3), &mut |used| called.push(used.name))
            .unwrap();
        assert_eq!(called, [None, None]);
    }

    #[test]
    fn garbage_other_programs_and_later_versions_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usage.db");
        assert_eq!(Store::open_existing(&file).unwrap_err(), OpenError::Missing);
        std::fs::write(&file, [0x5a; 5000]).unwrap();
        let garbage = Store::open(&file).unwrap_err();
        assert!(matches!(garbage, OpenError::Damaged(_)), "{garbage}");
        std::fs::remove_file(&file).unwrap();
        let other = Connection::open(&file).unwrap();
        other.execute_batch("CREATE TABLE theirs (it)").unwrap();
        drop(other);
        let foreign = Store::open(&file).unwrap_err();
        assert!(foreign.to_string().contains("another program"), "{foreign}");
        std::fs::remove_file(&file).unwrap();
        let store = Store::open(&file).unwrap();
        store
            .connection
            .pragma_update(None, "user_version", 2)
            .unwrap();
        drop(store);
        assert_eq!(Store::open(&file).unwrap_err(), OpenError::Newer(2));
        let newer = std::fs::read(&file).unwrap();
        assert_eq!(
            Store::open_existing(&file).unwrap_err(),
            OpenError::Newer(2)
        );
        assert_eq!(std::fs::read(&file).unwrap(), newer, "it isn't touched");
        let link = dir.path().join("link.db");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(matches!(Store::open(&link), Err(OpenError::Other(_))));
    }

    #[test]
    fn a_page_that_was_overwritten_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usage.db");
        let mut store = Store::open(&file).unwrap();
        let many: Vec<_> = (0..2000).map(|at| (at, ANA, at)).collect();
        store.add(&pending(&many), &names(&[]), None).unwrap();
        drop(store);
        let mut bytes = std::fs::read(&file).unwrap();
        for byte in bytes.iter_mut().skip(4096).take(20_000) {
            *byte = 0xee;
        }
        std::fs::write(&file, &bytes).unwrap();
        let damaged = Store::open(&file).unwrap_err();
        assert!(matches!(damaged, OpenError::Damaged(_)), "{damaged}");
    }

    #[test]
    fn one_process_has_it_and_it_notices_when_the_file_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usage.db");
        let mut store = Store::open(&file).unwrap();
        store
            .add(&pending(&[(1, ANA, 1)]), &names(&[]), None)
            .unwrap();
        assert!(store.is_in_place());
        std::fs::remove_file(&file).unwrap();
        assert!(!store.is_in_place());
    }
}
