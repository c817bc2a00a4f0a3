//! What `status --long` shows of a tunnel, much as `wg show` does: everything.

use std::fmt::Write;

use super::words::line;
use super::{peer, words};
use crate::cli::peers::bits;
use crate::cli::{host_line, human};
use crate::report::{
    Aead, NamesStatus, Status, Steering, SteeringStatus, TunnelMode, UnknownKey, whole_seconds,
};
use crate::system::LeftSwitches;

/// The tunnel and all of its peers.
pub(super) fn render(status: &Status, left: &LeftSwitches) -> String {
    let mut text = format!("interface: {}\n", status.interface);
    let vip: Vec<String> = status.vip.iter().map(ToString::to_string).collect();
    line(&mut text, "public key", &status.public_key);
    line(&mut text, "mode", mode(status.mode));
    line(&mut text, "listens on", &status.listen.to_string());
    if !vip.is_empty() {
        line(&mut text, "address", &vip.join(", "));
    }
    line(&mut text, "mtu", &status.mtu.to_string());
    line(&mut text, "cipher", &cipher(status.aead));
    line(&mut text, "up for", &human::span(status.uptime_seconds));
    for xdp in &status.xdp {
        let place = if xdp.interface.is_empty() {
            String::new()
        } else {
            format!("{}: ", xdp.interface)
        };
        line(
            &mut text,
            "xdp",
            &format!("{place}{} ({})", xdp.mode, xdp.reason),
        );
    }
    for queue in &status.af_xdp {
        line(&mut text, "af_xdp", &words::af_xdp(queue));
    }
    line(
        &mut text,
        "tc",
        &format!("{} ({})", status.tc.mode, status.tc.reason),
    );
    for told in status.host.iter().flat_map(host_line::render) {
        line(&mut text, "host", &told);
    }
    for told in left.found.iter().filter_map(host_line::of_another) {
        line(&mut text, "host", &told);
    }
    if let Some(NamesStatus { domain, names }) = &status.names {
        line(&mut text, "names", &format!("{names} in {domain}"));
    }
    if let Some(told) = words::resolver(status) {
        line(&mut text, "dns", &told);
    }
    if let Some(gateway) = &status.udpgw {
        line(&mut text, "udpgw", &words::udpgw(gateway));
    }
    if let Some(metrics) = &status.metrics {
        let told = words::served(&metrics.listen, metrics.ended.as_deref());
        line(&mut text, "metrics", &told);
    }
    if let Some(web) = &status.web {
        let told = words::served(&web.listen, web.ended.as_deref());
        line(&mut text, "web", &told);
    }
    let others = words::not_kept(status).into_iter();
    for (subject, told) in others.chain(words::rights(&status.rights)) {
        line(&mut text, subject, &told);
    }
    render_workers(&mut text, status);
    if let Some(range) = &status.port_range {
        line(&mut text, "ports", &words::port_range(range));
    }
    for forward in &status.forwards {
        line(&mut text, "forward", &words::forward(forward));
    }
    if let Some(policy) = &status.policy {
        line(&mut text, "rules", &words::policy(policy));
    }
    if let Some(uplink) = status.uplink_bits_per_second {
        line(&mut text, "uplink", &bits(uplink));
    }
    let drops = status.drops.largest_first();
    if !drops.is_empty() {
        let drops: Vec<String> = drops
            .into_iter()
            .map(|(reason, count)| format!("{} {}", human::count(count), reason.label()))
            .collect();
        let lately = human::count(status.drops_last_minute.sum());
        let drops = drops.join(", ");
        line(
            &mut text,
            "dropped",
            &format!("{drops}; {lately} in the last minute"),
        );
    }
    for told in words::around(status) {
        line(&mut text, "goes around", &told);
    }
    for peer in &status.peers {
        peer::render(&mut text, peer);
    }
    render_unknown(&mut text, &status.unknown_keys);
    text
}

/// How packets find those who move them, and how these do.
fn render_workers(text: &mut String, status: &Status) {
    let steering = &status.steering;
    if steering.mode != Steering::None {
        let SteeringStatus { mode, reason } = steering;
        line(text, "steering", &format!("{mode} ({reason})"));
    }
    let sparse = words::sparse_queue(&status.sparse_queue);
    line(text, "sparse queue", &sparse);
    line(text, "priority", &words::priority(&status.priority));
    if let Some(told) = words::standing(&status.standing) {
        line(text, "packets stand", &told);
    }
}

/// The keys that tried and are of no peer.
fn render_unknown(text: &mut String, keys: &[UnknownKey]) {
    if !keys.is_empty() {
        text.push_str("\nunknown keys that tried:\n");
    }
    for unknown in keys {
        let ago = human::span(whole_seconds(unknown.seconds_ago));
        let times = if unknown.tries == 1 { "time" } else { "times" };
        let _ = writeln!(
            text,
            "  {} from {}, {} {times}, last {ago} ago",
            unknown.public_key, unknown.endpoint, unknown.tries
        );
    }
}

/// What decides about the tunnel.
fn mode(mode: TunnelMode) -> &'static str {
    match mode {
        TunnelMode::Plain => "made by its name; its addresses and routes are set by others",
        other => other.word(),
    }
}

/// The cipher, and what does its arithmetic.
fn cipher(aead: Aead) -> String {
    let by = match aead {
        Aead::Avx512 => "AVX-512",
        other => other.word(),
    };
    format!("ChaCha20-Poly1305 ({by})")
}

#[cfg(test)]
mod tests {
    use super::super::example::hub;
    use super::*;

    #[test]
    fn a_status_reads_like_wg_show() {
        assert_eq!(
            render(&hub(), &LeftSwitches::default()),
            "\
interface: hub
  public key:       HUB=
  mode:             server
  listens on:       [::]:9000
  address:          10.0.0.1/24
  mtu:              1420
  cipher:           ChaCha20-Poly1305 (ring)
  up for:           2 min 5 s
  xdp:              eth0: driver (the driver supports it)
  af_xdp:           eth0 queue 1: copy (asked for), 12,345 frames in, 67 out, 7 lost
  af_xdp:           off (switched off)
  tc:               tcx (the kernel has it)
  names:            13 in vpn
  dns:              doesn't answer: why
  udpgw:            10.0.0.1:7300: 3 of at most 1,000 clients, 12 connections
  metrics:          127.0.0.1:9586
  web:              10.0.0.1:8080: doesn't answer: why
  usage:            in memory only: the disk is full
  day:              NOT THE CLOCK'S: the clock shows 2026-11-29
  audit:            in memory only: the disk is full; 2 changes lost
  controller:       CAP_NET_ADMIN, CAP_BPF
  packet threads:   5: no capability, seccomp
  memory:           locked: never swapped, in no core file
  taltun-verbs:     CAP_NET_ADMIN, CAP_NET_RAW, seccomp, landlock, user 0
  taltun-metrics:   no capability, seccomp, no landlock (the kernel has no landlock), user 65534
  rights:           NOT AS THEY SHOULD BE: taltun-verbs doesn't answer
  steering:         ebpf (4 workers share the port)
  sparse queue:     on (an eBPF program fills it)
  priority:         high instead of realtime (why), lost realtime 2 times
  packets stand:    at most to peers 16 µs (99 %: 128 µs), relayed 64 µs (99 %: 4 ms) in the last minute
  ports:            4096-8191: nftables (no XDP program is attached), left to other programs: 5353, 8125
  forward:          tcp/8443 -> office:443 (iptables), the sender's address is kept, no interface has it, kept from other programs: 8443
  forward:          udp/9000 -> office:9000, not open: the tunnel itself listens there
  rules:            2, default deny: 12 of 262,144 flows, 1,234 packets denied
  uplink:           95 Mbit/s
  dropped:          1,200 mac1, 3 denied; 12 in the last minute
  goes around:      198.51.100.0/24 via 192.0.2.1 dev eth0 (dhcp)

peer: office
  public key:       OFFICE=
  endpoint:         203.0.113.1:9000 (no route to 203.0.113.1)
  path:             203.0.113.1:4096-8191, in use, 23.4 ms, 5 % lost
  path:             [2001:db8::1]:9000, no answer
  allowed ips:      10.0.0.2/32, 192.168.50.0/24
  last heard:       3 s ago
  latest handshake: 12 s ago
  banned:           10.0.0.2/32 inside the tunnel, for another 1 min 40 s; to end it: `taltun unban office`
  limit:            1.5 Mbit/s from it
  limit:            20 Mbit/s to it: 42 packets waiting (58.1 KiB), 1,204 dropped
  limit:            101.0 GiB of 100.0 GiB this month; REFUSED
  limit:            to the end of 2026-12-31 (UTC)
  transfer:         1.2 MiB received, 148 B sent; now 2.5 Mbit/s received, 0 bit/s sent
  keepalive:        every 25 s

peer: ROAMER=
  endpoint:         vpn.example.invalid:9000 (not resolved)
  allowed ips:      (none)
  latest handshake: never
  problem:          nobody listens at that port (3 s ago)
  limit:            uplink, to it: 1 packet waiting (1.4 KiB)
  limit:            256.0 MiB of 1.0 GiB today, 768.0 MiB left
  transfer:         0 B received, 0 B sent

unknown keys that tried:
  WHO= from 192.0.2.4:7, 3 times, last 5 s ago
"
        );
    }
}
