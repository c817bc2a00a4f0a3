//! The reference of the manual, in both languages, is what the declarations of the keys say.

use std::fmt::Write;
use std::path::Path;

use super::keys::{self, Key, Kind, Reload};

/// Set, the reference in the manual is written instead of compared.
const WRITE: &str = "TALTUN_WRITE_REFERENCE";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    English,
    Spanish,
}

#[test]
fn the_reference_in_the_manual_is_the_parsers_own_table() {
    compare("reference.md", Language::English);
}

#[test]
fn the_spanish_reference_is_the_same_table() {
    compare("es/reference.md", Language::Spanish);
}

#[test]
fn every_key_belongs_to_a_section_and_has_its_name_alone() {
    let all: Vec<&Key> = keys::all().collect();
    for (place, key) in all.iter().enumerate() {
        assert!(keys::section(key.section).is_some());
        let twin = all[..place]
            .iter()
            .any(|other| other.full_name() == key.full_name());
        assert!(!twin, "{}", key.full_name());
    }
}

/// The table of what a reload doesn't take over, with all sections.
#[test]
fn the_pages_on_installing_say_of_each_section_what_takes_a_restart() {
    for file in ["install.md", "es/install.md"] {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual");
        let page = std::fs::read_to_string(manual.join(file)).unwrap();
        for section in keys::SECTIONS {
            let begins = format!("| `{}` | ", section.header);
            let rows = page.lines().filter_map(|line| line.strip_prefix(&begins));
            // There is a table of programs, too.
            let rows: Vec<&str> = rows.filter(|row| row.matches('|').count() == 1).collect();
            let [row] = rows[..] else {
                panic!("{file}: {} in {rows:?}", section.header);
            };
            let told: Vec<&str> = row.split(';').next().unwrap().split('`').collect();
            let told = told.iter().skip(1).step_by(2).copied();
            let fixed = section.keys.iter();
            let fixed = fixed.filter(|key| key.reload == Reload::Restart);
            let fixed: Vec<&str> = fixed.map(|key| key.name).collect();
            assert_eq!(
                told.collect::<Vec<_>>(),
                fixed,
                "{file}: {}",
                section.header
            );
        }
    }
}

fn compare(file: &str, language: Language) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/manual")
        .join(file);
    let expected = page(language);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == expected,
        "{} is not what the keys say; write it anew with {WRITE}=1 cargo test -p taltun \
         --lib reference",
        path.display()
    );
}

fn page(language: Language) -> String {
    let english = language == Language::English;
    let mut page = if english {
        "# Configuration reference\n\n\
         Made from the table that the parser reads its keys from; a test keeps the two equal.\n\
         Unknown keys, wrong types and values that can't work are errors with file, line and\n\
         remedy before anything is touched: `taltun check --config FILE`.\n\n\
         The fourth column says what it takes to change a key of a running tunnel: `taltun reload`,\n\
         or a restart.\n"
    } else {
        "# Referencia de configuración\n\n\
         Generada a partir de la tabla de la que el analizador toma sus claves; una prueba las\n\
         mantiene iguales. Las claves desconocidas, los tipos erróneos y los valores imposibles\n\
         son errores con fichero, línea y remedio antes de tocar nada: `taltun check --config F`.\n\n\
         La cuarta columna dice qué hace falta para cambiar una clave de un túnel en marcha:\n\
         `taltun reload`, o reiniciar.\n"
    }
    .to_owned();
    let head = if english {
        "| key | value | default | to change | |"
    } else {
        "| clave | valor | por omisión | para cambiarla | |"
    };
    for section in keys::SECTIONS {
        let about = if english {
            section.english
        } else {
            section.spanish
        };
        // Writing to a String can't fail.
        let _ = write!(
            page,
            "\n## `{}`\n\n{about}\n\n{head}\n|---|---|---|---|---|\n",
            section.header
        );
        for key in section.keys {
            let about = if english { key.english } else { key.spanish };
            let default = match key.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let _ = writeln!(
                page,
                "| `{}` | {} | {default} | {} | {about} |",
                key.name,
                kind(key.kind, english),
                takes(key.reload, english),
            );
        }
    }
    page
}

fn kind(kind: Kind, english: bool) -> String {
    let choose = |one: &str, other: &str| if english { one } else { other }.to_owned();
    match kind {
        Kind::Text => choose("text", "texto"),
        Kind::Date => choose("date", "fecha"),
        Kind::TextOrList => choose("text or list", "texto o lista"),
        Kind::List => choose("list of texts", "lista de textos"),
        Kind::Switch => "`true`, `false`".into(),
        Kind::Number(least, most) => {
            format!("{least} {} {most}", choose("to", "a"))
        }
        Kind::Range(least, most) => format!(
            "{} {least} {} {most}",
            choose("two numbers from", "dos números de"),
            choose("to", "a")
        ),
        Kind::OneOf(words) => {
            let quoted: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            quoted.join(", ")
        }
    }
}

fn takes(reload: Reload, english: bool) -> &'static str {
    match (reload, english) {
        (Reload::Live, _) => "reload",
        (Reload::Restart, true) => "restart",
        (Reload::Restart, false) => "reiniciar",
    }
}
