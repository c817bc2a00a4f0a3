//! Lines of a wg-quick file that say what a configuration of ours does.

use ipnet::IpNet;

use super::INTERFACE_VARIABLE;
use crate::config::Config;

/// The lines of wg-quick's for a key of what the host does; none when there are none, or when
/// they wouldn't mean the same.
pub(super) fn host_lines(config: &Config, key: &str) -> Vec<String> {
    let Config { host, hooks, .. } = config;
    let (name, commands) = match key {
        "dns" if !host.dns.servers.is_empty() => {
            let servers = host.dns.servers.iter().map(ToString::to_string);
            let mut items: Vec<String> = Vec::new();
            for item in servers.chain(host.dns.search.clone()) {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            return vec![format!("DNS = {}", items.join(", "))];
        }
        "fwmark" => {
            let mark = host.fwmark.unwrap_or_default();
            return vec![format!("FwMark = {mark:#x}")];
        }
        "before_up" => ("PreUp", &hooks.before_up),
        "on_up" => ("PostUp", &hooks.on_up),
        "on_down" => ("PreDown", &hooks.on_down),
        "after_down" => ("PostDown", &hooks.after_down),
        _ => return Vec::new(),
    };
    let lines: Option<Vec<String>> = commands
        .iter()
        .map(|command| Some(format!("{name} = {}", hook(command)?)))
        .collect();
    lines.unwrap_or_default()
}

/// A command as wg-quick runs it, unless it would mean something else there: a file of its has
/// no quotes, and of our variables it has only the interface.
fn hook(command: &str) -> Option<String> {
    if command.contains(['#', '\n', '\r']) || command.contains("%i") {
        return None;
    }
    let braced = format!("${{{}}}", &INTERFACE_VARIABLE[1..]);
    let command = command.replace(&braced, "%i");
    let mut out = String::new();
    let mut rest = command.as_str();
    while let Some((before, after)) = rest.split_once(INTERFACE_VARIABLE) {
        if after.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric()) {
            return None;
        }
        out.push_str(before);
        out.push_str("%i");
        rest = after;
    }
    out.push_str(rest);
    (!out.contains("TALTUN_")).then_some(out)
}

/// `Table = off` where wg-quick would make routes by itself, and we make none.
pub(super) fn table(config: &Config) -> Option<&'static str> {
    let vip = &config.interface.vip;
    let connected = |net: &IpNet| vip.iter().any(|vip| vip.trunc().contains(net));
    let mut nets = config.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let makes = nets.any(|net| !connected(net));
    (makes && config.interface.routes.is_empty()).then_some("Table = off")
}

pub(super) fn join(nets: &[IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    nets.join(", ")
}
