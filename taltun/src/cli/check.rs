//! `taltun check`

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::config::{self, Config, Mode, Words};
use crate::system::Reservation;
use crate::{control, gateway, system};

/// Check a configuration without touching anything.
///
/// Prints one line per mistake, with file, line, key and remedy, and exits with 2. If there is
/// none, it prints what would run, our public key included. It warns of programs that the file
/// needs and this machine lacks; warnings don't change the exit code.
#[derive(Args)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = config::load(&self.config)?;
        if !loaded.past.is_empty() {
            return Err(Failure::Usage(loaded.past.join("\n")));
        }
        for warning in &loaded.warnings {
            output::warn(warning);
        }
        for missing in system::missing_programs(&loaded.config) {
            output::warn(&format!("{}: {missing}", self.config.display()));
        }
        if let Some(unrefused) = control::pretenders_unrefused(&loaded.config) {
            output::warn(&format!("{}: {unrefused}", self.config.display()));
        }
        for lack in control::kernel_relay_lacks(&loaded.config) {
            output::warn(&format!("{}: {lack}", self.config.display()));
        }
        for taken in control::forwards_keep_from_others(&loaded.config) {
            output::warn(&format!("{}: {taken}", self.config.display()));
        }
        #[cfg(feature = "fleet")]
        if let Some(unusable) = control::unusable_fleet(&loaded.config) {
            output::warn(&format!("{}: {unusable}", self.config.display()));
        }
        let reserved = system::reserved(&loaded.config);
        if let Some(Reservation {
            given,
            left: Some(left),
            ..
        }) = &reserved
        {
            output::warn(&format!(
                "{}: hop.port_range: the range takes nearly all ports that this kernel gives to \
                 programs ({}-{}, net.ipv4.ip_local_port_range), so {}-{} stay with it, and peers \
                 may find programs at these; choose a smaller range, or one outside",
                self.config.display(),
                given.start(),
                given.end(),
                left.start(),
                left.end()
            ));
        }
        let gateway = loaded.config.udpgw.as_ref();
        for unopened in gateway
            .into_iter()
            .flat_map(|it| control::unopened_by_gateway(it, &loaded.config.interface))
        {
            output::warn(&format!("{}: {unopened}", self.config.display()));
        }
        let limits = gateway.map(gateway::limits);
        let wanted = limits.as_ref().map_or(0, gateway::files);
        // Of this process alone, which ends.
        let possible = taltun_udpgw::raise_file_limit(wanted);
        if possible < wanted {
            output::warn(&format!(
                "{}: udpgw: all clients with all connections need {wanted} open files, and here a \
                 process may have {possible}; under such a limit the tunnel doesn't start. Lower \
                 max_clients or max_connections_for_client, or raise the limit (LimitNOFILE=, \
                 ulimit -Hn)",
                self.config.display()
            ));
        }
        if let Some(small) = limits.and_then(|it| super::udpgw::small_buffers(&it)) {
            output::warn(&format!("{}: udpgw: {small}", self.config.display()));
        }
        let mut text = format!("{}: ok\n", self.config.display());
        describe(&loaded.config, reserved.as_ref(), &mut text);
        output::print(&text)
    }
}

fn describe(config: &Config, reserved: Option<&Reservation>, text: &mut String) {
    let interface = &config.interface;
    let mode = interface.mode.word();
    let vip: Vec<String> = interface.vip.iter().map(ToString::to_string).collect();
    let peers = config.peers.len();
    // Writing to a String can't fail.
    let _ = writeln!(text, "  interface:  {} ({mode})", interface.tun_name);
    let _ = writeln!(text, "  public key: {}", interface.private_key.public_key());
    let _ = writeln!(text, "  address:    {}", vip.join(", "));
    let _ = writeln!(text, "  listens on: {}", interface.local_addr);
    if let Some(ports) = ports(config) {
        let _ = writeln!(text, "  ports:      {ports}");
    }
    if let Some(reserved) = reserved {
        let _ = writeln!(text, "  reserves:   {}", reserved_text(reserved));
    }
    let _ = writeln!(text, "  peers:      {peers}");
    for forward in &config.forwards {
        let (listen, to) = (&forward.listen, &forward.to);
        let targets = forward.targets().join(", ");
        let _ = writeln!(text, "  forward:    {listen} -> {to} ({targets})");
    }
    if let Some(gateway) = &config.udpgw {
        let options = gateway::limits(gateway);
        let listen: Vec<String> = gateway.listen.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "  udpgw:      {}; at most {}, {} open files",
            listen.join(", "),
            super::udpgw::limits(&options),
            super::human::count(gateway::files(&options) as u64)
        );
    }
    if let Some(metrics) = &config.metrics {
        let listen: Vec<String> = metrics.listen.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  metrics:    {}", listen.join(", "));
    }
}

/// What this kernel gives to no program as long as the tunnel runs.
fn reserved_text(reserved: &Reservation) -> String {
    let list = &reserved.list;
    let (first, last) = (reserved.given.start(), reserved.given.end());
    if list.is_empty() {
        return format!("no port, as this kernel gives only {first}-{last} to programs");
    }
    format!("{list} from the ports that this kernel gives to programs ({first}-{last})")
}

/// The ports of a range: those that lead to a hub, or those that a client hops over.
fn ports(config: &Config) -> Option<String> {
    if config.interface.mode == Mode::Server {
        let range = config.hop.port_range?;
        return Some(match config.interface.local_addr.port() {
            0 => format!("{range}, besides the one that the kernel gives at the start"),
            own => format!("{range}, besides {own}"),
        });
    }
    let hubs = config.peers.iter().filter_map(|peer| {
        let given = peer
            .endpoints
            .iter()
            .filter(|endpoint| !endpoint.is_single());
        let given: Vec<String> = given.map(ToString::to_string).collect();
        (!given.is_empty()).then(|| given.join(", "))
    });
    let hubs: Vec<String> = hubs.collect();
    (!hubs.is_empty()).then(|| hubs.join(", "))
}
