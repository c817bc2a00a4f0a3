//! Firewall rules are compared with what Taltun made, never with what is found at first, and
//! are kept up whatever became of the interface.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{find, output_of};
use taltun_tests::lab::Role;
use taltun_tests::netns::Namespace;
use taltun_tests::programs;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::kill_switch::Full;
use crate::support::{Case, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "keeping: rules flushed or half-emptied while Taltun starts are back, with nftables",
        programs: &["nft"],
        run: || {
            let until = "until nft list table inet taltun-taltun0; do :; done";
            at_the_start("nftables", NFT, &format!("{until}; nft flush ruleset"))?;
            let half = "nft flush chain inet taltun-taltun0 kill_switch_output";
            at_the_start("nftables", NFT, &format!("{until}; {half}"))
        },
    },
    Case {
        name: "keeping: rules flushed or half-emptied while Taltun starts are back, with iptables",
        programs: &["iptables"],
        run: || {
            let until = "until iptables -S taltun-taltun0-out; do sleep 0.01; done";
            at_the_start("iptables", IPTABLES, &format!("{until}; {IPTABLES_FLUSH}"))?;
            let half =
                "iptables -D taltun-taltun0-out -j REJECT --reject-with icmp-admin-prohibited";
            at_the_start("iptables", IPTABLES, &format!("{until}; {half}"))
        },
    },
    Case {
        name: "keeping: rules flushed right after a reload closed the switch are back, with nftables",
        programs: &["nft"],
        run: || after_a_reload("nftables", NFT, "nft flush ruleset"),
    },
    Case {
        name: "keeping: rules flushed right after a reload closed the switch are back, with iptables",
        programs: &["iptables"],
        run: || after_a_reload("iptables", IPTABLES, IPTABLES_FLUSH),
    },
    Case {
        name: "keeping: rules that others put before the switch come after it, with iptables",
        programs: &["iptables"],
        run: comes_first,
    },
    Case {
        name: "keeping: a route around the tunnel is called refused only while the rules are there",
        programs: &["nft"],
        run: refused_by_what_is_there,
    },
    Case {
        name: "keeping: with the interface renamed or moved the switch is kept up, and it is told",
        programs: &["nft"],
        run: || {
            let rename = "ip link set taltun0 down; ip link set taltun0 name other0; \
                          ip link set other0 up";
            away(rename, "it was renamed to other0")?;
            let other = Namespace::create(&format!("{}m", private_prefix()))?;
            let moved = format!("ip link set taltun0 netns {}", other.name());
            away(&moved, "it isn't in this network namespace any more")
        },
    },
];

/// Where a route around the tunnel goes, from all that `status` tells.
fn around(full: &Full) -> Result<(serde_json::Value, String)> {
    let status = full.client.tell(&["status"])?;
    let json: serde_json::Value = serde_json::from_str(&full.client.tell(&["status", "--json"])?)?;
    let routes = json["routes_around"].as_array().context("no list")?;
    let route = routes.iter().find(|route| route["net"] == "8.0.0.0/7");
    Ok((route.cloned().unwrap_or_default(), status))
}

/// `nft` fails while a file is there.
fn refused_by_what_is_there() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (tool, fails) = (directory.path().join("nft"), directory.path().join("fails"));
    let script = format!(
        "#!/bin/sh\n[ -e {} ] && exit 1\nexec {} \"$@\"\n",
        fails.display(),
        find("nft").context("no nft")?.display()
    );
    programs::write(&tool, &script)?;
    let path = format!("PATH={}:$PATH exec \"$@\"", directory.path().display());
    let full = Full::start("kill_switch = true\n", &["sh", "-c", &path, "sh"])?;
    let route = format!("route add 8.0.0.0/7 via {} proto dhcp", WIRE_A.far_v4());
    full.pair.left.ip(&route)?;
    eventually("the kill switch refuses it", START_LIMIT, || {
        let (route, status) = around(&full)?;
        Ok(route["refused"] == true && status.contains("(dhcp), refused by the kill switch"))
    })?;
    std::fs::write(&fails, "")?;
    sh(&full.pair.left, "nft delete table inet taltun-taltun0")?;
    eventually("nothing refuses it", START_LIMIT, || {
        let (route, status) = around(&full)?;
        Ok(route["refused"] == false
            && status.contains("8.0.0.0/7")
            && !status.contains("refused by"))
    })?;
    std::fs::remove_file(&fails)?;
    eventually("it is refused again", START_LIMIT, || {
        Ok(around(&full)?.0["refused"] == true)
    })
}

/// The jumps to what refuses are the first again. What others drop is dropped all the same.
fn comes_first() -> Result<()> {
    let full = Full::start("kill_switch = true\nfirewall = \"iptables\"\n", &[])?;
    let left = &full.pair.left;
    full.tunnel_answers()?;
    let firsts = |tool: &str, chain: &str| -> Result<String> {
        let rules = sh(left, &format!("{tool} -S {chain}"))?;
        let first = rules.lines().find(|line| line.starts_with("-A "));
        Ok(first.unwrap_or_default().trim().to_owned())
    };
    // What can't let anything pass stays where it is.
    sh(left, "iptables -I OUTPUT 1 -d 192.0.2.1 -j DROP")?;
    std::thread::sleep(LIMIT);
    ensure!(firsts("iptables", "OUTPUT")?.ends_with("-j DROP"));
    let log = full.client.log();
    ensure!(!log.contains("put back"), "{log}");

    let told = "firewall rules had `-A OUTPUT -j ACCEPT` put before them and were put back";
    for (tool, chain, ours) in [
        ("iptables", "OUTPUT", "taltun-taltun0-out"),
        ("ip6tables", "FORWARD", "taltun-taltun0-fwd"),
    ] {
        sh(left, &format!("{tool} -I {chain} 1 -j ACCEPT"))?;
        eventually("ours is the first again", LIMIT, || {
            Ok(firsts(tool, chain)? == format!("-A {chain} -j {ours}"))
        })?;
        eventually("it is told", LIMIT, || Ok(full.client.log().contains(told)))
            .with_context(|| full.client.log())?;
        let rules = sh(left, &format!("{tool} -S {chain}"))?;
        ensure!(rules.matches(ours).count() == 1, "{rules}");
        ensure!(rules.contains("-j ACCEPT"), "{rules}");
    }
    let status = full.client.tell(&["status"])?;
    ensure!(status.contains("firewall rules put back"), "{status}");
    full.outside_is_closed()?;
    full.tunnel_answers()?;
    sh(
        left,
        "iptables -F OUTPUT; iptables -A OUTPUT -o taltun0 -p icmp -j DROP",
    )?;
    eventually("the switch is back", LIMIT, || {
        Ok(firsts("iptables", "OUTPUT")? == "-A OUTPUT -j taltun-taltun0-out")
    })?;
    let answer = Pinger::new(left, Role::Hub.v4())?.ping(Duration::from_millis(500));
    ensure!(!matches!(answer, Ok(Some(_))), "what others drop was sent");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(3);
/// The start itself may take a while where the machine is loaded.
const START_LIMIT: Duration = Duration::from_secs(8);
const NFT: &str = "nft -s list table inet taltun-taltun0";
const IPTABLES: &str = "for t in iptables ip6tables; do $t -S; $t -t mangle -S; $t -t raw -S; done";
const IPTABLES_FLUSH: &str = "for t in filter mangle raw; do iptables -t $t -F; \
                              iptables -t $t -X; ip6tables -t $t -F; ip6tables -t $t -X; done";

fn at_the_start(firewall: &str, list: &str, flush: &str) -> Result<()> {
    let more = format!("kill_switch = true\nfirewall = \"{firewall}\"\n");
    let mut whole = Full::start(&more, &[])?;
    let wanted = sh(&whole.pair.left, list)?;
    ensure!(wanted.contains("taltun"), "{wanted}");
    whole.client.end(Signal::Terminate)?;

    let script = format!("({{ {flush}; }} >/dev/null 2>&1 &) ; exec \"$@\"");
    let full = Full::start(&more, &["sh", "-c", &script, "sh"])?;
    is_kept(&full, list, &wanted, START_LIMIT)
}

fn after_a_reload(firewall: &str, list: &str, flush: &str) -> Result<()> {
    let more = format!("firewall = \"{firewall}\"\n");
    let mut whole = Full::start(&format!("kill_switch = true\n{more}"), &[])?;
    let wanted = sh(&whole.pair.left, list)?;
    whole.client.end(Signal::Terminate)?;

    let full = Full::start(&more, &[])?;
    let key = "firewall = ";
    full.write_config(key, &format!("kill_switch = true\n{key}"))?;
    let line = format!(
        "TALTUN_RUNTIME_DIR={} {} reload && {{ {flush}; }}",
        full.client.directory().display(),
        taltun()?.display()
    );
    sh(&full.pair.left, &line)?;
    is_kept(&full, list, &wanted, LIMIT)
}

/// The rules are as `wanted` again and stay so, and it is told and shown.
fn is_kept(full: &Full, list: &str, wanted: &str, limit: Duration) -> Result<()> {
    let left = &full.pair.left;
    let told = "firewall rules went away and were put back";
    eventually("it is told", limit, || Ok(full.client.log().contains(told))).with_context(
        || {
            format!(
                "{}\n{}",
                full.client.log(),
                sh(left, list).unwrap_or_default()
            )
        },
    )?;
    eventually("the rules are back", limit, || {
        Ok(sorted(&sh(left, list)?) == sorted(wanted))
    })
    .with_context(|| format!("{:?} and not {wanted}", sh(left, list)))?;
    full.outside_is_closed()?;
    ensure!(
        full.client.log().matches(told).count() == 1,
        "{}",
        full.client.log()
    );
    let status = full.client.tell(&["status"])?;
    ensure!(status.contains("kill switch on"), "{status}");
    ensure!(status.contains("firewall rules put back"), "{status}");
    Ok(())
}

/// Which of our chains the usual ones jump to first doesn't matter.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn away(take_away: &str, reason: &str) -> Result<()> {
    let mut full = Full::start("kill_switch = true\n", &[])?;
    full.tunnel_answers()?;
    let left = &full.pair.left;
    let wanted = sh(left, NFT)?;
    sh(left, take_away)?;
    eventually("it is told", LIMIT, || {
        Ok(full.client.log().contains(reason))
    })?;
    eventually("it is shown", LIMIT, || {
        Ok(full.client.tell(&["status"])?.contains(reason))
    })?;
    full.outside_is_closed()?;
    sh(left, "nft flush ruleset")?;
    eventually("the rules are back", LIMIT, || Ok(sh(left, NFT)? == wanted))?;
    sh(left, "ip rule flush; ip rule add lookup main pref 32766")?;
    eventually("the policy rules are back", LIMIT, || {
        Ok(sh(left, "ip rule show")?.matches("fwmark").count() == 2)
    })?;
    full.outside_is_closed()?;
    ensure!(
        full.client.log().matches(reason).count() == 1,
        "{}",
        full.client.log()
    );
    full.client.end(Signal::Terminate)?;
    ensure!(sh(&full.pair.left, NFT)?.is_empty(), "the table is left");
    Ok(())
}

/// What a shell prints in the namespace, whatever its exit code.
fn sh(namespace: &Namespace, text: &str) -> Result<String> {
    let text = format!("{{ {text}; }} 2>/dev/null || true");
    output_of(namespace.command("sh").args(["-c", &text]))
}
