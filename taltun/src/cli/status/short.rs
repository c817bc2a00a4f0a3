//! What `status` shows at a glance: what the tunnel is in a few lines, its peers as a table, and what
//! is amiss.

use std::fmt::Write;

use super::{peer_table, words};
use crate::cli::peers::{bits, title, troubles};
use crate::cli::screen::{Screen, Style};
use crate::cli::width::{cut, short_key, width, wrap};
use crate::cli::{host_line, human};
use crate::report::{AfXdpSocket, ForwardedBy, Status, TcAttachment, XdpAttachment, XdpStatus};
use crate::system::LeftSwitches;

/// What a terminal shows of each kind of line at most; the rest is counted.
const MOST: usize = 4;
/// Blanks before what follows of a line that is wrapped: the width of its subject.
const INDENT: usize = 9;
/// Peers that are shown however small the terminal is.
const LEAST_PEERS: usize = 5;

/// The tunnel and its peers: on a terminal those that matter most, unless `all` are wanted.
pub(super) fn render(status: &Status, left: &LeftSwitches, all: bool, screen: &Screen) -> String {
    let mut head = identity(status, screen);
    head.extend(lines(status, left, screen));
    let mut foot = amiss(status, screen);
    foot.extend(unknown(status, screen));
    let room = screen.size.filter(|_| !all).map(|(_, rows)| {
        // The heads of the table, how many more there are and how many in all, and the prompt.
        let others = head.len() + foot.len() + 4;
        rows.saturating_sub(others).max(LEAST_PEERS)
    });
    let mut text = String::new();
    for line in head {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&peer_table::render(&status.peers, room, screen));
    for line in foot {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// What the tunnel is, in a line if there is room; its key as far as there is.
fn identity(status: &Status, screen: &Screen) -> Vec<String> {
    let mut parts = vec![
        status.mode.to_string(),
        format!("up {}", human::span(status.uptime_seconds)),
    ];
    let listen = status.listen;
    parts.push(if listen.ip().is_unspecified() {
        format!("UDP {}", listen.port())
    } else {
        format!("UDP {listen}")
    });
    let vip: Vec<String> = status.vip.iter().map(ToString::to_string).collect();
    if !vip.is_empty() {
        parts.push(vip.join(", "));
    }
    let rest = parts.join("  ");
    let key = &status.public_key;
    let room = screen.columns().unwrap_or(usize::MAX);
    let taken = width(&status.interface) + width(&rest) + "    key ".len();
    let key = if taken + width(key) <= room {
        key.as_str().into()
    } else {
        short_key(key)
    };
    let name = cut(&status.interface, room);
    let mut lines = wrap(&format!("{name}  {rest}  key {key}"), room, INDENT);
    let first = lines.first_mut().and_then(|first| {
        let rest = first.strip_prefix(name.as_ref())?;
        *first = format!("{}{rest}", screen.paint(Style::Strong, &name));
        Some(())
    });
    debug_assert!(first.is_some() || name.is_empty(), "a name has no blanks");
    lines
}

/// What the host and the file have it do; nothing of what there isn't.
fn lines(status: &Status, left: &LeftSwitches, screen: &Screen) -> Vec<String> {
    let mut all: Vec<(&str, String)> = vec![("shield", shield(status))];
    let host = status.host.iter().flat_map(host_line::render);
    all.extend(host.map(|told| ("host", told)));
    let others = left.found.iter().filter_map(host_line::of_another);
    all.extend(others.map(|told| ("host", told)));
    if let Some(names) = &status.names {
        all.push(("names", format!("{} in {}", names.names, names.domain)));
    }
    all.extend(words::resolver(status).map(|told| ("dns", told)));
    all.extend(status.udpgw.iter().map(|it| ("udpgw", words::udpgw(it))));
    all.extend(
        status
            .metrics
            .iter()
            .map(|it| ("metrics", words::served(&it.listen, it.ended.as_deref()))),
    );
    all.extend(
        status
            .web
            .iter()
            .map(|it| ("web", words::served(&it.listen, it.ended.as_deref()))),
    );
    all.extend(words::not_kept(status));
    all.extend(words::privileged(&status.rights).map(|told| ("rights", told)));
    // Nothing of what is as it should be.
    let priority = Some(&status.priority).filter(|it| it.mode != it.wanted);
    all.extend(priority.map(|it| ("cpu", words::priority(it))));
    all.extend(
        status
            .port_range
            .iter()
            .map(|it| ("ports", words::port_range(it))),
    );
    let shut = status
        .forwards
        .iter()
        .filter(|it| it.by == ForwardedBy::None);
    let open = status
        .forwards
        .iter()
        .filter(|it| it.by != ForwardedBy::None);
    let forwards = shut.chain(open).map(words::forward);
    some(&mut all, "forward", forwards.collect(), screen);
    all.extend(status.policy.iter().map(|it| ("rules", words::policy(it))));
    all.extend(
        status
            .uplink_bits_per_second
            .map(|uplink| ("uplink", bits(uplink))),
    );
    some(&mut all, "around", words::around(status), screen);
    let columns = screen.columns().unwrap_or(usize::MAX);
    let shown = all.into_iter();
    shown
        .flat_map(|(subject, told)| {
            let line = format!("{subject:<7}  {told}");
            // What is written large may have a command in it: in one piece it can be copied.
            if is_loud(&told) {
                vec![screen.paint(Style::Bad, &line)]
            } else {
                wrap(&line, columns, INDENT)
            }
        })
        .collect()
}

/// Whether a line says something in capitals that isn't the name of a thing.
fn is_loud(told: &str) -> bool {
    ["HOLDS", "OPEN", "MISSING", "NOT "]
        .iter()
        .any(|word| told.contains(word))
}

/// Takes in lines of one kind: on a terminal the first few, and how many more there are.
fn some(
    all: &mut Vec<(&'static str, String)>,
    subject: &'static str,
    lines: Vec<String>,
    screen: &Screen,
) {
    let shown = if screen.size.is_some() && lines.len() > MOST {
        MOST - 1
    } else {
        lines.len()
    };
    let more = lines.len() - shown;
    all.extend(lines.into_iter().take(shown).map(|line| (subject, line)));
    if more > 0 {
        all.push((
            subject,
            format!("and {} more: --long", human::count(more as u64)),
        ));
    }
}

/// What guards the tunnel, and what that dropped lately.
fn shield(status: &Status) -> String {
    let mut programs = xdp(status);
    let queues = status.af_xdp.iter();
    let queues = queues.filter(|it| it.mode != AfXdpSocket::Off).count();
    if queues > 0 {
        programs.push(format!(
            "AF_XDP on {}",
            human::counted(queues as u64, "queue")
        ));
    }
    programs.push(match status.tc.mode {
        TcAttachment::Off => format!("no TC ({})", status.tc.reason),
        _ => "TC".to_owned(),
    });
    let mut text = programs.join(", ");
    if status.bans > 0 {
        let _ = write!(text, " · {} banned", human::count(status.bans));
    }
    let lately = status.drops_last_minute.largest_first();
    let lately: Vec<String> = lately
        .into_iter()
        .map(|(reason, count)| format!("{} {}", human::count(count), reason.label()))
        .collect();
    if !lately.is_empty() {
        let _ = write!(text, " · last min dropped: {}", lately.join(", "));
    } else if status.drops.sum() > 0 {
        let dropped = human::count(status.drops.sum());
        let _ = write!(text, " · dropped {dropped}, none in the last min");
    }
    text
}

/// Where the XDP program runs; where that differs, on which interfaces. Those that lack it for the same
/// reason, as the ports of a bridge do, are told together.
fn xdp(status: &Status) -> Vec<String> {
    let mut groups: Vec<(&XdpStatus, Vec<&str>)> = Vec::new();
    for xdp in &status.xdp {
        let is_alike = |other: &XdpStatus| {
            xdp.mode == other.mode && (xdp.mode != XdpAttachment::Off || xdp.reason == other.reason)
        };
        let group = groups.iter_mut().find(|(first, _)| is_alike(first));
        match group {
            Some((_, names)) => names.push(&xdp.interface),
            None => groups.push((xdp, vec![xdp.interface.as_str()])),
        }
    }
    let is_one = groups.len() == 1;
    let told = groups.into_iter().map(|(xdp, names)| {
        let on = match &names[..] {
            [_] if is_one => String::new(),
            [""] => String::new(),
            all if is_one || all.len() > MOST => {
                format!(" on {}", human::counted(all.len() as u64, "interface"))
            }
            all => format!(" on {}", all.join(", ")),
        };
        match xdp.mode {
            XdpAttachment::Off => format!("no XDP{on} ({})", xdp.reason),
            mode => format!("{mode} XDP{on}"),
        }
    });
    told.collect()
}

/// What keeps peers from the tunnel.
fn amiss(status: &Status, screen: &Screen) -> Vec<String> {
    let mut all = Vec::new();
    for peer in &status.peers {
        for (subject, told) in troubles(peer) {
            all.push(format!("! {}  {subject}: {told}", title(peer)));
        }
    }
    few(all, screen, |line| screen.paint(Style::Bad, line))
}

/// The keys that tried and are of no peer.
fn unknown(status: &Status, screen: &Screen) -> Vec<String> {
    let all = status.unknown_keys.iter().map(|unknown| {
        let key = match screen.size {
            Some(_) => short_key(&unknown.public_key),
            None => unknown.public_key.as_str().into(),
        };
        format!(
            "unknown key {key} tried {} from {}, last {}",
            if unknown.tries == 1 {
                "once".to_owned()
            } else {
                format!("{} times", human::count(unknown.tries))
            },
            unknown.endpoint,
            human::ago(unknown.seconds_ago)
        )
    });
    few(all.collect(), screen, str::to_owned)
}

/// All lines where there is room without end, the first few on a terminal, wrapped.
fn few(mut lines: Vec<String>, screen: &Screen, paint: impl Fn(&str) -> String) -> Vec<String> {
    let Some((columns, _)) = screen.size else {
        return lines;
    };
    let all = lines.len();
    if all > MOST {
        lines.truncate(MOST - 1);
    }
    let more = all - lines.len();
    let wrapped = lines.iter().flat_map(|line| wrap(line, columns, 2));
    let mut shown: Vec<String> = wrapped.map(|line| paint(&line)).collect();
    if more > 0 {
        shown.push(format!("and {} more: --long", human::count(more as u64)));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::example::hub;
    use super::*;
    use crate::report::PeerRates;

    fn at(columns: usize, rows: usize, status: &Status) -> String {
        let screen = Screen {
            size: Some((columns, rows)),
            colour: false,
        };
        render(status, &LeftSwitches::default(), false, &screen)
    }

    #[test]
    fn a_status_is_read_at_a_glance() {
        assert_eq!(
            render(&hub(), &LeftSwitches::default(), false, &Screen::NONE),
            "\
hub  server  up 2 min 5 s  UDP 9000  10.0.0.1/24  key HUB=
shield   driver XDP, AF_XDP on 1 queue, TC · 2 banned · last min dropped: 12 mac1
names    13 in vpn
dns      doesn't answer: why
udpgw    10.0.0.1:7300: 3 of at most 1,000 clients, 12 connections
metrics  127.0.0.1:9586
web      10.0.0.1:8080: doesn't answer: why
usage    in memory only: the disk is full
day      NOT THE CLOCK'S: the clock shows 2026-11-29
audit    in memory only: the disk is full; 2 changes lost
rights   NOT AS THEY SHOULD BE: taltun-verbs doesn't answer
cpu      high instead of realtime (why), lost realtime 2 times
ports    4096-8191: nftables (no XDP program is attached), left to other programs: 5353, 8125
forward  udp/9000 -> office:9000, not open: the tunnel itself listens there
forward  tcp/8443 -> office:443 (iptables), the sender's address is kept, no interface has it, \
kept from other programs: 8443
rules    2, default deny: 12 of 262,144 flows, 1,234 packets denied
uplink   95 Mbit/s
around   198.51.100.0/24 via 192.0.2.1 dev eth0 (dhcp)
  PEER     ADDRESS      SEEN   FROM                                          ↓ NOW  ↑ NOW  ↓ TOTAL  ↑ TOTAL
! office   10.0.0.2 +1  now    203.0.113.1:9000                         2.5 Mbit/s      –  1.2 MiB    148 B
! ROAMER=  –            never  vpn.example.invalid:9000 (not resolved)           –      –        –        –
2 peers: 1 online, 1 never seen
! office  endpoint: no route to 203.0.113.1
! office  banned: 10.0.0.2/32 inside the tunnel, for another 1 min 40 s; to end it: \
`taltun unban office`
! office  limit: 101.0 GiB of 100.0 GiB this month; REFUSED
! ROAMER=  problem: nobody listens at that port (3 s ago)
unknown key WHO= tried 3 times from 192.0.2.4:7, last 5 s ago
"
        );
    }

    #[test]
    fn a_thousand_peers_fit_the_screen() {
        let mut status = hub();
        let template = status.peers.swap_remove(0);
        // What is written large isn't cut.
        status.usage = None;
        status.rights.privileged_problem = None;
        status.peers = (0..1000_u32)
            .map(|number| {
                let mut peer = template.clone();
                peer.name = Some(format!("a peer with a rather long name, number {number}"));
                peer.endpoint = format!("[2001:db8::{number:x}]:51820").parse().ok();
                (peer.banned, peer.refused, peer.unreachable) = (Vec::new(), None, None);
                peer.latest_handshake_seconds = match number % 3 {
                    0 => Some(5.0),
                    1 => Some(5000.0),
                    _ => None,
                };
                peer.seen_seconds = peer.latest_handshake_seconds;
                peer.rates = Some(PeerRates {
                    rx_bytes: u64::from(number),
                    tx_bytes: 0,
                });
                peer
            })
            .collect();
        for (columns, rows) in [(80, 24), (40, 24), (120, 50)] {
            let text = at(columns, rows, &status);
            for line in text.lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
            }
            assert!(text.lines().count() < rows || rows == 24, "{text}");
            assert!(text.contains("\n1,000 peers: 334 online, 333 "), "{text}");
            assert!(text.contains(" more: --all\n"), "{text}");
        }
        let text = at(80, 40, &status);
        // The busiest that is there comes first.
        let first = text.lines().find(|line| line.starts_with('●')).unwrap();
        assert!(first.contains("8.0 kbit/s"), "{first}");
        let all = render(&status, &LeftSwitches::default(), true, &Screen::NONE);
        assert_eq!(
            all.lines().filter(|line| line.contains("number ")).count(),
            1000
        );
    }

    #[test]
    fn a_narrow_terminal_has_more_lines_and_all_words() {
        let status = hub();
        let text = at(40, 200, &status);
        assert!(
            text.starts_with(
                "hub  server  up 2 min 5 s  UDP 9000\n         10.0.0.1/24  key HUB=\n\
                 shield   driver XDP, AF_XDP on 1 queue,\n         TC · 2 banned · last min\n         \
                 dropped: 12 mac1\n"
            ),
            "{text}"
        );
        assert!(text.contains("  it: `taltun unban office`\n"), "{text}");
        // Colours are of the name alone.
        let screen = Screen {
            size: Some((40, 200)),
            colour: true,
        };
        let text = render(&status, &LeftSwitches::default(), false, &screen);
        assert!(text.starts_with("\u{1b}[1mhub\u{1b}[0m  server"), "{text}");
    }

    #[test]
    fn interfaces_without_a_program_are_told_together() {
        let on = |interface: &str, mode, reason: &str| XdpStatus {
            interface: interface.into(),
            mode,
            reason: reason.into(),
        };
        let mut status = hub();
        let told = |status: &Status| xdp(status).join(", ");
        status.xdp = vec![on("eth0", XdpAttachment::Off, "why")];
        assert_eq!(told(&status), "no XDP (why)");
        status.xdp = vec![on("br0", XdpAttachment::Generic, "it is so")];
        let ports =
            |number: u32| (0..number).map(|at| on(&format!("p{at}"), XdpAttachment::Off, "why"));
        status.xdp.extend(ports(2));
        status.xdp.push(on("eth1", XdpAttachment::Off, "another"));
        assert_eq!(
            told(&status),
            "generic XDP on br0, no XDP on p0, p1 (why), no XDP on eth1 (another)"
        );
        status.xdp.extend(ports(9));
        assert!(told(&status).contains("no XDP on 11 interfaces (why)"));
        status.xdp.truncate(1);
        status
            .xdp
            .push(on("br1", XdpAttachment::Generic, "as well"));
        assert_eq!(told(&status), "generic XDP on 2 interfaces");
    }

    #[test]
    fn a_hub_without_peers_says_how_to_make_one() {
        let mut status = hub();
        status.peers.clear();
        let text = at(80, 24, &status);
        assert!(
            text.contains("\n0 peers; to add one: `taltun peer new NAME`\n"),
            "{text}"
        );
    }

    #[test]
    fn a_name_cant_draw() {
        let mut status = hub();
        status.peers[0].name = Some("\u{1b}[31mred\u{202e}\n".to_owned());
        let text = at(80, 24, &status);
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{text}"
        );
    }
}
