//! One lab of a name at a time: its namespaces have fixed names, and starting one removes what bears
//! them.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Context, Result, bail};

/// Takes the lock of the lab whose namespaces begin with `prefix`, which is held as long as the result lives.
///
/// It is a name in the kernel's abstract socket namespace: no file stays behind, and when we
/// are killed it is free again.
pub fn take(prefix: &str) -> Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("{prefix}-lab"))?;
    match UnixListener::bind_addr(&name) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("another `cargo xtask run` is under way: end it first")
        }
        result => result.context("can't take the lab's lock"),
    }
}
