//! How this process was started, so that messages can say how to start it again.

/// The command that starts this tunnel again: that of its systemd unit, or `taltun run` with
/// these `words`. Empty where neither is known.
pub fn start_command(words: &[String]) -> String {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // What a service started itself is in its cgroup, too, but has another parent.
    let by_init = std::os::unix::process::parent_id() == 1;
    match unit(&cgroup).filter(|_| by_init) {
        Some(unit) => format!("systemctl start {}", of_tunnel(unit)),
        None if words.is_empty() => String::new(),
        None => words.iter().fold("taltun run".to_owned(), |text, word| {
            text + " " + &for_the_shell(word)
        }),
    }
}

/// The unit of the tunnel whose kill switch another unit closed.
fn of_tunnel(unit: &str) -> String {
    match unit.strip_prefix("taltun-killswitch@") {
        Some(instance) => format!("taltun@{instance}"),
        None => unit.to_owned(),
    }
}

/// A word as a shell reads it as one.
pub fn for_the_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The service that a process with this `/proc/self/cgroup` belongs to.
fn unit(cgroup: &str) -> Option<&str> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut units = paths.filter_map(|path| path.rsplit('/').next()?.strip_suffix(".service"));
    units.find(|unit| !unit.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_told_by_the_cgroup() {
        let cgroup = "0::/system.slice/system-taltun.slice/taltun@hub.service\n";
        assert_eq!(unit(cgroup), Some("taltun@hub"));
        assert_eq!(unit("0::/user.slice/user-0.slice/session-3.scope\n"), None);
        assert_eq!(unit("0::/\n"), None);
        assert_eq!(of_tunnel("taltun@hub"), "taltun@hub");
        assert_eq!(of_tunnel("taltun-killswitch@hub"), "taltun@hub");
        let both = "1:name=systemd:/system.slice/taltun.service\n0::/\n";
        assert_eq!(unit(both), Some("taltun"));
    }

    #[test]
    fn without_a_unit_all_words_are_kept() {
        let said = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            start_command(&words)
        };
        assert_eq!(
            said(&["--config", "/etc/taltun/hub.toml", "--keep-kill-switch"]),
            "taltun run --config /etc/taltun/hub.toml --keep-kill-switch"
        );
        assert_eq!(
            said(&["--config", "/srv/a b/it's.toml"]),
            r"taltun run --config '/srv/a b/it'\''s.toml'"
        );
        assert_eq!(said(&[]), "");
    }
}
