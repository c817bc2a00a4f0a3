//! The manual is kept true: what it quotes is in the source, the files that it shows are the
//! examples, its links lead somewhere, and the Spanish edition has everything the English one
//! has. So are the pages beside it that have a Spanish edition.

#![allow(
    clippy::unwrap_used,
    reason = "only tests, with helpers that clippy doesn't take for such"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A page, by its path, and its text.
type Page = (String, String);

/// Pages beside the manual and their Spanish editions, by their paths in the repository.
const BESIDE: [(&str, &str); 4] = [
    ("taltun/docs/shield.md", "taltun/docs/es/shield.md"),
    ("taltun/docs/af_xdp.md", "taltun/docs/es/af_xdp.md"),
    ("taltun/docs/flood.md", "taltun/docs/es/flood.md"),
    ("vagrant/README.md", "vagrant/README.es.md"),
];
/// Pages that have no Spanish edition.
const ENGLISH_ONLY: [&str; 4] = [
    "README.md",
    "CONTRIBUTING.md",
    "taltun/docs/architecture.md",
    "taltun/docs/testing.md",
];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn repository() -> &'static Path {
    package().parent().unwrap()
}

fn manual() -> PathBuf {
    package().join("docs/manual")
}

fn page(path: &str) -> Page {
    let text = fs::read_to_string(repository().join(path)).unwrap();
    (path.to_owned(), text)
}

fn pages(directory: &str) -> Vec<Page> {
    let mut pages: Vec<Page> = fs::read_dir(manual().join(directory))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|kind| kind == "md"))
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    pages.sort();
    assert!(pages.len() >= 9, "{directory}: {} pages", pages.len());
    pages
}

/// The pages that exist in both languages, by their paths in the repository, the English one
/// first.
fn twins() -> Vec<(Page, Page)> {
    let (english, spanish) = (pages(""), pages("es"));
    let names =
        |pages: &[Page]| -> Vec<String> { pages.iter().map(|(name, _)| name.clone()).collect() };
    assert_eq!(names(&english), names(&spanish));
    let manual = english.into_iter().map(|(name, _)| {
        let path = |directory| page(&format!("taltun/docs/{directory}/{name}"));
        (path("manual"), path("manual/es"))
    });
    let beside = BESIDE.map(|(english, spanish)| (page(english), page(spanish)));
    manual.chain(beside).collect()
}

fn all_pages() -> Vec<Page> {
    let twins = twins().into_iter();
    let twins = twins.flat_map(|(english, spanish)| [english, spanish]);
    twins.chain(ENGLISH_ONLY.map(page)).collect()
}

/// What is between the fences of a page, each with its language.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence that isn't closed");
    blocks
}

/// The lines of a page outside its fences.
fn prose(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.lines()
        .filter(|line| {
            let fence = line.starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect()
}

/// All of the source, as its texts are printed: a backslash at the end of a line joins it
/// with the next.
fn source() -> String {
    fn read(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    read(&package().join("src"), &mut text);
    read(&package().join("../taltun-common/src"), &mut text);
    let mut joined = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("\\\n") {
        joined.push_str(&rest[..at]);
        rest = rest[at + 2..].trim_start();
    }
    joined + rest
}

#[test]
fn every_message_of_the_troubleshooting_is_one_that_taltun_prints() {
    let source = source();
    for (language, pages) in [("", pages("")), ("es/", pages("es"))] {
        let (_, text) = pages
            .iter()
            .find(|(name, _)| name == "troubleshooting.md")
            .unwrap();
        let messages: Vec<&str> = prose(text)
            .into_iter()
            .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
            .collect();
        assert!(messages.len() >= 25, "{} messages", messages.len());
        for message in messages {
            for part in message
                .split('…')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                assert!(
                    source.contains(part),
                    "{language}troubleshooting.md: nothing prints {part:?}"
                );
            }
        }
    }
}

#[test]
fn every_reason_of_a_drop_is_explained_in_both_languages() {
    for (language, pages) in [("", pages("")), ("es/", pages("es"))] {
        let (_, text) = pages
            .iter()
            .find(|(name, _)| name == "troubleshooting.md")
            .unwrap();
        let rows: Vec<&str> = prose(text)
            .into_iter()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` | ")?.0))
            .collect();
        let reasons = taltun_common::drops::DropReason::ALL;
        let labels: Vec<&str> = reasons.iter().map(|reason| reason.label()).collect();
        assert_eq!(rows, labels, "{language}troubleshooting.md");
    }
}

#[test]
fn the_files_in_the_recipes_are_the_examples() {
    for (name, text) in all_pages() {
        if !name.ends_with("recipes.md") {
            continue;
        }
        let mut shown = BTreeSet::new();
        let mut rest = text.as_str();
        while let Some((_, after)) = rest.split_once("<!-- ") {
            let (file, after) = after.split_once(" -->\n```toml\n").unwrap();
            let (block, after) = after.split_once("```").unwrap();
            let example = package().join("dist/examples").join(file);
            let example = fs::read_to_string(example).unwrap();
            assert!(block == example, "{name}: {file} is not the example");
            shown.insert(file.to_owned());
            rest = after;
        }
        let examples = fs::read_dir(package().join("dist/examples"))
            .unwrap()
            .flatten();
        let files = examples
            .filter(|entry| entry.path().is_dir())
            .flat_map(|recipe| fs::read_dir(recipe.path()).unwrap().flatten())
            .count();
        assert_eq!(shown.len(), files, "{name} shows {shown:?}");
    }
}

#[test]
fn configurations_in_the_manual_name_keys_that_exist() {
    use taltun::config::keys;
    for (name, text) in all_pages() {
        for (language, block) in blocks(&text) {
            if language != "toml" {
                continue;
            }
            let mut section = "";
            for line in block.lines() {
                if line.starts_with('[') {
                    section = line;
                }
                // The names of groups are the operator's own.
                if line.starts_with([' ', '#', '[']) || section == "[groups]" {
                    continue;
                }
                let Some((key, _)) = line.split_once(" = ") else {
                    continue;
                };
                assert!(
                    keys::all().any(|known| known.name == key.trim()),
                    "{name}: there is no key {key}"
                );
            }
        }
    }
}

#[test]
fn scripts_in_the_manual_are_the_shells_language() {
    let mut scripts = 0;
    for (name, text) in all_pages() {
        for (language, block) in blocks(&text) {
            if language != "sh" && language != "bash" {
                continue;
            }
            // It reads the whole and runs nothing.
            let mut shell = Command::new(&language)
                .arg("-n")
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = shell.stdin.take().unwrap();
            input.write_all(block.as_bytes()).unwrap();
            drop(input);
            assert!(shell.wait().unwrap().success(), "{name}:\n{block}");
            scripts += 1;
        }
    }
    assert!(scripts >= 10, "{scripts} scripts");
}

#[test]
fn links_lead_somewhere() {
    for (name, text) in all_pages() {
        let page = repository().join(&name);
        let directory = page.parent().unwrap();
        for line in prose(&text) {
            for target in line.split("](").skip(1) {
                let (target, _) = target.split_once(')').unwrap();
                if target.starts_with("http") {
                    continue;
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = if file.is_empty() {
                    page.clone()
                } else {
                    directory.join(file)
                };
                assert!(file.exists(), "{name}: {target}");
                if !anchor.is_empty() {
                    let linked = fs::read_to_string(&file).unwrap();
                    let found = prose(&linked)
                        .iter()
                        .any(|line| is_heading_for(line, anchor));
                    assert!(found, "{name}: {target}");
                }
            }
        }
    }
}

/// Whether a line is the heading that `anchor` leads to, by the rule that forges have.
fn is_heading_for(line: &str, anchor: &str) -> bool {
    let Some((marks, title)) = line.split_once(' ') else {
        return false;
    };
    let is_heading = !marks.is_empty() && marks.bytes().all(|byte| byte == b'#');
    let made: String = title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect();
    is_heading && made == anchor
}

#[test]
fn the_spanish_edition_has_all_that_the_english_one_has() {
    for ((name, english), (_, spanish)) in twins() {
        let count = |text: &str, mark: &str| {
            prose(text)
                .iter()
                .filter(|line| line.starts_with(mark))
                .count()
        };
        for mark in ["#", "##", "###", "|", "- ", "* ", "1. "] {
            assert_eq!(
                count(&english, mark),
                count(&spanish, mark),
                "{name}: lines that begin with {mark:?}"
            );
        }
        let rows = |text| prose(text).into_iter().filter(|line| line.starts_with('|'));
        for (row, other) in rows(&english).zip(rows(&spanish)) {
            assert_eq!(numbers(row), numbers(other), "{name}: {row}\n{other}");
        }
        let (here, there) = (blocks(&english), blocks(&spanish));
        assert_eq!(here.len(), there.len(), "{name}: blocks");
        for ((language, one), (other_language, other)) in here.iter().zip(&there) {
            assert_eq!(language, other_language, "{name}");
            // What is typed is the same in every language; pictures and comments aren't.
            match language.as_str() {
                "console" => assert_eq!(one, other, "{name}"),
                "sh" | "bash" => assert_eq!(commands(one), commands(other), "{name}"),
                _ => {}
            }
        }
        assert!(
            spanish.len() * 10 > english.len() * 8,
            "{name}: the Spanish page is much shorter"
        );
    }
}

/// The lines of a script without its comments.
fn commands(script: &str) -> Vec<&str> {
    let lines = script.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once("  #").map_or(line, |(command, _)| command))
        .map(str::trim_end)
        .collect()
}

/// The numbers in a row of a table, whatever their order and the marks between their digits.
fn numbers(row: &str) -> Vec<String> {
    let characters: Vec<char> = row.chars().collect();
    let is_digit = |at: usize| characters.get(at).is_some_and(char::is_ascii_digit);
    let joined: String = (0..characters.len())
        .filter(|&at| {
            let between = at > 0 && is_digit(at - 1) && is_digit(at + 1);
            !(between && matches!(characters[at], '.' | ','))
        })
        .map(|at| characters[at])
        .collect();
    let mut numbers: Vec<String> = joined
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty())
        .map(str::to_owned)
        .collect();
    numbers.sort();
    numbers
}

#[test]
fn pages_lead_to_their_own_language() {
    let twins = twins();
    let canonical = |path: &Path| path.canonicalize().unwrap();
    let english_ones: BTreeSet<PathBuf> = twins
        .iter()
        .map(|((name, _), _)| canonical(&repository().join(name)))
        .collect();
    for ((english, text), (spanish, spanish_text)) in &twins {
        let twin = canonical(&repository().join(english));
        let directory = repository().join(spanish);
        for target in targets(spanish_text) {
            let target = directory.parent().unwrap().join(target);
            let target = canonical(&target);
            assert!(
                target == twin || !english_ones.contains(&target),
                "{spanish} leads to the English edition of {}",
                target.display()
            );
        }
        let is_beside = BESIDE.iter().any(|(path, _)| path == english);
        if is_beside || english.ends_with("manual/README.md") {
            let leads = |page: &str, text: &str, other: &str| {
                let from = repository().join(page);
                let other = canonical(&repository().join(other));
                targets(text).any(|target| canonical(&from.parent().unwrap().join(target)) == other)
            };
            assert!(leads(english, text, spanish), "{english} → {spanish}");
            assert!(
                leads(spanish, spanish_text, english),
                "{spanish} → {english}"
            );
        }
    }
}

/// The files that a page links to.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    prose(text)
        .into_iter()
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split_once('#').map_or(target, |(file, _)| file))
        .filter(|target| !target.is_empty() && !target.starts_with("http"))
}

/// A file is named by its path below the repository, below `taltun/src`, as `protocol/…` or
/// `crypto/…` for the crates, or by its name alone beside the one before it. A name in brackets is
/// a function of the file before it.
#[test]
fn the_architecture_page_names_files_that_are_there() {
    let root = package().parent().unwrap();
    let page = fs::read_to_string(package().join("docs/architecture.md")).unwrap();
    let mut last = root.to_owned();
    let mut functions = 0;
    let mut found = 0;
    let pieces: Vec<&str> = page.split('`').collect();
    for (at, name) in pieces.iter().enumerate().skip(1).step_by(2) {
        let is_file = Path::new(name).extension().is_some_and(|kind| kind == "rs");
        if !is_file && !name.ends_with('/') {
            let is_bracketed = pieces[at - 1].ends_with('(') && pieces[at + 1].starts_with(')');
            let name = name.rsplit("::").next().unwrap_or_default();
            let is_function = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_bracketed && is_function {
                let text = fs::read_to_string(&last).unwrap();
                let is_there = ["(", "<"]
                    .iter()
                    .any(|end| text.contains(&format!("fn {name}{end}")));
                assert!(is_there, "{name} isn't in {}", last.display());
                functions += 1;
            }
            continue;
        }
        let crates = name
            .split_once('/')
            .map(|(package, rest)| package_dir(root, package).join(rest));
        let places = [
            Some(root.join(name)),
            Some(root.join("taltun/src").join(name)),
            Some(root.join("taltun/src/dataplane").join(name)),
            Some(root.join("taltun").join(name)),
            crates,
            Some(last.with_file_name(name)),
        ];
        let place = places.into_iter().flatten().find(|place| place.exists());
        last = place.unwrap_or_else(|| panic!("{name} isn't there"));
        found += 1;
    }
    assert!(functions >= 10, "{functions} functions");
    assert!(found > 50, "{found} files");
}

/// Where the files of the crate that the page calls so are.
fn package_dir(root: &Path, name: &str) -> PathBuf {
    root.join("taltun").join(name).join("src")
}
