//! What Taltun did to the host stays done: what others take away is back within three seconds,
//! told once in the log and shown in `status`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::programs;
use taltun_tests::sys::Signal;

use crate::kill_switch::Full;
use crate::support::{Case, eventually};

pub const CASES: &[Case] = &[
    Case {
        name: "keeping: what others take away is back within 3 s, told once and shown, with nftables",
        programs: &["nft"],
        run: || {
            is_put_back(
                "nftables",
                "nft -s list table inet taltun-taltun0",
                "nft flush ruleset",
            )
        },
    },
    Case {
        name: "keeping: what others take away is back within 3 s, told once and shown, with iptables",
        programs: &["iptables"],
        run: || {
            is_put_back(
                "iptables",
                "iptables -S; iptables -t nat -S; iptables -t mangle -S; ip6tables -S",
                "iptables -F; iptables -t nat -F; ip6tables -F",
            )
        },
    },
    Case {
        name: "keeping: a resolv.conf that others overwrite is back within 3 s, told once and shown",
        programs: &["unshare", "nsenter"],
        run: resolver,
    },
];

const LIMIT: Duration = Duration::from_secs(3);

fn is_put_back(firewall: &str, list: &str, flush: &str) -> Result<()> {
    let more = format!(
        "kill_switch = true\nip_forward = true\nfirewall = \"{firewall}\"\n\
         [nat]\nmasquerade = true\n"
    );
    let mut full = Full::start(&more, &[])?;
    full.tunnel_answers()?;
    let left = &full.pair.left;
    let show = [
        ("firewall rules", flush, list),
        (
            "policy rules",
            "ip rule flush; ip rule add lookup main pref 32766",
            "ip rule show | grep fwmark",
        ),
        (
            "policy rules",
            "ip -6 rule flush; ip -6 rule add lookup main pref 32766",
            "ip -6 rule show | grep fwmark",
        ),
        (
            "addresses",
            "ip addr del 10.200.0.2/24 dev taltun0",
            "ip -o addr show dev taltun0; ip route show table all dev taltun0 | sort",
        ),
        (
            "routes",
            "for t in main $(ip rule | sed -n 's/.* lookup \\([0-9][0-9]*\\).*/\\1/p'); do ip route flush table $t dev taltun0; done",
            "ip route show table all type unicast dev taltun0 | cut -d' ' -f1",
        ),
        (
            "kernel settings",
            "echo 0 > /proc/sys/net/ipv4/conf/all/src_valid_mark",
            "cat /proc/sys/net/ipv4/conf/all/src_valid_mark",
        ),
    ];
    for (what, take_away, look) in show {
        let before = sh(left, look)?;
        ensure!(!before.is_empty(), "{look} shows nothing");
        sh(left, take_away)?;
        eventually(&format!("{what} are back"), LIMIT, || {
            Ok(sh(left, look)? == before)
        })?;
        // It is told once it is done.
        eventually(&format!("{what} are told of"), LIMIT, || {
            Ok(full
                .client
                .log()
                .contains(&format!("{what} went away and were put back")))
        })?;
        let json: serde_json::Value =
            serde_json::from_str(&full.client.tell(&["status", "--json"])?)?;
        let told = json["host"]["put_back"].as_array().cloned();
        ensure!(
            told.is_some_and(|told| told.iter().any(|told| told["what"] == what)),
            "{}",
            json["host"]
        );
    }
    // The whole interface, with all that goes with it.
    let everything = "ip -o addr show dev taltun0; ip link show taltun0 | grep -o ,UP; \
                      for family in -4 -6; do \
                      ip $family route show table all type unicast dev taltun0 | cut -d' ' -f1; \
                      ip $family route show table all type local dev taltun0 | cut -d' ' -f2; \
                      done | sort -u";
    let before = sh(left, everything)?;
    sh(left, "ip link set taltun0 down")?;
    eventually("the interface is up", LIMIT, || {
        Ok(sh(left, everything)? == before)
    })
    .with_context(|| format!("{:?} and not {before}", sh(left, everything)))?;
    eventually("that is told", LIMIT, || {
        let told = full
            .client
            .log()
            .contains("taltun0 was set down, and was set up again");
        Ok(told
            && full
                .client
                .tell(&["status"])?
                .contains("link state put back once"))
    })?;
    full.tunnel_answers()?;
    let text = full.client.tell(&["status"])?;
    ensure!(
        text.contains("kill switch on · default route 0.0.0.0/0, ::/0"),
        "{text}"
    );
    ensure!(text.contains("firewall rules put back once"), "{text}");

    // A fight neither floods the log nor stops.
    let lines = full.client.log().lines().count();
    for _ in 0..4 {
        let before = sh(left, list)?;
        sh(left, flush)?;
        eventually("the rules are back again", LIMIT, || {
            Ok(sh(left, list)? == before)
        })?;
    }
    let log = full.client.log();
    ensure!(log.lines().count() <= lines + 2, "{log}");
    full.client.end(Signal::Terminate)?;
    ensure!(!sh(left, list)?.contains("taltun"), "{}", sh(left, list)?);
    ensure!(!sh(left, "ip rule show")?.contains("fwmark"));
    Ok(())
}

/// The client has a `resolv.conf` of its own, which a stand-in for openresolv writes: like that,
/// it leaves the file alone while it is told nothing new, but for `-u`.
fn resolver() -> Result<()> {
    let files = tempfile::tempdir()?;
    let dir = files.path().display();
    let theirs = "nameserver 192.0.2.53\n";
    fs::write(files.path().join("resolv.conf"), theirs)?;
    fs::write(files.path().join("before"), theirs)?;
    let program = files.path().join("resolvconf");
    let text = format!(
        "#!/bin/sh\ncd {dir}\ncase $1 in\n\
         -a) cat > new; cmp -s new told || {{ mv new told; cat told > /etc/resolv.conf; }} ;;\n\
         -u) cat told > /etc/resolv.conf ;;\n\
         -d) rm told; cat before > /etc/resolv.conf ;;\nesac\n"
    );
    programs::write(&program, &text)?;
    let script = format!(
        "mount --make-rprivate / && mount --bind {dir}/resolv.conf /etc/resolv.conf && \
         PATH={dir}:$PATH && export PATH && exec \"$@\""
    );
    let through = ["unshare", "-m", "sh", "-c", &script, "sh"];
    let mut full = Full::start("dns = [\"10.200.0.1\"]\n", &through)?;
    let pid = full.client.pid().to_string();
    let there = |text: &str| {
        let mut command = Command::new("nsenter");
        output_of(command.args(["-t", &pid, "-m", "sh", "-c", text]))
    };
    let ours = "nameserver 10.200.0.1\n";
    let read = || there("cat /etc/resolv.conf");
    ensure!(read()? == ours, "{}", read()?);
    let stranger = "echo nameserver 192.0.2.99";
    for (times, write) in [
        (1, format!("{stranger} > /etc/resolv.conf")),
        // Before ours, and behind them.
        (2, format!("{{ {stranger}; cat told; }} > /etc/resolv.conf")),
        (3, format!("{stranger} >> /etc/resolv.conf")),
    ] {
        there(&format!("cd {dir}; {write}"))?;
        eventually(&format!("it is back after {times}"), LIMIT, || {
            Ok(read()? == ours)
        })?;
    }
    let told = "name servers went away and were put back";
    eventually("it is told", LIMIT, || Ok(full.client.log().contains(told)))?;
    ensure!(
        full.client.log().matches(told).count() == 1,
        "it is told twice"
    );
    eventually("it is shown", LIMIT, || {
        let status = full.client.tell(&["status"])?;
        Ok(status.contains("name servers put back 3 times"))
    })?;
    full.client.end(Signal::Terminate)?;
    ensure!(fs::read_to_string(files.path().join("resolv.conf"))? == theirs);
    Ok(())
}

/// What a shell prints in the namespace, whatever its exit code.
pub fn sh(namespace: &Namespace, text: &str) -> Result<String> {
    let text = format!("{{ {text}; }} 2>/dev/null || true");
    output_of(namespace.command("sh").args(["-c", &text]))
}
