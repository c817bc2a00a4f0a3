//! How this process was started, to tell people how to start it again.

use std::path::Path;

/// The command that starts this tunnel again: that of its systemd unit, or `taltun run` with
/// `file`. Empty where neither is known.
pub fn start_command(file: Option<&Path>) -> String {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // What a service started itself is in its cgroup, too, but has another parent.
    let by_init = std::os::unix::process::parent_id() == 1;
    match (unit(&cgroup).filter(|_| by_init), file) {
        (Some(unit), _) => format!("systemctl start {unit}"),
        (None, Some(file)) => {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
            format!("taltun run --config {}", file.display())
        }
        (None, None) => String::new(),
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
        let both = "1:name=systemd:/system.slice/taltun.service\n0::/\n";
        assert_eq!(unit(both), Some("taltun"));
    }

    #[test]
    fn without_a_unit_the_file_is_named_whole() {
        let said = start_command(Some(Path::new("/etc/taltun/hub.toml")));
        assert_eq!(said, "taltun run --config /etc/taltun/hub.toml");
        assert_eq!(start_command(None), "");
    }
}
