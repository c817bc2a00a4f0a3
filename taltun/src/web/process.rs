//! What the page's process does: it serves until the tunnel is gone.

use std::io;
use std::sync::Arc;

use super::hub::{self, Hub};
use super::routes::Site;
use super::server::{self, LIMITS};
use crate::server_process::{self, Process};

/// Serves the tunnel that this process's standard input leads to, until it is gone. Browsers may
/// ask for it by the names `hosts`, too.
pub fn serve(hosts: Vec<String>) -> io::Result<()> {
    let process = Process {
        name: c"taltun-web",
        limits: LIMITS,
    };
    server_process::run(process, async |channel, listeners| {
        let (hub, questions) = Hub::new();
        let site = Arc::new(Site::new(hub, hosts));
        for listener in listeners {
            tokio::spawn(server::serve(listener, Arc::clone(&site)));
        }
        hub::carry(channel, questions).await
    })
}
