//! The gateway's options, as the file has them.

use std::time::Duration;

use taltun_udpgw::{Listen, Options};

use crate::config::Udpgw;

/// Files that its process may need besides.
const OTHER_FILES: usize = 64;

/// All but who connects to where and where they may send.
pub(crate) fn limits(settings: &Udpgw) -> Options {
    let size = |bytes: u32| (bytes > 0).then_some(bytes as usize);
    let seconds = |it: u32| (it > 0).then(|| Duration::from_secs(it.into()));
    Options {
        listen: settings.listen.iter().copied().map(Listen::from).collect(),
        max_clients: settings.max_clients as usize,
        max_connections: settings.max_connections as usize,
        client_timeout: seconds(settings.client_timeout),
        udp_timeout: seconds(settings.udp_timeout),
        tcp_receive_buffer: size(settings.tcp_buffer),
        tcp_send_buffer: size(settings.tcp_buffer),
        udp_buffer: size(settings.udp_buffer),
        tcp_nodelay: settings.tcp_nodelay,
        keepalive: settings.keepalive,
        udp_mtu: settings.udp_mtu.into(),
        workers: settings.workers.into(),
        log_clients: false,
        ..Options::default()
    }
}

/// How many files its process has to be able to open for that.
pub(crate) fn files(options: &Options) -> usize {
    options.files() + OTHER_FILES
}
