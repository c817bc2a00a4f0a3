//! The host's name servers as they are without us: for the endpoints of peers, which must be
//! found outside of the tunnel, also when everything else is asked for inside.
//!
//! Once `interface.dns` is in force, the resolver asks our name servers, so what it asks by
//! itself is looked for where the tools keep it. All of it is read anew each time: a machine
//! may start long before its network is there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// Where name servers are asked.
const PORT: u16 = 53;
/// Files in the form of `resolv.conf`: what systemd-resolved knows of all interfaces, and what
/// programs read.
const FILES: [&str; 2] = ["run/systemd/resolve/resolv.conf", "etc/resolv.conf"];
/// What resolvconf was told, by interface: openresolv's, and Debian's.
const DIRECTORIES: [&str; 3] = [
    "run/resolvconf/interfaces",
    "run/resolvconf/interface",
    "run/resolvconf/keys",
];
/// Name servers that are asked at the most.
const MOST: usize = 6;

/// Finds name servers, and what `/etc/hosts` knows.
#[derive(Debug, Clone)]
pub(super) struct Host {
    root: PathBuf,
    /// Name servers inside the tunnel.
    ours: BTreeSet<IpAddr>,
    /// Those that there were before.
    before: Vec<SocketAddr>,
}

impl Host {
    /// Looks around; `ours` are name servers that are asked inside the tunnel only.
    pub(super) fn look_around(ours: &[IpAddr]) -> Self {
        Self::look_around_in(Path::new("/"), ours)
    }

    fn look_around_in(root: &Path, ours: &[IpAddr]) -> Self {
        let mut host = Self {
            root: root.to_owned(),
            ours: ours.iter().copied().collect(),
            before: Vec::new(),
        };
        host.before = host.servers();
        host
    }

    /// The name servers to ask, the first one first: those there are now, then those there
    /// were before. A resolver on this machine comes last, as it may ask inside the tunnel;
    /// systemd-resolved isn't asked at all, as it tells whom it asks.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        let files = FILES.iter().map(|file| self.root.join(file));
        let kept = DIRECTORIES.iter().flat_map(|directory| {
            let entries = std::fs::read_dir(self.root.join(directory));
            let mut files: Vec<PathBuf> = entries
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect();
            files.sort();
            files
        });
        let tells = self.root.join(FILES[0]).exists();
        let mut seen = BTreeSet::new();
        let mut servers: Vec<SocketAddr> = files
            .chain(kept)
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .flat_map(|text| text.lines().filter_map(server).collect::<Vec<_>>())
            .chain(self.before.iter().copied())
            .filter(|server| !self.ours.contains(&server.ip()))
            .filter(|server| !(tells && server.ip().is_loopback()))
            .filter(|server| seen.insert(*server))
            .collect();
        servers.sort_by_key(|server| server.ip().is_loopback());
        servers.truncate(MOST);
        servers
    }

    /// What `/etc/hosts` says of a name.
    pub(super) fn in_hosts(&self, host: &str) -> Vec<IpAddr> {
        let text = std::fs::read_to_string(self.root.join("etc/hosts")).unwrap_or_default();
        let known = |line: &str| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(host))
                .then_some(address)
        };
        text.lines().filter_map(known).collect()
    }
}

/// The name server of a line of `resolv.conf`.
fn server(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    let word = words.next()?;
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    // A router's, with its interface.
    let (address, interface) = word.split_once('%')?;
    let index = crate::os::interface::index(interface).or_else(|| interface.parse().ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_before_are_found_wherever_they_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), PORT);
        write(
            "etc/resolv.conf",
            "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nsearch a\nnameserver ::1\n",
        );
        let ours = "10.0.0.1".parse().unwrap();
        let host = Host::look_around_in(root.path(), &[ours]);
        assert_eq!(host.servers(), [at("192.0.2.1"), at("::1")]);
        // Ours take their place.
        write("etc/resolv.conf", "nameserver 10.0.0.1\n");
        assert_eq!(host.servers(), [at("192.0.2.1"), at("::1")]);
        // What a network brings later is asked first.
        write(
            "run/resolvconf/interfaces/eth0",
            "nameserver 192.0.2.2\nnameserver fe80::1%lo\n",
        );
        write(
            "run/systemd/resolve/resolv.conf",
            "nameserver 2001:db8::3\nnameserver 10.0.0.1\n",
        );
        let servers = host.servers();
        assert_eq!(servers[..2], [at("2001:db8::3"), at("192.0.2.2")]);
        assert_eq!(servers[2].ip(), "fe80::1".parse::<IpAddr>().unwrap());
        assert_eq!(servers[3..], [at("192.0.2.1")]);
    }

    #[test]
    fn the_file_of_hosts_is_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let text = "127.0.0.1 localhost\n203.0.113.1 hub.example.net Hub # nobody\nfd00::1 hub\n";
        std::fs::write(root.path().join("etc/hosts"), text).unwrap();
        let host = Host::look_around_in(root.path(), &[]);
        let expected: Vec<IpAddr> = ["203.0.113.1", "fd00::1"]
            .map(|a| a.parse().unwrap())
            .into();
        assert_eq!(host.in_hosts("HUB"), expected);
        assert!(host.in_hosts("nobody").is_empty());
    }
}
