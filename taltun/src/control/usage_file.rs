//! What peers of a tunnel moved that doesn't run, by its file.

use std::path::{Path, PathBuf};

use taltun_usage::{Clock, Day, OpenError, Store};

use super::usage_table::Asked;
use super::{ControlError, dirs, ledger, request};
use crate::config::interface_name;
use crate::dataplane::clock;
use crate::report::{Usage, UsageKept, UsageStatus};

/// What peers moved: asked of the tunnel if it runs, else read of its file.
pub fn usage(interface: Option<&str>, asked: &request::Usage) -> Result<Usage, ControlError> {
    match super::call(interface, asked.clone()) {
        Ok(usage) => Ok(*usage),
        Err(not_running @ ControlError::NotRunning { .. }) => {
            match of_file(&dirs::state(), interface, asked) {
                Some(outcome) => outcome.map_err(ControlError::Refused),
                None => Err(not_running),
            }
        }
        Err(error) => Err(error),
    }
}

/// `None`: there is no file of such a tunnel.
fn of_file(
    dir: &Path,
    interface: Option<&str>,
    asked: &request::Usage,
) -> Option<Result<Usage, String>> {
    let names = match interface {
        Some(name) => vec![interface_name(name).ok()?],
        None => names_in(dir),
    };
    let [name] = &names[..] else {
        return (names.len() > 1).then(|| {
            Err(format!(
                "no tunnel is running, and there is usage of several: {}; say which with -i NAME",
                names.join(", ")
            ))
        });
    };
    let file = ledger::file(dir, name);
    let about = |told: &str| format!("{}: {told}", file.display());
    let store = match Store::open_existing(&file) {
        Ok(store) => store,
        Err(OpenError::Missing) => return None,
        Err(error) => return Some(Err(about(&error.to_string()))),
    };
    let read = || {
        let mut now = Clock::default();
        now.remember(store.clock()?.unwrap_or_default());
        now.look(clock::wall(), std::time::Duration::ZERO);
        let today: Day = now.day();
        let kept = UsageStatus {
            kept: UsageKept::Disk,
            reason: None,
            clock: now.trouble(),
            keep_days: None,
        };
        let asked = match Asked::new(name, false, asked, today, kept) {
            Ok(asked) => asked,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut used = Vec::new();
        store.each(asked.span.first, asked.span.last, &mut |one| used.push(one))?;
        Ok(asked.answer(used))
    };
    Some(match read() {
        Ok(answer) => answer,
        Err::<_, taltun_usage::store::ReadError>(error) => Err(about(&error.to_string())),
    })
}

/// The tunnels of which there is usage, in alphabetic order.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_there = |name: &String| -> bool {
        let file: PathBuf = ledger::file(dir, name);
        file.is_file()
    };
    let mut names: Vec<String> = names.filter(is_there).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use taltun_usage::Counts;

    use super::*;
    use crate::control::since::Since;

    fn write(dir: &Path, name: &str, day: Day) {
        let file = ledger::file(dir, name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let counts = Counts {
            rx_bytes: 7,
            rx_packets: 1,
            ..Counts::default()
        };
        let pending = HashMap::from([((day, [1; 32]), counts)]);
        let names = HashMap::from([([1; 32], "ana".to_owned())]);
        let mut store = Store::open(&file).unwrap();
        store.add(&pending, &names, None).unwrap();
    }

    #[test]
    fn the_file_of_the_only_tunnel_is_read_and_several_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let asked = request::Usage {
            peer: Some("ana".into()),
            since: Since::Days(2),
        };
        assert!(of_file(dir.path(), None, &asked).is_none());
        assert!(of_file(dir.path(), Some("hub"), &asked).is_none());
        let today = Day::at(clock::wall());
        write(dir.path(), "hub", today);
        let usage = of_file(dir.path(), None, &asked).unwrap().unwrap();
        assert_eq!((&*usage.interface, usage.running), ("hub", false));
        assert_eq!(usage.peers[0].days[0].day, today.to_string());
        write(dir.path(), "other", today.before(5));
        let several = of_file(dir.path(), None, &asked).unwrap().unwrap_err();
        assert!(several.contains("hub, other; say which"), "{several}");
        assert!(of_file(dir.path(), Some("hub"), &asked).unwrap().is_ok());
        let nothing = of_file(dir.path(), Some("other"), &asked).unwrap();
        assert!(nothing.unwrap_err().contains("nothing was moved"));
        assert!(of_file(dir.path(), Some("../hub"), &asked).is_none());
        std::fs::write(ledger::file(dir.path(), "other"), "garbage").unwrap();
        let damaged = of_file(dir.path(), Some("other"), &asked).unwrap();
        let damaged = damaged.unwrap_err();
        assert!(damaged.contains("damaged"), "{damaged}");
    }
}
