//! What imports what: no file imports one that imports it, by whatever way round, and arrows
//! between the parts of the program point down.
//!
//! The sources are read as Rust, without building them. A path in them leads to the file that
//! has what it names, through all that is passed on by a `use` in between; see [`sources`].

#![allow(
    clippy::unwrap_used,
    reason = "only tests, with helpers that clippy doesn't take for such"
)]

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sources::{File, Sources};

/// The crates, each with where it is.
const CRATES: &[(&str, &str)] = &[
    ("taltun_common", "taltun-common/src/lib.rs"),
    ("taltun_ebpf", "taltun-ebpf/src/main.rs"),
    ("taltun_tun_queue", "taltun-ebpf/src/tun_queue.rs"),
    ("taltun_capture", "taltun/capture/src/lib.rs"),
    ("taltun_crypto", "taltun/crypto/src/lib.rs"),
    ("taltun_fleet", "taltun/fleet/src/lib.rs"),
    ("taltun_policy", "taltun/policy/src/lib.rs"),
    ("taltun_protocol", "taltun/protocol/src/lib.rs"),
    ("taltun_shaping", "taltun/shaping/src/lib.rs"),
    ("taltun_udpgw", "taltun/udpgw/src/lib.rs"),
    ("taltun_usage", "taltun/usage/src/lib.rs"),
    ("taltun", "taltun/src/lib.rs"),
    ("taltun_tests", "tests/src/lib.rs"),
    ("taltun_fuzz", "tests/fuzz/src/lib.rs"),
    ("taltun_model", "tests/model/src/lib.rs"),
    ("taltun_proofs", "tests/proofs/src/lib.rs"),
    ("xtask", "xtask/src/main.rs"),
];

/// The parts of the program, from the top down: each may import those of the lines below its
/// own, and none beside or above.
const CHAIN: &[&[&str]] = &[
    &["taltun::cli"],
    &["taltun::control"],
    &[
        "taltun::gateway",
        "taltun::metrics",
        "taltun::name_service",
        "taltun::privileged",
        "taltun::web",
    ],
    &["taltun::client_file", "taltun::server_process"],
    &["taltun::accel", "taltun::system"],
    &["taltun::config", "taltun::dataplane"],
    &["taltun::report"],
    &["taltun::os"],
    &["taltun::verbs"],
    &["taltun::layer"],
    &["taltun_policy"],
    &[
        "taltun_capture",
        "taltun_fleet",
        "taltun_protocol",
        "taltun_shaping",
        "taltun_udpgw",
        "taltun_usage",
    ],
    &["taltun_crypto"],
    &["taltun_common"],
];

/// The arrows of the whole repository, from each file to those that it imports.
fn arrows() -> BTreeMap<File, BTreeSet<File>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources = Sources::read(root, CRATES);
    let arrows = sources.arrows();
    assert!(arrows.len() > 150, "{} files", arrows.len());
    arrows
}

#[test]
fn no_files_import_each_other() {
    let arrows = arrows();
    let mut circles = Vec::new();
    let mut told = BTreeSet::new();
    for file in arrows.keys() {
        if told.contains(file) {
            continue;
        }
        if let Some(way) = way_back(&arrows, file) {
            told.extend(way.iter().cloned());
            circles.push(way.join(" -> "));
        }
    }
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}

#[test]
fn arrows_between_parts_point_down() {
    let level = |file: &File| {
        let module = sources::module_of(file);
        CHAIN.iter().enumerate().find_map(|(level, parts)| {
            let part = parts
                .iter()
                .find(|part| module == **part || module.starts_with(&format!("{part}::")))?;
            Some((level, *part))
        })
    };
    let mut wrong = Vec::new();
    for (from, targets) in arrows() {
        let Some((above, part)) = level(&from) else {
            continue;
        };
        for to in targets {
            if let Some((below, other)) = level(&to)
                && part != other
                && above >= below
            {
                wrong.push(format!("{from} imports {to}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that point up or sideways:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_modules_of_the_data_plane_import_each_other() {
    const DATA_PLANE: &str = "taltun::dataplane::";
    let module = |file: &File| {
        let module = sources::module_of(file);
        let below = module.strip_prefix(DATA_PLANE)?;
        Some(below.split("::").next()?.to_owned())
    };
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, targets) in self::arrows() {
        let Some(from) = module(&from) else { continue };
        let targets = targets.iter().filter_map(module);
        let others = targets.filter(|target| *target != from).collect::<Vec<_>>();
        arrows.entry(from).or_default().extend(others);
    }
    assert!(arrows.len() > 15, "{} modules", arrows.len());
    let circles: Vec<_> = arrows
        .keys()
        .filter_map(|module| way_back(&arrows, module))
        .map(|way| way.join(" -> "))
        .collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}

/// The shortest way from a file to itself.
fn way_back(arrows: &BTreeMap<File, BTreeSet<File>>, start: &File) -> Option<Vec<File>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in arrows.get(way.last()?).into_iter().flatten() {
                let way = [way.clone(), vec![next.clone()]].concat();
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}
