//! A kernel without IPv6 (`ipv6.disable=1` at boot): files for both families do what they can.
//!
//! Where the kernel has IPv6, all that shows it is taken away: sockets are refused, its settings
//! are hidden, and addresses can't be added.

use std::fs;
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::support::{Case, ensure_answers, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "without IPv6 in the kernel: a full tunnel of both families runs on IPv4, with nftables",
        programs: &["unshare", "mount", "nft"],
        run: || full_tunnel("nftables"),
    },
    Case {
        name: "without IPv6 in the kernel: a full tunnel of both families runs on IPv4, with iptables",
        programs: &["unshare", "mount", "iptables", "ip6tables"],
        run: || full_tunnel("iptables"),
    },
    Case {
        name: "without IPv6 in the kernel: a tunnel that has IPv6 only says what is missing",
        programs: &["unshare", "mount"],
        run: ipv6_only,
    },
];

const HIDE: &str =
    "mount --make-rprivate / && mount -t tmpfs none /proc/sys/net/ipv6 && exec \"$@\"";
const HUB_VIP: &str = "10.6.0.1";

/// Starts Taltun where there is no IPv6.
fn start(namespace: &Namespace, text: &str) -> Result<Node> {
    if !sys::kernel_has_ipv6() {
        return Node::start_with_text(namespace, &taltun()?, text);
    }
    for link in ["all", "default"] {
        let setting = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
        namespace.run(|| fs::write(setting, "1"))??;
    }
    let through = ["unshare", "-m", "sh", "-c", HIDE, "sh"];
    let program = taltun()?;
    // A thread of its own, as no thread gets its sockets back.
    thread::scope(|scope| {
        let started = scope.spawn(|| {
            sys::refuse_ipv6_sockets().context("can't refuse IPv6 sockets")?;
            Node::start_through(namespace, &program, text, &through)
        });
        started
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn full_tunnel(firewall: &str) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let hub = format!(
        "[interface]\nvip = [\"{HUB_VIP}/24\", \"fd06::1/64\"]\nprivate_key = \"{}\"\n\
         ip_forward = true\nfirewall = \"{firewall}\"\n[nat]\nmasquerade = true\n\
         [[peers]]\nname = \"client\"\npublic_key = \"{}\"\nvip = [\"10.6.0.2\", \"fd06::2\"]\n",
        theirs.private, ours.public
    );
    let client = format!(
        "[interface]\nvip = [\"10.6.0.2/24\", \"fd06::2/64\"]\nprivate_key = \"{}\"\n\
         routes = [\"0.0.0.0/0\", \"::/0\"]\nip_forward = true\nmss_clamp = true\n\
         kill_switch = true\nfirewall = \"{firewall}\"\n[nat]\nmasquerade = true\nout = \"tunnel\"\n\
         [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = [\"{HUB_VIP}\", \"fd06::1\"]\n\
         endpoint = \"{}:9000\"\nallowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n",
        ours.private,
        theirs.public,
        WIRE_A.far_v4(),
    );
    let hub = start(&pair.right, &hub)?;
    let client = start(&pair.left, &client)?;
    ensure_answers(&pair.left, HUB_VIP.parse()?)?;
    for node in [&hub, &client] {
        let log = node.log();
        ensure!(
            log.contains("IPv6 is switched off on this machine: going on without fd06::"),
            "{log}"
        );
        ensure!(!log.contains("ERROR"), "{log}");
        let status: Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
        let listen = status["listen"].as_str().unwrap_or_default();
        ensure!(listen.starts_with("0.0.0.0:"), "it listens on {listen}");
        let missing = &status["host"]["missing"];
        ensure!(missing.as_array().is_none_or(Vec::is_empty), "{missing}");
    }
    ensure!(
        client
            .log()
            .contains("IPv6 is switched off on this machine: going on without a route to ::/0"),
        "{}",
        client.log()
    );
    let way = pair.left.ip("route get 198.51.100.9")?;
    ensure!(way.contains("dev taltun0"), "{way}");
    client.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}

fn ipv6_only() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let ours = Keys::generate(&taltun()?)?;
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"fd06::1/64\"\nprivate_key = \"{}\"\n",
        ours.private
    );
    let Err(error) = start(&pair.left, &text) else {
        anyhow::bail!("it started");
    };
    let error = format!("{error:#}");
    ensure!(
        error.contains(
            "cannot add fd06::1/64: IPv6 is switched off on this machine; the kernel runs without \
             it: start it without `ipv6.disable=1`, or add an IPv4 vip"
        ),
        "{error}"
    );
    let links = output_of(pair.left.command("ip").args(["-o", "link"]))?;
    ensure!(!links.contains("taltun0"), "{links}");
    Ok(())
}
