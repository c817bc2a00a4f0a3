//! What a book does that its disk lets down, or the clock.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::book::{Book, Event, Kept, Span};
use crate::clock::KeptClock;
use crate::counts::{Batch, Counts, Entry, Key};
use crate::date::Day;
use crate::store::{OpenError, Store, Used};
use crate::totals::Sums;

const ANA: Key = [1; 32];
const CLOCK: KeptClock = KeptClock { shown: 7, sure: 5 };
const LIMIT: Duration = Duration::from_secs(30);

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn batch(at: &str, bytes: u64) -> Batch {
    let counts = Counts {
        rx_bytes: bytes,
        rx_packets: 1,
        ..Counts::default()
    };
    let name = Some("ana".to_owned());
    let entry = Entry {
        key: ANA,
        name,
        counts,
    };
    Batch {
        day: day(at),
        clock: Some(CLOCK),
        sure: day(at),
        entries: vec![entry],
    }
}

fn used(book: &Book) -> Vec<Used> {
    let (tell, told) = mpsc::channel();
    let ask = || {
        let span = Span {
            first: Day::default(),
            last: Day::LAST,
        };
        let tell = tell.clone();
        book.ask_used(span, move |used| tell.send(used).unwrap())
    };
    // While the thread writes, there may be no room for a question.
    let begun = Instant::now();
    while !ask() {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(10));
    }
    told.recv_timeout(LIMIT).unwrap().unwrap()
}

fn stored(file: &Path) -> Vec<(String, u64)> {
    let store = Store::open_existing(file).unwrap();
    let mut found = Vec::new();
    let mut take = |used: Used| found.push((used.day.to_string(), used.counts.rx_bytes));
    store.each(Day::default(), Day::LAST, &mut take).unwrap();
    found
}

/// Waits for the event that `wanted` recognises.
fn wait_for(book: &Book, wanted: impl Fn(&Event) -> bool) -> Event {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        if let Some(event) = book.wait(LIMIT)
            && wanted(&event)
        {
            return event;
        }
    }
    panic!("it doesn't come");
}

fn warning(book: &Book) -> String {
    match wait_for(book, |event| matches!(event, Event::Warning(_))) {
        Event::Warning(text) => text,
        _ => unreachable!(),
    }
}

#[test]
fn what_is_added_is_told_written_and_known_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hub/usage.db");
    let mut book = Book::open(file.clone(), 400).unwrap();
    assert_eq!(book.wait(LIMIT), Some(Event::Opened(None)));
    book.add(batch("2026-11-29", 5));
    book.add(batch("2026-11-29", 6));
    book.add(batch("2026-11-30", 7));
    let told = used(&book);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].name.as_deref(), Some("ana"));
    assert_eq!(told[0].counts.rx_bytes, 11);
    assert_eq!(book.kept(), Kept::OnDisk);
    assert!(book.close(LIMIT));
    let expected = [("2026-11-29".to_owned(), 11), ("2026-11-30".to_owned(), 7)];
    assert_eq!(stored(&file), expected);

    let book = Book::open(file, 400).unwrap();
    assert_eq!(book.wait(LIMIT), Some(Event::Opened(Some(CLOCK))));
    book.add(batch("2026-11-30", 1));
    assert!(book.ask_sums(day("2026-11-30")));
    let Some(Event::Sums(at, sums)) = book.wait(LIMIT) else {
        panic!("no sums");
    };
    assert_eq!(at, day("2026-11-30"));
    assert_eq!(sums[&ANA], Sums { day: 8, month: 19 });
}

#[test]
fn days_are_kept_for_as_long_as_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    let mut book = Book::open(file.clone(), 3).unwrap();
    for at in ["2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01"] {
        book.add(batch(at, 1));
    }
    assert_eq!(used(&book).len(), 3);
    book.keep(1);
    assert_eq!(used(&book).len(), 1);
    // Without any, nothing is written any more, and what is there stays.
    book.keep(0);
    book.add(batch("2026-12-01", 1));
    assert_eq!(used(&book)[0].counts.rx_bytes, 1);
    assert_eq!(book.kept(), Kept::Off);
    book.close(LIMIT);
    assert_eq!(stored(&file), [("2026-12-01".to_owned(), 1)]);
}

#[test]
fn a_clock_that_is_ahead_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    let mut book = Book::open(file.clone(), 3).unwrap();
    for at in ["2026-11-28", "2026-11-29"] {
        book.add(batch(at, 1));
    }
    // A year ahead, which isn't sure.
    book.add(Batch {
        sure: day("2026-11-29"),
        ..batch("2027-11-29", 1)
    });
    book.add(batch("2026-11-30", 1));
    assert!(book.close(LIMIT));
    let days: Vec<String> = stored(&file).into_iter().map(|(day, _)| day).collect();
    let expected = ["2026-11-28", "2026-11-29", "2026-11-30", "2027-11-29"];
    assert_eq!(days, expected);
}

#[test]
fn a_peer_without_a_name_has_none_in_memory_either() {
    let dir = tempfile::tempdir().unwrap();
    for keep_days in [0, 400] {
        let book = Book::open(dir.path().join("usage.db"), keep_days).unwrap();
        let mut unnamed = batch("2026-11-29", 1);
        unnamed.entries[0].name = Some(String::new());
        book.add(unnamed);
        assert_eq!(used(&book)[0].name, None, "{keep_days}");
    }
}

#[test]
fn a_month_is_kept_until_it_is_over_for_its_quotas() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    for keep_days in [1, 7] {
        let mut book = Book::open(file.clone(), keep_days).unwrap();
        book.add(batch("2026-11-01", 100));
        book.add(batch("2026-11-30", 1));
        assert!(book.close(LIMIT));
    }
    let mut book = Book::open(file.clone(), 1).unwrap();
    assert!(book.ask_sums(day("2026-11-30")));
    let is_sums = |event: &Event| matches!(event, Event::Sums(..));
    let Event::Sums(_, sums) = wait_for(&book, is_sums) else {
        unreachable!();
    };
    assert_eq!(sums[&ANA], Sums { day: 2, month: 202 });
    book.add(batch("2026-12-01", 1));
    assert!(book.close(LIMIT));
    assert_eq!(stored(&file), [("2026-12-01".to_owned(), 1)]);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    fs::write(&file, "this is no database, whatever it may be called").unwrap();
    let mut book = Book::open(file.clone(), 400).unwrap();
    let told = warning(&book);
    assert!(
        told.contains("moved to") && told.contains("usage.db.damaged"),
        "{told}"
    );
    book.add(batch("2026-11-29", 5));
    assert_eq!(used(&book).len(), 1);
    assert_eq!(book.kept(), Kept::OnDisk);
    assert!(book.close(LIMIT));
    assert_eq!(stored(&file).len(), 1);
    let aside = fs::read_to_string(dir.path().join("usage.db.damaged")).unwrap();
    assert!(aside.starts_with("this is no database"));
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    drop(Store::open(&file).unwrap());
    let later = rusqlite::Connection::open(&file).unwrap();
    later.pragma_update(None, "user_version", 9).unwrap();
    drop(later);
    let before = fs::read(&file).unwrap();
    let mut book = Book::open(file.clone(), 400).unwrap();
    let told = warning(&book);
    assert!(
        told.contains("version 9, which a later Taltun made"),
        "{told}"
    );
    book.add(batch("2026-11-29", 5));
    book.add(batch("2026-11-29", 5));
    assert_eq!(used(&book)[0].counts.rx_bytes, 10);
    assert!(matches!(book.kept(), Kept::InMemory(_)));
    assert!(!book.close(LIMIT));
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(
        Store::open_existing(&file).unwrap_err(),
        OpenError::Newer(9)
    );
}

#[test]
fn what_cannot_be_written_is_told_once_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("hub");
    // A file where the directory should be.
    fs::write(&place, "").unwrap();
    let file = place.join("usage.db");
    let mut book = Book::open(file.clone(), 400).unwrap();
    let told = warning(&book);
    assert!(told.contains("counted in memory"), "{told}");
    for bytes in 0..5 {
        book.add(batch("2026-11-29", bytes));
    }
    assert_eq!(used(&book)[0].counts.rx_bytes, 10);
    fs::remove_file(&place).unwrap();
    // It tries again by itself with one of the next batches; at the end it does at once.
    assert!(book.close(LIMIT));
    let rest: Vec<Event> = std::iter::from_fn(|| book.event()).collect();
    let warnings = rest
        .iter()
        .filter(|event| matches!(event, Event::Warning(_)));
    assert_eq!(warnings.count(), 0, "{rest:?}");
    let again = rest.iter().any(|event| matches!(event, Event::Info(_)));
    assert!(again, "{rest:?}");
    assert_eq!(stored(&file), [("2026-11-29".to_owned(), 10)]);
}

#[test]
fn a_file_that_is_taken_away_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    let book = Book::open(file.clone(), 400).unwrap();
    book.add(batch("2026-11-29", 1));
    used(&book);
    fs::remove_file(&file).unwrap();
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < LIMIT);
        book.add(batch("2026-11-29", 1));
        std::thread::sleep(Duration::from_millis(200));
    }
    let told = warning(&book);
    assert!(told.contains("taken away"), "{told}");
}

/// A full disk: a file system of a few pages.
#[test]
fn a_full_disk_stops_nothing() {
    // Whoever may not mount has no way to see this.
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "none"])
        .arg(dir.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("left out: mount isn't allowed");
        return;
    }
    let _mounted = Mounted(dir.path());
    let file = dir.path().join("usage.db");
    let mut book = Book::open(file.clone(), 400).unwrap();
    book.add(batch("2026-11-29", 1));
    used(&book);
    fs::write(dir.path().join("full"), vec![0; 1 << 20]).unwrap_err();
    // Each peer takes some room.
    let begun = Instant::now();
    let mut peers = 0_u64;
    while !matches!(book.kept(), Kept::InMemory(_)) {
        assert!(begun.elapsed() < LIMIT);
        let mut many = batch("2026-11-29", 1);
        for _ in 0..100 {
            peers += 1;
            let mut key = ANA;
            key[..8].copy_from_slice(&peers.to_le_bytes());
            many.entries[0].key = key;
            let entry = many.entries[0].clone();
            many.entries.push(entry);
        }
        if book.has_room() {
            book.add(many);
        }
    }
    let told = warning(&book);
    assert!(told.contains("counted in memory"), "{told}");
    let counted: u64 = used(&book).iter().map(|used| used.counts.rx_packets).sum();
    fs::remove_file(dir.path().join("full")).unwrap();
    assert!(book.close(LIMIT), "there is room again");
    let store = Store::open_existing(&file).unwrap();
    let mut kept = 0;
    store
        .each(Day::default(), Day::LAST, &mut |used| {
            kept += used.counts.rx_packets;
        })
        .unwrap();
    assert_eq!(kept, counted);
    drop(store);
}

/// A mount that ends with this, however that comes.
struct Mounted<'d>(&'d Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let umount = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0)
            .status();
        drop(umount);
    }
}
