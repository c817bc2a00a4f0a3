//! The sockets by which `wg` configures the rivals. Their place is shared by all namespaces
//! and they are named like the interface, whose name therefore has to be this process's own.

use std::fs;
use std::path::{Path, PathBuf};

/// Where they are.
const DIRECTORY: &str = "/var/run/wireguard";

/// A program's socket; dropping this removes it, should the program have left it there.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Socket {
    /// That of the program whose interface this is.
    pub fn of(interface: &str) -> Self {
        Self(Path::new(DIRECTORY).join(format!("{interface}.sock")))
    }

    /// Whether the program has made it.
    pub fn is_there(&self) -> bool {
        self.0.exists()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It usually is gone already.
        let _ = fs::remove_file(&self.0);
    }
}

/// The name for the interface of the host with this number, a single digit.
pub fn interface_name(host: u8) -> String {
    format!("tb{}{host}", std::process::id())
}

/// Removes the sockets of benches that were killed.
pub fn remove_dead_sockets() {
    for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        if let Some(owner) = entry.file_name().to_str().and_then(owner_of)
            && !Path::new("/proc").join(owner).exists()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The number of the bench that a socket of this name is of.
fn owner_of(socket: &str) -> Option<&str> {
    let interface = socket.strip_prefix("tb")?.strip_suffix(".sock")?;
    // The last digit is the host's.
    let owner = interface.get(..interface.len().checked_sub(1)?)?;
    let is_number = !owner.is_empty() && interface.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_socket_is_known_by_its_name() {
        assert_eq!(owner_of("tb12341.sock"), Some("1234"));
        let own = format!("{}.sock", interface_name(2));
        assert_eq!(owner_of(&own), Some(&*std::process::id().to_string()));
        for other in ["tb1.sock", "tb.sock", "wg0.sock", "tb12a1.sock", "tb121"] {
            assert_eq!(owner_of(other), None, "{other}");
        }
    }
}
