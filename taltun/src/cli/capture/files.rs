//! Where a capture goes: standard output, a file, or the last ones of a row of files.
//!
//! Files hold what was in the clear inside the tunnel, so only who captures may read them: each is made
//! anew, in place of one that was there. Each begins with the section and its interfaces, and ends behind
//! a whole block, also when the disk is full.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taltun_capture::blocks::{self, Kind};

/// How files are cut and kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cut {
    /// The longest file, bytes.
    pub(super) size: Option<u64>,
    /// How many files are kept; `None` for one, at whose size the capture ends.
    pub(super) files: Option<u32>,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It is taken.
    Taken,
    /// There is no more room by [`Cut`].
    Full,
}

/// Why no more is written.
#[derive(Debug)]
pub(super) struct CannotWrite {
    /// Where to; `None` for standard output.
    pub(super) path: Option<PathBuf>,
    /// The reason.
    pub(super) error: io::Error,
}

/// A capture on its way to where it is kept.
#[derive(Debug)]
pub(super) struct Output {
    to: To,
    /// What each file begins with.
    head: Vec<u8>,
    /// Whole blocks that aren't written yet.
    waiting: Vec<u8>,
}

#[derive(Debug)]
enum To {
    Reader(Reader),
    Files(Files),
}

/// Who takes what is written when it likes, or stops taking.
#[derive(Debug, Clone)]
pub(super) enum Reader {
    /// Of standard output.
    Stdout,
    /// Of a pipe with a name, or a device.
    Pipe(Arc<File>, PathBuf),
}

impl Reader {
    /// Writes, and waits for as long as it takes.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Self::Pipe(pipe, _) => (&**pipe).write_all(bytes),
        }
    }

    /// Where it reads; `None` for standard output.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Stdout => None,
            Self::Pipe(_, path) => Some(path.clone()),
        }
    }
}

#[derive(Debug)]
struct Files {
    /// As it was asked for.
    name: PathBuf,
    cut: Cut,
    file: File,
    path: PathBuf,
    /// Bytes that are in it.
    written: u64,
    /// Whether packets were added to it.
    holds_packets: bool,
    /// The one in its name.
    number: u32,
    /// Those that are kept, but for the one that is written.
    kept: VecDeque<PathBuf>,
}

impl Output {
    /// To standard output.
    pub(super) fn to_stdout() -> Self {
        Self::new(To::Reader(Reader::Stdout))
    }

    /// To a file, or to a row of files with names like it. A row goes on behind the last file that
    /// is there.
    pub(super) fn to_files(name: &Path, cut: Cut) -> Result<Self, CannotWrite> {
        if is_pipe(name) && cut.size.is_none() {
            let pipe = OpenOptions::new().write(true).open(name);
            let pipe = pipe.map_err(|error| CannotWrite::at(name, error))?;
            let reader = Reader::Pipe(Arc::new(pipe), name.to_owned());
            return Ok(Self::new(To::Reader(reader)));
        }
        let before = if cut.files.is_some() {
            row(name).map_err(|error| CannotWrite::at(name, error))?
        } else {
            Vec::new()
        };
        let number = before
            .last()
            .map_or(1, |(number, _)| number.saturating_add(1));
        let path = match cut.files {
            Some(_) => numbered(name, number),
            None => name.to_owned(),
        };
        let mut files = Files {
            name: name.to_owned(),
            cut,
            file: create(&path)?,
            path,
            written: 0,
            holds_packets: false,
            number,
            kept: before.into_iter().map(|(_, path)| path).collect(),
        };
        files.remove_oldest();
        Ok(Self::new(To::Files(files)))
    }

    fn new(to: To) -> Self {
        Self {
            to,
            head: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Takes a block in; [`Self::flush`] writes it.
    pub(super) fn add(&mut self, kind: Kind, block: &[u8]) -> Result<Added, CannotWrite> {
        if matches!(kind, Kind::Section | Kind::Interface) {
            self.head.extend_from_slice(block);
        }
        if let To::Files(files) = &mut self.to {
            let length = (self.waiting.len() as u64).saturating_add(block.len() as u64);
            let is_too_long =
                (files.cut.size).is_some_and(|size| files.written.saturating_add(length) > size);
            // A file has one packet at the least, however long that is.
            if kind == Kind::Packet && is_too_long && files.holds_packets {
                if files.cut.files.is_none() {
                    return Ok(Added::Full);
                }
                files.write(&self.waiting)?;
                self.waiting.clear();
                files.go_on()?;
                self.waiting.extend_from_slice(&self.head);
            }
            files.holds_packets |= kind == Kind::Packet;
        }
        self.waiting.extend_from_slice(block);
        Ok(Added::Taken)
    }

    /// Writes what was added to files. What is for a reader comes back: it may take as long as that
    /// one likes.
    pub(super) fn flush(&mut self) -> Result<Option<(Reader, Vec<u8>)>, CannotWrite> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        match &mut self.to {
            To::Reader(reader) => Ok(Some((reader.clone(), std::mem::take(&mut self.waiting)))),
            To::Files(files) => {
                let written = files.write(&self.waiting);
                self.waiting.clear();
                written.map(|()| None)
            }
        }
    }

    /// How to name it to people.
    pub(super) fn name(&self) -> String {
        match &self.to {
            To::Reader(reader) => reader.path().map_or_else(
                || "standard output".to_owned(),
                |path| path.display().to_string(),
            ),
            To::Files(files) => files.path.display().to_string(),
        }
    }
}

impl Files {
    /// Writes whole blocks; of those for which there is no room, none in part.
    fn write(&mut self, blocks: &[u8]) -> Result<(), CannotWrite> {
        let mut done = 0;
        let outcome = loop {
            if done == blocks.len() {
                break Ok(());
            }
            match self.file.write(&blocks[done..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(length) => done += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let whole = match outcome {
            Ok(()) => done,
            Err(_) => whole_blocks(&blocks[..done]),
        };
        self.written = self.written.saturating_add(whole as u64);
        outcome.map_err(|error| {
            // A pipe can't be cut, and has a reader that copes.
            let _ = self.file.set_len(self.written);
            CannotWrite::at(&self.path, error)
        })
    }

    /// Removes the oldest files that are too many beside the one that is written.
    fn remove_oldest(&mut self) {
        let keep = self.cut.files.unwrap_or(1) as usize;
        while self.kept.len() >= keep {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            // Somebody may have taken it away.
            let _ = fs::remove_file(oldest);
        }
    }

    /// Begins the next file, and removes the oldest one that is too many.
    fn go_on(&mut self) -> Result<(), CannotWrite> {
        self.number = self.number.saturating_add(1);
        let path = numbered(&self.name, self.number);
        self.kept.push_back(self.path.clone());
        self.remove_oldest();
        self.file = create(&path)?;
        self.path = path;
        self.written = 0;
        self.holds_packets = false;
        Ok(())
    }
}

impl CannotWrite {
    fn at(path: &Path, error: io::Error) -> Self {
        Self {
            path: Some(path.to_owned()),
            error,
        }
    }
}

/// Makes a file that only who captures may read, in place of one that is there: that may be another's,
/// or open in another's hands. A link isn't followed, as it may have been laid to have another file
/// overwritten. What is no file (a pipe, a device) is written to.
fn create(path: &Path) -> Result<File, CannotWrite> {
    let open = || {
        if is_pipe(path) {
            return OpenOptions::new().write(true).open(path);
        }
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_symlink() => {
                return Err(io::Error::other(
                    "it is a symbolic link; name the file itself",
                ));
            }
            Ok(there) if there.is_file() => fs::remove_file(path)?,
            _ => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    };
    open().map_err(|error| CannotWrite::at(path, error))
}

/// Whether this is there and neither a file nor a directory.
fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// The files of a row that are there, with their numbers, the oldest first.
fn row(name: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let dir = match name.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let (stem, extension) = (name.file_stem().unwrap_or_default(), name.extension());
    let mut row = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = name.with_file_name(entry?.file_name());
        let number = (path.file_stem())
            .filter(|_| path.extension() == extension)
            .and_then(|it| it.as_encoded_bytes().strip_prefix(stem.as_encoded_bytes()))
            .and_then(|it| it.strip_prefix(b"-"))
            .and_then(|it| str::from_utf8(it).ok()?.parse().ok());
        // Only names that we would give.
        if let Some(number) = number.filter(|number| numbered(name, *number) == path) {
            row.push((number, path));
        }
    }
    row.sort_unstable();
    Ok(row)
}

/// `a.pcapng` as `a-00001.pcapng`.
fn numbered(name: &Path, number: u32) -> PathBuf {
    let mut stem = name.file_stem().map(OsString::from).unwrap_or_default();
    stem.push(format!("-{number:05}"));
    if let Some(extension) = name.extension() {
        stem.push(".");
        stem.push(extension);
    }
    name.with_file_name(stem)
}

/// How many of these bytes are whole blocks.
fn whole_blocks(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Ok(Some((_, block))) = blocks::first(&bytes[whole..]) {
        whole += block.len();
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use taltun_capture::pcapng::{self, Direction, Packet};

    use super::*;

    fn section() -> Vec<u8> {
        let mut block = Vec::new();
        pcapng::section(&mut block, "taltun", "Linux");
        block
    }

    fn packet(length: usize) -> Vec<u8> {
        let mut block = Vec::new();
        let bytes = vec![0x45; length];
        let packet = Packet {
            interface: 0,
            time: 0,
            bytes: &bytes,
            length: length as u32,
            direction: Direction::Unknown,
            comment: None,
        };
        pcapng::packet(&mut block, &packet);
        block
    }

    fn kinds(path: &Path) -> Vec<Kind> {
        let file = fs::read(path).unwrap();
        let (mut kinds, mut rest) = (Vec::new(), &file[..]);
        while let Some((kind, block)) = blocks::first(rest).unwrap() {
            kinds.push(kind);
            rest = &rest[block.len()..];
        }
        assert!(rest.is_empty(), "half a block");
        kinds
    }

    #[test]
    fn a_file_is_for_its_owner_even_if_it_was_there_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        fs::write(&path, "what was there").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut output = Output::to_files(&path, Cut::default()).unwrap();
        output.add(Kind::Section, &section()).unwrap();
        output.flush().unwrap();
        assert_eq!(kinds(&path), [Kind::Section]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_was_there_is_left_to_those_who_have_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        fs::write(&path, "what was there").unwrap();
        let before = File::open(&path).unwrap();
        Output::to_files(&path, Cut::default()).unwrap();
        assert_eq!(io::read_to_string(before).unwrap(), "what was there");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn no_link_leads_a_capture_to_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let (other, link) = (dir.path().join("other"), dir.path().join("a-00001"));
        fs::write(&other, "another's").unwrap();
        symlink(&other, &link).unwrap();
        let refused = Output::to_files(&link, Cut::default()).unwrap_err();
        assert!(refused.error.to_string().contains("symbolic link"));
        // Nor one to nowhere.
        let nowhere = dir.path().join("nowhere");
        symlink(dir.path().join("nothing"), &nowhere).unwrap();
        Output::to_files(&nowhere, Cut::default()).unwrap_err();
        assert!(!dir.path().join("nothing").exists());
        assert_eq!(fs::read_to_string(&other).unwrap(), "another's");
        let before = fs::metadata(&other).unwrap();
        let row = Cut {
            size: Some(1000),
            files: Some(2),
        };
        // A row takes the number behind it.
        Output::to_files(&dir.path().join("a"), row).unwrap();
        assert!(dir.path().join("a-00002").exists());
        let after = fs::metadata(&other).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
    }

    #[test]
    fn a_row_goes_on_where_the_last_one_ended_and_keeps_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let cut = Cut {
            size: Some(500),
            files: Some(2),
        };
        for other in ["a-1.pcapng", "a-00001.txt", "b-00001.pcapng", "a-x.pcapng"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        let mut last = 0;
        for _ in 0..3 {
            let mut output = Output::to_files(&dir.path().join("a.pcapng"), cut).unwrap();
            output.add(Kind::Section, &section()).unwrap();
            for _ in 0..10 {
                output.add(Kind::Packet, &packet(200)).unwrap();
            }
            output.flush().unwrap();
            let row = row(&dir.path().join("a.pcapng")).unwrap();
            assert_eq!(row.len(), 2);
            assert!(row[0].0 > last);
            last = row[1].0;
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
    }

    #[test]
    fn one_file_is_full_at_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let cut = Cut {
            size: Some(1000),
            files: None,
        };
        let mut output = Output::to_files(&path, cut).unwrap();
        output.add(Kind::Section, &section()).unwrap();
        let mut taken = 0;
        while output.add(Kind::Packet, &packet(100)).unwrap() == Added::Taken {
            taken += 1;
        }
        output.flush().unwrap();
        assert!((5..8).contains(&taken), "{taken}");
        assert_eq!(kinds(&path).len(), 1 + taken);
        assert!(fs::metadata(&path).unwrap().len() <= 1000);
    }

    #[test]
    fn a_row_of_files_keeps_the_last_ones_each_a_file_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let cut = Cut {
            size: Some(1000),
            files: Some(3),
        };
        let mut output = Output::to_files(&dir.path().join("a.b.pcapng"), cut).unwrap();
        output.add(Kind::Section, &section()).unwrap();
        for count in 0..50 {
            assert_eq!(
                output.add(Kind::Packet, &packet(100)).unwrap(),
                Added::Taken
            );
            if count % 7 == 0 {
                output.flush().unwrap();
            }
        }
        output.flush().unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        let mut numbers = Vec::new();
        for name in &names {
            let kinds = kinds(&dir.path().join(name));
            assert_eq!(kinds[0], Kind::Section);
            assert!(kinds[1..].iter().all(|kind| *kind == Kind::Packet));
            let number = name
                .strip_prefix("a.b-")
                .and_then(|it| it.strip_suffix(".pcapng"));
            numbers.push(number.unwrap().parse::<u32>().unwrap());
        }
        assert_eq!(numbers[2] - numbers[0], 2);
        assert!(numbers[0] > 1);
    }

    #[test]
    fn a_packet_longer_than_a_file_has_one_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let cut = Cut {
            size: Some(200),
            files: Some(2),
        };
        let mut output = Output::to_files(&dir.path().join("a"), cut).unwrap();
        output.add(Kind::Section, &section()).unwrap();
        for _ in 0..3 {
            output.add(Kind::Packet, &packet(1000)).unwrap();
        }
        output.flush().unwrap();
        let last = kinds(&dir.path().join("a-00003"));
        assert_eq!(last, [Kind::Section, Kind::Packet]);
    }

    #[test]
    fn a_full_disk_leaves_whole_blocks_and_says_so() {
        let path = Path::new("/dev/full");
        let mut output = Output::to_files(path, Cut::default()).unwrap();
        output.add(Kind::Packet, &packet(100)).unwrap();
        let (reader, bytes) = output.flush().unwrap().unwrap();
        let error = reader.write(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(reader.path().as_deref(), Some(path));
        let (whole, half) = (packet(100), packet(200));
        let bytes = [&whole[..], &whole, &half[..50]].concat();
        assert_eq!(whole_blocks(&bytes), whole.len() * 2);
        assert_eq!(whole_blocks(&[0xff; 40]), 0);
    }
}
