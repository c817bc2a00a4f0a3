//! Which places of the program some inputs reach: by the counters that the compiler has put there for
//! libFuzzer, and its table of what each of them counts.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::slice;

use taltun_fuzz::Target;

// Where the linker has put all counters, and the address and the kind of what each counts.
unsafe extern "C" {
    #[link_name = "__start___sancov_cntrs"]
    static COUNTERS: u8;
    #[link_name = "__stop___sancov_cntrs"]
    static COUNTERS_END: u8;
    #[link_name = "__start___sancov_pcs"]
    static PLACES: [usize; 2];
    #[link_name = "__stop___sancov_pcs"]
    static PLACES_END: [usize; 2];
}

// libFuzzer's, which every module calls when the program is loaded. Where a crate is optimized as a whole, its
// modules' own calls are optimized away.
unsafe extern "C" {
    fn __sanitizer_cov_8bit_counters_init(start: *const u8, stop: *const u8);
    fn __sanitizer_cov_pcs_init(start: *const [usize; 2], stop: *const [usize; 2]);
}

/// Shows libFuzzer all counters. It knows those that it has been shown before.
pub fn show() {
    // SAFETY: the linker says where each table begins and ends, and they are there as long as the
    // program is. libFuzzer writes to the counters, as the program itself does.
    unsafe {
        __sanitizer_cov_8bit_counters_init(&raw const COUNTERS, &raw const COUNTERS_END);
        __sanitizer_cov_pcs_init(&raw const PLACES, &raw const PLACES_END);
    }
}

/// Runs each file of these directories, and writes a line for each place: its address in the program's
/// file, and 1 where it was reached.
pub fn run(target: &Target, of: impl Iterator<Item = OsString>, to: &Path) -> io::Result<()> {
    for directory in of {
        for entry in fs::read_dir(directory)? {
            (target.run)(&fs::read(entry?.path())?);
        }
    }
    let base = base()?;
    let mut out = BufWriter::new(File::create(to)?);
    for (place, reached) in places() {
        let address = place.wrapping_sub(base);
        writeln!(out, "{address:#x} {}", u8::from(reached))?;
    }
    out.flush()
}

/// Each place, and whether it was reached.
fn places() -> Vec<(usize, bool)> {
    let (first, end) = (&raw const COUNTERS, &raw const COUNTERS_END);
    let count = end as usize - first as usize;
    let (places, places_end) = (&raw const PLACES, &raw const PLACES_END);
    assert_eq!(
        places_end as usize - places as usize,
        count * size_of::<[usize; 2]>()
    );
    // SAFETY: the linker says that these lie between the two, and the table has as many lines as there
    // are counters. Nobody else runs, so that none changes.
    let (counters, places) = unsafe {
        (
            slice::from_raw_parts(first, count),
            slice::from_raw_parts(places, count),
        )
    };
    let reached = counters.iter().map(|counter| *counter > 0);
    places.iter().map(|place| place[0]).zip(reached).collect()
}

/// Where the kernel has put the program.
fn base() -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let own = fs::read_link("/proc/self/exe")?;
    let line = maps
        .lines()
        .find(|line| line.ends_with(&*own.to_string_lossy()));
    let address = line.and_then(|line| line.split('-').next());
    address
        .and_then(|text| usize::from_str_radix(text, 16).ok())
        .ok_or_else(|| io::Error::other("the kernel doesn't say where the program is"))
}
