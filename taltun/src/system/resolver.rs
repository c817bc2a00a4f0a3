//! Who answers when a program on this host looks up a name: systemd-resolved, the servers of
//! `/etc/resolv.conf`, or both, depending on the program.

use std::fs;
use std::path::{Path, PathBuf};

/// Where systemd-resolved answers on this machine.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];
/// Files that systemd-resolved writes, all below this.
const RESOLVED: &str = "/run/systemd/resolve";

/// What the host's files say of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is something that a file says or not"
)]
pub(super) struct Resolution {
    /// `/etc/resolv.conf` names systemd-resolved itself.
    pub(super) stub: bool,
    /// It is a list of name servers that systemd-resolved keeps, without itself.
    pub(super) list: bool,
    /// The C library asks systemd-resolved before it looks into `/etc/resolv.conf`.
    pub(super) library: bool,
    /// The name servers in `/etc/resolv.conf`.
    pub(super) servers: Vec<String>,
    /// `/etc/resolv.conf` is mounted from outside, as containers have it.
    pub(super) mounted: bool,
}

impl Resolution {
    /// That of this host.
    pub(super) fn of_host() -> Self {
        Self::below(Path::new("/"))
    }

    /// That of the host whose files are below `root`.
    fn below(root: &Path) -> Self {
        let etc = root.join("etc/resolv.conf");
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let target = fs::read_link(&etc).unwrap_or_default();
        // Relative to /etc, mostly.
        let target = Path::new("/etc").join(target);
        let target = normal(&target);
        let servers = name_servers(&read(&etc));
        let is_stub = servers.iter().any(|server| STUBS.contains(&&**server));
        let mounts = read(&root.join("proc/self/mountinfo"));
        Self {
            stub: is_stub,
            list: !is_stub && target.starts_with(RESOLVED),
            library: asks_resolved(&read(&root.join("etc/nsswitch.conf"))),
            servers,
            mounted: is_mounted(&mounts, "/etc/resolv.conf"),
        }
    }

    /// Whether systemd-resolved's settings reach programs.
    pub(super) fn is_resolved(&self) -> bool {
        self.stub || self.library
    }
}

/// Without `..`; links on the way are taken as they are.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn name_servers(text: &str) -> Vec<String> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver"))
            .then(|| words.next().map(str::to_owned))
            .flatten()
    };
    text.lines().filter_map(server).collect()
}

/// Whether `resolve` stands before `dns` among the sources for hosts.
fn asks_resolved(nsswitch: &str) -> bool {
    let hosts = nsswitch
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("hosts:"));
    hosts
        .into_iter()
        .flat_map(str::split_whitespace)
        .find(|word| matches!(*word, "resolve" | "dns"))
        == Some("resolve")
}

fn is_mounted(mountinfo: &str, path: &str) -> bool {
    mountinfo
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}

/// The name servers that the resolver's file names.
pub(super) fn servers_of(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .collect()
}

/// The name servers of this host as programs read them.
pub(super) fn resolv_conf() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(resolv: &str, link: Option<&str>, nsswitch: &str) -> Resolution {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc")).unwrap();
        fs::write(at("etc/nsswitch.conf"), nsswitch).unwrap();
        match link {
            None => fs::write(at("etc/resolv.conf"), resolv).unwrap(),
            Some(link) => {
                let target = at("etc").join(link);
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::write(&target, resolv).unwrap();
                std::os::unix::fs::symlink(link, at("etc/resolv.conf")).unwrap();
            }
        }
        Resolution::below(root.path())
    }

    #[test]
    fn who_answers_is_told_by_the_files_of_the_host() {
        let dns = "hosts: files dns\n";
        let stub = "nameserver 127.0.0.53\noptions edns0\n";
        let link = "../run/systemd/resolve/stub-resolv.conf";
        assert!(host(stub, Some(link), dns).is_resolved());
        // A copy of it is as good.
        assert!(host(stub, None, dns).is_resolved());
        let list = "../run/systemd/resolve/resolv.conf";
        let found = host("nameserver 192.0.2.53\n", Some(list), dns);
        assert!(!found.is_resolved() && found.list);
        let foreign = host("# mine\nnameserver 192.0.2.53\n", None, dns);
        assert!(!foreign.is_resolved() && !foreign.list);
        assert_eq!(foreign.servers, ["192.0.2.53"]);
        let library = "hosts: mymachines resolve [!UNAVAIL=return] files dns\n";
        assert!(host("nameserver 192.0.2.53\n", None, library).is_resolved());
        assert!(!host("nameserver 192.0.2.53\n", None, "hosts: dns resolve\n").is_resolved());
    }

    #[test]
    fn a_file_that_is_mounted_from_outside_is_found() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      7 1 8:1 /x/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n";
        assert!(is_mounted(mounts, "/etc/resolv.conf"));
        assert!(!is_mounted(mounts, "/etc/hosts"));
    }

    #[test]
    fn name_servers_are_read_as_the_resolver_does() {
        let text = "# by resolvconf\nnameserver 10.0.0.1\nsearch x\n nameserver\t2001:db8::1 \n";
        assert_eq!(servers_of(text), ["10.0.0.1", "2001:db8::1"]);
    }
}
