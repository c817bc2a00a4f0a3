//! Settings of Taltun's in comments of a wg-quick file: `# taltun: mode = "client"`.
//!
//! Whoever wrote the file may not be whom it is for, and nobody reads comments twice. So they
//! may not hold anything that runs a program or names a file, each has to be a setting by
//! itself, and which ones were taken is said.

use crate::config::keys;

/// What a comment says.
pub(super) enum Own {
    /// The header of a section that wg-quick doesn't have.
    Header(String),
    /// A setting, and its line of TOML.
    Setting { key: String, line: String },
    /// Nothing that may be taken, and why.
    Refused(&'static str),
}

/// Reads what follows `# taltun:` in `section`.
pub(super) fn read(text: &str, section: &str) -> Own {
    if let Some(name) = text.strip_prefix('[') {
        let name = name.trim_end_matches(']').trim();
        let known = keys::section(name).is_some_and(|known| known.header == text);
        return if known && !matches!(name, "interface" | "peers") {
            Own::Header(text.to_owned())
        } else {
            Own::Refused("it is no section of Taltun's beyond [interface] and [[peers]]")
        };
    }
    let Ok(table) = text.parse::<toml::Table>() else {
        return Own::Refused("it is no line of TOML by itself");
    };
    let mut entries = table.into_iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        return Own::Refused("it is not one setting");
    };
    let declared = keys::section(section).map_or(&[][..], |section| section.keys);
    match declared.iter().find(|known| known.name == key) {
        Some(known) if known.in_comments => {}
        None if keys::all().all(|known| known.name != key || known.in_comments) => {
            return Own::Refused("there is no such key");
        }
        _ => {
            return Own::Refused(
                "a comment may not run programs or name files; write it into the outcome by hand \
                 if you trust it",
            );
        }
    }
    Own::Setting {
        line: format!("{key} = {value}"),
        key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_run_nothing_are_taken() {
        for (text, section) in [
            ("mode = \"client\"", "interface"),
            ("name = \"ana # 1\"", "peers"),
            ("masquerade = true", "nat"),
            ("routes = [\"10.0.0.0/8\", \"fd00::/8\"]", "interface"),
        ] {
            let Own::Setting { line, .. } = read(text, section) else {
                panic!("{text}");
            };
            assert_eq!(line, text);
        }
        assert!(matches!(read("[nat]", ""), Own::Header(_)));
        for (text, section) in [
            ("on_up = \"reboot\"", "interface"),
            ("on_up=[\"reboot\"]", "interface"),
            ("\"on_up\" = \"reboot\"", "interface"),
            ("'on_down' = 'reboot'", "interface"),
            ("\"on\\u005fup\" = \"reboot\"", "interface"),
            ("before_up = \"reboot\"", "interface"),
            ("after_down = \"reboot\"", "interface"),
            ("on_peer_up = \"reboot\"", "interface"),
            ("shell = \"bash\"", "interface"),
            ("private_key_file = \"/etc/shadow\"", "interface"),
            ("private_key = \"x\"", "interface"),
            ("on_peer_down = \"reboot\"", "peers"),
            ("name = \"\"\"", "peers"),
            ("routes = [", "interface"),
            ("interface.on_up = \"reboot\"", "interface"),
            ("nat = { masquerade = true }", "interface"),
            ("nonsense = 1", "interface"),
            ("[interface]", ""),
            ("[[peers]]", ""),
            ("[nat] # x", ""),
            ("[interface.x]", ""),
        ] {
            assert!(matches!(read(text, section), Own::Refused(_)), "{text}");
        }
    }

    #[test]
    fn no_key_that_is_named_like_a_command_or_a_file_may_stand_in_a_comment() {
        for key in keys::all().filter(|key| key.in_comments) {
            let name = key.name;
            let runs = ["on_", "before_", "after_"];
            let is_command = runs.iter().any(|start| name.starts_with(start));
            assert!(!is_command && !name.ends_with("_file"), "{name}");
        }
    }
}
