//! Whether the kernel has IPv6 at all. Where it is only switched off for interfaces, it has.

use std::path::Path;

/// Whether this kernel has IPv6 at all: `ipv6.disable=1` at boot takes it away, sockets and
/// tables included.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").is_dir()
}
